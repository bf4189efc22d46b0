"""What a worker does with its messages while it stops: each is settled once, and none that another worker may have."""

from __future__ import annotations

import signal
import threading
from typing import Any, NoReturn, cast

from runner.aws.message import Lane
from runner.aws.queue import CopiedError
from runner.errors import LeaseLostError, QueueError
from runner.job.protocol import JobResult, Outcome
from runner.worker.active_job import JobState
from runner.worker.loop import Worker
from tests.support.fakes import Surroundings, make_event, make_message
from tests.support.whole_worker import WholeWorker


class Stopping:
    """A worker whose last receive has ended while it stops."""

    def __init__(self) -> None:
        self.around = Surroundings.make()
        self.worker = Worker(self.around.context, 1, drain=False)

    def receive_last(self, **message: Any) -> None:
        now = self.around.clock.now
        self.worker._intake._receivers[Lane.MAIN]._inbox.put((make_message(**message), now))
        self.worker._requeue_last_messages(now)


def test_the_last_message_is_requeued_and_held_until_then() -> None:
    stopping = Stopping()
    stopping.receive_last(first_sent=5, attempts=2)
    assert stopping.around.queue.only == ("requeue", {"attempts": 2, "progress": 0})
    leases = stopping.worker._leases
    assert leases.take_first_sent() == 5, "it was held"
    assert leases.take_first_sent() is None, "and is no longer"


def test_a_last_message_that_is_held_already_is_not_requeued_twice() -> None:
    stopping = Stopping()
    lease = stopping.worker._leases.hold(make_message(), stopping.around.clock.now)
    stopping.receive_last(receipt="newer")
    assert (stopping.around.queue.calls, lease.message.receipt) == ([], "newer")


def test_a_last_message_that_has_a_copy_is_only_deleted() -> None:
    stopping = Stopping()
    error = CopiedError("DeleteMessage")
    error.__cause__ = QueueError("DeleteMessage")
    stopping.around.queue.errors = [error]
    stopping.worker._settlement.settle(make_message(), Outcome(JobResult.STOPPED), event=make_event())
    stopping.receive_last(receipt="newer")
    assert [name for name, _, _ in stopping.around.queue.calls] == ["requeue", "delete"]


def test_a_job_whose_lease_is_lost_while_the_worker_stops_is_left_alone() -> None:
    """Another worker has the message: a requeue would double it."""
    whole, ends = WholeWorker(STOP_TIMEOUT_S="3600", VISIBILITY_TIMEOUT_S="20000"), threading.Event()

    def outcome_of(_key: str) -> Outcome:
        ends.wait(30)
        return Outcome(JobResult.DONE)

    def extend(*_: object) -> NoReturn:
        raise LeaseLostError("somebody else has it")

    whole.outcome_of = outcome_of
    whole.worker._leases.interval_s = 0.01
    whole.queue.put("in")
    with whole:
        whole.wait_for(lambda: whole.orders)
        signals = whole.worker._signals
        whole.worker.on_signal(signal.SIGTERM)
        whole.wait_for(lambda: [job for job in whole.worker._crew.jobs if job.state is JobState.STOPPING])
        cast("Any", whole.queue).extend = extend
        whole.wait_for(lambda: "lease lost" in whole.output.getvalue())
        assert whole.join() == 0
        whole.worker._signals = signals  # it is told once more as the test ends
    ends.set()
    assert (whole.queue.copies, whole.queue.settled) == ([], [])
