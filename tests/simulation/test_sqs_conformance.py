"""The model of SQS answers as ministack does, but for known differences of ministack from AWS."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.exceptions import ClientError

from tests.simulation.sqs_model import SqsModel
from tests.support.fakes import FakeClock
from tests.support.queues import arn_of, create_queue, redrive_policy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

OK = "ok"
LONG_S = 3600  # nothing becomes visible by itself while a test runs
MAX_RECEIVES = 3
MAX_MESSAGES = 9  # one receive returns all, so that their order does not matter


@dataclass(frozen=True)
class Difference:
    """A known difference of ministack from AWS; the model is right.

    Attributes:
        what: The difference.
        source: Where AWS says what it does.
        operation: The operation that it is about, alone or in a batch.
        model: The code of the model's answer.
        server: The code of ministack's answer.
    """

    what: str
    source: str
    operation: str
    model: str
    server: str


DIFFERENCES = [
    Difference(
        "ministack refuses to delete with an old receipt, or what is deleted",
        "API reference of SQS, DeleteMessage: the request will succeed, but the message might not be deleted",
        "delete_message",
        model=OK,
        server="ReceiptHandleIsInvalid",
    ),
    Difference(
        "ministack does not remember receipts that are not the last one of a message",
        "aws/aws-sdk-net issue 1927: Value … for parameter ReceiptHandle is invalid. Reason: Message does not exist",
        "change_message_visibility",
        model="InvalidParameterValue",
        server="ReceiptHandleIsInvalid",
    ),
    Difference(
        "ministack changes the visibility of a message that is visible",
        "API reference of SQS, ChangeMessageVisibility: MessageNotInflight",
        "change_message_visibility",
        model="MessageNotInflight",
        server=OK,
    ),
]


@dataclass
class Queues:
    """A queue and its dead-letter queue, in the model and in ministack.

    Attributes:
        model: The model.
        server: A client of ministack.
        ours: The URLs in the model.
        theirs: The URLs in ministack.
        receipts: Those of both that were given out for the same receive.
        sent: How many messages were sent.
    """

    model: SqsModel
    server: Any
    ours: tuple[str, str]
    theirs: tuple[str, str]
    receipts: list[tuple[str, str]] = field(default_factory=list)
    sent: int = 0

    def both(self, operation: str, queue: int, *receipts: int, **arguments: Any) -> tuple[Any, Any]:
        """Send a request to both, with a receipt or none; return the answers or their codes."""
        ours, theirs = ({**arguments, "QueueUrl": urls[queue]} for urls in (self.ours, self.theirs))
        for index in receipts:
            ours["ReceiptHandle"], theirs["ReceiptHandle"] = self.receipts[index]
        return answer_of(self.model.request, operation, ours), answer_of(self._request, operation, theirs)

    def _request(self, operation: str, **arguments: Any) -> Any:
        return getattr(self.server, operation)(**arguments)

    def is_in_flight(self, index: int) -> bool:
        """Return whether a receipt is the last one of a message that is invisible."""
        now = self.model._clock()
        found = (one for url in self.ours for one in self.model.messages(url))
        return any(one.receipt == self.receipts[index][0] and one.is_in_flight(now) for one in found)


def answer_of(send: Callable[..., Any], operation: str, arguments: dict[str, Any]) -> Any:
    """Return an answer, or the code of an error without its namespace."""
    try:
        return send(operation, **arguments)
    except ClientError as error:
        return error.response["Error"]["Code"].rpartition(".")[2]


def entries_of(answer: Any) -> dict[str, str]:
    """Return the code for each entry of a batch; of another answer only one."""
    if isinstance(answer, str):
        return {"": answer}
    done = {one["Id"]: OK for one in answer.get("Successful", ())}
    failed = {one["Id"]: one["Code"].rpartition(".")[2] for one in answer.get("Failed", ())}
    return done | failed or {"": OK}


def send(queues: Queues, chance: random.Random) -> None:
    """Send a message, with attributes or not, or one that is refused."""
    attributes: dict[str, Any] = {}
    if chance.random() < 0.5:
        attributes["attempts"] = {"DataType": "Number", "StringValue": str(chance.randint(0, 9))}
        attributes["label"] = {"DataType": "String.custom", "StringValue": "é"}
        attributes["bytes"] = {"DataType": "Binary", "BinaryValue": b"\0\1"}
    if len(queues.model.messages(queues.ours[0])) + len(queues.model.messages(queues.ours[1])) >= MAX_MESSAGES:
        return
    queues.sent += 1
    body = chance.choice([f"message {queues.sent}"] * 5 + ["", "\ufffe"])
    answers = queues.both("send_message", 0, MessageBody=body, MessageAttributes=attributes)
    assert entries_of(answers[0]) == entries_of(answers[1]), body


def send_batch(queues: Queues, _: random.Random) -> None:
    """Send a batch, with an entry that is refused, or one that is refused as a whole."""
    if len(queues.model.messages(queues.ours[0])) + len(queues.model.messages(queues.ours[1])) >= MAX_MESSAGES - 1:
        return
    queues.sent += 1
    good = {"Id": "good", "MessageBody": f"message {queues.sent}"}
    bad = {"Id": "bad", "MessageBody": ""}
    for entries in ([good, bad], [good, good], [{**good, "Id": "not/good"}], [bad] * 11):
        answers = queues.both("send_message_batch", 0, Entries=entries)
        assert entries_of(answers[0]) == entries_of(answers[1]), entries


def receive(queues: Queues, chance: random.Random) -> None:
    """Receive everything that is visible on a queue."""
    answers = queues.both(
        "receive_message",
        chance.choice([0, 0, 1]),
        MaxNumberOfMessages=10,
        VisibilityTimeout=chance.choice([0, LONG_S, LONG_S]),
        MessageSystemAttributeNames=["ApproximateReceiveCount", "AWSTraceHeader", "DeadLetterQueueSourceArn"],
        MessageAttributeNames=chance.choice([["All"], ["label"], ["att.*"]]),
    )
    found = [{raw["Body"]: raw for raw in answer.get("Messages", ())} for answer in answers]
    assert found[0].keys() == found[1].keys()
    for body in sorted(found[0]):
        ours, theirs = (raws[body] for raws in found)
        assert ours["Attributes"]["ApproximateReceiveCount"] == theirs["Attributes"]["ApproximateReceiveCount"]
        assert ours["Attributes"].keys() == theirs["Attributes"].keys()
        assert ours.get("MessageAttributes") == theirs.get("MessageAttributes")
        queues.receipts.append((ours["ReceiptHandle"], theirs["ReceiptHandle"]))


def settle(queues: Queues, chance: random.Random) -> None:
    """Delete a message, or change its visibility, alone or in a batch, with any receipt that was given out."""
    if not queues.receipts:
        return
    operation = chance.choice(["delete_message", "change_message_visibility", "change_message_visibility"])
    more = {"VisibilityTimeout": chance.choice([0, LONG_S])} if operation.startswith("change") else {}
    chosen = [chance.randrange(max(0, len(queues.receipts) - 12), len(queues.receipts)) for _ in range(3)]
    queue = chance.choice([0, 0, 1])
    in_flight = {str(index): queues.is_in_flight(index) for index in chosen}
    # A receipt of another queue is not valid.
    prefix = f"arn:aws:sqs:{queues.model.meta.region_name}:123456789012:{queues.ours[queue].rpartition('/')[2]}/"
    chosen = sorted({index for index in chosen if queues.receipts[index][0].startswith(prefix)})
    if not chosen:
        return
    if chance.random() < 0.5:
        answers = queues.both(operation, queue, chosen[0], **more)
        codes = [{str(chosen[0]): entries_of(answer)[""]} for answer in answers]
    else:
        codes = [
            entries_of(
                answer_of(
                    request,
                    f"{operation}_batch",
                    {
                        "QueueUrl": urls[queue],
                        "Entries": [
                            {"Id": str(index), "ReceiptHandle": queues.receipts[index][side], **more}
                            for index in chosen
                        ],
                    },
                )
            )
            for side, (request, urls) in enumerate(
                [(queues.model.request, queues.ours), (queues._request, queues.theirs)]
            )
        ]
    assert codes[0].keys() == codes[1].keys()
    for entry, code in codes[0].items():
        if code == codes[1][entry]:
            continue
        assert not in_flight[entry], (operation, codes)
        known = (operation, code, codes[1][entry])
        assert known in [(one.operation, one.model, one.server) for one in DIFFERENCES], (operation, codes)
        if codes[1][entry] == OK:  # the same contents again
            queues.both(operation, queue, int(entry), VisibilityTimeout=0)


def count(queues: Queues, _: random.Random) -> None:
    """Compare the numbers of messages, and the attributes."""
    names = [f"ApproximateNumberOfMessages{kind}" for kind in ("", "NotVisible", "Delayed")]
    for queue in (0, 1):
        ours, theirs = queues.both("get_queue_attributes", queue, AttributeNames=["All"])
        for name in (*names, "VisibilityTimeout", "DelaySeconds", "MessageRetentionPeriod", "MaximumMessageSize"):
            assert ours["Attributes"][name] == theirs["Attributes"][name], name
        assert ("RedrivePolicy" in ours["Attributes"]) == ("RedrivePolicy" in theirs["Attributes"]) == (queue == 0)
        ours, theirs = queues.both("get_queue_attributes", queue, AttributeNames=names[:2])
        assert ours["Attributes"] == theirs["Attributes"]


@pytest.fixture
def queues(aws: str) -> Iterator[Queues]:
    server = boto3.client("sqs", endpoint_url=aws)
    model = SqsModel(FakeClock(1_700_000_000.0).time, random.Random(0))
    dead = create_queue(server)
    theirs = create_queue(server, RedrivePolicy=redrive_policy(server, dead, MAX_RECEIVES)), dead
    dead_ours = model.create_queue("dead", {})
    policy = {"deadLetterTargetArn": arn_of(model, dead_ours), "maxReceiveCount": str(MAX_RECEIVES)}
    ours = model.create_queue("queue", {"RedrivePolicy": json.dumps(policy)}), dead_ours
    yield Queues(model, server, ours, theirs)
    server.close()


STEPS = [send, send, send_batch, receive, receive, receive, settle, settle, settle, count]


@pytest.mark.parametrize("seed", range(4))
def test_the_model_and_ministack_answer_random_requests_alike(queues: Queues, seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(80):
        chance.choice(STEPS)(queues, chance)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 110))
def test_the_model_and_ministack_answer_many_random_requests_alike(queues: Queues, seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(200):
        chance.choice(STEPS)(queues, chance)


def test_queues_are_found_by_both_in_the_same_way(queues: Queues) -> None:
    for model_name, server_name in (("queue", queues.theirs[0].rpartition("/")[2]), ("none", "none")):
        ours = answer_of(queues.model.request, "get_queue_url", {"QueueName": model_name})
        theirs = answer_of(queues._request, "get_queue_url", {"QueueName": server_name})
        assert entries_of(ours) == entries_of(theirs)
    missing = answer_of(queues.model.request, "delete_message", {"QueueUrl": "https://none", "ReceiptHandle": "x"})
    assert missing == "NonExistentQueue"
