"""Each outcome settles its message in one way, after it was told to others and without ending the worker."""

from __future__ import annotations

import math
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import pytest

from runner.aws.queue import CopiedError
from runner.errors import DeniedError, LeaseLostError, QueueError
from runner.job.protocol import InputOutcome, InputResult, JobResult, Outcome
from runner.worker.breaker import LONGEST_DELAY_S, BreakerState
from runner.worker.leases import Leases
from runner.worker.settlement import Settlement
from tests.support.fakes import SENT_MS, Surroundings, make_event, make_message

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runner.aws.message import Message
    from runner.worker.leases import Lease

ACKNOWLEDGED = [JobResult.DONE, JobResult.DUPLICATE, JobResult.STALE, JobResult.SUPERSEDED, JobResult.CANCELLED]
HANDED_ON = [JobResult.STOPPED, JobResult.BUSY, JobResult.FENCED, JobResult.DENIED, JobResult.RETRY]
EVENT = make_event()


def copied(cause: Exception) -> CopiedError:
    error = CopiedError(str(cause))
    error.__cause__ = cause
    return error


class Settled:
    """A settlement whose jitter is the longest delay."""

    def __init__(self, jitter: float = 1.0, **options: Any) -> None:
        self.around = Surroundings.make(**options)
        self.around.chance.number = jitter
        self.around.clock.now = SENT_MS / 1000 + 60
        self.settlement = Settlement(self.around.context)

    def settle(
        self,
        kind: JobResult,
        reason: str = "because",
        *,
        offset: int | None = None,
        counts: bool = False,
        **message: Any,
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
        (True, None, 500, 3),
        (False, 500, 500, 2),
        (False, 400, 500, 2),
        (False, 0, 0, 2),
    ],
)
def test_a_stop_counts_as_an_attempt_only_without_progress(
    counts: bool, offset: int | None, before: int, attempts: int
) -> None:
    name, told = Settled().settle(JobResult.STOPPED, counts=counts, offset=offset, progress=before, attempts=2)
    assert (name, told["attempts"]) == ("requeue", attempts)
    assert told["progress"] == (before if offset is None else offset), "that of the checkpoint, if it is known"
    assert "delay_s" not in told


def test_a_job_that_never_gets_anywhere_is_given_up() -> None:
    assert Settled().settle(JobResult.STOPPED, counts=True, attempts=4)[0] == "dead_letter"


@pytest.mark.parametrize(("counts", "offset"), [(False, 0), (True, 1)])
def test_a_job_that_gets_on_or_has_to_make_way_is_never_given_up(counts: bool, offset: int) -> None:
    assert Settled().settle(JobResult.STOPPED, counts=counts, offset=offset, attempts=100)[0] == "requeue"


def leases_of(offsets: list[int]) -> list[str]:
    """Hand a job over from lease to lease, each of which ends at an offset; return what became of its messages."""
    names, told = [], dict[str, Any](attempts=0, progress=0)
    for offset in offsets:
        name, told = Settled().settle(JobResult.STOPPED, counts=True, offset=offset, **told)
        names.append(name)
        if name == "dead_letter":
            break
    return names


def test_a_job_that_has_lost_its_checkpoint_once_has_all_the_time_to_start_again() -> None:
    offsets = [*range(10, 101, 10), *range(11, 300, 11)]
    assert leases_of(offsets) == ["requeue"] * len(offsets)


@pytest.mark.parametrize("lost", [[11], [0], [50, 100, 0], [30, 60, 10]], ids=str)
def test_a_job_that_loses_its_checkpoint_again_and_again_is_given_up(lost: list[int]) -> None:
    """Each loss is an attempt, however far the job comes in between."""
    names = leases_of([100, *lost * 20])
    assert names[-1] == "dead_letter"
    assert len(names) <= 1 + 5 * len(lost)


def test_an_old_job_that_has_lost_its_checkpoint_is_not_copied_without_end() -> None:
    settled = Settled()
    first_sent = SENT_MS - 15 * 86_400_000
    assert settled.settle(JobResult.STOPPED, offset=50, progress=100, first_sent=first_sent)[0] == "dead_letter"


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


