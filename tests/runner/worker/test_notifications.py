"""Others are told how each object has ended, at least once; and a job does not suffer where they cannot be told."""

from __future__ import annotations

import json
import socket
import threading
import uuid
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from jsonschema import Draft202012Validator

from runner.errors import SettingsError
from runner.settings import Settings
from tests.support.deployment import events_of
from tests.support.example import lines, transformed
from tests.support.operating import asked
from tests.support.queues import arn_of, create_queue, take_all, texts_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.deployment import Deployment

pytestmark = pytest.mark.slow

SCHEMA = Draft202012Validator(
    json.loads((Path(__file__).parents[3] / "docs" / "outcome-event.schema.json").read_text()),
    format_checker=Draft202012Validator.FORMAT_CHECKER,
)
TOPIC = "arn:aws:sns:eu-central-1:111122223333:outcomes"


class Listening:
    """A queue on which events arrive."""

    def __init__(self, sqs: Any) -> None:
        self.sqs = sqs
        self.url = create_queue(sqs)
        self.arn = arn_of(sqs, self.url)

    def heard(self) -> list[dict[str, Any]]:
        """Return the texts of what has arrived since."""
        return [json.loads(raw["Body"]) for raw in self.raw()]

    def raw(self) -> list[dict[str, Any]]:
        messages = take_all(self.sqs, self.url)
        for message in messages:
            self.sqs.delete_message(QueueUrl=self.url, ReceiptHandle=message["ReceiptHandle"])
        return messages


@pytest.fixture
def topic(deployment: Deployment) -> Iterator[Any]:
    """A client of SNS; the deployment's workers tell of outcomes on its topic."""
    sns = boto3.client("sns")
    deployment.env["OUTCOME_TOPIC"] = sns.create_topic(Name=f"test-{uuid.uuid4().hex}")["TopicArn"]
    yield sns
    sns.close()


def subscribed(sns: Any, deployment: Deployment, **attributes: str) -> Listening:
    listening = Listening(deployment.sqs)
    sns.subscribe(
        TopicArn=deployment.env["OUTCOME_TOPIC"],
        Protocol="sqs",
        Endpoint=listening.arn,
        Attributes={"RawMessageDelivery": "true", **attributes},
    )
    return listening


def test_each_end_is_told(deployment: Deployment, topic: Any) -> None:
    """What stands, what was rejected, what failed and why; in the form that the schema describes."""
    listening = subscribed(topic, deployment)
    deployment.put("good ü", lines(10) + b"bad\n")
    deployment.put("array", b"[1]")
    deployment.put("cancelled", lines(10))
    asked(deployment, "cancel", "cancelled")
    deployment.put("overwritten", lines(10))
    deployment.put("overwritten", lines(20))
    deployment.send_event("good ü", "0000")
    deployment.drain(env={"WORKERS": "1"})
    events = listening.heard()
    for event in events:
        SCHEMA.validate(event)
    # Of the one that was overwritten, it depends on which of its events comes first.
    by_key = {(event["source"]["key"], event["outcome"].replace("stale", "superseded")): event for event in events}
    assert sorted(by_key) == [
        ("array", "failed"),
        ("cancelled", "cancelled"),
        ("good ü", "done"),
        ("good ü", "duplicate"),
        ("overwritten", "done"),
        ("overwritten", "superseded"),
    ]
    done = by_key["good ü", "done"]
    head = deployment.s3.head_object(Bucket=deployment.output, Key="output/good ü")
    source = deployment.s3.head_object(Bucket=deployment.input, Key="good ü")
    assert done["output"] == {"bucket": deployment.output, "key": "output/good ü", "etag": head["ETag"].strip('"')}
    assert (done["source"]["etag"], done["source"]["size"]) == (source["ETag"].strip('"'), source["ContentLength"])
    assert (done["counts"]["lines_in"], done["counts"]["lines_out"], done["counts"]["rejected"]) == (11, 10, 1)
    prefix = done["rejects"]["prefix"]
    first, index = deployment.stored_keys(prefix)
    assert first.startswith(f"{prefix}00000001-")
    assert index == f"{prefix}index.json"
    assert deployment.metadata_of("good ü")["transform-digest"] == done["digest"]
    assert by_key["good ü", "duplicate"]["output"] == done["output"]
    failed = by_key["array", "failed"]
    assert (failed["output"], failed["counts"], "array" in failed["reason"]) == (None, None, True)
    assert by_key["overwritten", "done"]["counts"]["lines_in"] == 20


