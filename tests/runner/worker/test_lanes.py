"""A backfill has a share of the processes, and only while the main queue is empty; each message keeps its queue."""

from __future__ import annotations

import math
import threading
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from runner.aws.message import Lane
from runner.errors import DeniedError, QueueError
from runner.job.protocol import JobResult, Outcome
from runner.settings import Settings
from runner.worker.active_job import JobState
from runner.worker.breaker import BreakerState
from runner.worker.intake import Intake
from runner.worker.settlement import Settlement
from tests.support.fakes import LEAST, FakeChild, Surroundings, make_event, make_message
from tests.support.whole_worker import WholeWorker

if TYPE_CHECKING:
    from collections.abc import Callable

    from runner.errors import RunnerError
    from runner.worker.active_job import ActiveJob
    from tests.support.crew import Site

    MakeSite = Callable[..., Site]

BACKFILL: dict[str, Any] = {"BACKFILL_QUEUE": "backfill"}
DONE = Outcome(JobResult.DONE)


# The share


@pytest.mark.parametrize(
    ("share", "workers", "processes"),
    [
        *(("50%", 1, 1), ("50%", 2, 1), ("50%", 3, 1), ("50%", 4, 2), ("1%", 64, 1), ("100%", 3, 3)),
        *(("99.9%", 2, 1), ("29%", 100, 29), ("57%", 100, 57), ("33.%", 4, 1)),
    ],
)
def test_a_share_is_rounded_down_but_to_one_process(share: str, workers: int, processes: int) -> None:
    settings = Settings.read({**LEAST, **BACKFILL, "BACKFILL_SHARE": share})
    assert settings.backfill_processes(workers) == processes


def take_on(site: Site, lane: Lane, *, large: bool = False) -> ActiveJob:
    job = site.take_on(large=large, lane=lane)
    site.start_jobs()
    return job


def test_jobs_of_a_backfill_have_their_share_of_the_processes(make_site: MakeSite) -> None:
    site = make_site(4, **BACKFILL)
    rooms = [(site.crew.room(), site.crew.room(Lane.BACKFILL))]
    for lane in (Lane.BACKFILL, Lane.BACKFILL, Lane.MAIN, Lane.MAIN):
        take_on(site, lane)
        rooms.append((site.crew.room(), site.crew.room(Lane.BACKFILL)))
    assert rooms == [(4, 2), (3, 1), (2, 0), (1, 0), (0, 0)]


def test_main_jobs_may_have_all_processes(make_site: MakeSite) -> None:
    site = make_site(2, **BACKFILL)
    take_on(site, Lane.MAIN)
    assert (site.crew.room(), site.crew.room(Lane.BACKFILL)) == (1, 1)
    take_on(site, Lane.MAIN)
    assert (site.crew.room(), site.crew.room(Lane.BACKFILL)) == (0, 0)


def workers_of(job: ActiveJob) -> int:
    assert isinstance(job.child, FakeChild)
    return int(job.child.told()[-1].workers)


def test_a_large_job_of_a_backfill_has_what_is_free_of_its_share(make_site: MakeSite) -> None:
    site = make_site(8, **BACKFILL)
    small, large = take_on(site, Lane.BACKFILL), take_on(site, Lane.BACKFILL, large=True)
    assert (workers_of(small), workers_of(large)) == (1, 3)
    assert (site.crew.room(), site.crew.room(Lane.BACKFILL)) == (4, 0)


def test_a_large_job_of_a_backfill_leaves_a_process_for_a_receive_under_way(make_site: MakeSite) -> None:
    site = make_site(4, **BACKFILL, BACKFILL_SHARE="100%")
    job = site.take_on(large=True, lane=Lane.BACKFILL)
    for _ in range(2):
        site.crew.start_jobs(reserved=1)
        site.listen()
    assert (workers_of(job), site.crew.room()) == (3, 1)


def test_a_large_main_job_has_the_processes_that_a_large_one_of_a_backfill_leaves(make_site: MakeSite) -> None:
    site = make_site(4, **BACKFILL)
    behind, main = take_on(site, Lane.BACKFILL, large=True), take_on(site, Lane.MAIN, large=True)
    assert (workers_of(behind), workers_of(main)) == (2, 2)
    assert (site.crew.room(), site.crew.room(Lane.BACKFILL)) == (0, 0)


