"""Dead letters are moved back without one being lost, whatever fails in between."""

from __future__ import annotations

import random
from typing import Any

import pytest

from runner.aws.dead_letters import DeadLetters
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
