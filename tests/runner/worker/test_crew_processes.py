"""Processes of a crew die, cannot start, and report: no job is lost by that, and none is tried without end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from runner.aws.surroundings import REAL
from runner.errors import SettingsError
from runner.job.protocol import JobResult, Outcome, ProgressUpdate, Ready, Refused
from runner.worker.active_job import JobState
from tests.support.fakes import FakeChild

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.crew import Site

    MakeSite = Callable[..., Site]

WAITING, RUNNING = JobState.WAITING, JobState.RUNNING


# Processes that die


def test_a_job_whose_process_dies_is_tried_once_more_and_then_retried_later(make_site: MakeSite) -> None:
    site = make_site(1)
    job, first = site.begin()
    first.die()
    site.listen()
    assert (job.state, job.child, site.names(), first.killed) == (WAITING, None, [], True)
    site.start_jobs()
    second = job.child
    assert isinstance(second, FakeChild)
    assert second is not first
    assert second.told()[0].tried_before, "the first may have left something"
    second.die()
    site.listen()
    assert (site.crew.jobs, site.names()) == ([], [("release", "m1")])
    assert site.around.log("retry")[0]["reason"] == "it was killed by SIGKILL"


def test_time_of_a_job_begins_anew_with_its_second_process(make_site: MakeSite) -> None:
    site = make_site(1, MAX_JOB_S="60")
    job, first = site.begin()
    site.wait(50)
    first.die()
    site.listen()
    site.start_jobs()
    site.wait(50)
    assert (job.state, job.seconds) == (RUNNING, 50)


def test_what_a_process_has_noted_before_it_died_is_kept(make_site: MakeSite) -> None:
    site = make_site(1)
    job, child = site.begin()
    child.say(ProgressUpdate("j", 500, 600, 1000))
    child.die()
    site.listen()
    assert job.state is WAITING
    site.crew.stop_all()
    assert site.settled() == [("requeue", "m1", {"attempts": 0, "progress": 500})]


def test_a_process_that_dies_without_a_job_is_replaced(make_site: MakeSite) -> None:
    site = make_site(1)
    _, child = site.begin()
    child.say(Outcome(JobResult.DONE))
    child.die()
    site.listen()
    assert site.around.log("a job process has died") != []
    site.begin()
    assert (len(site.children.started), site.around.breaker.reason) == (2, None)


def test_processes_that_do_not_start_any_more_open_the_breaker(make_site: MakeSite) -> None:
    site = make_site(1)
    _, child = site.begin()
    child.say(Outcome(JobResult.DONE))
    child.die()
    site.listen()
    site.children.ready = False
    for failures in range(5):
        assert site.around.breaker.reason is None, failures
        site.crew.add_child()
        site.children.started[-1].die()
        site.listen()
    assert site.around.breaker.reason is not None
    assert site.around.breaker.reason.startswith("job processes do not start any more")


def test_a_process_that_starts_ends_the_row_of_failed_starts(make_site: MakeSite) -> None:
    site = make_site(1)
    for number in range(12):
        site.children.ready = number % 4 == 0
        site.crew.add_child()
        site.listen()
        site.children.started[-1].die()
        site.listen()
    assert site.around.breaker.reason is None


def test_a_process_that_hangs_at_its_start_is_ended_and_counts_as_one_that_died(make_site: MakeSite) -> None:
    site = make_site(1)
    _, child = site.begin()
    child.die()
    site.listen()
    site.children.ready = False
    (job,) = site.crew.jobs
    for failures in range(5):
        assert site.around.breaker.reason is None, failures
        site.start_jobs()
        hung = site.children.started[-1]
        site.wait(120)
        site.crew.listen(0.0, site.waker)
        assert not hung.killed
        site.wait(0.1)
        site.crew.listen(0.0, site.waker)
        assert hung.killed
    assert (len(site.children.started), job.state) == (6, WAITING)
    assert "has hung for 120 s at its start" in (site.around.breaker.reason or "")
    assert len(site.around.log("a job process has died")) == 6


def test_a_process_that_becomes_ready_in_the_last_moment_is_heard_before_it_is_ended(make_site: MakeSite) -> None:
    site = make_site(1)
    site.children.ready = False
    job = site.take_on()
    site.start_jobs()
    (child,) = site.children.started
    child.say(Ready())
    site.wait(121)  # in which the worker itself was held up
    site.crew.listen(0.0, site.waker)
    site.start_jobs()
    assert (child.killed, job.state) == (False, RUNNING)


def test_a_first_process_that_hangs_ends_the_worker(make_site: MakeSite) -> None:
    site = make_site(1)
    site.children.ready = False
    site.crew.add_child()
    site.clock.now += 121
    with pytest.raises(SettingsError, match="has hung for 120 s at its start"):
        site.crew.listen(0.0, site.waker)
    assert site.children.started[0].killed


def test_a_worker_that_cannot_start_says_why(make_site: MakeSite) -> None:
    site = make_site(1)
    site.children.ready = False
    site.crew.add_child()
    site.children.started[0].say(Refused("there is no bucket outgoing"))
    with pytest.raises(SettingsError, match="there is no bucket outgoing"):
        site.listen()
    site.crew.kill()
    site.crew.add_child()
    site.children.started[1].die()
    with pytest.raises(SettingsError, match="SIGKILL before it had a job; what it said is on standard error"):
        site.listen()


def test_a_process_that_cannot_work_later_is_only_logged(make_site: MakeSite) -> None:
    site = make_site(2)
    site.begin()
    site.children.ready = False
    site.crew.add_child()
    site.children.started[1].say(Refused("S3 is away"))
    site.listen()
    assert [line["reason"] for line in site.around.log("a job process cannot work")] == ["S3 is away"]


# What is told


def test_an_outcome_tells_how_far_the_job_has_come_and_how_long_it_took(make_site: MakeSite) -> None:
    site = make_site(1)
    _, child = site.begin()
    child.say(ProgressUpdate("j", 500, 600, 1000))
    site.wait(20)
    child.say(Outcome(JobResult.BUSY, offset=400))
    site.listen()
    ((name, _, told),) = site.settled()
    assert (name, told["progress"]) == ("requeue", 500)
    assert site.around.log("busy")[0]["seconds"] == 20


def test_progress_is_logged_now_and_then(make_site: MakeSite) -> None:
    site = make_site(1)
    _, child = site.begin()
    child.say(ProgressUpdate("j", 0, 0, None))
    child.say(ProgressUpdate("j", 0, 60_000_000, 240_000_000))
    site.listen()
    assert [(line["job"], line["bytes"]) for line in site.around.log("begun")] == [("j", 100)]
    site.wait(29)
    assert site.around.log("running") == []
    site.wait(1)
    site.wait(1)
    child.say(ProgressUpdate("j", 0, 90_000_000, 240_000_000))
    site.listen()
    site.wait(29)
    found = [
        (line["bytes"], line["total"], line["mb_per_s"], line["seconds_left"]) for line in site.around.log("running")
    ]
    assert found == [(60_000_000, 240_000_000, 2.0, 90), (90_000_000, 240_000_000, 1.0, 150)]


def test_the_wait_for_processes_can_be_ended(make_site: MakeSite) -> None:
    site = make_site(1)
    site.waker.wake()
    site.crew.listen(30.0, site.waker)
    assert REAL.tasks.wait([site.waker], 0.0) == []