class Backlog:
    """Messages about different objects, of which each is settled by an outcome."""

    def __init__(self, **settings: str) -> None:
        known: dict[str, Any] = {"BREAKER_FAILURES": "2", **settings}
        self.around = Surroundings.make(**known)
        self.around.chance.number = 1.0
        self.around.clock.now = SENT_MS / 1000 + 60
        self.settlement = Settlement(self.around.context)
        self.number = 0

    def state(self) -> BreakerState:
        return self.around.breaker.state

    def settle(self, outcome: Outcome, key: int | None = None, **message: Any) -> tuple[str, dict[str, Any]]:
        self.number += 1
        event = make_event(self.number if key is None else key)
        self.settlement.settle(make_message(self.number, **message), outcome, event=event)
        name, _, told = self.around.queue.calls[-1]
        return name, told

    def probe(self) -> None:
        """Let time pass until a probe begins."""
        self.around.clock.now += LONGEST_DELAY_S
        assert self.around.breaker.begin_probe()


FAILED = Outcome(JobResult.FAILED, "bad", offset=9)
JUNK = Outcome(JobResult.FAILED, "every line was rejected", of_object=True)
UNFIT = Outcome(JobResult.FAILED, "there is no column `a`", unfit=True)
DENIED = Outcome(JobResult.DENIED, "put_object")
FOREIGN = Outcome(JobResult.DENIED, "get_object", of_object=True)
DONE = Outcome(JobResult.DONE)


def test_a_denial_opens_the_breaker_and_costs_no_attempt() -> None:
    settled = Settled()
    name, told = settled.settle(JobResult.DENIED, "put_object", attempts=4, progress=3)
    assert (name, told) == ("requeue", {"attempts": 4, "progress": 3, "delay_s": 60})
    assert settled.around.breaker.reason == "access denied: put_object"
    assert settled.around.log("denied")[0]["level"] == "error"


def test_what_is_given_back_does_not_come_back_all_at_once() -> None:
    settled = Settled(jitter=0.5)
    assert settled.settle(JobResult.DENIED)[1]["delay_s"] == 30
    assert settled.around.chance.limits == [(0.5, 1.0)] * 2, "also the delay of the probe"


def test_an_object_that_is_denied_counts_against_its_message_alone() -> None:
    backlog = Backlog(MAX_ATTEMPTS="3")
    assert backlog.settle(FOREIGN, key=1) == ("release", {"delay_s": 15})
    assert backlog.settle(FOREIGN, key=1, attempts=1) == ("release", {"delay_s": 30})
    name, told = backlog.settle(FOREIGN, key=1, attempts=2)
    assert (name, told["reason"]) == ("dead_letter", "gave up after 3 attempts, the last of which: get_object")
    assert backlog.state() is BreakerState.CLOSED
    assert [line["event"] for line in backlog.around.log()] == ["denied", "denied", "failed"]


@pytest.mark.parametrize("outcome", [FOREIGN, FAILED], ids=["denied", "failed"])
def test_several_objects_with_one_failure_and_no_success_between_open_it(outcome: Outcome) -> None:
    backlog = Backlog()
    for _ in range(3):
        backlog.settle(outcome)
        backlog.settle(DONE)
    assert backlog.state() is BreakerState.CLOSED
    backlog.settle(outcome)
    backlog.settle(outcome)
    assert backlog.state() is BreakerState.OPEN


@pytest.mark.parametrize("outcome", [JUNK, UNFIT], ids=["junk", "unfit"])
def test_what_may_be_of_the_object_opens_it_only_where_nothing_has_succeeded(outcome: Outcome) -> None:
    backlog = Backlog()
    for _ in range(2):
        backlog.settle(outcome)
    assert backlog.state() is BreakerState.OPEN
    backlog.settle(DONE)
    for _ in range(20):
        assert backlog.settle(outcome)[0] == "dead_letter"
    assert backlog.state() is BreakerState.CLOSED


@pytest.mark.parametrize("outcome", [JUNK, UNFIT], ids=["junk", "unfit"])
def test_what_may_be_of_the_object_is_no_answer_to_a_probe_where_others_have_succeeded(outcome: Outcome) -> None:
    backlog = Backlog()
    backlog.settle(DONE)
    backlog.settle(DENIED)
    assert backlog.settle(outcome)[0] == "dead_letter", "beside the job that opened it"
    assert backlog.state() is BreakerState.OPEN
    backlog.probe()
    for _ in range(20):
        assert backlog.settle(outcome)[0] == "dead_letter"
        assert backlog.state() is BreakerState.PROBING, "another object is tried at once"
    backlog.settle(DENIED)
    assert backlog.state() is BreakerState.OPEN