def test_a_large_main_job_waits_for_a_small_one_of_a_backfill_and_then_has_all(make_site: MakeSite) -> None:
    site = make_site(4, **BACKFILL)
    small, large = take_on(site, Lane.BACKFILL), take_on(site, Lane.MAIN, large=True)
    assert (large.state, site.crew.room(), site.crew.room(Lane.BACKFILL)) == (JobState.WAITING, 0, 0)
    assert isinstance(small.child, FakeChild)
    small.child.say(DONE)
    site.listen()
    site.start_jobs()
    assert workers_of(large) == 4


def test_a_job_of_a_backfill_that_a_large_main_job_overtakes_goes_back(make_site: MakeSite) -> None:
    site = make_site(4, **BACKFILL)
    behind, main = site.take_on(lane=Lane.BACKFILL), site.take_on(lane=Lane.MAIN, large=True)
    site.start_jobs()
    assert (site.crew.jobs, workers_of(main)) == ([main], 4)
    assert [call[:2] for call in site.around.backfill.calls] == [("requeue", behind.lease.message.id)]


def test_a_main_job_begins_before_one_of_a_backfill(make_site: MakeSite) -> None:
    site = make_site(2, **BACKFILL)
    behind, main = site.take_on(lane=Lane.BACKFILL), site.take_on(lane=Lane.MAIN)
    site.crew.get_ready()
    site.listen()
    site.crew.start_jobs()
    assert (behind.state, main.state) == (JobState.WAITING, JobState.RUNNING)
    site.start_jobs()
    assert behind.state is JobState.RUNNING


# Which queue is asked


class Asked:
    """An intake without threads: a test says what each receive returns."""

    def __init__(self, **settings: str) -> None:
        self.around = Surroundings.make(**{**BACKFILL, **settings})
        self.intake = Intake(self.around.context, 10, lambda: None)
        self.receivers = self.intake._receivers

    def ask(self, room: int, room_for_backfill: int) -> dict[str, int]:
        """Return the queues that are being polled, and how long each receive waits."""
        self.intake.ask(room, room_for_backfill)
        return {lane.value: receiver._wait_s for lane, receiver in self.receivers.items() if receiver.asked}

    def answer(self, lane: Lane, found: RunnerError | object | None) -> None:
        assert self.receivers[lane].asked
        self.receivers[lane]._inbox.put((found, self.around.clock.now))  # type: ignore[arg-type]
        self.intake.take()

    def message(self, lane: Lane) -> None:
        self.answer(lane, make_message(lane=lane))


def test_the_backfill_is_asked_for_once_the_main_queue_is_empty_and_beside_it() -> None:
    asked = Asked()
    assert asked.ask(2, 1) == {"main": 0}
    asked.answer(Lane.MAIN, None)
    assert asked.ask(2, 1) == {"main": 10, "backfill": 1}


def test_a_main_message_ends_the_backfill_until_the_queue_is_empty_again() -> None:
    asked = Asked()
    asked.ask(2, 1)
    asked.message(Lane.MAIN)
    assert asked.ask(2, 1) == {"main": 0}
    asked.message(Lane.MAIN)
    assert asked.ask(2, 1) == {"main": 0}


def test_a_backfill_goes_on_while_a_receive_of_the_main_queue_waits() -> None:
    asked = Asked()
    asked.ask(2, 1)
    asked.answer(Lane.MAIN, None)
    for _ in range(3):
        assert asked.ask(2, 1) == {"main": 10, "backfill": 1}
        asked.message(Lane.BACKFILL)
        assert asked.ask(1, 0) == {"main": 10}, "its job has the other process"
        asked.around.clock.now += 5


def test_with_one_process_the_queues_take_turns() -> None:
    asked = Asked()
    for _ in range(3):
        assert asked.ask(1, 1) == {"main": 0}
        asked.answer(Lane.MAIN, None)
        assert asked.ask(1, 1) == {"backfill": 1}
        asked.message(Lane.BACKFILL)
        assert asked.ask(0, 0) == {}


