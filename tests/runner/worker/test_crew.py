"""Jobs wait, run and stop in one order, whatever their processes do and however long it takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from runner.aws.message import Lane
from runner.job.protocol import JobResult, LeaseExtension, Order, Outcome, ProgressUpdate, Ready, Stop
from runner.worker.active_job import JobState
from tests.support.crew import LONGEST_S, Site
from tests.support.fakes import FakeChild

if TYPE_CHECKING:
    from collections.abc import Callable

    MakeSite = Callable[..., Site]

WAITING, RUNNING, STOPPING = JobState.WAITING, JobState.RUNNING, JobState.STOPPING


def states(site: Site) -> list[JobState]:
    return [job.state for job in site.crew.jobs]


# Jobs begin


def test_as_many_small_jobs_run_as_there_are_processes(make_site: MakeSite) -> None:
    site = make_site(2)
    assert site.crew.room()
    site.begin()
    assert site.crew.room()
    site.begin()
    assert not site.crew.room()
    assert states(site) == [RUNNING, RUNNING]
    assert len(site.children.started) == 2


def test_there_is_no_room_beside_a_job_that_waits(make_site: MakeSite) -> None:
    site = make_site(3)
    site.take_on()
    assert not site.crew.room()


def test_a_job_waits_until_a_process_can_take_orders(make_site: MakeSite) -> None:
    site = make_site(1)
    site.children.ready = False
    job = site.take_on()
    site.start_jobs()
    (child,) = site.children.started
    assert (job.state, site.crew.is_ready, child.told()) == (WAITING, False, [])
    child.say(Ready())
    site.start_jobs()
    assert (job.state, site.crew.is_ready) == (RUNNING, True)
    assert len(site.children.started) == 1


def test_a_process_is_told_what_to_do_and_how_long_it_may(make_site: MakeSite) -> None:
    site = make_site(4)
    job = site.take_on(ago_s=20)
    site.start_jobs()
    child = job.child
    assert isinstance(child, FakeChild)
    message = job.lease.message
    until = site.clock.now + 120 - 20 - 1
    assert child.told() == [Order(job.event, message.sent, 1, False, message.first_sent, message.owner, until)]


@pytest.mark.parametrize("message", [{"attempts": 1}, {"progress": 1}, {"owner": "another"}])
def test_a_process_is_told_that_somebody_may_have_begun(make_site: MakeSite, message: dict[str, Any]) -> None:
    site = make_site(1)
    job = site.take_on(**message)
    site.start_jobs()
    assert isinstance(job.child, FakeChild)
    assert job.child.told()[0].tried_before


def test_a_large_job_waits_for_the_others_and_then_has_all_cores(make_site: MakeSite) -> None:
    site = make_site(3)
    _, first = site.begin()
    _, second = site.begin()
    large = site.take_on(large=True)
    site.start_jobs()
    assert (large.state, site.crew.room()) == (WAITING, 0)
    first.say(Outcome(JobResult.DONE))
    site.listen()
    site.start_jobs()
    assert large.state is WAITING, "one is still at work"
    second.say(Outcome(JobResult.DONE))
    site.listen()
    site.start_jobs()
    assert large.state is RUNNING
    assert isinstance(large.child, FakeChild)
    assert large.child.told()[-1].workers == 3
    assert not site.crew.room(), "nothing runs beside it"


def make_busy(make_site: MakeSite, *, last_s: float = 1.0, **settings: str) -> Site:
    """Make a crew of one process, whose last job has taken a number of seconds."""
    site = make_site(1, **settings)
    _, child = site.begin()
    site.wait(last_s)
    child.say(Outcome(JobResult.DONE))
    site.listen()
    return site


def test_one_more_is_taken_on_while_jobs_are_short(make_site: MakeSite) -> None:
    site = make_busy(make_site)
    assert (site.crew.room(), site.crew.room(Lane.BACKFILL)) == (2, 1)
    _, child = site.begin()
    assert (site.crew.room(), site.crew.room(Lane.BACKFILL)) == (1, 0)
    ahead = site.take_on()
    site.start_jobs()
    assert (ahead.state, site.crew.room()) == (WAITING, 0)
    child.say(Outcome(JobResult.DONE))
    site.listen()
    site.start_jobs()
    assert (ahead.state, ahead.child) == (RUNNING, child)
    assert site.names() == [("delete", "m1"), ("delete", "m2")]


def test_none_is_taken_on_ahead_of_jobs_that_may_take_long(make_site: MakeSite) -> None:
    assert make_busy(make_site, last_s=3).crew.room() == 1
    for options in ({"large": True}, {"attempts": 1}):
        site = make_busy(make_site)
        site.begin(**options)
        assert site.crew.room() == 0, options
    site = make_busy(make_site)
    site.begin()
    site.wait(3)
    assert site.crew.room() == 0, "this one does"
    site = make_site(1)
    site.begin()
    assert site.crew.room() == 0, "nothing is known of the first"


def test_none_is_taken_on_ahead_of_a_job_that_has_ended_its_process(make_site: MakeSite) -> None:
    """It may end its worker next, which would count for the message that waits here."""
    site = make_busy(make_site)
    job, child = site.begin()
    child.die()
    site.listen()
    site.start_jobs()
    assert (job.state, job.deaths, site.crew.room()) == (RUNNING, 1, 0)


@pytest.mark.parametrize("options", [{"large": True}, {"attempts": 1}, {"ago_s": 1}])
def test_a_message_that_was_asked_for_before_is_left_to_another_worker_at_once(
    make_site: MakeSite, options: dict[str, Any]
) -> None:
    """A receive may take 20 s, and another job may have begun meanwhile."""
    site = make_busy(make_site)
    running, _ = site.begin(**options)
    site.clock.now += 5 if "ago_s" in options else 0
    site.take_on()
    site.wait(0)
    assert site.crew.jobs == [running]
    assert site.settled()[-1] == ("requeue", "m3", {"attempts": 0, "progress": 0})


def test_a_job_of_a_backfill_does_not_wait_for_a_short_one_of_the_main_queue(make_site: MakeSite) -> None:
    """Otherwise it would be before the messages that have come to the main queue meanwhile."""
    site = make_busy(make_site, BACKFILL_QUEUE="backfill")
    running, _ = site.begin()
    site.take_on(lane=Lane.BACKFILL)
    site.start_jobs()
    assert site.crew.jobs == [running]


@pytest.mark.parametrize("large", [False, True])
def test_a_job_that_was_taken_on_ahead_is_soon_left_to_another_worker(make_site: MakeSite, large: bool) -> None:
    site = make_busy(make_site)
    running, _ = site.begin()
    site.take_on(large=large, attempts=2)
    site.wait(2)
    assert len(site.crew.jobs) == 2
    site.wait(0.1)
    assert site.crew.jobs == [running]
    assert site.settled()[-1] == ("requeue", "m3", {"attempts": 2, "progress": 0}), "no attempt is counted"


def test_a_small_job_waits_for_a_large_one(make_site: MakeSite) -> None:
    site = make_site(3)
    site.begin(large=True)
    small = site.take_on()
    site.start_jobs()
    assert small.state is WAITING


def test_a_process_does_one_job_after_the_other(make_site: MakeSite) -> None:
    site = make_site(2)
    for number in (1, 2, 3):
        _, child = site.begin()
        child.say(Outcome(JobResult.DONE))
        site.listen()
        assert site.names()[-1] == ("delete", f"m{number}")
    assert len(site.children.started) == 1


def test_processes_have_the_region_of_the_settings(make_site: MakeSite) -> None:
    for settings, region in (({}, None), ({"AWS_REGION": "eu-west-1"}, "eu-west-1")):
        site = make_site(1, **settings)
        site.crew.add_child()
        (environ,) = site.children.environs
        assert (environ["SOME"], environ.get("AWS_DEFAULT_REGION")) == ("thing", region)


# Protection


def test_the_task_is_idle_only_when_no_job_is_left(make_site: MakeSite) -> None:
    site = make_site(2)
    _, first = site.begin()
    _, second = site.begin()
    assert site.around.protection.said == ["busy", "busy"]
    first.say(Outcome(JobResult.DONE))
    site.listen()
    assert "idle" not in site.around.protection.said
    second.say(Outcome(JobResult.DONE))
    site.listen()
    assert site.around.protection.said[-1] == "idle"


def test_the_task_is_not_busy_while_a_job_waits(make_site: MakeSite) -> None:
    site = make_site(1)
    site.children.ready = False
    site.take_on()
    site.start_jobs()
    assert site.around.protection.said == []


# Leases


def test_a_process_hears_of_each_renewal_once_and_without_the_main_thread(make_site: MakeSite) -> None:
    site = make_site(1)
    _, child = site.begin()
    site.crew.watch()
    assert child.told() == []
    site.clock.now += site.leases.interval_s
    site.leases.renew_all()
    assert child.told() == [LeaseExtension(site.clock.now + 119)]
    site.crew.watch()
    assert child.told() == []


@pytest.mark.parametrize("kind", [JobResult.DONE, JobResult.STOPPED])
def test_a_process_hears_nothing_of_leases_of_jobs_that_have_ended(make_site: MakeSite, kind: JobResult) -> None:
    """It may do another job by then, whose lease ends earlier."""
    site = make_site(1)
    job, child = site.begin()
    child.say(Outcome(kind))
    site.listen()
    job.lease.extend(site.clock.now + 1000)
    assert child.told() == []
    site.leases.renew_all()
    assert "extend" not in [name for name, _, _ in site.around.queue.calls]


def test_a_process_that_has_died_is_sent_nothing(make_site: MakeSite) -> None:
    site = make_site(1)
    job, child = site.begin()
    child.die()
    site.listen()
    assert (job.child, job.state) == (None, WAITING)
    job.lease.extend(site.clock.now + 100)


@pytest.mark.parametrize("how", ["lost", "over"])
def test_nothing_more_is_sent_about_a_message_whose_lease_is_lost(make_site: MakeSite, how: str) -> None:
    site = make_site(2)
    job, child = site.begin()
    other = site.take_on()
    site.start_jobs()
    if how == "lost":
        job.lease.lost = "somebody else has it"
    else:
        other.lease.until += 1000
        site.clock.now += 119
    site.crew.watch()
    assert (site.crew.jobs, child.killed) == ([other], True)
    assert (site.names(), site.around.channels.events) == ([], [])
    (line,) = site.around.log("lease lost")
    assert (line["message"], line["key"]) == ("m1", job.event.key)
    site.leases.renew_all()
    assert ("extend", "m1") not in [(name, message) for name, message, _ in site.around.queue.calls]


def test_a_waiting_job_whose_lease_is_lost_is_dropped(make_site: MakeSite) -> None:
    site = make_site(1)
    site.take_on().lease.lost = "somebody else has it"
    site.crew.watch()
    assert (site.crew.jobs, site.names()) == ([], [])


# Jobs are stopped


def test_a_job_at_its_own_limit_stops_and_that_counts(make_site: MakeSite) -> None:
    site = make_site(1, MAX_JOB_S="60")
    job, child = site.begin()
    site.wait(60)
    assert job.state is RUNNING
    site.wait(0.1)
    assert (job.state, job.stop_counts, Stop() in child.told()) == (STOPPING, True, True)
    child.say(Outcome(JobResult.STOPPED))
    site.listen()
    ((name, _, told),) = site.settled()
    assert (name, told["attempts"]) == ("requeue", 1)


def test_a_job_that_has_made_progress_is_stopped_without_an_attempt(make_site: MakeSite) -> None:
    site = make_site(1, MAX_JOB_S="60")
    _, child = site.begin()
    child.say(ProgressUpdate("j", 500, 600, 1000))
    site.listen()
    site.wait(61)
    child.say(Outcome(JobResult.STOPPED))  # which tells no offset of its own
    site.listen()
    ((_, _, told),) = site.settled()
    assert (told["attempts"], told["progress"]) == (0, 500)


@pytest.mark.parametrize(
    ("update", "attempts", "covered"),
    [
        (None, 1, 700),
        (ProgressUpdate("j", 0, 0, None), 1, 700),
        (ProgressUpdate("j", 0, 60, 1000), 1, 0),
        (ProgressUpdate("j", 500, 600, 1000), 1, 500),
        (ProgressUpdate("j", 800, 0, None), 0, 800),
    ],
    ids=["not begun", "not looked yet", "started again", "started again and noted", "further"],
)
def test_a_job_tells_where_its_checkpoint_is_as_soon_as_that_is_known(
    make_site: MakeSite, update: ProgressUpdate | None, attempts: int, covered: int
) -> None:
    site = make_site(1, MAX_JOB_S="60")
    _, child = site.begin(progress=700)
    if update is not None:
        child.say(update)
    site.listen()
    site.wait(61)
    child.say(Outcome(JobResult.STOPPED))
    site.listen()
    ((_, _, told),) = site.settled()
    assert (told["attempts"], told["progress"]) == (attempts, covered)


def test_a_job_is_handed_over_before_sqs_renews_no_more(make_site: MakeSite) -> None:
    site = make_site(1)
    job, _ = site.begin()
    site.wait(LONGEST_S)
    assert job.state is RUNNING
    site.wait(0.1)
    assert job.state is STOPPING
    assert site.around.settings.stop_timeout_s < job.lease.left_s(), "in time for it to stop"


def test_the_time_that_a_job_has_waited_here_counts(make_site: MakeSite) -> None:
    """SQS counts from the receive, not from when its process begins."""
    site = make_site(2, MAX_JOB_S="100000")
    _, first = site.begin()
    job = site.take_on(large=True)
    site.wait(LONGEST_S - 10)
    first.say(Outcome(JobResult.DONE))
    site.listen()
    site.start_jobs()
    assert job.state is RUNNING
    site.wait(11)
    assert (job.state, job.seconds < 12) == (STOPPING, True)


def test_a_job_that_does_not_stop_in_time_is_killed_and_handed_over(make_site: MakeSite) -> None:
    site = make_site(1, MAX_JOB_S="60")
    job, child = site.begin()
    site.wait(61)
    site.wait(15)
    assert (job.state, child.killed) == (STOPPING, False)
    site.wait(0.1)
    assert (site.crew.jobs, child.killed) == ([], True)
    ((name, _, told),) = site.settled()
    assert (name, told["attempts"]) == ("requeue", 1)
    assert site.around.log("stopped")[0]["reason"].startswith("it did not stop when asked to")
    assert site.crew.room()
    site.begin()
    assert len(site.children.started) == 2, "another process takes its place"


def test_a_job_is_asked_to_stop_once_and_its_time_does_not_begin_anew(make_site: MakeSite) -> None:
    site = make_site(1, MAX_JOB_S="60")
    job, child = site.begin()
    site.wait(61)
    stop_by = job.stop_by
    site.wait(5)
    site.crew.stop_all()
    assert (child.told().count(Stop()), job.stop_by, job.stop_counts) == (1, stop_by, True)


def test_a_process_that_dies_while_it_stops_has_stopped(make_site: MakeSite) -> None:
    site = make_site(1)
    _, child = site.begin()
    site.crew.stop_all()
    child.die()
    site.listen()
    ((name, _, told),) = site.settled()
    assert (name, told["attempts"], site.crew.jobs) == ("requeue", 0, [])


def test_a_worker_that_stops_gives_up_what_waits_and_stops_what_runs(make_site: MakeSite) -> None:
    site = make_site(1)
    running, child = site.begin()
    site.take_on(attempts=2, progress=7)
    site.crew.stop_all()
    assert site.crew.jobs == [running]
    assert (running.state, running.stop_counts, child.told()) == (STOPPING, False, [Stop()])
    assert site.settled() == [("requeue", "m2", {"attempts": 2, "progress": 7})]


def test_all_processes_are_killed_at_the_end(make_site: MakeSite) -> None:
    site = make_site(2)
    site.begin()
    site.begin()
    site.crew.kill()
    assert [child.killed for child in site.children.started] == [True, True]


# The breaker


def test_a_breaker_that_opens_gives_up_what_waits_and_stops_what_runs(make_site: MakeSite) -> None:
    site = make_site(1)
    running, child = site.begin()
    site.take_on()
    site.around.breaker.denied("put_object")
    site.crew.watch()
    assert site.crew.jobs == [running]
    assert (running.state, running.stop_counts, child.told()) == (STOPPING, False, [Stop()])
    assert site.names() == [("requeue", "m2")]


def test_jobs_go_on_while_the_breaker_probes(make_site: MakeSite) -> None:
    site = make_site(1)
    site.around.breaker.denied("put_object")
    site.clock.now += 1000
    assert site.around.breaker.begin_probe()
    probe, child = site.begin()
    site.crew.watch()
    assert (probe.state, child.told()) == (RUNNING, [])


def test_what_waits_is_given_back_after_a_delay(make_site: MakeSite) -> None:
    site = make_site(1)
    site.begin()
    site.take_on(attempts=2)
    site.around.chance.number = 1.0
    site.around.breaker.denied("put_object")
    site.crew.watch()
    assert site.settled() == [("requeue", "m2", {"attempts": 2, "progress": 0, "delay_s": 60})]


def test_a_job_that_waits_is_not_given_up_without_a_reason(make_site: MakeSite) -> None:
    site = make_site(2)
    site.begin()
    waiting = site.take_on(large=True)
    site.wait(500)
    assert (waiting.state, site.names()) == (WAITING, [])


def test_nothing_begins_while_the_breaker_is_open(make_site: MakeSite) -> None:
    site = make_site(1)
    site.crew.add_child()
    site.listen()
    job = site.take_on()
    site.around.breaker.denied("put_object")
    site.start_jobs()
    assert (job.state, site.around.protection.said) == (WAITING, [])
