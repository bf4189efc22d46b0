"""The worker's loop: receive → events → job → settle, until it is asked to stop.

This process polls the queues, keeps the leases and settles the messages. The work is done in job processes, which it
can kill.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from runner.aws.message import Lane
from runner.aws.s3_events import MAX_MESSAGE_CHARACTERS, ObjectCreated, parse
from runner.errors import DeniedError, EventError, RunnerError
from runner.job.keys import is_wanted, is_worker_key
from runner.metrics import age_metric, breaker_metric, denial_metric, ignored_metric, last_receive_metric
from runner.worker.breaker import BreakerState, Proof
from runner.worker.crew import Crew
from runner.worker.intake import Intake
from runner.worker.leases import Leases
from runner.worker.settlement import Settlement
from transform import codec_of_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runner.aws.message import Message
    from runner.aws.s3_events import Parsed
    from runner.worker.context import WorkerContext
    from runner.worker.job_child import JobChild
    from runner.worker.leases import Lease

_TICK_S = 0.5
_HEALTH_INTERVAL_S = 5.0
_AGE_INTERVAL_S = 60.0
_MAX_PENDING = 10  # messages to be settled, beyond which no more are received
_LAST_REQUESTS_S = 3.0
_MAX_FAILED_RECEIVES = {Lane.MAIN: 8, Lane.BACKFILL: 5}
"""In a row, after which a worker that drains its queues gives up; with the pauses, after about two minutes."""
_MAX_BODY_CHARACTERS = 1000
_ANSWER_S = 1.0  # by which a receive may take longer than its wait
_RANGES_OF_ONE_PROCESS = 4  # others would not have started before they are done; compressed ones hold more


class Worker:
    """A worker; `run` it once.

    Args:
        context: The parts of the worker.
        workers: How many processes run at a time.
        drain: Whether it ends when the queues are empty.
        child: The first job process; None to start one.
        tick_s: How often it looks after its jobs, in seconds.
    """

    def __init__(
        self,
        context: WorkerContext,
        workers: int,
        *,
        drain: bool,
        child: JobChild | None = None,
        tick_s: float = _TICK_S,
    ) -> None:
        settings = context.settings
        self._context = context
        self._drain = drain
        self._tick_s = tick_s
        self._signals = 0
        self._failed_receives = dict.fromkeys(Lane, 0)  # since the last of the same queue that has succeeded
        self._receive_errors: dict[Lane, str] = {}
        self._reported_at = self._aged_at = -math.inf
        self._clock = context.around.clock
        self._waker = context.around.tasks.waker()
        # A message that is received while the worker stops can be requeued only if the receive ends in time.
        wait_s = min(settings.poll_wait_s, max(1, int(settings.stop_timeout_s - _ANSWER_S)))
        self._intake = Intake(context, wait_s, self._waker.wake)
        self._leases = Leases(context)
        self._settlement = Settlement(context)
        self._crew = Crew(context, workers, self._settlement)
        if child is not None:
            self._crew.add_child(child)

    def run(self) -> int:
        """Work until asked to stop; return the exit status.

        Raises:
            SettingsError: The calculation does not load, or a bucket cannot be reached.
        """
        try:
            self._start()
            while True:
                self._context.bugs.raise_first()
                for message, received in self._received():
                    self._take_on(message, received)
                self._crew.watch()
                self._report_health()
                if self._is_over():
                    break
                self._crew.start_jobs(reserved=self._intake.polls)
                self._ask_for_message()
                self._crew.listen(self._tick_s, self._waker)  # for outcomes, which settle their messages, or a message
            self._shut_down()
            self._context.bugs.raise_first()
        finally:
            self._crew.kill()
        return 1 if self.end_reason else 0

    @property
    def end_reason(self) -> str:
        """Why it has ended without having done its work, "" if it has; or if it was stopped while all was well."""
        for lane, failed in self._failed_receives.items():
            if self._drain and failed >= _MAX_FAILED_RECEIVES[lane]:
                return f"{failed} receives in a row have failed: {self._receive_errors[lane]}"
        return self._context.breaker.reason or ""

    def _start(self) -> None:
        """Wait for a process that has loaded the calculation and reached the buckets."""
        self._intake.start()
        self._leases.start()
        self._settlement.start()
        self._crew.get_ready()
        while not self._crew.is_ready and not self._signals:
            self._context.bugs.raise_first()
            self._crew.listen(self._tick_s, self._waker)
        backfill = {} if self._context.backfill is None else {"backfill": self._context.backfill.name}
        self._context.log.info("started", queue=self._context.queue.name, **backfill, drain=self._drain)

    # Receive

    def _ask_for_message(self) -> None:
        room = self._crew.room() if self._settlement.pending < _MAX_PENDING else 0
        if not room or not self._context.protection.may_take():
            self._intake.ask(0, 0)  # by the time that there is room, a main message may have come
            return
        if self._may_do_all():
            self._intake.ask(room, self._crew.room(Lane.BACKFILL))
        elif self._may_probe():
            self._intake.ask(1, 1)

    def _may_do_all(self) -> bool:
        return self._context.breaker.state is BreakerState.CLOSED

    def _may_probe(self) -> bool:
        """Return whether one job may be done to see whether the breaker can close."""
        is_idle = not self._crew.jobs and not self._settlement.pending
        return is_idle and self._context.breaker.begin_probe() and self._crew.get_ready()

    def _received(self) -> Iterator[tuple[Message, float]]:
        """Yield the messages that have come, and when by the monotonic clock."""
        breaker = self._context.breaker
        for found, received, lane in self._intake.take():
            # Without a backfill the worker goes on; but it would never find out that there is nothing to be drained.
            if isinstance(found, DeniedError) and (lane is Lane.MAIN or self._drain):
                breaker.denied(str(found), proof=Proof.RECEIVE)
                denial_metric(self._context.metrics, str(found))
            if isinstance(found, RunnerError):
                self._failed_receives[lane] += 1
                self._receive_errors[lane] = str(found)
                self._context.log.error("no message could be received", error=str(found))
                continue
            self._failed_receives[lane] = 0
            if lane is Lane.MAIN:
                breaker.succeeded(Proof.RECEIVE)
            if found is not None:
                yield found, received

    # Events

    def _take_on(self, message: Message, received: float) -> None:
        """Make a job of a message about one object; settle any other message at once."""
        lease = self._hold(message, received)
        if lease is None:
            return
        try:
            events = parse(message.body)
            jobs, outside = self._jobs_among(events)
        except EventError as error:
            self._settlement.refuse(message, str(error), lease)
            return
        if outside:
            ignored_metric(self._context.metrics, len(outside))
        if len(jobs) == 1 and self._context.breaker.avoids(jobs[0].name):
            self._settlement.requeue(message, delayed=True, lease=lease)
        elif len(jobs) == 1:
            self._crew.take_on(jobs[0], lease, large=self._is_large(jobs[0]))
        elif jobs:
            self._settlement.split(message, [event.to_body() for event in jobs], lease)
        else:
            reason = "; ".join((*events.ignored, *outside)) or "what this worker has written itself"
            self._settlement.ignore(message, reason, lease)

    def _hold(self, message: Message, received: float) -> Lease | None:
        """Return the lease on a message; None if this worker holds it already, or has only to delete it."""
        if self._leases.adopt(message, received):
            self._context.log.info("received again", message=message.id)
            return None
        lease = self._leases.hold(message, received)
        self._warn_of_last_receive(message)
        return None if self._settlement.finish(message, lease) else lease

    def _warn_of_last_receive(self, message: Message) -> None:
        """Log and count a message that SQS moves to the dead letters, without a reason, if this worker dies of it."""
        limit = self._context.queue_of(message).max_receives
        if limit is not None and limit > 1 and message.receives >= limit:
            self._context.log.warning(
                "last receive", message=message.id, receives=message.receives, body=message.body[:_MAX_BODY_CHARACTERS]
            )
            last_receive_metric(self._context.metrics, message.id)

    def _jobs_among(self, events: Parsed) -> tuple[list[ObjectCreated], list[str]]:
        """Return the events without those of objects that workers have written, and a reason for each other one.

        Raises:
            EventError: One is about another bucket.
        """
        settings = self._context.settings
        jobs, outside = [], []
        for event in events.created:
            if is_worker_key(settings, event.bucket, event.key):
                continue
            if event.bucket not in settings.input_buckets:
                raise EventError(f"an event of the bucket {event.bucket}, which is not in S3_INPUT_BUCKET")
            if is_wanted(settings, event.key):
                jobs.append(event)
            else:
                what = f"s3://{event.bucket}/{event.key}"[:MAX_MESSAGE_CHARACTERS]
                outside.append(f"{what} does not have INPUT_PREFIX and INPUT_SUFFIX")
        return jobs, outside

    def _is_large(self, event: ObjectCreated) -> bool:
        """Return whether the engine would use several processes for an object."""
        ranges = 1 if codec_of_name(event.key) else _RANGES_OF_ONE_PROCESS
        return event.size is None or event.size > ranges * self._context.settings.range_bytes

    # Stop

    def _is_over(self) -> bool:
        """Return whether the worker has to stop: by a signal, or when queues to be drained are empty."""
        if self._signals:
            return True
        if not self._drain or self._crew.jobs or self._settlement.pending:
            return False
        if self.end_reason:
            return True
        if not self._intake.found_nothing:
            return False
        self._intake.forget()  # the next receives have to find nothing again
        queues = (self._context.queue, *([self._context.backfill] if self._context.backfill is not None else []))
        try:
            return not any(any(queue.waiting()) for queue in queues)
        except RunnerError as error:
            self._context.log.warning("a queue could not be asked", error=str(error))
            return False

    def _shut_down(self) -> None:
        """Requeue everything, and leave nothing running."""
        deadline = self._clock.monotonic() + self._context.settings.stop_timeout_s
        self._intake.close()
        self._crew.stop_all()
        self._settle_until(deadline)
        self._crew.kill()
        self._give_up_the_rest()
        self._requeue_last_messages(deadline)
        self._settlement.close(max(_LAST_REQUESTS_S, deadline - self._clock.monotonic()))
        self._report_age()
        self._leases.close()
        self._context.protection.close()
        if reason := self.end_reason:
            self._context.log.error("stopped", reason=reason)
        else:
            self._context.log.info("stopped")

    def _settle_until(self, deadline: float) -> None:
        """Let jobs stop at their last checkpoint, as long as their leases go on."""
        while self._crew.jobs and (left_s := deadline - self._clock.monotonic()) > 0:
            self._crew.watch()
            self._crew.listen(min(self._tick_s, left_s), self._waker)

    def _give_up_the_rest(self) -> None:
        for job in list(self._crew.jobs):
            self._crew.give_up(job)

    def _requeue_last_messages(self, deadline: float) -> None:
        """Requeue what the receives that were under way have brought."""
        self._intake.join(deadline)
        for found, received, _ in self._intake.take():
            if found is None or isinstance(found, RunnerError):
                continue
            lease = self._hold(found, received)
            if lease is not None:
                self._settlement.requeue(found, lease=lease)

    # Besides

    def _report_health(self) -> None:
        self._context.protection.tick()
        now = self._clock.monotonic()
        if now - self._aged_at >= _AGE_INTERVAL_S:
            self._aged_at = now
            self._report_age()
            if self._context.breaker.reason:
                breaker_metric(self._context.metrics, is_open=True)
        if now - self._reported_at >= _HEALTH_INTERVAL_S or self._context.breaker.reason:
            self._reported_at = now
            reason = self._context.breaker.reason
            self._context.health.write("failing" if reason else "ok", reason or "")

    def _report_age(self) -> None:
        for lane in Lane:
            first_sent = self._leases.take_first_sent(lane)
            if first_sent is not None:
                age_s = self._clock.time() - first_sent / 1000
                age_metric(self._context.metrics, age_s, is_backfill=lane is Lane.BACKFILL)

    def on_signal(self, number: int, _frame: object = None) -> None:
        """Stop soon, or at once if this is not the first signal."""
        self._signals += 1
        if self._signals > 1:
            self._crew.kill()
            self._context.around.processes.exit(128 + number)
        self._waker.wake()
