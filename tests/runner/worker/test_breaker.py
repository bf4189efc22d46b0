"""The circuit breaker opens for one cause on several objects, and closes once a job succeeds again."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO

import pytest

from runner.aws.surroundings import REAL
from runner.worker.breaker import FIRST_DELAY_S, LONGEST_DELAY_S, Breaker, BreakerState, Proof
from tests.support.fakes import FakeChance, FakeClock
from transform import Calculation, SchemaError

CLOSED, OPEN, PROBING = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.PROBING
KEYS = ["in/a b.jsonl", "in/ä+%20.jsonl", "in/1, 2; 3.jsonl"]


class Made:
    """A breaker that opens after three objects, and its clock."""

    def __init__(self, jitter: float = 1.0) -> None:
        self.clock, self.chance = FakeClock(), FakeChance(jitter)
        self.breaker = Breaker(3, replace(REAL, clock=self.clock, chance=self.chance))

    def open_delay_s(self) -> float:
        """Return how long it is open, and begin a probe."""
        began = self.clock.now
        while not self.breaker.begin_probe():
            self.clock.now += 1
        return self.clock.now - began


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
        assert (breaker.state, breaker.reason) == (CLOSED, None)
        breaker.failed(reason.format(number if "lines" in reason else key), key)
    assert breaker.state is OPEN
    assert breaker.reason is not None
    assert breaker.reason.startswith("jobs on 3 objects have failed for one cause: ")


def test_objects_with_different_members_have_one_cause() -> None:
    """Given a calculation with a typing error, and objects that have little in common."""
    breaker = Breaker(3)
    for number, key in enumerate(KEYS):
        content = BytesIO(b'{"%s":{}}\n' % (b"x" * (number + 1)))
        with pytest.raises(SchemaError, match=" The lines have: `x") as raised:
            Calculation.from_sql("starz AS s").run(content, BytesIO())
        breaker.failed(str(raised.value), key)
    assert breaker.state is OPEN


def test_one_object_that_fails_again_and_again_does_not() -> None:
    breaker = Breaker(3)
    for _ in range(10):
        breaker.failed("cause", KEYS[0])
    assert breaker.state is CLOSED


def test_failures_of_different_causes_do_not() -> None:
    breaker = Breaker(3)
    for number in range(12):
        breaker.failed(f"cause {'abcdefghijkl'[number]}", f"in/{number}")
    assert breaker.state is CLOSED


def test_another_cause_in_between_does_not_start_the_count_again() -> None:
    breaker = Breaker(3)
    for number, key in enumerate(KEYS):
        breaker.failed("cause", key)
        breaker.failed(f"another {'abc'[number]}", key)
    assert breaker.state is OPEN


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


def test_what_it_remembers_is_bounded() -> None:
    breaker = Breaker(3)
    for number in range(1000):
        breaker.failed(f"cause {chr(0x4E00 + number)}", f"in/{number}")
        breaker.denied("put_object", name=f"in/{number}")
    breaker.succeeded()
    known = (breaker._names_by_cause, breaker._failed_names, breaker._denied_names, breaker._denied_alone)
    assert max(len(one) for one in known) <= 100


# Probes


def test_probes_begin_after_delays_that_double_up_to_a_limit() -> None:
    made = Made()
    made.breaker.denied("put_object")
    delays = []
    for _ in range(8):
        delays.append(made.open_delay_s())
        assert (made.breaker.state, made.breaker.reason is None) == (PROBING, False)
        made.breaker.failed("cause", "in/a")
    assert delays == [30, 60, 120, 240, 480, 900, 900, 900]
    assert (FIRST_DELAY_S, LONGEST_DELAY_S) == (30, 900)
    assert set(made.chance.limits) == {(0.5, 1.0)}


def test_a_job_that_succeeds_closes_it_and_everything_begins_anew() -> None:
    made = Made()
    made.breaker.failed("cause", "in/a")
    made.breaker.denied("put_object")
    made.open_delay_s()
    made.breaker.failed("another cause", "in/b")
    made.open_delay_s()
    made.breaker.succeeded()
    assert (made.breaker.state, made.breaker.reason) == (CLOSED, None)
    assert not made.breaker.begin_probe()
    made.breaker.failed("cause", "in/b")
    made.breaker.failed("cause", "in/c")
    assert made.breaker.state is CLOSED
    made.breaker.denied("put_object")
    assert made.open_delay_s() == 30


def test_a_probe_that_fails_says_why() -> None:
    made = Made()
    made.breaker.denied("put_object")
    made.open_delay_s()
    made.breaker.failed("there is no column", "in/a")
    assert (made.breaker.state, made.breaker.reason) == (OPEN, "there is no column")


def test_a_probe_that_has_to_be_made_again_keeps_the_reason() -> None:
    made = Made()
    made.breaker.postpone()
    assert made.breaker.state is CLOSED
    made.breaker.denied("put_object")
    made.open_delay_s()
    made.breaker.postpone()
    assert (made.breaker.state, made.breaker.reason) == (OPEN, "access denied: put_object")
    assert made.open_delay_s() == 60


def test_a_probe_that_cost_its_message_nothing_is_followed_soon_and_keeps_the_delay_of_the_others() -> None:
    made = Made()
    made.breaker.denied("put_object")
    delays = []
    for counted in (True, False, False, True, False, True):
        delays.append(made.open_delay_s())
        made.breaker.failed("cause", "in/a", counted=counted)
    delays.append(made.open_delay_s())
    assert delays == [30, 60, 30, 30, 120, 30, 240]


def test_a_probe_of_an_object_that_may_not_be_read_is_followed_soon_once_a_job_has_succeeded() -> None:
    made = Made()
    made.breaker.succeeded()
    for key in "abc":
        made.breaker.failed("s3:GetObject", f"in/{key}")
    delays = []
    for key in "defg":
        delays.append(made.open_delay_s())
        made.breaker.failed("s3:GetObject", f"in/{key}")
    assert delays == [30, 30, 30, 30]


def test_it_is_proven_once_a_job_has_transformed_lines() -> None:
    breaker = Breaker(3)
    breaker.succeeded(Proof.JOB, transformed=False)
    assert not breaker.is_proven
    breaker.succeeded()
    breaker.succeeded(Proof.JOB, transformed=False)
    assert breaker.is_proven


@pytest.mark.parametrize("proof", [Proof.RECEIVE, Proof.START])
def test_a_receive_or_a_start_proves_no_deployment(proof: Proof) -> None:
    breaker = Breaker(3)
    breaker.succeeded(proof)
    assert not breaker.is_proven


def test_a_job_that_ran_beside_and_succeeds_closes_it() -> None:
    breaker = Breaker(3)
    breaker.denied("put_object")
    breaker.succeeded()
    assert breaker.state is CLOSED


def test_a_probe_avoids_the_objects_that_have_failed_unless_there_are_no_others() -> None:
    made = Made()
    for key in KEYS:
        made.breaker.failed("cause", key)
    assert not made.breaker.avoids(KEYS[0]), "what it gives back now is not a probe"
    made.open_delay_s()
    assert [made.breaker.avoids(key) for key in (*KEYS, "another")] == [True, True, True, False]
    assert not made.breaker.avoids(KEYS[0]), "it has come again"
    made.breaker.failed("cause", KEYS[0])
    made.open_delay_s()
    assert made.breaker.avoids(KEYS[0]), "in another probe"


def test_a_probe_avoids_a_few_objects_only() -> None:
    made = Made()
    for number in range(50):
        made.breaker.failed("cause", f"in/{number}")
    made.open_delay_s()
    assert sum(made.breaker.avoids(f"in/{number}") for number in range(50)) == 10


@pytest.mark.parametrize("proof", [Proof.RECEIVE, Proof.START])
def test_it_closes_as_soon_as_what_it_was_opened_by_succeeds(proof: Proof) -> None:
    for other in Proof:
        made = Made()
        if proof is Proof.START:
            made.breaker.broken("job processes do not start")
        else:
            made.breaker.denied("sqs:ReceiveMessage", proof=proof)
        made.open_delay_s()
        made.breaker.succeeded(other)
        assert (made.breaker.state is CLOSED) == (other in (proof, Proof.JOB))


def test_of_several_troubles_only_a_job_proves_the_end() -> None:
    made = Made()
    made.breaker.broken("job processes do not start")
    made.breaker.denied("sqs:ReceiveMessage", proof=Proof.RECEIVE)
    for proof in (Proof.START, Proof.RECEIVE):
        made.breaker.succeeded(proof)
        assert made.breaker.state is OPEN
    made.breaker.succeeded()
    assert made.breaker.state is CLOSED


def test_a_denial_is_the_objects_once_others_have_succeeded() -> None:
    breaker = Breaker(3)
    breaker.denied("put_object", name="in/a")
    assert not breaker.denies_only("in/a")
    breaker.succeeded()
    assert (breaker.denies_only("in/a"), breaker.denies_only("in/b")) == (True, False)
