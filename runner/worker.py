"""The worker: queue → event → job → published object → acknowledged message, until it is told to stop.

This process polls, keeps the leases and settles the messages; the work is done in job processes, which it can kill. A
small job has one of them, and `WORKERS` of those run at a time; a large one has all workers to itself.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import TYPE_CHECKING

from runner.disposal import Disposal
from runner.errors import DeniedError, EventError, RunnerError, SettingsError
from runner.events import parse
from runner.job_child import JobChild
from runner.leases import Leases
from runner.names import is_ours
from runner.outcome import JobProgress, Kind, Order, Outcome, Refused
from runner.receiver import Receiver
from runner.running import Running

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from runner.breaker import Breaker
    from runner.health import HealthFile
    from runner.metrics import Metrics
    from runner.protection import Protection
    from runner.queue import Message, Queue
    from runner.settings import Settings

_TICK_S = 0.5
_HEALTH_INTERVAL_S = 5.0
_MAX_DEATHS = 2


@dataclass(frozen=True, slots=True)
class Tools:
    """What a worker works with."""

    settings: Settings
    queue: Queue
    breaker: Breaker
    health: HealthFile
    protection: Protection
    metrics: Metrics
    log: FilteringBoundLogger


class Worker:
    """One worker; `run` it once.

    Args:
        tools: What it works with.
        workers: How many processes at a time.
        drain: Whether it ends when the queue is empty.
    """

    def __init__(self, tools: Tools, workers: int, *, drain: bool) -> None:
        self._tools = tools
        self._settings = tools.settings
        self._workers = workers
        self._drain = drain
        self._stops = 0
        self._idle_since: float | None = None
        self._healthy_at = 0.0
        self._children: list[JobChild] = []
        self._jobs: list[Running] = []
        self._disposal = Disposal(tools.queue, tools.settings, tools.breaker, tools.log, tools.metrics)
        self._wake_end, self._woken_end = os.pipe()[::-1]
        os.set_blocking(self._wake_end, False)

    def run(self) -> int:
        """Work until told to stop; return the exit status."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        try:
            self._check_start()
            return self._work()
        finally:
            for child in self._children:
                child.kill()

    def _work(self) -> int:
        settings, tools = self._settings, self._tools
        self._leases = Leases(
            tools.queue, settings.visibility_timeout_s, settings.max_lease_s, tools.log, tools.breaker.denied
        )
        self._receiver = Receiver(tools.queue, settings.poll_wait_s, settings.visibility_timeout_s, self._wake)
        tools.log.info("started", queue=tools.queue.name, workers=self._workers, drain=self._drain)
        while not self._is_over():
            self._start_jobs()
            if self._has_room():
                self._receiver.ask()
            self._listen(_TICK_S)
            self._take_messages()
            self._watch_jobs()
            self._tell_how_it_is()
        self._shut_down()
        return 1 if tools.breaker.reason else 0

    # What comes in

    def _take_messages(self) -> None:
        for found in self._receiver.take():
            if found is None:
                self._idle_since = self._idle_since or time.monotonic()
            elif isinstance(found, RunnerError):
                if isinstance(found, DeniedError):
                    self._tools.breaker.denied(str(found))
                self._tools.log.error("no message could be received", error=str(found))
            else:
                self._idle_since = None
                self._take(found)

    def _take(self, message: Message) -> None:
        """Take a message on, if it is a job."""
        lease = self._leases.hold(message)
        try:
            events = parse(message.body)
            for event in events.created:
                if event.bucket != self._settings.input_bucket:
                    raise EventError(f"an event of the bucket {event.bucket}, which is not S3_INPUT_BUCKET")
        except EventError as error:
            self._disposal.refuse(message, str(error))
        else:
            jobs = [event for event in events.created if not is_ours(self._settings, event.bucket, event.key)]
            if len(jobs) == 1:
                large = jobs[0].size is None or jobs[0].size > self._settings.range_bytes
                self._jobs.append(Running(jobs[0], lease, large))
                return
            if jobs:
                self._disposal.split(message, [event.to_body() for event in jobs])
            else:
                self._disposal.ignore(message, "; ".join(events.ignored) or "objects that this worker has written")
        self._leases.let_go(lease)

    # Jobs

    def _has_room(self) -> bool:
        """Return whether one more job could be begun now."""
        waits = any(job.child is None for job in self._jobs)
        alone = any(job.large for job in self._jobs)
        return not waits and not alone and len(self._jobs) < self._workers

    def _start_jobs(self) -> None:
        for job in self._jobs:
            working = [other for other in self._jobs if other.child is not None]
            if job.child is None and not (working and (job.large or any(other.large for other in working))):
                child = self._idle_child()
                if child is not None:
                    self._start(job, child)

    def _start(self, job: Running, child: JobChild) -> None:
        message = job.lease.message
        job.child, job.started, job.until = child, time.monotonic(), job.lease.until
        tried = bool(message.attempts or message.progress or job.deaths)
        child.order(Order(job.event, message.sent, self._workers if job.large else 1, tried), job.lease.left_s())
        self._tools.protection.busy()
        self._tools.log.info("begun", key=job.event.key, bytes=job.event.size, message=message.id)

    def _idle_child(self) -> JobChild | None:
        busy = {id(job.child) for job in self._jobs}
        free = [child for child in self._children if id(child) not in busy]
        if not free and len(self._children) < self._workers:
            free.append(self._add_child())
        return next((child for child in free if child.ready), None)

    def _add_child(self) -> JobChild:
        region = {"AWS_DEFAULT_REGION": self._settings.region} if self._settings.region else {}
        child = JobChild({**os.environ, **region})
        self._children.append(child)
        return child

    def _listen(self, timeout_s: float) -> None:
        """Wait for something to happen, and hear what the job processes say."""
        by_connection = {child.connection: child for child in self._children}
        for ready in wait([*by_connection, self._woken_end], timeout_s):
            if ready == self._woken_end:
                os.read(self._woken_end, 1 << 10)
            else:
                self._hear(by_connection[ready])  # type: ignore[index]

    def _hear(self, child: JobChild) -> None:
        job = next((job for job in self._jobs if job.child is child), None)
        match child.told():
            case None:
                self._bury(child, job)
            case Refused(reason):
                raise SettingsError(reason)
            case Outcome() as outcome if job:
                self._end(job, outcome)
            case JobProgress() as told if job:
                job.told, job.offset = told, told.offset

    def _bury(self, child: JobChild, job: Running | None) -> None:
        """A job process has died: its job is tried once more, in another one."""
        self._children.remove(child)
        reason = child.died_of()
        child.kill()
        self._tools.log.error("a job process has died", reason=reason, key=job.event.key if job else None)
        if job is not None:
            job.child, job.deaths = None, job.deaths + 1
            if job.deaths == _MAX_DEATHS or job.stopping:
                kind = Kind.STOPPED if job.stopping else Kind.RETRY
                self._end(job, Outcome(kind, reason))

    def _end(self, job: Running, outcome: Outcome) -> None:
        self._jobs.remove(job)
        self._leases.let_go(job.lease)
        if outcome.offset < job.offset:
            outcome = Outcome(outcome.kind, outcome.reason, outcome.summary, outcome.job, job.offset)
        self._disposal.settle(job.lease.message, outcome, key=job.event.key, seconds=job.seconds, counts=job.counts)
        if not self._jobs:
            self._tools.protection.idle()

    def _watch_jobs(self) -> None:
        """Stop what may not go on, and log how far the others are."""
        longest = self._settings.max_lease_s - self._settings.visibility_timeout_s
        for job in list(self._jobs):
            if job.lease.lost or job.lease.left_s() <= 0:
                self._lose(job)
                continue
            if job.child is None:
                continue
            if job.lease.until != job.until:
                job.until = job.lease.until
                job.child.extend(job.lease.left_s())
            held_s = time.monotonic() - job.lease.received
            most_s = self._settings.max_job_s or longest
            if not job.stopping and (job.seconds > most_s or held_s > longest or self._tools.breaker.reason):
                job.counts = self._tools.breaker.reason is None
                job.stopping = True
                job.child.stop()
            self._log_progress(job)

    def _lose(self, job: Running) -> None:
        """Touch nothing more of a job whose message may be somebody else's."""
        self._tools.log.error("lease lost", key=job.event.key, reason=job.lease.lost)
        self._jobs.remove(job)
        self._leases.let_go(job.lease)
        if job.child is not None:
            self._children.remove(job.child)
            job.child.kill()

    def _log_progress(self, job: Running) -> None:
        since, before = job.logged
        now = time.monotonic()
        if job.told is None or now - max(since, job.started) < self._settings.progress_s:
            return
        rate = (job.told.done - before) / (now - max(since, job.started))
        left = job.told.total - job.told.done if job.told.total is not None else None
        job.logged = now, job.told.done
        self._tools.log.info(
            "running",
            key=job.event.key,
            bytes=job.told.done,
            total=job.told.total,
            mb_per_s=round(rate / 1e6, 1),
            seconds_left=round(left / rate) if left is not None and rate > 0 else None,
        )

    # Starting, stopping, and how it is

    def _check_start(self) -> None:
        """Have the first job process load the calculation and reach the buckets, before anything is received."""
        self._add_child()
        while not self._children[0].ready and not self._stops:
            self._listen(_TICK_S)
            if not self._children:
                raise SettingsError("the job process does not start; what it said is on standard error")

    def _is_over(self) -> bool:
        if self._stops:
            return True
        if not self._drain:
            return False
        if self._tools.breaker.reason:
            return not self._jobs
        if self._jobs or self._idle_since is None:
            return False
        try:
            empty = not any(self._tools.queue.waiting())
        except RunnerError as error:
            self._tools.log.warning("the queue could not be asked", error=str(error))
            empty = False
        self._idle_since = None  # to be seen again
        return empty

    def _shut_down(self) -> None:
        """No new messages; jobs handed back at their last checkpoint; nothing left running."""
        deadline = time.monotonic() + self._settings.stop_timeout_s
        self._receiver.close()
        for job in [job for job in self._jobs if job.child is None]:
            self._give_up(job)
        for job in self._jobs:
            if job.child and not job.stopping:
                job.stopping = True
                job.child.stop()
        while self._jobs and time.monotonic() < deadline:
            self._listen(min(_TICK_S, max(0.0, deadline - time.monotonic())))
        for child in self._children:
            child.kill()
        for job in list(self._jobs):
            self._give_up(job)
        self._receiver.join(max(0.0, deadline - time.monotonic()))
        for found in self._receiver.take():
            if found is not None and not isinstance(found, RunnerError):
                self._disposal.hand_over(found)
        self._leases.close()
        self._tools.protection.close()
        self._tools.log.info("stopped")

    def _give_up(self, job: Running) -> None:
        self._jobs.remove(job)
        self._leases.let_go(job.lease)
        self._disposal.hand_over(job.lease.message, progress=job.offset)

    def _tell_how_it_is(self) -> None:
        self._tools.protection.tick()
        now = time.monotonic()
        if now - self._healthy_at >= _HEALTH_INTERVAL_S or self._tools.breaker.reason:
            self._healthy_at = now
            reason = self._tools.breaker.reason
            self._tools.health.write("failing" if reason else "ok", reason or "")

    def _on_signal(self, number: int, _frame: object) -> None:
        self._stops += 1
        if self._stops > 1:
            for child in self._children:
                child.kill()
            os._exit(128 + number)
        self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # full, which wakes as well
            os.write(self._wake_end, b"!")