@pytest.mark.parametrize(
    ("summary", "proves"),
    [
        ({"lines_in": 0, "lines_out": 0, "filtered": 0}, False),
        ({"lines_in": 2, "lines_out": 0, "filtered": 0, "blank": 2}, False),
        ({"lines_in": 2, "lines_out": 0, "filtered": 2}, True),
        ({"lines_in": 2, "lines_out": 1, "filtered": 0, "rejected": 1}, True),
    ],
)
def test_an_object_without_lines_proves_nothing_about_the_calculation(summary: dict[str, int], proves: bool) -> None:
    backlog = Backlog()
    backlog.settle(replace(DONE, summary=summary))
    for _ in range(2):
        backlog.settle(UNFIT)
    assert backlog.state() is (BreakerState.CLOSED if proves else BreakerState.OPEN)


@pytest.mark.parametrize("outcome", [FOREIGN, JUNK, UNFIT, FAILED], ids=["denied", "junk", "unfit", "failed"])
def test_what_ran_beside_the_jobs_that_opened_the_breaker_is_spared(outcome: Outcome) -> None:
    backlog = Backlog()
    for _ in range(2):
        backlog.settle(outcome, attempts=3)
    names = [name for name, _, _ in backlog.around.queue.calls]
    assert names == ["release" if outcome is FOREIGN else "dead_letter"] * 2
    for _ in range(2):
        name, told = backlog.settle(outcome, attempts=4, progress=9)
        assert (name, told) == ("requeue", {"attempts": 4, "progress": 9, "delay_s": 60})
    assert (backlog.around.breaker.reason or "").startswith("jobs on 2 objects have failed for one cause: ")
    assert [event["outcome"] for event in backlog.around.channels.events] == ["failed"] * 2 * (outcome is not FOREIGN)


def test_a_probe_that_may_have_failed_by_the_deployment_costs_no_attempt() -> None:
    backlog = Backlog()
    for outcome in (FAILED, UNFIT, DENIED):
        backlog.settle(DENIED)
        backlog.probe()
        name, told = backlog.settle(outcome, attempts=4)
        assert (name, told["attempts"], told["delay_s"]) == ("requeue", 4, 60)
        assert backlog.state() is BreakerState.OPEN


def test_a_probe_of_junk_is_a_dead_letter() -> None:
    """So that a queue of nothing else becomes empty."""
    backlog = Backlog()
    backlog.settle(DENIED)
    backlog.probe()
    assert backlog.settle(JUNK)[0] == "dead_letter"
    assert backlog.state() is BreakerState.OPEN
    backlog.probe()
    assert backlog.settle(FOREIGN, attempts=1) == ("release", {"delay_s": 30})
    assert backlog.state() is BreakerState.OPEN


@pytest.mark.parametrize(
    ("outcome", "delays"), [(UNFIT, [30, 30, 30, 30]), (JUNK, [30, 60, 120, 240]), (DENIED, [30, 60, 120, 240])]
)
def test_only_probes_that_count_and_denials_make_probes_rare(outcome: Outcome, delays: list[int]) -> None:
    backlog = Backlog()
    for _ in range(2):
        backlog.settle(outcome)
    found = []
    for _ in delays:
        began = backlog.around.clock.now
        while not backlog.around.breaker.begin_probe():
            backlog.around.clock.now += 1
        found.append(backlog.around.clock.now - began)
        backlog.settle(outcome)
    assert found == delays


def test_a_bad_deployment_costs_a_bounded_number_of_dead_letters() -> None:
    """Even if every job of it ends as if its object were junk, for as long as a day."""
    backlog = Backlog(BREAKER_FAILURES="3")
    began = backlog.around.clock.now
    while backlog.around.clock.now < began + 86_400:
        if backlog.state() is BreakerState.OPEN and not backlog.around.breaker.begin_probe():
            backlog.around.clock.now += 1
            continue
        backlog.settle(JUNK)
    dead = [name for name, _, _ in backlog.around.queue.calls].count("dead_letter")
    assert dead <= 3 + 6 + 86_400 / LONGEST_DELAY_S


