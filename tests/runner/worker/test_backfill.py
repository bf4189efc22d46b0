"""A backfill on a real server: submitted, done behind new objects, interrupted, dead-lettered and moved back."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.deployment import event_body, events_of, wait_for
from tests.support.example import lines, transformed
from tests.support.operating import asked, operate
from tests.support.queues import create_queue, take_all, texts_of
from tests.support.watching import Holding, Watched

if TYPE_CHECKING:
    from tests.support.deployment import Deployment
    from tests.support.proxy import Proxy

LARGE, LARGE_OUTPUT = lines(3000, 8000), transformed(3000, 8000)  # 24 MB
SETTINGS = {"PART_BYTES": "5MiB", "RANGE_BYTES": "1MiB", "STOP_TIMEOUT_S": "1"}
NOTHING = (0, 0, 0)


@pytest.fixture
def backfill(deployment: Deployment) -> str:
    """The URL of the queue of backfills of the deployment, whose objects are older than its notification."""
    deployment.s3.put_bucket_notification_configuration(Bucket=deployment.input, NotificationConfiguration={})
    deployment.sqs.purge_queue(QueueUrl=deployment.queue)
    return deployment.add_backfill()


def all_of(deployment: Deployment) -> str:
    return f"s3://{deployment.input}/"


def test_what_is_submitted_waits_on_the_backfill_queue_and_is_done(deployment: Deployment, backfill: str) -> None:
    for number in range(12):
        deployment.put(f"old/{number}", lines(10 + number))
    said = operate(deployment, "submit", all_of(deployment)).stdout
    assert "put on the backfill queue" in said
    assert (deployment.waiting(), deployment.waiting(backfill)) == (NOTHING, (12, 0, 0))
    deployment.put("new", lines(5))
    deployment.send_event("new")
    log = deployment.drain()
    done = {line["key"]: line.get("lane") for line in log if line.get("event") == "done"}
    assert done == {"new": None, **{f"old/{number}": "backfill" for number in range(12)}}
    for number in range(12):
        assert deployment.output_of(f"old/{number}") == transformed(10 + number)
    assert (deployment.waiting(), deployment.waiting(backfill), deployment.dead()) == (NOTHING, NOTHING, [])


@pytest.mark.slow
def test_new_objects_are_done_beside_a_long_job_of_a_backfill(
    deployment: Deployment, backfill: str, proxy: Proxy
) -> None:
    proxy.rule = holding = Holding("UploadPart", "output/old", 1)
    deployment.env |= SETTINGS
    deployment.put("old", LARGE)
    operate(deployment, "submit", all_of(deployment))
    worker = Watched(deployment)
    holding.wait()
    for number in range(3):
        deployment.put(f"new/{number}", lines(10))
        deployment.send_event(f"new/{number}")
    worker.logged("done", 3)
    assert deployment.waiting(backfill) == (0, 1, 0)
    holding.released.set()
    wait_for(lambda: deployment.waiting(backfill) == NOTHING)
    assert worker.stop() == 0
    assert deployment.output_of("old") == LARGE_OUTPUT


@pytest.mark.slow
def test_a_job_that_is_handed_back_waits_on_the_backfill_queue_and_goes_on(
    deployment: Deployment, backfill: str, proxy: Proxy
) -> None:
    proxy.rule = holding = Holding("UploadPart", "output/old", 3)
    deployment.env |= SETTINGS
    deployment.put("old", LARGE)
    operate(deployment, "submit", all_of(deployment))
    worker = Watched(deployment)
    holding.wait()
    assert worker.stop() == 0
    holding.released.set()
    assert (deployment.waiting(), deployment.waiting(backfill)) == (NOTHING, (1, 0, 0))
    deployment.drain()
    assert deployment.output_of("old") == LARGE_OUTPUT
    assert (deployment.waiting(backfill), deployment.uploads(), deployment.dead()) == (NOTHING, [], [])
    assert proxy.count("CreateMultipartUpload") == 1


def test_dead_letters_are_told_apart_and_go_back_to_where_they_come_from(deployment: Deployment, backfill: str) -> None:
    for key in ("old", "new"):
        deployment.put(key, b"bad\n")
    operate(deployment, "submit", f"{all_of(deployment)}old")
    deployment.send_event("new")
    deployment.drain()
    assert asked(deployment, "status")["dead_letters"] == 2
    said = operate(deployment, "letters", "--json").stdout.splitlines()
    assert {one["keys"][0]: one["lane"] for one in map(json.loads, said)} == {"new": "main", "old": "backfill"}
    assert f"s3://{deployment.input}/old (backfill)" in operate(deployment, "letters").stdout
    assert sum(cause["count"] for cause in asked(deployment, "redrive", "--all")["moved"]) == 2
    (behind,), (main,) = take_all(deployment.sqs, backfill), take_all(deployment.sqs, deployment.queue)
    assert ('"old"' in behind["Body"], '"new"' in main["Body"]) == (True, True)
    assert (texts_of(behind), texts_of(main)) == ({}, {})
    assert asked(deployment, "status")["dead_letters"] == 0


def test_a_message_of_the_backfill_that_is_no_event_becomes_a_dead_letter_of_it(
    deployment: Deployment, backfill: str
) -> None:
    deployment.sqs.send_message(QueueUrl=backfill, MessageBody="nonsense")
    several = [json.loads(event_body(deployment.input, key, "0", 5, "00A1"))["Records"][0] for key in "ab"]
    deployment.sqs.send_message(QueueUrl=backfill, MessageBody=json.dumps({"Records": several}))
    log = deployment.drain()
    assert sorted(name for name in events_of(log) if name in {"refused", "split", "superseded"}) == [
        *("refused", "split", "superseded", "superseded")
    ]
    (letter,) = deployment.dead()
    assert (letter["body"], letter["lane"]) == ("nonsense", "backfill")
    assert deployment.waiting() == deployment.waiting(backfill) == NOTHING


def test_a_backfill_may_have_dead_letters_of_its_own(deployment: Deployment, backfill: str) -> None:
    dead = create_queue(deployment.sqs)
    arn = deployment.sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": "5"})
    deployment.sqs.set_queue_attributes(QueueUrl=backfill, Attributes={"RedrivePolicy": policy})
    for key in ("old/a", "old/b", "new"):
        deployment.put(key, b"bad\n")
    operate(deployment, "submit", f"{all_of(deployment)}old/")
    deployment.send_event("new")
    deployment.drain(env={"BREAKER_FAILURES": "9"})
    assert (deployment.waiting(deployment.dead_letters), deployment.waiting(dead)) == ((1, 0, 0), (2, 0, 0))
    status = asked(deployment, "status")
    assert (status["dead_letters"], status["looked_at"]) == (3, 3)
    assert len(operate(deployment, "letters", "--json").stdout.splitlines()) == 3
    assert operate(deployment, "discard", "--key", "old/a").stdout.endswith("\n1 deleted\n")
    asked(deployment, "redrive", "--all")
    assert (deployment.waiting(), deployment.waiting(backfill)) == ((1, 0, 0), (1, 0, 0))
    assert deployment.waiting(deployment.dead_letters) == deployment.waiting(dead) == NOTHING


def test_a_backfill_queue_without_a_redrive_policy_has_the_dead_letters_of_the_main_one(
    deployment: Deployment, backfill: str
) -> None:
    deployment.sqs.set_queue_attributes(QueueUrl=backfill, Attributes={"RedrivePolicy": ""})
    deployment.put("old", b"bad\n")
    operate(deployment, "submit", all_of(deployment))
    deployment.drain()
    assert [letter["lane"] for letter in deployment.dead()] == ["backfill"]


def test_an_object_in_both_queues_has_one_output(deployment: Deployment, backfill: str) -> None:
    for number in range(4):
        deployment.put(f"in/{number}", lines(10 + number))
        deployment.send_event(f"in/{number}")
    operate(deployment, "submit", all_of(deployment))
    log = deployment.drain()
    ended = [line["event"] for line in log if line.get("event") in {"done", "duplicate", "busy"}]
    assert (ended.count("done"), ended.count("duplicate")) == (4, 4)
    for number in range(4):
        assert deployment.output_of(f"in/{number}") == transformed(10 + number)
    assert (deployment.waiting(), deployment.waiting(backfill), deployment.dead()) == (NOTHING, NOTHING, [])


@pytest.mark.parametrize(
    ("queue", "found"),
    [
        ("test-nowhere", "there is no queue test-nowhere"),
        ("{queue}", "expected another queue than the main one and the dead-letter queue"),
        ("{url}", "is both the main queue and that of backfills"),
        ("{dead}", "is its own dead-letter queue"),
    ],
)
def test_a_queue_that_cannot_be_that_of_backfills_ends_the_worker(
    deployment: Deployment, queue: str, found: str
) -> None:
    names: dict[str, Any] = {"queue": deployment.env["SQSBatchQueue"], "url": deployment.queue}
    assert found in deployment.refusal({"BACKFILL_QUEUE": queue.format(**names, dead=deployment.dead_letters)})
