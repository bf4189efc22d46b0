"""What becomes of a message once its job has ended."""

from __future__ import annotations

import random
import time
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING

from runner.errors import DeniedError, LeaseLostError, RunnerError
from runner.job.protocol import JobResult
from runner.metrics import JobNumbers, job_metrics
from runner.worker.notifications import describe

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import FilteringBoundLogger

    from runner.aws.queue import Message, Queue
    from runner.aws.s3_events import ObjectCreated
    from runner.job.protocol import Outcome
    from runner.metrics import Metrics
    from runner.settings import Settings
    from runner.worker.breaker import Breaker
    from runner.worker.notifications import OutcomeChannels

_DENIED_DELAY_S = 60
_DEFAULT_ATTEMPTS = 5
_SETTLED = {JobResult.DONE, JobResult.DUPLICATE, JobResult.STALE, JobResult.SUPERSEDED, JobResult.CANCELLED}


class Settlement:
    """Settles messages, and keeps the books.

    Args:
        queue: Where they are from.
        settings: Of retries.
        breaker: ChildMessage how jobs end.
        log: Where each outcome is told.
        metrics: Where it is counted.
        channels: Where others are told how an object has ended.
    """

    def __init__(
        self,
        queue: Queue,
        settings: Settings,
        breaker: Breaker,
        log: FilteringBoundLogger,
        metrics: Metrics,
        channels: OutcomeChannels,
    ) -> None:
        self._queue = queue
        self._settings = settings
        self._breaker = breaker
        self._log = log
        self._metrics = metrics
        self._channels = channels
        self._max_attempts = settings.max_attempts or queue.max_receives or _DEFAULT_ATTEMPTS

    def settle(
        self, message: Message, outcome: Outcome, *, event: ObjectCreated, seconds: float = 0.0, counts: bool = False
    ) -> None:
        """Do with a message what its job's outcome asks for.

        Args:
            message: Which.
            outcome: What became of its job.
            event: What it is about.
            seconds: How long the job took.
            counts: Whether stopping the job counts as an attempt, unless it has made progress.
        """
        kind, reason = outcome.kind, outcome.reason
        tried = kind is JobResult.RETRY or (kind is JobResult.STOPPED and counts and outcome.offset <= message.progress)
        if tried and message.attempts + 1 >= self._max_attempts:
            kind, reason = (
                JobResult.FAILED,
                f"gave up after {message.attempts + 1} attempts, the last of which: {reason}",
            )
        elif kind is JobResult.FAILED and self._breaker.reason:
            kind, counts = JobResult.STOPPED, False  # jobs that ran beside those that have opened it are spared as well
        elif kind is JobResult.FAILED:
            self._breaker.failed(reason, event.key)
        if kind is JobResult.DONE:
            self._breaker.succeeded()
        elif kind is JobResult.DENIED:
            self._breaker.denied(reason)
        self._account(message, outcome, kind, reason, event.key, seconds)
        if (
            kind in _SETTLED or kind is JobResult.FAILED
        ):  # before the message is deleted, so that it is told at least once
            ended = replace(outcome, kind=kind, reason=reason)
            self._channels.send(describe(self._settings, event, message, ended, seconds))
        self._tried(lambda: self._dispose(message, kind, reason, outcome, counts=counts), message)

    def ignore(self, message: Message, reason: str) -> None:
        """Acknowledge a message that is no job."""
        self._log.info("ignored", message=message.id, reason=reason)
        self._tried(lambda: self._queue.delete(message), message)

    def refuse(self, message: Message, reason: str) -> None:
        """Send a message that nobody understands to the dead-letter queue."""
        self._log.error("refused", message=message.id, reason=reason)
        job_metrics(self._metrics, "refused", JobNumbers(message_age_s=_age_s(message)), reason=reason)
        self._tried(lambda: self._queue.dead_letter(message, reason=reason, job="", trace=message.trace), message)

    def split(self, message: Message, bodies: list[str]) -> None:
        """Put a message of several events on the queue again, as one for each."""
        self._log.info("split", message=message.id, events=len(bodies))
        self._tried(lambda: self._queue.split(message, bodies), message)

    def requeue(self, message: Message, *, progress: int = 0) -> None:
        """Put a message on the queue again, for somebody else, as if it had not been received."""
        covered = max(progress, message.progress)
        self._tried(lambda: self._queue.requeue(message, attempts=message.attempts, progress=covered), message)

    def _dispose(self, message: Message, kind: JobResult, reason: str, outcome: Outcome, *, counts: bool) -> None:
        covered = max(outcome.offset, message.progress)
        attempts = message.attempts
        if kind in _SETTLED:
            self._queue.delete(message)
        elif kind is JobResult.STOPPED:
            attempts += counts and outcome.offset <= message.progress
            self._queue.requeue(message, attempts=attempts, progress=covered)
        elif kind is JobResult.DENIED:
            delay_s = round(min(_DENIED_DELAY_S, self._settings.retry_max_s))
            self._queue.requeue(message, attempts=attempts, progress=covered, delay_s=delay_s)
        elif kind in (JobResult.BUSY, JobResult.FENCED):
            self._leave_to_another(message, outcome)
        elif kind is JobResult.FAILED:
            self._queue.dead_letter(message, reason=reason, job=outcome.job, trace=message.trace)
        else:
            self._queue.release(message, self._delay_s(attempts))

    def _leave_to_another(self, message: Message, outcome: Outcome) -> None:
        """Come back to see whether another worker has done the job: by a copy, as receives would be counted by SQS.

        Who was fenced off has lost the job, perhaps to a copy of the same message: from here on these are two messages,
        or they would go on taking it from each other.
        """
        delay_s = round(min(self._settings.visibility_timeout_s, self._settings.retry_max_s))
        owner = uuid.uuid4().hex if outcome.kind is JobResult.FENCED else message.owner
        covered = max(outcome.offset, message.progress)
        self._queue.requeue(message, attempts=message.attempts, progress=covered, delay_s=delay_s, owner=owner)

    def _delay_s(self, attempts: int) -> int:
        """Return how long to wait before the next attempt: longer each time, and never the same for all."""
        longest = min(self._settings.retry_max_s, self._settings.retry_min_s * 2.0 ** min(attempts, 30))
        return round(longest * random.uniform(0.5, 1.0))  # noqa: S311 - nobody is kept out by it

    def _account(
        self, message: Message, outcome: Outcome, kind: JobResult, reason: str, key: str, seconds: float
    ) -> None:
        done = outcome.summary
        numbers = JobNumbers(
            lines_in=done.get("lines_in", 0),
            lines_out=done.get("lines_out", 0),
            rejects=done.get("rejected", 0),
            bytes_in=done.get("bytes_in", 0),
            bytes_out=done.get("bytes_out", 0),
            seconds=seconds,
            message_age_s=_age_s(message),
            retries=message.attempts,
        )
        job_metrics(self._metrics, kind.value, numbers, job=outcome.job, key=key)
        log = self._log.bind(job=outcome.job, key=key, message=message.id, attempts=message.attempts)
        level = {JobResult.FAILED: log.error, JobResult.DENIED: log.error, JobResult.RETRY: log.warning}.get(
            kind, log.info
        )
        level(kind.value, reason=reason, seconds=round(seconds, 3), trace=message.trace, **_telling(done))

    def _tried(self, action: Callable[[], None], message: Message) -> None:
        try:
            action()
        except LeaseLostError as error:
            self._log.warning("the message was somebody else's by then", message=message.id, error=str(error))
        except RunnerError as error:
            if isinstance(error, DeniedError):
                self._breaker.denied(str(error))
            # It comes back when its visibility timeout is over, and is then seen to be done, or done again.
            self._log.error("the message could not be settled", message=message.id, error=str(error))


def _age_s(message: Message) -> float:
    return time.time() - message.first_sent / 1000


def _telling(done: dict[str, object]) -> dict[str, object]:
    names = ("lines_in", "lines_out", "filtered", "rejected", "blank", "bytes_in", "bytes_out", "nonfinite", "notes")
    return {name: done[name] for name in names if done.get(name)}
