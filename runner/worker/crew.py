"""The job processes, and the jobs that they do.

A small job has one of the processes, and as many of those run at a time as there are; a large one has all cores to
itself.

A job that this worker has taken on, from its message to its outcome.
"""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass, field, replace
from multiprocessing.connection import wait
from typing import TYPE_CHECKING

from runner.errors import SettingsError
from runner.job.protocol import JobResult, Order, Outcome, ProgressUpdate, Ready, Refused
from runner.worker.job_child import JobChild

if TYPE_CHECKING:
    from runner.aws.s3_events import ObjectCreated
    from runner.worker.context import WorkerContext
    from runner.worker.leases import Lease, Leases
    from runner.worker.settlement import Settlement


@dataclass(slots=True)
class ActiveJob:
    """A job that was taken on.

    Attributes:
        event: Of the object.
        lease: On its message.
        large: Whether it has all workers to itself.
        child: The process that does it, None while it waits.
        started: When that began, by the monotonic clock.
        deaths: How many processes have died of it.
        offset: How far its last checkpoint has come.
        told: How far it said it is.
        logged: When that was logged last, and how far it was.
        stopping: Whether it was asked to stop.
        stop_by: When that has to have happened.
        counts: Whether its stopping counts as an attempt, unless it has made progress.
        until: Until when the child knows that it may work.
    """

    event: ObjectCreated
    lease: Lease
    large: bool
    child: JobChild | None = None
    started: float = field(default_factory=time.monotonic)
    deaths: int = 0
    offset: int = 0
    told: ProgressUpdate | None = None
    logged: tuple[float, int] = (0.0, 0)
    stopping: bool = False
    stop_by: float = math.inf
    counts: bool = False
    until: float = 0.0

    @property
    def names(self) -> dict[str, str | None]:
        """What a line of the log says it is about."""
        return {"job": self.told.job if self.told else None, "key": self.event.key, "message": self.lease.message.id}

    @property
    def seconds(self) -> float:
        """How long it has been worked on."""
        return time.monotonic() - self.started


_MAX_DEATHS = 2
_MAX_FAILED_STARTS = 5  # in a row: S3 may be away for a moment when a process starts


