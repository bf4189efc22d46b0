"""The worker's loop: receive → events → job → settle, until it is asked to stop.

This process polls the queue, keeps the leases and settles the messages. The work is done in job processes, which it
can kill.
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
from runner.worker.crew import Crew
from runner.worker.leases import Leases
from runner.worker.receiver import Receiver
from runner.worker.settlement import Settlement
from transform import codec_of_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runner.aws.message import Message
    from runner.aws.s3_events import Parsed
    from runner.worker.context import WorkerContext

_TICK_S = 0.5
_HEALTH_INTERVAL_S = 5.0
_ANSWER_S = 1.0  # by which a receive may take longer than its wait
_RANGES_OF_ONE_PROCESS = 4  # others would not have started before they are done; compressed ones hold more


class Worker:
    """A worker; `run` it once.

    Args:
        context: The parts of the worker.
        workers: How many processes run at a time.
        drain: Whether it ends when the queue is empty.
    """

    def __init__(self, context: WorkerContext, workers: int, *, drain: bool) -> None:
        settings = context.settings
        self._context = context
        self._drain = drain
        self._signals = 0
        self._found_nothing = False
        self._reported_at = 0.0
        self._woken, self._wakes = os.pipe()
        os.set_blocking(self._wakes, False)
        # A message that is received while the worker stops can be requeued only if the receive ends in time.
        wait_s = min(settings.poll_wait_s, max(1, int(settings.stop_timeout_s - _ANSWER_S)))
        self._receiver = Receiver(context.queue, wait_s, settings.visibility_timeout_s, self._wake)
        self._leases = Leases(context)
        self._settlement = Settlement(context)
        self._crew = Crew(context, workers, self._leases, self._settlement)

    def run(self) -> int:
        """Work until asked to stop; return the exit status.

        Raises:
            SettingsError: The calculation does not load, or a bucket cannot be reached.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        try:
            self._start()
            while True:
                for message, received in self._received():
                    self._take_on(message, received)
                self._crew.watch()
                self._report_health()
                if self._is_over():
                    break
                self._crew.start_jobs()
                self._ask_for_message()
                self._crew.listen(_TICK_S, self._woken)  # for outcomes, which settle their messages, or a message
            self._shut_down()
        finally:
            self._crew.kill()
        return 1 if self._context.breaker.reason else 0

    def _start(self) -> None:
        """Wait for a process that has loaded the calculation and reached the buckets."""
        self._receiver.start()
        self._leases.start()
        self._crew.add_child()
        while not self._crew.is_ready and not self._signals:
            self._crew.listen(_TICK_S, self._woken)
        self._context.log.info("started", queue=self._context.queue.name, drain=self._drain)

    # Receive

    def _ask_for_message(self) -> None:
        if self._crew.has_room() and not self._context.breaker.reason:
            self._receiver.ask()

    def _received(self) -> Iterator[tuple[Message, float]]:
        """Yield the messages that have come, and when by the monotonic clock."""
        for found, received in self._receiver.take():
            self._found_nothing = found is None
            if isinstance(found, DeniedError):
                self._context.breaker.denied(str(found))
            if isinstance(found, RunnerError):
                self._context.log.error("no message could be received", error=str(found))
            elif found is not None:
                yield found, received

    # Events

    def _take_on(self, message: Message, received: float) -> None:
        """Make a job of a message about one object; settle any other message at once."""
        lease = self._leases.hold(message, received)
        try:
            events = parse(message.body)
            jobs = self._jobs_among(events)
        except EventError as error:
            self._settlement.refuse(message, str(error))
        else:
            if len(jobs) == 1:
                self._crew.take_on(jobs[0], lease, large=self._is_large(jobs[0]))
                return
            if jobs:
                self._settlement.split(message, [event.to_body() for event in jobs])
            else:
                self._settlement.ignore(message, "; ".join(events.ignored) or "what this worker has written itself")
        self._leases.release(lease)

    def _jobs_among(self, events: Parsed) -> list[ObjectCreated]:
        """Return the events without those of objects that workers have written."""
        settings = self._context.settings
        others = [event for event in events.created if not is_worker_key(settings, event.bucket, event.key)]
        for event in others:
            if event.bucket != settings.input_bucket:
                raise EventError(f"an event of the bucket {event.bucket}, which is not S3_INPUT_BUCKET")
        return others

    def _is_large(self, event: ObjectCreated) -> bool:
        """Return whether the engine would use several processes for an object."""
        ranges = 1 if codec_of_name(event.key) else _RANGES_OF_ONE_PROCESS
        return event.size is None or event.size > ranges * self._context.settings.range_bytes

    # Stop

    def _is_over(self) -> bool:
        """Return whether the worker has to stop: by a signal, or when a queue to be drained is empty."""
        if self._signals:
            return True
        if not self._drain or self._crew.jobs:
            return False
        if self._context.breaker.reason:
            return True
        if not self._found_nothing:
            return False
        self._found_nothing = False  # the next receive has to find nothing again
        try:
            return not any(self._context.queue.waiting())
        except RunnerError as error:
            self._context.log.warning("the queue could not be asked", error=str(error))
            return False

    def _shut_down(self) -> None:
        """Requeue everything, and leave nothing running."""
        deadline = time.monotonic() + self._context.settings.stop_timeout_s
        self._receiver.close()
        self._crew.stop_all()
        self._settle_until(deadline)
        self._crew.kill()
        self._give_up_the_rest()
        self._requeue_last_message(deadline)
        self._leases.close()
        self._context.protection.close()
        self._context.log.info("stopped")

    def _settle_until(self, deadline: float) -> None:
        """Let jobs stop at their last checkpoint."""
        while self._crew.jobs and (left_s := deadline - time.monotonic()) > 0:
            self._crew.listen(min(_TICK_S, left_s), self._woken)

    def _give_up_the_rest(self) -> None:
        for job in list(self._crew.jobs):
            self._crew.give_up(job)

    def _requeue_last_message(self, deadline: float) -> None:
        """Requeue what the receive that was under way has brought."""
        self._receiver.join(max(0.0, deadline - time.monotonic()))
        for found, _ in self._receiver.take():
            if found is not None and not isinstance(found, RunnerError):
                self._settlement.requeue(found)

    # Besides

    def _report_health(self) -> None:
        self._context.protection.tick()
        now = time.monotonic()
        if now - self._reported_at >= _HEALTH_INTERVAL_S or self._context.breaker.reason:
            self._reported_at = now
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
