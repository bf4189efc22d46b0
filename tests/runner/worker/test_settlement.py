"""Each outcome settles its message in one way, after it was told to others and without ending the worker."""

from __future__ import annotations

import math
from typing import Any

import pytest

from runner.job.protocol import InputOutcome, InputResult, JobResult, Outcome
from runner.worker.settlement import Settlement
from tests.support.fakes import Surroundings, make_message
from tests.support.settled import (
    ACKNOWLEDGED,
    EVENT,
    HANDED_ON,
    Settled,
)


@pytest.mark.parametrize("kind", ACKNOWLEDGED)
def test_what_has_ended_well_is_told_and_then_acknowledged(kind: JobResult) -> None:
    settled = Settled()
    assert settled.settle(kind) == ("delete", {})
    ((event, calls_before),) = zip(settled.around.channels.events, settled.around.channels.calls_before, strict=True)
    assert (event["outcome"], event["source"]["key"], event["reason"]) == (kind.value, EVENT.key, "because")
    assert calls_before == 0, "a worker that dies in between tells it once more"


def test_what_has_failed_is_told_and_then_a_dead_letter() -> None:
    settled = Settled()
    assert settled.settle(JobResult.FAILED) == ("dead_letter", {"reason": "because", "job": "j1"})
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


# Inputs that were tagged or deleted


NOT_YET = InputOutcome(InputResult.FAILED, "SlowDown", may_succeed=True)
DENIED_INPUT = InputOutcome(InputResult.FAILED, "AccessDenied")


def settle_input(found: InputOutcome, kind: JobResult = JobResult.DONE, **message: Any) -> tuple[Settled, str]:
    """Settle a message whose output exists; return what with, and what was done with the message."""
    settled = Settled(MAX_ATTEMPTS="3")
    outcome = Outcome(kind, "", {"lines_out": 7}, job="j1", input=found)
    settled.settlement.settle(make_message(**message), outcome, event=EVENT, seconds=2.0)
    return settled, settled.around.queue.only[0]


@pytest.mark.parametrize("kind", [JobResult.DONE, JobResult.DUPLICATE])
@pytest.mark.parametrize("attempts", [0, 1])
def test_an_input_that_may_be_deleted_later_is_tried_again(kind: JobResult, attempts: int) -> None:
    settled, done = settle_input(NOT_YET, kind, attempts=attempts)
    assert done == "release"
    (event,) = settled.around.channels.events
    assert (event["outcome"], event["source"]["after"]) == (kind.value, "failed")
    assert settled.around.log("input not finished") == []
    assert settled.around.breaker.is_proven is (kind is JobResult.DONE)


@pytest.mark.parametrize(("found", "attempts"), [(NOT_YET, 2), (DENIED_INPUT, 0), (DENIED_INPUT, 2)])
def test_an_input_that_cannot_be_deleted_is_no_dead_letter(found: InputOutcome, attempts: int) -> None:
    settled, done = settle_input(found, attempts=attempts)
    assert done == "delete"
    (line,) = settled.around.log("input not finished")
    assert (line["level"], line["reason"], line["key"]) == ("error", found.reason, EVENT.key)
    assert settled.around.metric("InputsNotFinished") == [1]


def test_an_input_that_must_not_be_deleted_is_told() -> None:
    settled, done = settle_input(InputOutcome(InputResult.KEPT, "of 2 rejected lines …"))
    assert done == "delete"
    (line,) = settled.around.log("input kept")
    assert (line["level"], line["reason"]) == ("warning", "of 2 rejected lines …")
    assert settled.around.metric("InputsKept") == [1]
    assert settled.around.channels.events[0]["source"]["after"] == "kept"


@pytest.mark.parametrize("kind", [InputResult.DELETED, InputResult.TAGGED, InputResult.GONE])
def test_what_became_of_an_input_is_in_the_line_and_the_event_of_its_job(kind: InputResult) -> None:
    settled, done = settle_input(InputOutcome(kind))
    assert done == "delete"
    assert settled.around.channels.events[0]["source"]["after"] == kind.value
    assert settled.around.log("done")[0]["input"] == kind.value
    assert (settled.around.metric("InputsKept"), settled.around.metric("InputsNotFinished")) == ([], [])


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
    assert settled.around.chance.limits == [(0.5, 1.0)]


def test_delays_differ_unless_told_otherwise() -> None:
    around = Surroundings.make(RETRY_MIN_S="600", RETRY_MAX_S="600")
    settlement = Settlement(around.context)
    for number in range(50):
        settlement.settle(make_message(number), Outcome(JobResult.RETRY), event=EVENT)
    delays = [told["delay_s"] for _, _, told in around.queue.calls]
    assert all(300 <= delay <= 600 for delay in delays)
    assert len(set(delays)) > 10
    assert math.isclose(sum(delays) / 50, 450, rel_tol=0.2)


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


@pytest.mark.parametrize("progress", [0, 500])
def test_a_job_that_the_breaker_stops_is_visible_to_others_later(progress: int) -> None:
    settled = Settled()
    settled.around.breaker.denied("put_object")
    name, told = settled.settle(JobResult.STOPPED, offset=progress)
    assert (name, told) == ("requeue", {"attempts": 0, "progress": progress, "delay_s": 60})


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
    settled.settlement.refuse(make_message(), "not JSON")
    assert settled.around.queue.only == ("dead_letter", {"reason": "not JSON", "job": ""})
    assert [numbers["Outcome"] for numbers in settled.around.metrics()] == ["refused"]
    assert settled.around.breaker.reason is None


def test_a_message_of_several_events_is_split() -> None:
    settled = Settled()
    settled.settlement.split(make_message(), ["a", "b"])
    assert settled.around.queue.only == ("split", {"bodies": ["a", "b"]})


def test_a_message_that_cannot_be_split_is_a_dead_letter_in_the_end() -> None:
    """Each try may have sent some of its events."""
    settled = Settled(MAX_ATTEMPTS="3")
    settled.settlement.split(make_message(attempts=2), ["a", "b"])
    settled.settlement.split(make_message(attempts=3), ["a", "b"])
    assert [name for name, _, _ in settled.around.queue.calls] == ["split", "dead_letter"]
    reason = settled.around.queue.calls[1][2]["reason"]
    assert reason == "it has 2 events, and could not be split in 3 attempts"


@pytest.mark.parametrize(("progress", "before", "covered"), [(0, 0, 0), (9, 5, 9), (None, 5, 5), (4, 5, 4)])
def test_a_message_is_put_back_as_if_it_had_not_been_received(progress: int | None, before: int, covered: int) -> None:
    settled = Settled()
    settled.settlement.requeue(make_message(attempts=2, progress=before), progress=progress)
    assert settled.around.queue.only == ("requeue", {"attempts": 2, "progress": covered})
    assert settled.around.channels.events == []
