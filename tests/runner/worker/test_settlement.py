"""Each outcome settles its message in one way, after it was told to others and without ending the worker."""

from __future__ import annotations

import math
from typing import Any

import pytest

from runner.errors import DeniedError, LeaseLostError, QueueError
from runner.job.protocol import JobResult, Outcome
from runner.worker.settlement import Settlement
from tests.support.fakes import SENT_MS, FakeClock, Surroundings, make_event, make_message

ACKNOWLEDGED = [JobResult.DONE, JobResult.DUPLICATE, JobResult.STALE, JobResult.SUPERSEDED, JobResult.CANCELLED]
HANDED_ON = [JobResult.STOPPED, JobResult.BUSY, JobResult.FENCED, JobResult.DENIED, JobResult.RETRY]
EVENT = make_event()


class Settled:
    """A settlement whose jitter is the longest delay."""

    def __init__(self, jitter: float = 1.0, **options: Any) -> None:
        self.around = Surroundings.make(**options)
        self.limits: list[tuple[float, float]] = []
        self.jitter = jitter
        clock = FakeClock(SENT_MS / 1000 + 60)
        self.settlement = Settlement(self.around.context, clock=clock, jitter=self._jitter)

    def _jitter(self, least: float, most: float) -> float:
        self.limits.append((least, most))
        return self.jitter

    def settle(
        self, kind: JobResult, reason: str = "because", *, offset: int = 0, counts: bool = False, **message: Any
    ) -> tuple[str, dict[str, Any]]:
        """Settle a message; return what was done with it."""
        outcome = Outcome(kind, reason, {"lines_in": 7}, job="j1", offset=offset)
        self.settlement.settle(make_message(**message), outcome, event=EVENT, seconds=2.0, counts=counts)
        return self.around.queue.only


@pytest.mark.parametrize("kind", ACKNOWLEDGED)
def test_what_has_ended_well_is_told_and_then_acknowledged(kind: JobResult) -> None:
    settled = Settled()
    assert settled.settle(kind) == ("delete", {})
    ((event, calls_before),) = zip(settled.around.channels.events, settled.around.channels.calls_before, strict=True)
    assert (event["outcome"], event["source"]["key"], event["reason"]) == (kind.value, EVENT.key, "because")
    assert calls_before == 0, "a worker that dies in between tells it once more"


def test_what_has_failed_is_told_and_then_a_dead_letter() -> None:
    settled = Settled()
    assert settled.settle(JobResult.FAILED, trace="t") == (
        "dead_letter",
        {"reason": "because", "job": "j1", "trace": "t"},
    )
    assert settled.around.channels.calls_before == [0]
    assert settled.around.channels.events[0]["outcome"] == "failed"


@pytest.mark.parametrize("kind", HANDED_ON)
def test_what_goes_on_is_told_to_nobody_and_stays(kind: JobResult) -> None:
    settled = Settled()
    name, _ = settled.settle(kind)
    assert name in {"requeue", "release"}
    assert settled.around.channels.events == []


def test_notes_on_the_job_are_logged() -> None:
    settled = Settled()
    told = "no line that was kept has a member `Email` to drop. Did you mean `email`?"
    outcome = Outcome(JobResult.DONE, "", {"lines_in": 7, "notes": [told]}, job="j1")
    settled.settlement.settle(make_message(), outcome, event=EVENT, seconds=2.0)
    assert [line["notes"] for line in settled.around.log("done")] == [[told]]


# Retries


def test_delays_grow_and_are_capped() -> None:
    delays = []
    for attempts in range(12):
        name, told = Settled(MAX_ATTEMPTS="1000").settle(JobResult.RETRY, attempts=attempts)
        assert name == "release", "which SQS counts as an attempt"
        delays.append(told["delay_s"])
    assert delays == [15, 30, 60, 120, 240, 480, *[900] * 6]


def test_a_delay_is_as_the_settings_say() -> None:
    settings: dict[str, Any] = {"RETRY_MIN_S": "2", "RETRY_MAX_S": "5"}
    delays = [Settled(**settings).settle(JobResult.RETRY, attempts=attempts)[1]["delay_s"] for attempts in range(3)]
    assert delays == [2, 4, 5]


def test_a_delay_is_half_of_the_longest_to_all_of_it() -> None:
    settled = Settled(jitter=0.5)
    assert settled.settle(JobResult.RETRY, attempts=3)[1]["delay_s"] == 60
    assert settled.limits == [(0.5, 1.0)]


