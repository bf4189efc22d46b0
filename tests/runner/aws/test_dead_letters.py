"""Dead letters are moved back without one being lost, whatever fails in between."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from runner.aws.dead_letters import DeadLetters
from runner.aws.message import Lane
from runner.aws.queue import Queue
from runner.errors import QueueError, cause_of
from tests.simulation.sqs_model import SqsModel
from tests.support.fakes import FakeClock

LETTERS = 12


class Account:
    """A queue and its dead-letter queue, and a client whose requests fail from some number on."""

    def __init__(self) -> None:
        self.clock = FakeClock(1_800_000_000.0)
        self.model = SqsModel(self.clock.time, random.Random(1))
        self.meta = self.model.meta
        self.dead_url = self.model.create_queue("dead", {})
        self.url = self.model.create_queue("queue", {})
        self.requests_left = 10**6
        for number in range(LETTERS):
            self.model.request("send_message", QueueUrl=self.dead_url, MessageBody=f"letter {number}")

    def __getattr__(self, operation: str) -> Any:
        def ask(**arguments: Any) -> dict[str, Any]:
            self.requests_left -= 1
            if self.requests_left < 0:
                raise RuntimeError("the credentials have expired")
            return self.model.request(operation, **arguments)

        return ask

    def move_back(self) -> None:
        letters = DeadLetters(Queue(self, "queue", self.url, self.dead_url, None), self.clock)
        with letters.look() as found:
            for batch in found:
                letters.move_back(batch)

    def bodies(self) -> set[str]:
        return {one.body for url in (self.url, self.dead_url) for one in self.model.messages(url)}


@pytest.mark.parametrize("requests", range(8))
def test_no_letter_is_lost_wherever_moving_back_ends(requests: int) -> None:
    account = Account()
    before = account.bodies()
    account.requests_left = requests
    with pytest.raises(QueueError):
        account.move_back()
    assert account.bodies() == before


def test_letters_that_were_moved_back_are_gone_from_where_they_were() -> None:
    account = Account()
    before = account.bodies()
    account.move_back()
    assert account.model.messages(account.dead_url) == []
    assert sorted(one.body for one in account.model.messages(account.url)) == sorted(before)


# Letters of backfills


def text(value: str) -> dict[str, str]:
    return {"DataType": "String", "StringValue": value}


class TwoQueues:
    """A main queue and one of backfills, which share a dead-letter queue."""

    def __init__(self) -> None:
        self.clock = FakeClock(1_800_000_000.0)
        self.model = SqsModel(self.clock.time, random.Random(1))
        self.dead_url = self.model.create_queue("dead", {})
        dead_arn = self.model.get_queue_attributes(QueueUrl=self.dead_url, AttributeNames=["QueueArn"])
        policy = {"deadLetterTargetArn": dead_arn["Attributes"]["QueueArn"], "maxReceiveCount": "2"}
        for name in ("queue", "backfill"):
            self.model.create_queue(name, {"RedrivePolicy": json.dumps(policy)})
        self.main = Queue.open(self.model, "queue", None)
        self.backfill = Queue.open(self.model, "backfill", None, self.main)

    def letters(self, backfill: Queue | None) -> dict[str, Lane]:
        """Return the lanes of the letters by their bodies."""
        with DeadLetters(self.main, self.clock, backfill).look() as found:
            return {letter.message.body: letter.lane for batch in found for letter in batch}

    def move_back(self, backfill: Queue | None) -> None:
        letters = DeadLetters(self.main, self.clock, backfill)
        with letters.look() as found:
            for batch in found:
                letters.move_back(batch)

    def bodies(self, queue: Queue) -> list[str]:
        return sorted(one.body for one in self.model.messages(queue.url))

    def fail(self, queue: Queue, body: str) -> None:
        """Let a worker send a message to the dead letters."""
        self.model.send_message(QueueUrl=queue.url, MessageBody=body, MessageAttributes={"lane": text("of the sender")})
        message = queue.receive(0, 60)
        assert message is not None
        queue.dead_letter(message, reason="no", job="")

    def forget(self, queue: Queue, body: str) -> None:
        """Let workers receive a message without an end, so that SQS moves it."""
        self.model.send_message(QueueUrl=queue.url, MessageBody=body)
        for _ in range(3):
            queue.receive(0, 1)
            self.clock.now += 10


@pytest.fixture
def two() -> TwoQueues:
    made = TwoQueues()
    for queue in (made.main, made.backfill):
        made.fail(queue, f"{queue.name} failed")
        made.forget(queue, f"{queue.name} forgotten")
    return made


def test_letters_of_a_backfill_are_told_apart_whoever_has_moved_them(two: TwoQueues) -> None:
    main, backfill = Lane.MAIN, Lane.BACKFILL
    assert two.letters(two.backfill) == {
        "queue failed": main,
        "queue forgotten": main,
        "backfill failed": backfill,
        "backfill forgotten": backfill,
    }


def test_letters_go_back_to_the_queues_that_they_come_from(two: TwoQueues) -> None:
    two.move_back(two.backfill)
    assert two.bodies(two.main) == ["queue failed", "queue forgotten"]
    assert two.bodies(two.backfill) == ["backfill failed", "backfill forgotten"]
    assert two.model.messages(two.dead_url) == []


def test_letters_of_a_backfill_that_is_no_longer_there_go_to_the_main_queue(two: TwoQueues) -> None:
    two.move_back(None)
    assert len(two.bodies(two.main)) == 4


def test_a_letter_that_was_moved_back_is_what_it_was(two: TwoQueues) -> None:
    two.move_back(two.backfill)
    attributes = [one.attributes for one in two.model.messages(two.backfill.url)]
    assert attributes == [{}, {}]
    message = two.backfill.receive(0, 60)
    assert message is not None
    assert (message.lane, message.attempts) == (Lane.BACKFILL, 0)


def test_a_copy_of_a_message_has_the_attributes_of_its_sender(two: TwoQueues) -> None:
    two.model.send_message(QueueUrl=two.backfill.url, MessageBody="a", MessageAttributes={"lane": text("fast")})
    while (message := two.backfill.receive(0, 60)) is not None:
        two.backfill.requeue(message, attempts=0, progress=0, delay_s=900)
    (copy,) = two.model.messages(two.backfill.url)
    assert copy.attributes["lane"] == text("fast")


def test_reasons_that_differ_only_in_output_keys_and_hashes_are_one_cause() -> None:
    taken = "its output key is taken: s3://out/output/{} is the output of another input, whose bucket and key have the"
    causes = {
        cause_of(f"{taken.format(f'2026/{key}.out')} hash {digit * 32}: set OUTPUT_KEY", f"raw/{key}.jsonl")
        for key, digit in (("a", "a"), ("b", "7"), ("c/d", "f"))
    }
    assert len(causes) == 1
    put = "put_object of s3://out/{}/raw/{}.jsonl: no"
    one, two = cause_of(put.format("output", "xx"), "raw/xx.jsonl"), cause_of(put.format("output", "yy"), "raw/yy.json")
    assert one == two
    assert two != cause_of(put.format("rejects", "yy"), "raw/zz.json")
    assert cause_of("get_object of s3://in/xx: denied", "xx") != cause_of("get_object of s3://in/xx: gone", "xx")
