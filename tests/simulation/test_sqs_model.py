"""The model of SQS follows AWS where no emulator does, and the worker's queue works with it."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from botocore.exceptions import ClientError

from runner.aws.queue import MAX_VISIBILITY_S, Queue
from runner.aws.sqs import ask_sqs
from runner.errors import LeaseLostError, QueueError, SettingsError
from tests.simulation.sqs_model import SqsModel
from tests.support.fakes import FakeClock
from tests.support.queues import arn_of

START = 1_700_000_000.5


class Bench:
    """A model with a queue and its dead-letter queue, and a clock."""

    def __init__(self, *, seed: int = 0, receives: int = 3, **attributes: str) -> None:
        self.clock = FakeClock(START)
        self.model = SqsModel(self.clock.time, random.Random(seed))
        self.dead = self.model.create_queue("dead", {})
        policy = {"deadLetterTargetArn": arn_of(self.model, self.dead), "maxReceiveCount": str(receives)}
        self.url = self.model.create_queue("queue", {"RedrivePolicy": json.dumps(policy), **attributes})

    def send(self, body: str = "text", **more: Any) -> str:
        return str(self.model.send_message(QueueUrl=self.url, MessageBody=body, **more)["MessageId"])

    def receive(self, url: str | None = None, timeout_s: int = 30, most: int = 10) -> list[dict[str, Any]]:
        answer = self.model.receive_message(
            QueueUrl=url or self.url,
            MaxNumberOfMessages=most,
            VisibilityTimeout=timeout_s,
            MessageSystemAttributeNames=["All"],
            MessageAttributeNames=["All"],
        )
        messages: list[dict[str, Any]] = answer.get("Messages", [])
        return messages

    def receipt(self, timeout_s: int = 30) -> str:
        (raw,) = self.receive(timeout_s=timeout_s, most=1)
        return str(raw["ReceiptHandle"])

    def delete(self, receipt: str) -> None:
        self.model.delete_message(QueueUrl=self.url, ReceiptHandle=receipt)

    def change(self, receipt: str, timeout_s: int) -> str:
        """Change the visibility; return "ok", or the code and the reason of the error."""
        try:
            self.model.change_message_visibility(QueueUrl=self.url, ReceiptHandle=receipt, VisibilityTimeout=timeout_s)
        except ClientError as error:
            told = error.response["Error"]
            return f"{told['Code'].rpartition('.')[2]}: {told['Message'].rpartition('Reason: ')[2]}"
        return "ok"

    def counts(self) -> list[int]:
        """Return how many messages are visible, in flight, delayed, and on the dead-letter queue."""
        names = [f"ApproximateNumberOfMessages{kind}" for kind in ("", "NotVisible", "Delayed")]
        found = self.model.get_queue_attributes(QueueUrl=self.url, AttributeNames=names)["Attributes"]
        return [*(int(found[name]) for name in names), len(self.model.messages(self.dead))]


def test_an_old_receipt_deletes_nothing_and_the_last_one_does() -> None:
    bench = Bench()
    bench.send()
    old = bench.receipt(timeout_s=10)
    bench.clock.now += 10
    last = bench.receipt(timeout_s=10)
    bench.delete(old)
    assert bench.counts() == [0, 1, 0, 0]
    bench.clock.now += 10
    bench.delete(last)  # although the visibility timeout has expired
    assert bench.counts() == [0, 0, 0, 0]
    bench.delete(last)
    with pytest.raises(ClientError, match="ReceiptHandleIsInvalid"):
        bench.delete("anything")


def test_a_change_of_visibility_needs_a_message_in_flight() -> None:
    bench = Bench()
    bench.send()
    old = bench.receipt(timeout_s=10)
    assert bench.change(old, 20) == "ok"
    bench.clock.now += 20
    assert bench.change(old, 20) == "MessageNotInflight: The specified message isn't in flight."
    last = bench.receipt()
    assert bench.change(old, 20) == "InvalidParameterValue: The receipt handle has expired."
    bench.delete(last)
    assert bench.change(last, 20).endswith("Message does not exist or is not available for visibility timeout change.")
    assert bench.change("anything", 20).startswith("ReceiptHandleIsInvalid")


def test_a_change_of_visibility_after_the_timeout_can_succeed_without_an_effect() -> None:
    bench = Bench()
    bench.model.report_expired = False
    bench.send()
    old = bench.receipt(timeout_s=10)
    bench.clock.now += 10
    assert bench.change(old, 20) == "ok"
    assert bench.counts() == [1, 0, 0, 0]
    bench.receipt(timeout_s=10)
    assert bench.change(old, 0) == "ok"
    assert bench.counts() == [0, 1, 0, 0]


def test_a_message_is_in_flight_for_twelve_hours_at_most() -> None:
    bench = Bench()
    bench.send()
    receipt = bench.receipt(timeout_s=100)
    bench.clock.now += 60
    beyond = "InvalidParameterValue: Total VisibilityTimeout for the message is beyond the limit [43200 seconds]"
    assert bench.change(receipt, MAX_VISIBILITY_S - 59) == beyond
    assert bench.model.next_visible(bench.url) == START + 100
    assert bench.change(receipt, MAX_VISIBILITY_S - 60) == "ok"
    assert bench.model.next_visible(bench.url) == START + MAX_VISIBILITY_S
    assert bench.change(receipt, MAX_VISIBILITY_S + 1).startswith("InvalidParameterValue: Must be between 0 and 43200")


def test_messages_are_delayed() -> None:
    bench = Bench(DelaySeconds="5")
    assert bench.model.next_visible(bench.url) is None
    bench.send("own", DelaySeconds=900)
    bench.send("default")
    bench.send("now", DelaySeconds=0)
    assert bench.counts() == [1, 0, 2, 0]
    assert [raw["Body"] for raw in bench.receive()] == ["now"]
    assert bench.model.next_visible(bench.url) == START + 5
    bench.clock.now += 5
    assert bench.counts() == [1, 1, 1, 0]
    with pytest.raises(ClientError, match="DelaySeconds"):
        bench.send(DelaySeconds=901)


def test_a_message_moves_to_the_dead_letters_when_it_would_be_received_too_often() -> None:
    bench = Bench(receives=2)
    sent = bench.send(MessageSystemAttributes={"AWSTraceHeader": {"DataType": "String", "StringValue": "Root=1"}})
    first = bench.receive(timeout_s=1)[0]
    assert first["Attributes"] == {
        "ApproximateReceiveCount": "1",
        "SentTimestamp": str(int(START * 1000)),
        "ApproximateFirstReceiveTimestamp": str(int(START * 1000)),
        "SenderId": "123456789012",
        "AWSTraceHeader": "Root=1",
    }
    for _ in range(2):
        bench.clock.now += 1
        last = bench.receive(timeout_s=1)
    assert last == []
    assert bench.counts() == [0, 0, 0, 1]
    (letter,) = bench.receive(bench.dead)
    assert letter["MessageId"] == sent
    assert letter["Attributes"]["ApproximateReceiveCount"] == "3"
    assert letter["Attributes"]["SentTimestamp"] == first["Attributes"]["SentTimestamp"]
    assert letter["Attributes"]["DeadLetterQueueSourceArn"] == arn_of(bench.model, bench.url)
    bench.delete(first["ReceiptHandle"])  # succeeds, although the message is on another queue
    assert len(bench.model.messages(bench.dead)) == 1


def test_messages_expire_after_their_retention_period_also_as_dead_letters() -> None:
    bench = Bench(receives=1, MessageRetentionPeriod="60")
    bench.send("dead")
    bench.receive(timeout_s=0)
    assert bench.receive() == []
    bench.clock.now += 30
    bench.send("later")
    bench.clock.now += 30
    bench.model.purge_expired()
    assert (bench.counts(), bench.model.expired) == ([1, 0, 0, 1], 0)
    bench.clock.now += 30
    assert (bench.counts(), bench.model.expired) == ([0, 0, 0, 1], 1)
    bench.clock.now = START + 345_600
    assert (bench.counts(), bench.model.expired) == ([0, 0, 0, 0], 2)


def test_each_message_expires_at_its_own_time() -> None:
    bench = Bench(receives=1)
    bench.send("old")
    bench.clock.now += 60
    bench.model.send_message(QueueUrl=bench.dead, MessageBody="new")
    bench.receive(timeout_s=0)
    assert bench.receive() == []
    bench.clock.now = START + 345_600
    assert [one.body for one in bench.model.messages(bench.dead)] == ["new"]
    for body in ("first", "second"):
        bench.send(body)
        bench.clock.now += 60
    bench.clock.now += 345_600 - 120
    assert [one.body for one in bench.model.messages(bench.url)] == ["second"]


def test_a_message_can_be_received_twice() -> None:
    bench = Bench(receives=9)
    bench.model.duplicate_probability = 1.0
    bench.send()
    first = bench.receipt()
    assert bench.model.next_visible(bench.url) == START
    assert bench.change(first, 60) == "ok"
    bench.model.duplicate_probability = 0.0
    second = bench.receipt()
    assert bench.receive() == []
    assert bench.model.next_visible(bench.url) == START + 60
    bench.delete(first)
    assert bench.counts() == [0, 1, 0, 0]
    bench.delete(second)
    assert bench.model.messages(bench.url) == []


def test_the_order_of_messages_is_random_and_given_by_the_seed() -> None:
    orders = []
    for seed in (1, 1, 2):
        bench = Bench(seed=seed)
        for number in range(8):
            bench.send(str(number))
        orders.append([raw["Body"] for _ in range(8) for raw in bench.receive(most=1)])
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == [str(number) for number in range(8)] != orders[0]


def text(value: str, data_type: str = "String") -> dict[str, str]:
    """Return a message attribute."""
    return {"DataType": data_type, "StringValue": value}


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ({"MessageBody": ""}, "MissingParameter"),
        ({"MessageBody": "\x00"}, "InvalidMessageContents"),
        ({"MessageBody": "ü" * ((1 << 19) + 1)}, "InvalidParameterValue"),
        ({"MessageAttributes": {f"a{number}": text("x") for number in range(11)}}, "InvalidParameterValue"),
        ({"MessageAttributes": {"a": text("")}}, "InvalidParameterValue"),
        ({"MessageAttributes": {"a": text("\ud800")}}, "InvalidMessageContents"),
        ({"MessageAttributes": {"a": text("one", "Number")}}, "InvalidParameterValue"),
        ({"MessageAttributes": {"a": text("one", "Text")}}, "InvalidParameterValue"),
        ({"MessageAttributes": {"AWS.a": text("x")}}, "InvalidParameterValue"),
        ({"MessageAttributes": {"a b": text("x")}}, "InvalidParameterValue"),
        ({"MessageAttributes": {"a": text("x" * (1 << 20))}}, "InvalidParameterValue"),
    ],
)
def test_messages_are_refused(message: dict[str, Any], code: str) -> None:
    bench = Bench()
    entry = {"MessageBody": "text", **message}
    with pytest.raises(ClientError, match=code):
        bench.model.send_message(QueueUrl=bench.url, **entry)
    good = {"Id": "good", "MessageBody": "text"}
    if len(entry["MessageBody"]) + len(str(message)) < 1 << 18:
        answer = bench.model.send_message_batch(QueueUrl=bench.url, Entries=[{"Id": "bad", **entry}, good])
        assert [(one["Id"], one["Code"], one["SenderFault"]) for one in answer["Failed"]] == [("bad", code, True)]
        assert [raw["Body"] for raw in bench.receive()] == ["text"]


def test_the_largest_message_and_ten_attributes_are_taken() -> None:
    bench = Bench()
    attributes: dict[str, Any] = {f"a{number}": text("x") for number in range(9)}
    attributes["bytes"] = {"DataType": "Binary.png", "BinaryValue": b"\0"}
    size = sum(len(name) + len("String") + 1 for name in attributes if name != "bytes") + len("bytesBinary.png") + 1
    bench.send("x" * ((1 << 20) - size), MessageAttributes=attributes)
    assert bench.receive()[0]["MessageAttributes"] == attributes
    with pytest.raises(ClientError, match="shorter than"):
        bench.send("x" * ((1 << 20) - size + 1), MessageAttributes=attributes)
    entries = [{"Id": str(number), "MessageBody": "x" * (1 << 19)} for number in range(2)]
    bench.model.send_message_batch(QueueUrl=bench.url, Entries=entries)
    entries[0]["MessageBody"] += "x"
    with pytest.raises(ClientError, match="BatchRequestTooLong"):
        bench.model.send_message_batch(QueueUrl=bench.url, Entries=entries)


def test_the_queue_of_the_worker_works_with_the_model() -> None:
    bench = Bench()
    queue = Queue.open(bench.model, arn_of(bench.model, bench.url), None)
    assert (queue.url, queue.dead_letter_url, queue.max_receives) == (bench.url, bench.dead, 3)
    bench.send()
    message = queue.receive(20, 30)
    assert message is not None
    queue.extend(message, 60)
    bench.clock.now += 1
    queue.requeue(message, attempts=1, progress=7, delay_s=5)
    assert queue.waiting() == (0, 0, 1)
    bench.clock.now += 5
    copy = queue.receive(20, 30)
    assert copy is not None
    assert (copy.attempts, copy.progress, copy.owner) == (1, 7, message.id)
    assert copy.first_sent == int(START * 1000)
    bench.clock.now += 30
    with pytest.raises(LeaseLostError):
        queue.extend(copy, 60)
    queue.release(copy, 60)
    assert queue.waiting() == (1, 0, 0)
    again = queue.receive(20, 30)
    assert again is not None
    queue.dead_letter(again, reason="wrong", job="j")
    assert bench.counts() == [0, 0, 0, 1]


def test_answers_have_the_time_of_the_model() -> None:
    bench = Bench()
    bench.clock.now += 61
    answer = bench.model.get_queue_attributes(QueueUrl=bench.url, AttributeNames=["QueueArn"])
    assert answer["ResponseMetadata"]["HTTPHeaders"]["date"] == "Tue, 14 Nov 2023 22:14:21 GMT"
    assert answer["Attributes"] == {"QueueArn": "arn:aws:sqs:eu-central-1:123456789012:queue"}


def test_what_does_not_exist_is_an_error() -> None:
    bench = Bench()
    with pytest.raises(SettingsError, match="there is no queue none in eu-central-1"):
        Queue.open(bench.model, "none", None)
    with pytest.raises(QueueError, match="NonExistentQueue"):
        ask_sqs(bench.model, "receive_message", "https://none/none")
    with pytest.raises(ClientError, match="InvalidAttributeName"):
        bench.model.get_queue_attributes(QueueUrl=bench.url, AttributeNames=["Colour"])
    with pytest.raises(NotImplementedError, match="purge_queue"):
        bench.model.request("purge_queue", QueueUrl=bench.url)
    with pytest.raises(NotImplementedError, match="MessageGroupId"):
        bench.send(MessageGroupId="g")
    with pytest.raises(AttributeError):
        bench.model.anything()
