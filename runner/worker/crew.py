"""The jobs that this worker has taken on, and the processes that do them.

A small job has one process, and as many of them run at a time as there are processes. A large job has all cores to
itself. Jobs of a backfill have a share of the processes at most, of which a large one has what is free; a large job of
the main queue that runs beside it has the rest. A job waits for a process, runs, and may be asked to stop; it ends with
an outcome, which settles its message.

While jobs are short, one more is taken on than there are processes, so that none of them waits for an answer of SQS.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from runner.aws.message import Lane
from runner.errors import SettingsError
from runner.job.protocol import JobResult, Outcome, ProgressUpdate, Ready, Refused
from runner.worker.active_job import ActiveJob, JobState
from runner.worker.breaker import BreakerState, Proof
from runner.worker.job_child import JobChild, environ_of_jobs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from runner.aws.s3_events import ObjectCreated
    from runner.machine import Processes, Wakeable
    from runner.worker.context import WorkerContext
    from runner.worker.leases import Lease
    from runner.worker.settlement import Settlement

_MAX_DEATHS = 2
_SHORT_S = 2.0
"""How long the last job and those at work have taken at most if one more is taken on; it is requeued after that."""
_MAX_FAILED_STARTS = 5  # in a row: S3 may be away for a moment when a process starts
_MAX_START_S = 120.0
"""Within which a process must be ready; the health check of the templates grants a new task as long.