def test_a_subscriber_can_choose(deployment: Deployment, topic: Any) -> None:
    failures = subscribed(topic, deployment, FilterPolicy=json.dumps({"outcome": ["failed", "cancelled"]}))
    rejects = subscribed(topic, deployment, FilterPolicy=json.dumps({"rejected": [{"numeric": [">", 0]}]}))
    deployment.put("good", lines(10))
    deployment.put("some", lines(10) + b"bad\n")
    deployment.put("array", b"[1]")
    deployment.drain()
    assert [event["source"]["key"] for event in failures.heard()] == ["array"]
    (raw,) = rejects.raw()
    assert (json.loads(raw["Body"])["source"]["key"], texts_of(raw)) == ("some", {"outcome": "done", "rejected": "1"})


def test_a_bus_is_told_the_same(deployment: Deployment) -> None:
    bus, name = boto3.client("events"), f"test-{uuid.uuid4().hex}"
    deployment.env["OUTCOME_BUS"] = bus.create_event_bus(Name=name)["EventBusArn"]
    listening = Listening(deployment.sqs)
    pattern = {"source": ["jsonl-transform"], "detail": {"outcome": ["done"]}}
    bus.put_rule(Name=name, EventBusName=name, EventPattern=json.dumps(pattern))
    bus.put_targets(Rule=name, EventBusName=name, Targets=[{"Id": "1", "Arn": listening.arn}])
    bus.close()
    deployment.put("good", lines(10))
    deployment.put("array", b"[1]")
    deployment.drain()
    (event,) = listening.heard()
    SCHEMA.validate(event["detail"])
    assert (event["detail-type"], event["detail"]["output"]["key"]) == ("Object Transformed", "output/good")


# Where they cannot be told


@contextmanager
def listener(deployment: Deployment, *, answers: bytes) -> Iterator[list[tuple[int, bool]]]:
    """Run what takes connections instead of SNS; yield what was in flight, and whether the output stood, at each."""
    seen: list[tuple[int, bool]] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        held = []

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    held.append(connection)
                    seen.append((deployment.waiting()[1], deployment.output_of("0") is not None))
                    if answers:
                        connection.recv(1 << 16)
                        connection.sendall(answers)
                        connection.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        deployment.env["AWS_ENDPOINT_URL_SNS"] = f"http://127.0.0.1:{server.getsockname()[1]}"
        yield seen
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
        for connection in held:
            connection.close()


REFUSAL = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
NONSENSE = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\n<<<<"


@pytest.mark.parametrize(
    "answers",
    [
        pytest.param(b"", id="silent", marks=pytest.mark.slow),
        pytest.param(REFUSAL, id="refuses"),
        pytest.param(NONSENSE, id="nonsense", marks=pytest.mark.slow),
    ],
)
def test_a_job_is_done_where_the_topic_does_not_take_it(deployment: Deployment, answers: bytes) -> None:
    deployment.env["OUTCOME_TOPIC"] = TOPIC
    names = ["0", "1", "2"]
    for name in names:
        deployment.put(name, lines(10))
    with listener(deployment, answers=answers) as seen:
        said = deployment.drain(env={"WORKERS": "1"})
    assert events_of(said).count("done") == 3
    assert [deployment.output_of(name) for name in names] == [transformed(10)] * 3
    assert (deployment.waiting(), deployment.dead()) == ((0, 0, 0), [])
    untold = [line for line in said if line.get("event") == "outcome not told"]
    assert len(untold) == 3
    for line in untold:
        assert line["channel"] == TOPIC
        SCHEMA.validate(line["outcome"])
    assert sum(line.get("OutcomesNotTold", 0) for line in said) == 3
    assert 1 <= len(seen) <= 4, "not each of them is tried, as that would take long"


def test_it_is_told_after_the_output_stands_and_before_the_message_goes(deployment: Deployment) -> None:
    for raw in take_all(deployment.sqs, deployment.queue):  # that S3 was told of the queue
        deployment.sqs.delete_message(QueueUrl=deployment.queue, ReceiptHandle=raw["ReceiptHandle"])
    deployment.env["OUTCOME_TOPIC"] = TOPIC
    deployment.put("0", lines(10))
    with listener(deployment, answers=REFUSAL) as seen:
        deployment.drain()
    assert seen[0] == (1, True)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("OUTCOME_TOPIC", "outcomes"),
        ("OUTCOME_TOPIC", f"{TOPIC}.fifo"),
        ("OUTCOME_TOPIC", TOPIC.replace("sns", "sqs")),
        ("OUTCOME_BUS", "arn:aws:events:eu-central-1:111122223333:rule/outcomes"),
        ("OUTCOME_BUS", "a bus"),
    ],
)
def test_what_is_no_topic_or_bus_is_refused(deployment: Deployment, name: str, text: str) -> None:
    with pytest.raises(SettingsError, match=f"{name}: found '{text}', expected the (ARN|name)"):
        Settings.read({**deployment.env, name: text})
