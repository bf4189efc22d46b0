"""What becomes of a message depends on the outcome of its job, its attempts and its age, and on the breaker."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from runner.job.protocol import JobResult, Outcome
from runner.worker.breaker import LONGEST_DELAY_S, BreakerState
from runner.worker.settlement import Settlement
from tests.support.fakes import SENT_MS, Surroundings, make_event, make_message
from tests.support.settled import (
    ACKNOWLEDGED,
    DENIED,
    DONE,
    EVENT,
    FAILED,
    FOREIGN,
    JUNK,
    UNFIT,
    Backlog,
    Settled,
)


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


# The breaker


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
