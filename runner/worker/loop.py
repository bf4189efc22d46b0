"""The worker: queue → event → job → published object → acknowledged message, until it is told to stop.

This process polls, keeps the leases and settles the messages; the work is done in job processes, which it can kill.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import TYPE_CHECKING

from runner.aws.s3_events import ObjectCreated, parse
from runner.errors import DeniedError, EventError, RunnerError
from runner.job.keys import is_worker_key
from runner.worker.crew import ActiveJob, Crew
from runner.worker.leases import Leases
from runner.worker.receiver import Receiver
from runner.worker.settlement import Settlement
from transform import codec_of_name

if TYPE_CHECKING:
    from runner.aws.queue import Message
    from runner.aws.s3_events import Parsed
    from runner.worker.context import WorkerContext

_TICK_S = 0.5
_HEALTH_INTERVAL_S = 5.0
_ANSWER_S = 1.0  # that a receive may take longer than it was told to wait
_RANGES_OF_ONE_PROCESS = 4  # others would not have started before they are done; compressed ones hold more


class Worker:
    """One worker; `run` it once.

    Args:
        context: What it works with.
        workers: How many processes at a time.
        drain: Whether it ends when the queue is empty.
    """

    def __init__(self, context: WorkerContext, workers: int, *, drain: bool) -> None:
        settings = context.settings
        self._context = context
        self._drain = drain
        self._signals = 0
        self._found_nothing = False
        self._told_at = 0.0
        self._woken, self._wakes = os.pipe()
        os.set_blocking(self._wakes, False)
        visibility_s = settings.visibility_timeout_s
        self._settlement = Settlement(
            context.queue, settings, context.breaker, context.log, context.metrics, context.channels
        )
        self._leases = Leases(context.queue, visibility_s, settings.max_lease_s, context.log, context.breaker.denied)
        self._crew = Crew(context, workers, self._leases, self._settlement)
        # What a receive brings while the worker stops can be handed back only if it ends in time.
        wait_s = min(settings.poll_wait_s, max(1, int(settings.stop_timeout_s - _ANSWER_S)))
        self._receiver = Receiver(context.queue, wait_s, visibility_s, self._wake)

    def run(self) -> int:
        """Work until told to stop; return the exit status.

        Raises:
            SettingsError: The calculation does not load, or a bucket cannot be reached.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        try:
            self._crew.add_child()
            while not self._crew.is_ready and not self._signals:  # which loads the calculation and reaches the buckets
                self._crew.listen(_TICK_S, self._woken)
            self._context.log.info("started", queue=self._context.queue.name, drain=self._drain)
            while not self._is_over():
                self._crew.start_jobs()
                if self._crew.has_room() and not self._context.breaker.reason:
                    self._receiver.ask()
                self._crew.listen(_TICK_S, self._woken)
                self._take_messages()
                self._crew.watch()
                self._tell_how_it_is()
            self._shut_down()
        finally:
            self._crew.kill()
        return 1 if self._context.breaker.reason else 0

    def _take_messages(self) -> None:
        for found, received in self._receiver.take():
            self._found_nothing = found is None
            if isinstance(found, DeniedError):
                self._context.breaker.denied(str(found))
            if isinstance(found, RunnerError):
                self._context.log.error("no message could be received", error=str(found))
            elif found is not None:
                self._take(found, received)

    def _take(self, message: Message, received: float) -> None:
        """Take a message on, if it is a job."""
        lease = self._leases.hold(message, received)
        try:
            events = parse(message.body)
            jobs = self._jobs_among(events)
        except EventError as error:
            self._settlement.refuse(message, str(error))
        else:
            if len(jobs) == 1:
                self._crew.jobs.append(ActiveJob(jobs[0], lease, self._is_large(jobs[0])))
                return
            if jobs:
                self._settlement.split(message, [event.to_body() for event in jobs])
            else:
                self._settlement.ignore(message, "; ".join(events.ignored) or "what this worker has written itself")
        self._leases.let_go(lease)

    def _is_large(self, event: ObjectCreated) -> bool:
        """Return whether the engine would use several processes for an object."""
        ranges = 1 if codec_of_name(event.key) else _RANGES_OF_ONE_PROCESS
        return event.size is None or event.size > ranges * self._context.settings.range_bytes

    def _jobs_among(self, events: Parsed) -> list[ObjectCreated]:
        settings = self._context.settings
        others = [event for event in events.created if not is_worker_key(settings, event.bucket, event.key)]
        for event in others:
            if event.bucket != settings.input_bucket:
                raise EventError(f"an event of the bucket {event.bucket}, which is not S3_INPUT_BUCKET")
        return others

    def _is_over(self) -> bool:
        if self._signals:
            return True
        if not self._drain or self._crew.jobs:
            return False
        if self._context.breaker.reason:
            return True
        if not self._found_nothing:
            return False
        self._found_nothing = False  # to be seen again
        try:
            return not any(self._context.queue.waiting())
        except RunnerError as error:
            self._context.log.warning("the queue could not be asked", error=str(error))
            return False

    def _shut_down(self) -> None:
        """No new messages; jobs handed back at their last checkpoint; nothing left running."""
        deadline = time.monotonic() + self._context.settings.stop_timeout_s
        self._receiver.close()
        for job in list(self._crew.jobs):
            if job.child is None:
                self._crew.give_up(job)
            else:
                self._crew.stop(job)
        while self._crew.jobs and (left_s := deadline - time.monotonic()) > 0:
            self._crew.listen(min(_TICK_S, left_s), self._woken)
        self._crew.kill()
        for job in list(self._crew.jobs):
            self._crew.give_up(job)
        self._receiver.join(max(0.0, deadline - time.monotonic()))
        for found, _ in self._receiver.take():
            if found is not None and not isinstance(found, RunnerError):
                self._settlement.requeue(found)
        self._leases.close()
        self._context.protection.close()
        self._context.log.info("stopped")

    def _tell_how_it_is(self) -> None:
        self._context.protection.tick()
        now = time.monotonic()
        if now - self._told_at >= _HEALTH_INTERVAL_S or self._context.breaker.reason:
            self._told_at = now
            reason = self._context.breaker.reason
            self._context.health.write("failing" if reason else "ok", reason or "")

    def _on_signal(self, number: int, _frame: object) -> None:
        self._signals += 1
        if self._signals > 1:
            self._crew.kill()
            os._exit(128 + number)
        self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # full, which wakes as well
            os.write(self._wakes, b"!")