@pytest.mark.parametrize("outcome", [Outcome(JobResult.RETRY, "away"), DONE])
def test_a_probe_that_ends_otherwise(outcome: Outcome) -> None:
    backlog = Backlog()
    backlog.settle(DENIED)
    backlog.probe()
    assert backlog.settle(outcome)[0] == ("delete" if outcome is DONE else "release")
    assert backlog.state() is (BreakerState.CLOSED if outcome is DONE else BreakerState.OPEN)


@pytest.mark.parametrize("kind", [JobResult.DUPLICATE, JobResult.STALE, JobResult.BUSY, JobResult.STOPPED])
def test_a_probe_that_proves_nothing_goes_on_with_another_object(kind: JobResult) -> None:
    backlog = Backlog()
    backlog.settle(DENIED)
    backlog.probe()
    backlog.settle(Outcome(kind))
    assert backlog.state() is BreakerState.PROBING


def test_a_denial_that_others_do_not_meet_becomes_the_objects() -> None:
    """An output may be denied because of its key: without an end, its message would open all breakers for ever."""
    backlog = Backlog()
    assert backlog.settle(DENIED, key=1)[0] == "requeue"
    backlog.probe()
    backlog.settle(DONE)
    assert backlog.settle(DENIED, key=1)[0] == "release"
    assert backlog.state() is BreakerState.CLOSED
    assert backlog.settle(DENIED, key=2)[0] == "requeue"
    assert backlog.state() is BreakerState.OPEN


# Age


OLD: dict[str, Any] = {"first_sent": SENT_MS + 60_000 - 14 * 86_400_000 - 1}


@pytest.mark.parametrize("kind", [JobResult.BUSY, JobResult.FENCED, JobResult.STOPPED, JobResult.DENIED])
def test_a_message_does_not_go_round_for_longer_than_sqs_would_keep_it(kind: JobResult) -> None:
    settled = Settled()
    name, told = settled.settle(kind, **OLD)
    assert (name, told["reason"]) == ("dead_letter", f"older than 14 days: {kind.value}: because")
    assert [event["outcome"] for event in settled.around.channels.events] == ["failed"]
    assert Settled().settle(kind, first_sent=OLD["first_sent"] + 2)[0] == "requeue"


def test_an_old_message_whose_job_gets_on_goes_on() -> None:
    assert Settled().settle(JobResult.STOPPED, offset=10, progress=9, **OLD)[0] == "requeue"


@pytest.mark.parametrize("kind", [*ACKNOWLEDGED, JobResult.RETRY])
def test_age_matters_to_copies_only(kind: JobResult) -> None:
    assert Settled().settle(kind, **OLD)[0] in {"delete", "release"}


# What goes wrong


@pytest.mark.parametrize("kind", list(JobResult))
@pytest.mark.parametrize(
    ("error", "event", "opens"),
    [
        (LeaseLostError("gone"), "another worker had the message by then", False),
        (QueueError("throttled"), "the message could not be settled", False),
        (DeniedError("DeleteMessage"), "the message could not be settled", True),
        (copied(QueueError("DeleteMessage")), "the message could not be settled", False),
        (copied(DeniedError("DeleteMessage")), "the message could not be settled", True),
    ],
)
def test_a_message_that_cannot_be_settled_is_logged(kind: JobResult, error: Exception, event: str, opens: bool) -> None:
    settled = Settled()
    settled.around.queue.errors = [error]
    settled.settle(kind)
    (line,) = settled.around.log(event)
    assert (line["message"], line["error"]) == ("m1", str(error))
    assert (settled.around.breaker.reason is not None) == (opens or kind is JobResult.DENIED)


def test_a_message_that_has_a_copy_but_was_not_deleted_is_not_copied_again() -> None:
    settled = Settled()
    settled.around.queue.errors = [copied(QueueError("DeleteMessage"))]
    settled.settle(JobResult.STOPPED)
    for error in (QueueError("DeleteMessage"), None):
        settled.around.queue.errors = [error]
        assert settled.settlement.finish(make_message(receipt="another"))
    assert [name for name, _, _ in settled.around.queue.calls] == ["requeue", "delete", "delete"]
    assert not settled.settlement.finish(make_message()), "it is gone"
    assert not settled.settlement.finish(make_message(2))