def test_an_empty_answer_from_before_all_processes_were_busy_does_not_count() -> None:
    asked = Asked()
    asked.ask(2, 1)
    asked.answer(Lane.MAIN, None)
    asked.ask(2, 1)
    asked.message(Lane.BACKFILL)
    asked.answer(Lane.MAIN, None)
    assert asked.ask(0, 0) == {}
    asked.around.clock.now += 5
    for _ in range(2):
        assert asked.ask(2, 1) == {"main": 0}, "a message may have come since"
    asked.answer(Lane.MAIN, None)
    assert asked.ask(2, 1) == {"main": 10, "backfill": 1}


def test_a_worker_without_work_makes_two_receives_in_each_wait() -> None:
    asked = Asked()
    asked.ask(2, 1)
    asked.answer(Lane.MAIN, None)
    for _ in range(3):
        assert asked.ask(2, 1) == {"main": 10, "backfill": 1}
        asked.answer(Lane.BACKFILL, None)
        assert asked.ask(2, 1) == {"main": 10}
        asked.answer(Lane.MAIN, None)


def test_what_was_found_long_ago_does_not_count() -> None:
    asked = Asked()
    asked.ask(1, 1)
    asked.answer(Lane.MAIN, None)
    asked.around.clock.now += 5
    assert asked.ask(1, 1) == {"main": 0}


def test_a_main_queue_that_fails_is_not_empty() -> None:
    asked = Asked()
    asked.ask(2, 1)
    asked.answer(Lane.MAIN, QueueError("away"))
    assert asked.ask(2, 1) == {"main": 0}


def test_a_backfill_queue_that_fails_is_left_alone_for_longer_each_time() -> None:
    asked = Asked()
    clock, times = asked.around.clock, list[float]()
    while len(times) < 12:
        if "backfill" in asked.ask(2, 1):
            times.append(clock.now)
            asked.answer(Lane.BACKFILL, DeniedError("sqs:ReceiveMessage"))
            asked.ask(2, 1)
        clock.now += 0.5
        asked.answer(Lane.MAIN, None)
    delays = [later - earlier for earlier, later in pairwise(times)]
    assert delays[:3] == [10, 20, 40]
    assert max(delays) == delays[-1] == 900


def test_without_a_backfill_queue_the_main_one_is_asked_as_ever() -> None:
    around = Surroundings.make()
    intake = Intake(around.context, 10, lambda: None)
    (receiver,) = intake._receivers.values()
    for found in (None, make_message(), QueueError("away")):
        intake.ask(1, 1)
        assert (receiver.asked, receiver._wait_s) == (True, 10)
        receiver._inbox.put((found, around.clock.now))
        intake.take()


# The whole worker


def test_one_process_does_a_backfill_of_small_objects_in_a_row() -> None:
    """Instead of one object in each receive of the main queue that waits."""
    whole = WholeWorker(**BACKFILL)
    for number in range(40):
        whole.backfill.put(f"old/{number}")
    with whole:
        whole.wait_until_empty()
    assert len(whole.done()) == len(whole.backfill.settled) == 40
    assert whole.queue.settled == []
    assert len(whole.queue.waits) - whole.queue.waits.count(0) < 30, "they go on beside the jobs"


def test_main_messages_are_done_before_a_backfill_that_came_first() -> None:
    whole = WholeWorker(**BACKFILL)
    for number in range(5):
        whole.backfill.put(f"old/{number}")
        whole.queue.put(f"new/{number}")
    with whole:
        whole.wait_until_empty()
    assert [key.split("/")[0] for key in whole.orders] == ["new"] * 5 + ["old"] * 5


def test_a_main_message_is_served_at_once_beside_a_long_job_of_a_backfill() -> None:
    whole, ends = WholeWorker(2, **BACKFILL), threading.Event()
    whole.outcome_of = lambda key: (ends.wait(30) if key.startswith("old") else None, DONE)[1]
    for number in range(3):
        whole.backfill.put(f"old/{number}")
    with whole:
        whole.wait_for(lambda: whole.orders)
        for number in range(5):
            whole.queue.put(f"new/{number}")
        whole.wait_for(lambda: len(whole.done()) == 5)
        assert whole.orders == ["old/0", *(f"new/{number}" for number in range(5))], "and no more of the backfill"
        ends.set()
        whole.wait_until_empty()


def test_both_queues_are_drained() -> None:
    whole = WholeWorker(2, drain=True, **BACKFILL)
    for number in range(5):
        whole.backfill.put(f"old/{number}")
        whole.queue.put(f"new/{number}")
    with whole:
        assert whole.join() == 0
    assert len(whole.done()) == 10