def test_delays_differ_unless_told_otherwise() -> None:
    around = Surroundings.make(RETRY_MIN_S="600", RETRY_MAX_S="600")
    settlement = Settlement(around.context)
    for number in range(50):
        settlement.settle(make_message(number), Outcome(JobResult.RETRY), event=EVENT)
    delays = [told["delay_s"] for _, _, told in around.queue.calls]
    assert all(300 <= delay <= 600 for delay in delays)
    assert len(set(delays)) > 10
    assert math.isclose(sum(delays) / 50, 450, rel_tol=0.2)


@pytest.mark.parametrize(
    ("options", "attempts"),
    [({}, 5), ({"max_receives": 3}, 3), ({"MAX_ATTEMPTS": "2"}, 2), ({"MAX_ATTEMPTS": "7", "max_receives": 3}, 7)],
)
def test_a_job_is_given_up_after_the_last_attempt(options: dict[str, Any], attempts: int) -> None:
    assert Settled(**options).settle(JobResult.RETRY, attempts=attempts - 2)[0] == "release"
    settled = Settled(**options)
    name, told = settled.settle(JobResult.RETRY, "S3 is away", attempts=attempts - 1)
    assert name == "dead_letter"
    assert told["reason"] == f"gave up after {attempts} attempts, the last of which: S3 is away"
    assert settled.around.channels.events[0]["outcome"] == "failed"
    assert settled.around.log("failed")[0]["level"] == "error"


def test_jobs_that_are_given_up_do_not_open_the_breaker() -> None:
    """Each has had its attempts, and they say nothing about the deployment."""
    around = Surroundings.make(MAX_ATTEMPTS="1", BREAKER_FAILURES="2")
    settlement = Settlement(around.context)
    for number in range(4):
        settlement.settle(make_message(number), Outcome(JobResult.RETRY, "away"), event=EVENT)
    assert [name for name, _, _ in around.queue.calls] == ["dead_letter"] * 4
    assert around.breaker.reason is None


# Stopped jobs


@pytest.mark.parametrize(
    ("counts", "offset", "before", "attempts"),
    [
        (True, 500, 500, 3),
        (True, 0, 0, 3),
        (True, 501, 500, 2),
        (True, 400, 500, 3),
        (False, 500, 500, 2),
        (False, 0, 0, 2),
    ],
)
def test_a_stop_counts_as_an_attempt_only_without_progress(
    counts: bool, offset: int, before: int, attempts: int
) -> None:
    name, told = Settled().settle(JobResult.STOPPED, counts=counts, offset=offset, progress=before, attempts=2)
    assert (name, told["attempts"]) == ("requeue", attempts)
    assert told["progress"] == max(offset, before), "a checkpoint that was there is there"
    assert "delay_s" not in told


def test_a_job_that_never_gets_anywhere_is_given_up() -> None:
    assert Settled().settle(JobResult.STOPPED, counts=True, attempts=4)[0] == "dead_letter"


@pytest.mark.parametrize(("counts", "offset"), [(False, 0), (True, 1)])
def test_a_job_that_gets_on_or_has_to_make_way_is_never_given_up(counts: bool, offset: int) -> None:
    assert Settled().settle(JobResult.STOPPED, counts=counts, offset=offset, attempts=100)[0] == "requeue"


# Other workers


def test_a_busy_job_is_looked_at_later_as_the_same_message() -> None:
    name, told = Settled(VISIBILITY_TIMEOUT_S="100").settle(JobResult.BUSY, attempts=2, progress=5, owner="first")
    assert name == "requeue"
    assert told == {"attempts": 2, "progress": 5, "delay_s": 100, "owner": "first"}


def test_a_fenced_job_comes_back_as_another_message() -> None:
    """Or its copies would go on taking the job from each other."""
    owners = set()
    for _ in range(2):
        name, told = Settled().settle(JobResult.FENCED, attempts=2, offset=9, owner="first")
        owners.add(told.pop("owner"))
        assert (name, told) == ("requeue", {"attempts": 2, "progress": 9, "delay_s": 120})
    assert len(owners) == 2
    assert not owners & {"first", "m1", ""}


@pytest.mark.parametrize("kind", [JobResult.BUSY, JobResult.FENCED])
def test_the_delay_of_a_look_is_no_longer_than_that_of_a_retry(kind: JobResult) -> None:
    assert Settled(RETRY_MAX_S="30").settle(kind)[1]["delay_s"] == 30


# The breaker