It takes seconds to load polars and a calculation and to look at the buckets. A module of the calculation that waits for
something, for example, would wait without end. If S3 does not answer for so long, the next process asks again.
"""


class Crew:
    """Does jobs.

    Args:
        context: The parts of the worker.
        workers: How many processes run at a time.
        settlement: Settles the message of each job that ends.
        start_child: Starts a job process in an environment.

    Attributes:
        jobs: Those that were taken on and have not ended.
    """

    def __init__(
        self,
        context: WorkerContext,
        workers: int,
        settlement: Settlement,
        *,
        start_child: Callable[[Processes, Mapping[str, str]], JobChild] = JobChild.start,
    ) -> None:
        self._context = context
        self._workers = workers
        self._max_backfill = context.settings.backfill_processes(workers)
        self._settlement = settlement
        self._start_child = start_child
        self._tasks = context.around.tasks
        self._clock = context.around.clock
        self._children: list[JobChild] = []
        self._failed_starts = 0
        self._last_s = math.inf  # how long the last job has taken
        self._proven = False  # whether a process could ever take orders
        self.jobs: list[ActiveJob] = []

    # Jobs begin

    @property
    def is_ready(self) -> bool:
        """Whether a process can take orders."""
        return any(child.ready for child in self._children)

    def room(self, lane: Lane = Lane.MAIN) -> int:
        """Return how many more small jobs of a queue could begin now, or of the main queue soon."""
        if any(job.state is JobState.WAITING for job in self.jobs):
            return 0
        return self._free(lane) + (lane is Lane.MAIN and self._ends_soon())

    def take_on(self, event: ObjectCreated, lease: Lease, *, large: bool) -> None:
        """Add a job, which waits until `start_jobs` finds room for it."""
        job = ActiveJob(event, lease, large, self._clock, self._tasks.condition())
        lease.extended = job.extend
        self.jobs.append(job)

    def start_jobs(self, reserved: int = 0) -> None:
        """Give the jobs that wait to processes, as far as there is room, those of the main queue first.

        Args:
            reserved: How many processes a large job of a backfill has to leave for messages that may come at any time.
        """
        if self._context.breaker.state is BreakerState.OPEN:
            return
        for job in sorted(self.jobs, key=lambda job: job.lane is Lane.BACKFILL):
            slots = self._slots_for(job, reserved) if job.state is JobState.WAITING else 0
            child = self._idle_child() if slots else None
            if child is not None:
                job.start(child, slots)
                self._context.protection.busy()
        self._give_up_what_was_overtaken()

    def _give_up_what_was_overtaken(self) -> None:
        """Requeue jobs of a backfill whose processes a large main job has, which may take hours."""
        waiting = [job for job in self.jobs if job.state is JobState.WAITING and job.lane is Lane.BACKFILL]
        if waiting and not self._free(Lane.MAIN):
            for job in waiting:
                self.give_up(job)

    def get_ready(self) -> bool:
        """Return whether a process can take orders; start one if necessary."""
        if not self._children:
            self.add_child()
        return self.is_ready

    def add_child(self, child: JobChild | None = None) -> None:
        """Add a process that was started, or start one more."""
        if child is None:
            environ = environ_of_jobs(self._context.settings, self._context.environ)
            child = self._start_child(self._context.around.processes, environ)
        child.start_by = self._clock.monotonic() + _MAX_START_S
        self._children.append(child)

    def _free(self, lane: Lane) -> int:
        """Return how many processes jobs of a queue may have besides those that they have."""
        free = self._workers - sum(job.slots for job in self.jobs)
        if lane is Lane.BACKFILL:
            free = min(free, self._max_backfill - sum(job.slots for job in self.jobs if job.lane is lane))
        return max(free, 0)

    def _ends_soon(self, limit_s: float = _SHORT_S) -> bool:
        """Return whether some process is likely to be free soon: no job at work has taken longer than a limit.

        If a job ended its worker, SQS would count that as a receive of the message that waits here, too; so none is
        taken on beside one that was tried before, here or elsewhere.
        """
        at_work = [job for job in self.jobs if job.state is not JobState.WAITING]
        return self._last_s <= _SHORT_S and not any(
            job.large or job.seconds > limit_s or job.deaths or job.lease.message.attempts for job in at_work
        )

    def _waits_in_vain(self, job: ActiveJob) -> bool:
        """Return whether a job waits that another worker may have a process for: it was received ahead."""
        if job.deaths or self._free(job.lane):
            return False
        return job.seconds > _SHORT_S or not self._ends_soon(2 * _SHORT_S)  # the receive may have taken long

    def _slots_for(self, job: ActiveJob, reserved: int) -> int:
        """Return how many processes a job may have now, 0 if it has to wait.

        A large job of the main queue waits for small ones, which end soon, and not for a large one of a backfill.
        """
        free = self._free(job.lane)
        if not job.large:
            return min(free, 1)
        if job.lane is Lane.BACKFILL:
            return min(free, max(1, self._free(Lane.MAIN) - reserved))
        others = [other for other in self.jobs if other.state is not JobState.WAITING]
        return free if all(other.large and other.lane is Lane.BACKFILL for other in others) else 0

    def _idle_child(self) -> JobChild | None:
        """Return a process that can take an order; start one more if all are busy, for later."""
        busy = {id(job.child) for job in self.jobs}
        idle = [child for child in self._children if id(child) not in busy]
        if not idle and len(self._children) < self._workers:
            self.add_child()
        return next((child for child in idle if child.ready), None)

    # Jobs continue, or are stopped

    def watch(self) -> None:
        """Stop the jobs that must not continue, and log the progress of the others."""
        is_open = self._context.breaker.state is BreakerState.OPEN
        for job in list(self.jobs):
            if job.lease.is_over:
                self._abandon(job)
            elif job.state is not JobState.WAITING:
                self._supervise(job)
            elif is_open:
                self.give_up(job, delayed=True)
            elif self._waits_in_vain(job):
                self.give_up(job)

    def stop_all(self) -> None:
        """Give up the jobs that wait, and ask the others to stop."""
        for job in list(self.jobs):
            if job.state is JobState.WAITING:
                self.give_up(job)
            else:
                job.stop(self._context.settings.stop_timeout_s, counts=False)

    def give_up(self, job: ActiveJob, *, delayed: bool = False) -> None:
        """Leave a job to another worker, from its last checkpoint; after a delay, if other messages come first."""
        self._forget(job)
        self._settlement.requeue(job.lease.message, progress=job.offset, delayed=delayed, lease=job.lease)

    def kill(self) -> None:
        """Kill all processes."""
        for job in self.jobs:
            job.detach()
        for child in self._children:
            child.kill()
        self._children.clear()

    def _supervise(self, job: ActiveJob) -> None:
        """Look after a job that a process does."""
        timeout_s = self._context.settings.stop_timeout_s
        if self._context.breaker.state is BreakerState.OPEN:
            job.stop(timeout_s, counts=False)
        elif self._is_overdue(job):
            job.stop(timeout_s, counts=True)
        self._log_progress(job)
        if job.has_to_be_killed:  # a calculation may hold the interpreter, or S3 not answer
            self._kill_child_of(job)
            self._end(job, Outcome(JobResult.STOPPED, "it did not stop when asked to, so that its process was ended"))

    def _is_overdue(self, job: ActiveJob) -> bool:
        """Return whether a job must be requeued: it is at its own limit, or its lease soon cannot be renewed."""
        settings = self._context.settings
        longest = max(settings.max_lease_s - settings.visibility_timeout_s, settings.max_lease_s / 2)
        held_s = self._clock.monotonic() - job.lease.received  # which includes the time that it has waited here
        return job.seconds > (settings.max_job_s or longest) or held_s > longest

    def _abandon(self, job: ActiveJob) -> None:
        """Drop a job whose message another worker may have: its process is killed, its message is not touched."""
        self._context.log.error("lease lost", **job.log_fields, reason=job.lease.lost)
        self._kill_child_of(job)
        self._forget(job)
        job.lease.drop()  # a renewal may hang

    def _kill_child_of(self, job: ActiveJob) -> None:
        child = job.detach()
        if child is not None:
            self._children.remove(child)
            child.kill()

    def _log_progress(self, job: ActiveJob) -> None:
        now, progress = self._clock.monotonic(), job.progress
        logged_at, logged_bytes = job.logged
        if progress is None or now - logged_at < self._context.settings.progress_s:
            return
        job.logged = now, progress.done
        rate = (progress.done - logged_bytes) / (now - logged_at)
        left_s = None if progress.total is None or rate <= 0 else round((progress.total - progress.done) / rate)
        self._context.log.info(
            "running",
            **job.log_fields,
            bytes=progress.done,
            total=progress.total,
            mb_per_s=round(rate / 1e6, 1),
            seconds_left=left_s,
        )

    # Jobs end

    def listen(self, timeout_s: float, waker: Wakeable) -> None:
        """Wait until a process sends something, and handle it: the message of a job that ends is settled here.

        A process that has hung at its start is ended after that, when what it may have said meanwhile was heard.

        Args:
            timeout_s: How long to wait.
            waker: Ends the wait when it is woken.

        Raises:
            SettingsError: No process can do any job.
        """
        by_connection = {child.connection: child for child in self._children}
        for ready in self._tasks.wait([*by_connection, waker], timeout_s):
            if ready is waker:
                waker.clear()
            else:
                self._handle_message(by_connection[ready])
        self._end_starts_that_hang()

    def _handle_message(self, child: JobChild) -> None:
        job = next((job for job in self.jobs if job.child is child), None)
        match child.receive():
            case None:
                self._remove_dead(child, job)
            case Refused(reason):
                if not self._proven:
                    raise SettingsError(reason)
                self._context.log.error("a job process cannot work", reason=reason)
            case Ready():
                self._proven, self._failed_starts = True, 0
                self._context.breaker.succeeded(Proof.START)
            case Outcome() as outcome if job:
                self._end(job, outcome)
            case ProgressUpdate() as progress if job:
                is_first, job.progress = job.progress is None, progress
                if is_first:
                    self._context.log.info("begun", **job.log_fields, bytes=job.event.size)

    def _remove_dead(self, child: JobChild, job: ActiveJob | None) -> None:
        """Remove a process that has died; its job is tried once more, in another process."""
        self._children.remove(child)
        stopping = job is not None and job.state is JobState.STOPPING
        if job is not None:
            job.note_death()
        reason = child.exit_reason()
        child.kill()
        self._context.log.error("a job process has died", reason=reason, **(job.log_fields if job else {}))
        if job is None:
            self._note_idle_death(child, reason)
            return
        if stopping:
            self._end(job, Outcome(JobResult.STOPPED, reason))
        elif job.deaths == _MAX_DEATHS:
            self._end(job, Outcome(JobResult.RETRY, reason))

    def _end_starts_that_hang(self) -> None:
        now = self._clock.monotonic()
        for child in [child for child in self._children if not child.ready and now > child.start_by]:
            self._children.remove(child)
            child.kill()
            reason = f"a job process has hung for {_MAX_START_S:g} s at its start, and was ended"
            self._context.log.error("a job process has died", reason=reason)
            self._note_idle_death(child, reason)

    def _note_idle_death(self, child: JobChild, reason: str) -> None:
        if not self._proven:
            raise SettingsError(f"{reason} before it had a job; what it said is on standard error")
        self._failed_starts += not child.ready
        if self._failed_starts >= _MAX_FAILED_STARTS:
            self._context.breaker.broken(f"job processes do not start any more: {reason}")

    def _end(self, job: ActiveJob, outcome: Outcome) -> None:
        self._last_s = job.seconds
        self._forget(job)
        self._settlement.settle(
            job.lease.message,
            replace(outcome, offset=job.offset),
            event=job.event,
            seconds=job.seconds,
            counts=job.stop_counts,
            lease=job.lease,
        )

    def _forget(self, job: ActiveJob) -> None:
        self.jobs.remove(job)
        job.detach()
        if not self.jobs:
            self._context.protection.idle()