@pytest.mark.parametrize("drain", [True, False])
def test_a_backfill_that_is_denied_stops_only_a_worker_that_drains(drain: bool) -> None:
    whole = WholeWorker(2, drain=drain, **BACKFILL)
    whole.backfill.receive_errors = [DeniedError("sqs:ReceiveMessage on queue backfill")] * 2
    with whole:
        if drain:
            assert whole.join() == 1
            return
        whole.wait_for(lambda: len(whole.backfill.receives) == 2)
        whole.queue.put("new")
        whole.wait_until_empty()
        assert (whole.breaker.state, whole.done()) == (BreakerState.CLOSED, {"new"})
        whole.backfill.put("old")
        whole.wait_until_empty()
    assert whole.done() == {"new", "old"}


@pytest.mark.parametrize("lane", Lane)
def test_a_worker_that_drains_gives_up_if_one_of_its_queues_is_gone(lane: Lane) -> None:
    whole = WholeWorker(2, drain=True, **BACKFILL)
    gone = whole.queue if lane is Lane.MAIN else whole.backfill
    gone.receive_errors = [QueueError("there is no such queue")] * 10_000
    whole.queue.put("new")
    with whole:
        assert whole.join() == 1
    assert "there is no such queue" in whole.worker.end_reason
    assert gone.receives[-1] - gone.receives[0] >= 60


def test_a_probe_takes_a_main_message_first_and_otherwise_one_of_the_backfill() -> None:
    whole = WholeWorker(2, **BACKFILL)
    denied = Outcome(JobResult.DENIED, "put_object")
    whole.outcome_of = lambda _: denied
    whole.backfill.put("old/1")
    with whole:
        whole.wait_for(lambda: len(whole.orders) == 1)
        whole.queue.put("new/1")
        whole.wait_for(lambda: len(whole.orders) == 2)
        whole.outcome_of = lambda _: DONE
        whole.wait_until_empty()
    assert whole.orders[:2] == ["old/1", "new/1"]
    assert sorted(whole.done()) == ["new/1", "old/1"]


def test_a_breaker_that_opened_for_want_of_the_main_queue_is_not_closed_by_the_other() -> None:
    whole = WholeWorker(2, **BACKFILL)
    with whole:
        whole.wait_for(lambda: whole.backfill.receives)
        whole.queue.receive_errors = [DeniedError("sqs:ReceiveMessage")] * 2
        whole.wait_for(lambda: whole.breaker.state is BreakerState.OPEN)
        asked = len(whole.backfill.receives)
        whole.wait_for(lambda: not whole.queue.receive_errors)
        assert len(whole.backfill.receives) <= asked + 1, "but for one that was under way"
        whole.wait_for(lambda: whole.breaker.state is BreakerState.CLOSED)


def test_what_a_worker_that_stops_has_of_each_queue_goes_back_there() -> None:
    whole = WholeWorker(2, **BACKFILL)
    ends = threading.Event()
    whole.outcome_of = lambda _: (ends.wait(0.2), Outcome(JobResult.STOPPED))[1]
    whole.queue.put("new")
    whole.backfill.put("old")
    with whole:
        whole.wait_for(lambda: len(whole.orders) >= 2)
    ends.set()
    assert set(whole.queue.copies) == {"new"}
    assert set(whole.backfill.copies) == {"old"}


# Each message is settled on its own queue


OUTCOMES = {
    JobResult.DONE: "delete",
    JobResult.FAILED: "dead_letter",
    JobResult.RETRY: "release",
    JobResult.STOPPED: "requeue",
    JobResult.DENIED: "requeue",
    JobResult.BUSY: "requeue",
}


@pytest.mark.parametrize("lane", Lane)
@pytest.mark.parametrize("kind", OUTCOMES)
def test_a_message_is_settled_on_its_queue(make_site: MakeSite, kind: JobResult, lane: Lane) -> None:
    site = make_site(2, **BACKFILL)
    queues = {Lane.MAIN: site.around.queue, Lane.BACKFILL: site.around.backfill}
    _, child = site.begin(lane=lane)
    child.say(Outcome(kind, "no"))
    site.listen()
    assert [name for name, _, _ in queues.pop(lane).calls] == [OUTCOMES[kind]]
    (other,) = queues.values()
    assert other.calls == []


