"""The circuit breaker opens for one cause, however the jobs that it befalls are called."""

from __future__ import annotations

import pytest

from runner.worker.breaker import Breaker

KEYS = ["in/a b.jsonl", "in/ä+%20.jsonl", "in/1, 2; 3.jsonl"]


@pytest.mark.parametrize(
    "reason",
    [
        "s3://bucket/{}: the input starts with `[`: that is a JSON array",
        "no calculation for the key `{}`: it begins with none of the prefixes `raw/`",
        "there is no column `starz` in the first {} lines. Did you mean `stars`?",
    ],
)
def test_three_failures_of_one_cause_open_it(reason: str) -> None:
    breaker = Breaker(3)
    for number, key in enumerate(KEYS):
        assert breaker.reason is None
        breaker.failed(reason.format(number if "lines" in reason else key), key)
    assert breaker.reason is not None
    assert breaker.reason.startswith("3 jobs in a row")


def test_failures_of_several_causes_do_not() -> None:
    breaker = Breaker(3)
    for number in range(12):
        breaker.failed(f"cause {'abc'[number % 3]}", KEYS[0])
    assert breaker.reason is None


def test_a_job_that_is_done_in_between_starts_the_count_again() -> None:
    breaker = Breaker(3)
    for _ in range(5):
        breaker.failed("cause", KEYS[0])
        breaker.failed("cause", KEYS[1])
        breaker.succeeded()
    assert breaker.reason is None


def test_one_denial_opens_it_and_its_reason_stays() -> None:
    breaker = Breaker(3)
    breaker.denied("put_object of s3://out/a")
    breaker.denied("get_object of s3://in/b")
    assert breaker.reason == "access denied: put_object of s3://out/a"