def test_a_denial_opens_the_breaker_and_costs_no_attempt() -> None:
    settled = Settled()
    name, told = settled.settle(JobResult.DENIED, "put_object", attempts=4, progress=3)
    assert (name, told) == ("requeue", {"attempts": 4, "progress": 3, "delay_s": 60})
    assert settled.around.breaker.reason == "access denied: put_object"
    assert settled.around.log("denied")[0]["level"] == "error"


def test_failures_of_one_cause_open_the_breaker_and_spare_what_comes_after() -> None:
    around = Surroundings.make(BREAKER_FAILURES="2")
    settlement = Settlement(around.context)
    for number in range(4):
        failed = Outcome(JobResult.FAILED, "bad", offset=9)
        settlement.settle(make_message(number, attempts=3), failed, event=EVENT, counts=True)
    names = [(name, told.get("attempts")) for name, _, told in around.queue.calls]
    assert names == [("dead_letter", None)] * 2 + [("requeue", 3)] * 2
    assert (around.breaker.reason or "").startswith("2 jobs in a row have failed for one cause: bad")
    assert [event["outcome"] for event in around.channels.events] == ["failed"] * 2


def test_a_job_that_is_done_closes_the_row_of_failures() -> None:
    around = Surroundings.make(BREAKER_FAILURES="2")
    settlement = Settlement(around.context)
    for number, kind in enumerate([JobResult.FAILED, JobResult.DONE, JobResult.FAILED]):
        settlement.settle(make_message(number), Outcome(kind, "bad"), event=EVENT)
    assert around.breaker.reason is None


# What goes wrong


@pytest.mark.parametrize("kind", list(JobResult))
@pytest.mark.parametrize(
    ("error", "event", "opens"),
    [
        (LeaseLostError("gone"), "the message was somebody else's by then", False),
        (QueueError("throttled"), "the message could not be settled", False),
        (DeniedError("DeleteMessage"), "the message could not be settled", True),
    ],
)
def test_a_message_that_cannot_be_settled_is_logged(kind: JobResult, error: Exception, event: str, opens: bool) -> None:
    settled = Settled()
    settled.around.queue.errors = [error]
    settled.settle(kind)
    (line,) = settled.around.log(event)
    assert (line["message"], line["error"]) == ("m1", str(error))
    assert (settled.around.breaker.reason is not None) == (opens or kind is JobResult.DENIED)


@pytest.mark.parametrize("kind", list(JobResult))
def test_each_outcome_is_logged_and_counted_once(kind: JobResult) -> None:
    settled = Settled()
    settled.settle(kind, attempts=1)
    (line,) = settled.around.log()
    assert (line["event"], line["job"], line["key"], line["message"]) == (kind.value, "j1", EVENT.key, "m1")
    assert (line["attempts"], line["reason"], line["seconds"], line["lines_in"]) == (1, "because", 2.0, 7)
    (numbers,) = settled.around.metrics()
    assert (numbers["Outcome"], numbers["Jobs"], numbers["LinesIn"]) == (kind.value, 1, 7)
    assert (numbers["MessageAge"], numbers["Retries"], numbers["Seconds"]) == (60, 1, 2.0)


# Messages that are no jobs


def test_a_message_that_is_no_job_is_acknowledged() -> None:
    settled = Settled()
    settled.settlement.ignore(make_message(), "a test event")
    assert settled.around.queue.only == ("delete", {})


def test_a_message_that_cannot_be_understood_is_a_dead_letter() -> None:
    settled = Settled()
    settled.settlement.refuse(make_message(trace="t"), "not JSON")
    assert settled.around.queue.only == ("dead_letter", {"reason": "not JSON", "job": "", "trace": "t"})
    assert [numbers["Outcome"] for numbers in settled.around.metrics()] == ["refused"]
    assert settled.around.breaker.reason is None


def test_a_message_of_several_events_is_split() -> None:
    settled = Settled()
    settled.settlement.split(make_message(), ["a", "b"])
    assert settled.around.queue.only == ("split", {"bodies": ["a", "b"]})


@pytest.mark.parametrize(("progress", "before", "covered"), [(0, 0, 0), (9, 5, 9), (0, 5, 5)])
def test_a_message_is_put_back_as_if_it_had_not_been_received(progress: int, before: int, covered: int) -> None:
    settled = Settled()
    settled.settlement.requeue(make_message(attempts=2, progress=before), progress=progress)
    assert settled.around.queue.only == ("requeue", {"attempts": 2, "progress": covered})
    assert settled.around.channels.events == []