def test_deletes_that_fail_while_copies_are_sent_open_the_breaker() -> None:
    """Or each round would double the messages."""
    backlog = Backlog()
    for _ in range(2):
        assert backlog.state() is BreakerState.CLOSED
        backlog.around.queue.errors = [copied(QueueError("DeleteMessage"))]
        backlog.settle(Outcome(JobResult.STOPPED))
    assert backlog.state() is BreakerState.OPEN
    backlog.probe()
    backlog.around.queue.errors = [QueueError("DeleteMessage")]
    backlog.settle(DONE)
    assert backlog.state() is BreakerState.PROBING, "its message was not deleted"
    backlog.settle(DONE)
    assert backlog.state() is BreakerState.CLOSED


# The thread


def test_a_request_that_hangs_keeps_nobody_waiting_and_the_lease_goes_on() -> None:
    settled = Settled()
    receipts: list[str] = []
    queue, hangs, sent = settled.around.queue, threading.Event(), threading.Event()

    class Hanging:
        max_receives = None

        def delete(self, message: Message) -> None:
            receipts.append(message.receipt)
            sent.set()
            hangs.wait(30)
            queue.delete(message)

    settlement = Settlement(replace(settled.around.context, queue=cast("Any", Hanging())))
    leases = Leases(settled.around.context)
    held = [leases.hold(make_message(number), settled.around.clock.now) for number in (1, 2)]
    settlement.start()
    settlement.settle(held[0].message, DONE, event=EVENT, lease=held[0])
    assert sent.wait(30)
    settlement.settle(held[1].message, DONE, event=EVENT, lease=held[1])
    assert settlement.pending == 2
    leases.renew_all()
    settled.around.clock.now += 1
    leases.renew_all()
    assert {message for _, message, _ in queue.calls} == {"m2"}, "whose request was not sent yet"
    assert leases.adopt(make_message(2, receipt="newer"), settled.around.clock.now)
    assert held[1].message.receipt == "newer"
    hangs.set()
    settlement.close(30)
    assert settlement.pending == 0
    assert receipts == ["r1", "newer"]


@pytest.fixture
def gathering() -> Iterator[tuple[Settled, threading.Event]]:
    """A settlement with a thread that has one message to delete, and gathers more until an event."""
    settled, gathers, enough = Settled(), threading.Event(), threading.Event()

    def sleep(_seconds: float) -> None:
        gathers.set()
        assert enough.wait(30)

    settled.around.clock.sleep = sleep  # type: ignore[method-assign, assignment]
    settled.settlement.start()
    settled.settlement.settle(make_message(0), DONE, event=EVENT)
    assert gathers.wait(30)
    yield settled, enough
    enough.set()
    settled.settlement.close(30)


def test_messages_of_jobs_that_end_together_are_deleted_together(gathering: tuple[Settled, threading.Event]) -> None:
    settled, enough = gathering
    leases = Leases(settled.around.context)
    held = [leases.hold(make_message(number), settled.around.clock.now) for number in range(1, 13)]
    for lease in held[:11]:
        settled.settlement.settle(lease.message, DONE, event=EVENT, lease=lease)
    settled.settlement.requeue(held[11].message, lease=held[11])
    settled.around.clock.now += 1
    leases.renew_all()
    assert [name for name, _, _ in settled.around.queue.calls] == ["extend"] * 12, "they are held meanwhile"
    settled.around.queue.calls.clear()
    enough.set()
    settled.settlement.close(30)
    assert [call[:2] for call in settled.around.queue.calls] == [
        ("delete_all", " ".join(f"m{number}" for number in range(10))),
        ("delete_all", "m10 m11"),
        ("requeue", "m12"),
    ]
    assert settled.settlement.pending == 0
    settled.around.clock.now += 1
    leases.renew_all()
    assert len(settled.around.queue.calls) == 3, "no lease is left"
    assert settled.around.channels.calls_before == [0] * 10 + [1, 1], "told before they are deleted"


def test_each_message_that_is_not_deleted_with_the_others_is_logged(gathering: tuple[Settled, threading.Event]) -> None:
    settled, enough = gathering
    settled.around.queue.errors = [None, LeaseLostError("gone"), DeniedError("sqs:DeleteMessage is denied")]
    for number in (1, 2):
        settled.settlement.settle(make_message(number), DONE, event=EVENT)
    enough.set()
    settled.settlement.close(30)
    assert [call[0] for call in settled.around.queue.calls] == ["delete_all"]
    said = [(entry["event"], entry["message"]) for entry in settled.around.log() if "error" in entry]
    assert said == [("another worker had the message by then", "m1"), ("the message could not be settled", "m2")]
    assert settled.around.breaker.state is BreakerState.OPEN, "denied"