@pytest.mark.parametrize("lane", Lane)
@pytest.mark.parametrize("operation", ["split", "dead_letter", "delete", "requeue"])
def test_a_message_that_is_no_job_is_settled_on_its_queue(operation: str, lane: Lane) -> None:
    around = Surroundings.make(**BACKFILL)
    settlement, message = Settlement(around.context), make_message(lane=lane)
    {
        "split": lambda: settlement.split(message, ["a", "b"]),
        "dead_letter": lambda: settlement.refuse(message, "nonsense"),
        "delete": lambda: settlement.ignore(message, "a test event"),
        "requeue": lambda: settlement.requeue(message),
    }[operation]()
    queues = {Lane.MAIN: around.queue, Lane.BACKFILL: around.backfill}
    assert {one: [name for name, _, _ in queue.calls] for one, queue in queues.items()} == {
        one: [operation] * (one is lane) for one in Lane
    }


def test_leases_are_renewed_on_their_queues(make_site: MakeSite) -> None:
    site = make_site(2, **BACKFILL)
    main, behind = take_on(site, Lane.MAIN), take_on(site, Lane.BACKFILL)
    site.clock.now += site.leases.interval_s
    site.leases.renew_all()
    calls = [(queue.name, *call[:2]) for queue in (site.around.queue, site.around.backfill) for call in queue.calls]
    assert calls == [
        ("queue", "extend", main.lease.message.id),
        ("backfill", "extend", behind.lease.message.id),
    ]


def test_messages_that_end_together_are_deleted_on_their_queues() -> None:
    whole = WholeWorker(4, **BACKFILL)
    whole.queue.slow_s = whole.backfill.slow_s = 0.05
    for number in range(8):
        whole.queue.put(f"new/{number}")
        whole.backfill.put(f"old/{number}")
    with whole:
        whole.wait_until_empty()
    assert {key.split("/")[0] for key, _ in whole.queue.settled} == {"new"}
    assert {key.split("/")[0] for key, _ in whole.backfill.settled} == {"old"}


@pytest.mark.parametrize(("receives", "behind", "attempts"), [(3, 7, 7), (3, None, 5), (None, 4, 4)])
def test_attempts_are_those_of_the_redrive_policy_of_each_queue(
    receives: int | None, behind: int | None, attempts: int
) -> None:
    around = Surroundings.make(max_receives=receives, **BACKFILL)
    around.backfill.max_receives = behind
    settlement, lost = Settlement(around.context), Outcome(JobResult.RETRY, "away")
    message = make_message(lane=Lane.BACKFILL, attempts=attempts - 2)
    settlement.settle(message, lost, event=make_event())
    assert around.backfill.only[0] == "release"
    around.backfill.calls = []
    settlement.settle(make_message(lane=Lane.BACKFILL, attempts=attempts - 1), lost, event=make_event())
    assert around.backfill.only[0] == "dead_letter"


# What it tells


def test_the_age_of_a_backfill_is_a_metric_of_its_own() -> None:
    whole = WholeWorker(2, POLL_WAIT_S="1", **BACKFILL)
    began_ms = int(whole.clock.time() * 1000)
    whole.backfill.put("old", first_sent=began_ms - 10 * 86_400_000)
    whole.queue.put("new", first_sent=began_ms)
    with whole:
        whole.wait_until_empty()
    told: dict[str, float] = {}
    for line in whole.metrics():
        for name in ("OldestMessageAge", "OldestBackfillMessageAge", "MessageAge", "BackfillMessageAge"):
            told[name] = max(told.get(name, -math.inf), line.get(name, -math.inf))
    assert min(told["OldestBackfillMessageAge"], told["BackfillMessageAge"]) >= 10 * 86_400
    assert max(told["OldestMessageAge"], told["MessageAge"]) < 86_400


def test_the_log_has_both_queues_and_the_lane_of_a_job() -> None:
    whole = WholeWorker(2, **BACKFILL)
    whole.backfill.put("old")
    whole.queue.put("new")
    with whole:
        whole.wait_until_empty()
    (started,) = [line for line in whole.log() if line["event"] == "started"]
    assert (started["queue"], started["backfill"]) == ("queue", "backfill")
    lanes: dict[str, Any] = {line["key"]: line.get("lane") for line in whole.log() if line["event"] == "done"}
    assert lanes == {"old": "backfill", "new": None}
