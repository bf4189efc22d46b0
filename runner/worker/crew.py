"""The jobs that this worker has taken on, and the processes that do them.

A small job has one process, and as many of them run at a time as there are processes. A large job has all cores to
itself. A job waits for a process, runs, and may be asked to stop; it ends with an outcome, which settles its message.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING

from runner.errors import SettingsError
from runner.job.protocol import JobResult, Order, Outcome, ProgressUpdate, Ready, Refused
from runner.worker.breaker import BreakerState, Proof
from runner.worker.job_child import JobChild, environ_of_jobs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from runner.aws.s3_events import ObjectCreated
    from runner.machine import Clock, Condition, Processes, Wakeable
    from runner.worker.context import WorkerContext
    from runner.worker.leases import Lease
    from runner.worker.settlement import Settlement

_MAX_DEATHS = 2
_MAX_FAILED_STARTS = 5  # in a row: S3 may be away for a moment when a process starts
_MAX_START_S = 120.0
"""Within which a process must be ready; the health check of the templates grants a new task as long.

It takes seconds to load polars and a calculation and to look at the buckets. A module of the calculation that waits for
something, for example, would wait without end. If S3 does not answer for so long, the next process asks again.
"""


class JobState(Enum):
    """State of a job that this worker has taken on."""

    WAITING = "waiting"
    """For a process."""
    RUNNING = "running"
    """A process does it."""
    STOPPING = "stopping"
    """Its process was asked to stop."""


@dataclass(slots=True)
class ActiveJob:
    """A job that this worker has taken on. Only its own methods change its state.

    The thread of the heartbeat calls `extend`, the main thread everything else.

    Attributes:
        event: The object.
        lease: On its message.
        large: Whether it has all processes to itself.
        clock: Tells the time; all times are those of its monotonic clock.
        sending: Held while something is sent to its process, which never waits for the process.
        state: Whether it waits, runs or is to stop.
        child: The process that does it, None while it waits.
        started: When it was given to a process last, or else taken on.
        deaths: How many processes have died of it.
        progress: What its process has reported last, None before the first report.
        logged: When its progress was logged last, and the bytes that it was at.
        stop_by: When it is killed if it has not stopped by itself.
        stop_counts: Whether being stopped counts as an attempt, unless it has made progress.
    """

    event: ObjectCreated
    lease: Lease
    large: bool
    clock: Clock = field(repr=False)
    sending: Condition = field(repr=False)
    state: JobState = field(default=JobState.WAITING, init=False)
    child: JobChild | None = field(default=None, init=False)
    started: float = field(init=False)
    deaths: int = field(default=0, init=False)
    progress: ProgressUpdate | None = field(default=None, init=False)
    logged: tuple[float, int] = field(default=(0.0, 0), init=False)
    stop_by: float = field(default=math.inf, init=False)
    stop_counts: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self.started = self.clock.monotonic()

    @property
    def log_fields(self) -> dict[str, str | None]:
        """The fields that identify it in the log."""
        job = self.progress.job if self.progress else None
        return {"job": job, "key": self.event.key, "message": self.lease.message.id}

    @property
    def offset(self) -> int | None:
        """How far its last checkpoint has come, in bytes of the input; None if not known.

        A process that has not read anything yet may not have looked for the checkpoint.
        """
        progress = self.progress
        return None if progress is None or not (progress.offset or progress.done) else progress.offset

    @property
    def seconds(self) -> float:
        """How long its process has worked on it."""
        return self.clock.monotonic() - self.started

    def start(self, child: JobChild, workers: int) -> None:
        """WAITING → RUNNING: give it to a process, which may use a number of workers."""
        message = self.lease.message
        tried = bool(message.attempts or message.progress or message.is_copy or self.deaths)
        with self.sending:
            until = self.lease.usable_until
            order = Order(self.event, message.sent, workers, tried, message.first_sent, message.owner, until)
            self.state, self.child, self.started = JobState.RUNNING, child, self.clock.monotonic()
            self.logged = self.started, self.logged[1]
            child.order(order)

    def extend(self) -> None:
        """Tell its process that the lease was renewed; the main thread, which may be held up, is not needed for it."""
        with self.sending:
            if self.child is not None:
                self.child.extend(self.lease.usable_until)

    def stop(self, timeout_s: float, *, counts: bool) -> None:
        """RUNNING → STOPPING: ask its process to stop; does nothing in the other states.

        Args:
            timeout_s: After how many seconds it is killed.
            counts: Whether this counts as an attempt, unless it has made progress.
        """
        if self.state is JobState.RUNNING and self.child is not None:
            self.state, self.stop_by, self.stop_counts = JobState.STOPPING, self.clock.monotonic() + timeout_s, counts
            with self.sending:
                self.child.stop()

    def part(self) -> JobChild | None:
        """Return its process, which receives nothing more about this job."""
        with self.sending:
            child, self.child = self.child, None
        return child

    def note_death(self) -> None:
        """RUNNING or STOPPING → WAITING: its process has died."""
        self.part()
        self.state, self.deaths = JobState.WAITING, self.deaths + 1

    @property
    def has_to_be_killed(self) -> bool:
        """Whether it was asked to stop and has not done so in time."""
        return self.state is JobState.STOPPING and self.clock.monotonic() > self.stop_by


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
        self._settlement = settlement
        self._start_child = start_child
        self._tasks = context.around.tasks
        self._clock = context.around.clock
        self._children: list[JobChild] = []
        self._failed_starts = 0
        self._proven = False  # whether a process could ever take orders
        self.jobs: list[ActiveJob] = []

    # Jobs begin

    @property
    def is_ready(self) -> bool:
        """Whether a process can take orders."""
        return any(child.ready for child in self._children)

    def has_room(self) -> bool:
        """Return whether one more job could begin now."""
        blocked = any(job.state is JobState.WAITING or job.large for job in self.jobs)
        return not blocked and len(self.jobs) < self._workers

    def take_on(self, event: ObjectCreated, lease: Lease, *, large: bool) -> None:
        """Add a job, which waits until `start_jobs` finds room for it."""
        job = ActiveJob(event, lease, large, self._clock, self._tasks.condition())
        lease.extended = job.extend
        self.jobs.append(job)

    def start_jobs(self) -> None:
        """Give the jobs that wait to processes, as far as there is room."""
        if self._context.breaker.state is BreakerState.OPEN:
            return
        for job in self.jobs:
            if job.state is JobState.WAITING and self._may_run_beside_the_others(job):
                child = self._idle_child()
                if child is not None:
                    job.start(child, self._workers if job.large else 1)
                    self._context.protection.busy()

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

    def _may_run_beside_the_others(self, job: ActiveJob) -> bool:
        others = [other for other in self.jobs if other.state is not JobState.WAITING]
        return not others or not (job.large or any(other.large for other in others))

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
            job.part()
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
        child = job.part()
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
                self._hear(by_connection[ready])
        self._end_starts_that_hang()

    def _hear(self, child: JobChild) -> None:
        job = next((job for job in self.jobs if job.child is child), None)
        match child.receive():
            case None:
                self._bury(child, job)
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

    def _bury(self, child: JobChild, job: ActiveJob | None) -> None:
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
        job.part()
        if not self.jobs:
            self._context.protection.idle()