def test_a_request_for_all_of_them_that_fails_counts_for_each(gathering: tuple[Settled, threading.Event]) -> None:
    settled, enough = gathering

    def fail(_messages: object) -> Any:
        raise QueueError("SQS is away")

    settled.around.queue.delete_all = fail  # type: ignore[method-assign, assignment]
    for number in (1, 2):
        settled.settlement.settle(make_message(number), DONE, event=EVENT)
    enough.set()
    settled.settlement.close(30)
    said = [entry["message"] for entry in settled.around.log("the message could not be settled")]
    assert said == ["m0", "m1", "m2"]


def test_a_channel_that_hangs_keeps_nobody_waiting_and_the_lease_goes_on() -> None:
    settled = Settled()
    hangs, told = threading.Event(), threading.Event()

    class Hanging:
        def send(self, event: dict[str, Any]) -> None:
            told.set()
            hangs.wait(30)
            settled.around.channels.send(event)

    context = replace(settled.around.context, channels=cast("Any", Hanging()))
    settlement, leases = Settlement(context), Leases(context)
    lease = leases.hold(make_message(), settled.around.clock.now)
    settlement.start()
    settlement.settle(lease.message, DONE, event=EVENT, lease=lease)
    assert told.wait(30)
    settled.around.clock.now += 1
    leases.renew_all()
    hangs.set()
    settlement.close(30)
    assert [name for name, _, _ in settled.around.queue.calls] == ["extend", "delete"]
    assert settled.around.channels.calls_before == [1], "told before the delete"


@pytest.mark.parametrize("progress", [0, 500])
def test_a_job_that_the_breaker_stops_is_visible_to_others_later(progress: int) -> None:
    settled = Settled()
    settled.around.breaker.denied("put_object")
    name, told = settled.settle(JobResult.STOPPED, offset=progress)
    assert (name, told) == ("requeue", {"attempts": 0, "progress": progress, "delay_s": 60})


def test_a_message_that_is_received_again_until_its_lease_ends_is_settled_with_the_newest_receipt() -> None:
    settled = Settled()
    now = settled.around.clock.now

    class Late(Leases):
        def release(self, lease: Lease) -> None:
            assert self.adopt(make_message(receipt="newer"), now)
            super().release(lease)

    lease = Late(settled.around.context).hold(make_message(), now)
    receipts: list[str] = []
    settled.around.queue.delete = lambda message: receipts.append(message.receipt)  # type: ignore[method-assign]
    settled.settlement.settle(lease.message, DONE, event=EVENT, lease=lease)
    assert receipts == ["newer"]


def test_a_bug_in_the_thread_is_raised_by_the_main_thread() -> None:
    settled = Settled()
    settled.around.queue.errors = [ZeroDivisionError()]
    settled.settlement.start()
    settled.settlement.settle(make_message(), DONE, event=EVENT)
    settled.settlement.close(30)
    with pytest.raises(ZeroDivisionError):
        settled.around.context.bugs.raise_first()


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


def test_objects_of_several_buckets_with_one_key_are_several_objects() -> None:
    settled = Settled(BREAKER_FAILURES="3", s3InputBucket="incoming,second,third")
    for bucket in ("incoming", "second", "third"):
        event = replace(EVENT, bucket=bucket)
        outcome = Outcome(JobResult.FAILED, f"no column in {EVENT.key}", unfit=True)
        assert settled.around.breaker.state is BreakerState.CLOSED
        settled.settlement.settle(make_message(), outcome, event=event)
    assert settled.around.breaker.state is BreakerState.OPEN


def test_a_denial_is_not_that_of_an_object_with_the_same_key_in_another_bucket() -> None:
    settled = Settled(s3InputBucket="incoming,second")
    settled.settlement.settle(make_message(), Outcome(JobResult.DENIED, "denied"), event=EVENT)
    settled.settlement.settle(make_message(2), DONE, event=make_event(2))
    assert settled.around.breaker.denies_only(EVENT.name)
    settled.settlement.settle(
        make_message(3), Outcome(JobResult.DENIED, "denied"), event=replace(EVENT, bucket="second")
    )
    assert settled.around.breaker.state is BreakerState.OPEN