class Crew:
    """Does jobs.

    Args:
        context: What the worker works with.
        workers: How many processes at a time.
        leases: Those on the messages of the jobs.
        settlement: Where each outcome goes.

    Attributes:
        jobs: That were taken on and have not ended, some of which may be waiting.
    """

    def __init__(self, context: WorkerContext, workers: int, leases: Leases, settlement: Settlement) -> None:
        self._context = context
        self._workers = workers
        self._leases = leases
        self._settlement = settlement
        self._children: list[JobChild] = []
        self._failed_starts = 0
        self._proven = False  # whether a process could ever take orders
        self.jobs: list[ActiveJob] = []

    @property
    def is_ready(self) -> bool:
        """Whether a process can take orders."""
        return any(child.ready for child in self._children)

    def has_room(self) -> bool:
        """Return whether one more job could be begun now."""
        waits = any(job.child is None for job in self.jobs)
        alone = any(job.large for job in self.jobs)
        return not waits and not alone and len(self.jobs) < self._workers

    def start_jobs(self) -> None:
        """Begin with what was taken on, as far as there is room."""
        if self._context.breaker.reason:
            return
        for job in self.jobs:
            working = [other for other in self.jobs if other.child is not None]
            if job.child is None and not (working and (job.large or any(other.large for other in working))):
                child = self._idle_child()
                if child is not None:
                    self._start(job, child)

    def add_child(self) -> None:
        """Start one more process."""
        region = self._context.settings.region
        self._children.append(JobChild({**self._context.environ, **({"AWS_DEFAULT_REGION": region} if region else {})}))

    def listen(self, timeout_s: float, woken: int) -> None:
        """Wait for something to happen, and hear what the processes say.

        Args:
            timeout_s: For how long at most.
            woken: A descriptor that can be read when something else has happened.

        Raises:
            SettingsError: No process can do any job.
        """
        by_connection = {child.connection: child for child in self._children}
        for ready in wait([*by_connection, woken], timeout_s):
            if ready == woken:
                os.read(woken, 1 << 10)
            else:
                self._hear(by_connection[ready])  # type: ignore[index]

    def watch(self) -> None:
        """Stop what may not go on, and log how far the others are."""
        for job in list(self.jobs):
            if job.lease.lost or job.lease.left_s() <= 0:
                self._lose(job)
            elif job.child is None:
                if self._context.breaker.reason:
                    self.give_up(job)
            else:
                if job.until != job.lease.until:
                    job.until = job.lease.until
                    job.child.extend(job.lease.left_s())
                if not job.stopping and (self._is_overdue(job) or self._context.breaker.reason):
                    job.counts = not self._context.breaker.reason
                    self.stop(job)
                self._log_progress(job)
                if time.monotonic() > job.stop_by:
                    self._force(job)

    def stop(self, job: ActiveJob) -> None:
        """Have a job stop, if it has begun."""
        if job.child is not None and not job.stopping:
            job.stopping, job.stop_by = True, time.monotonic() + self._context.settings.stop_timeout_s
            job.child.stop()

    def give_up(self, job: ActiveJob) -> None:
        """Leave a job to another worker."""
        self._forget(job)
        self._settlement.requeue(job.lease.message, progress=job.offset)

    def kill(self) -> None:
        """End all processes, whatever they do."""
        for child in self._children:
            child.kill()
        self._children.clear()

    def _start(self, job: ActiveJob, child: JobChild) -> None:
        message = job.lease.message
        job.child, job.started, job.until = child, time.monotonic(), job.lease.until
        tried = bool(message.attempts or message.progress or message.is_copy or job.deaths)
        workers = self._workers if job.large else 1
        child.order(
            Order(job.event, message.sent, workers, tried, message.first_sent, message.owner), job.lease.left_s()
        )
        self._context.protection.busy()

    def _idle_child(self) -> JobChild | None:
        busy = {id(job.child) for job in self.jobs}
        free = [child for child in self._children if id(child) not in busy]
        if not free and len(self._children) < self._workers:
            self.add_child()
        return next((child for child in free if child.ready), None)

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
            case Outcome() as outcome if job:
                self._end(job, outcome)
            case ProgressUpdate() as told if job:
                begins, job.told, job.offset = job.told is None, told, told.offset
                if begins:
                    self._context.log.info("begun", **job.names, bytes=job.event.size)

    def _bury(self, child: JobChild, job: ActiveJob | None) -> None:
        """A process has died: its job is tried once more, in another one."""
        self._children.remove(child)
        reason = child.exit_reason()
        child.kill()
        self._context.log.error("a job process has died", reason=reason, **(job.names if job else {}))
        if job is None:
            self._note_idle_death(child, reason)
            return
        job.child, job.deaths = None, job.deaths + 1
        if job.stopping or job.deaths == _MAX_DEATHS:
            self._end(job, Outcome(JobResult.STOPPED if job.stopping else JobResult.RETRY, reason))

    def _note_idle_death(self, child: JobChild, reason: str) -> None:
        if not self._proven:
            raise SettingsError(f"{reason} before it had a job; what it said is on standard error")
        self._failed_starts += not child.ready
        if self._failed_starts == _MAX_FAILED_STARTS:
            self._context.breaker.broken(f"job processes do not start any more: {reason}")

    def _end(self, job: ActiveJob, outcome: Outcome) -> None:
        self._forget(job)
        told = replace(outcome, offset=max(outcome.offset, job.offset))
        self._settlement.settle(job.lease.message, told, event=job.event, seconds=job.seconds, counts=job.counts)

    def _forget(self, job: ActiveJob) -> None:
        self.jobs.remove(job)
        self._leases.let_go(job.lease)
        if not self.jobs:
            self._context.protection.idle()

    def _lose(self, job: ActiveJob) -> None:
        """Touch nothing more of a job whose message may be somebody else's."""
        self._context.log.error("lease lost", **job.names, reason=job.lease.lost)
        self._forget(job)
        self._end_child_of(job)

    def _force(self, job: ActiveJob) -> None:
        """End a job that does not stop: a calculation may hold the interpreter, or S3 not answer."""
        self._end_child_of(job)
        self._end(job, Outcome(JobResult.STOPPED, "it did not stop when asked to, so that its process was ended"))

    def _end_child_of(self, job: ActiveJob) -> None:
        if job.child is not None:
            self._children.remove(job.child)
            job.child.kill()

    def _is_overdue(self, job: ActiveJob) -> bool:
        settings = self._context.settings
        longest = max(settings.max_lease_s - settings.visibility_timeout_s, settings.max_lease_s / 2)
        return job.seconds > (settings.max_job_s or longest) or time.monotonic() - job.lease.received > longest

    def _log_progress(self, job: ActiveJob) -> None:
        now = time.monotonic()
        since, before = max(job.logged[0], job.started), job.logged[1]
        if job.told is None or now - since < self._context.settings.progress_s:
            return
        job.logged = now, job.told.done
        rate = (job.told.done - before) / (now - since)
        left = None if job.told.total is None or rate <= 0 else round((job.told.total - job.told.done) / rate)
        self._context.log.info(
            "running",
            **job.names,
            bytes=job.told.done,
            total=job.told.total,
            mb_per_s=round(rate / 1e6, 1),
            seconds_left=left,
        )
