"""Settles a message once its job has ended: acknowledged, requeued, released for a retry, or dead-lettered."""

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

    from runner.aws.message import Message
    from runner.aws.s3_events import ObjectCreated
    from runner.job.protocol import Outcome
    from runner.worker.context import WorkerContext

_DENIED_DELAY_S = 60
_DEFAULT_ATTEMPTS = 5
_ACKNOWLEDGED = {JobResult.DONE, JobResult.DUPLICATE, JobResult.STALE, JobResult.SUPERSEDED, JobResult.CANCELLED}
_FINAL = _ACKNOWLEDGED | {JobResult.FAILED}
_LOGGED = ("lines_in", "lines_out", "filtered", "rejected", "blank", "bytes_in", "bytes_out", "nonfinite", "notes")


class Settlement:
    """Settles messages, and records how their jobs have ended.

    Args:
        context: Its queue has the messages; its breaker, log, metrics and channels hear of every outcome.
        clock: Gives the current time, in seconds since the epoch.
        jitter: Returns a random number between two limits.
    """

    def __init__(
        self,
        context: WorkerContext,
        *,
        clock: Callable[[], float] = time.time,
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._queue = context.queue
        self._settings = context.settings
        self._breaker = context.breaker
        self._log = context.log
        self._metrics = context.metrics
        self._channels = context.channels
        self._clock = clock
        self._jitter = jitter
        self._max_attempts = context.settings.max_attempts or context.queue.max_receives or _DEFAULT_ATTEMPTS

    def settle(
        self, message: Message, outcome: Outcome, *, event: ObjectCreated, seconds: float = 0.0, counts: bool = False
    ) -> None:
        """Do with a message what the outcome of its job asks for.

        Args:
            message: The message.
            outcome: What its job has ended with.
            event: The object.
            seconds: How long the job took.
            counts: Whether being stopped counts as an attempt, unless the job has made progress.
        """
        stalled = outcome.kind is JobResult.STOPPED and counts and outcome.offset <= message.progress
        ended = self._decide(message, outcome, stalled=stalled)
        self._inform_breaker(outcome, ended, event.key)
        self._record(message, ended, event.key, seconds)
        if ended.kind in _FINAL:  # sent before the message is deleted, and so at least once
            self._channels.send(describe(self._settings, event, message, ended, seconds))
        self._try(lambda: self._dispose(message, ended, stalled=stalled), message)

    def ignore(self, message: Message, reason: str) -> None:
        """Acknowledge a message that is not a job."""
        self._log.info("ignored", message=message.id, reason=reason)
        self._try(lambda: self._queue.delete(message), message)

    def refuse(self, message: Message, reason: str) -> None:
        """Send a message that cannot be understood to the dead-letter queue."""
        self._log.error("refused", message=message.id, reason=reason)
        job_metrics(self._metrics, "refused", JobNumbers(message_age_s=self._age_s(message)), reason=reason)
        self._try(lambda: self._queue.dead_letter(message, reason=reason, job="", trace=message.trace), message)

    def split(self, message: Message, bodies: list[str]) -> None:
        """Replace a message of several events by one for each."""
        self._log.info("split", message=message.id, events=len(bodies))
        self._try(lambda: self._queue.split(message, bodies), message)

    def requeue(self, message: Message, *, progress: int = 0) -> None:
        """Put a message back on the queue for another worker, as if it had not been received."""
        covered = max(progress, message.progress)
        self._try(lambda: self._queue.requeue(message, attempts=message.attempts, progress=covered), message)

    def _decide(self, message: Message, outcome: Outcome, *, stalled: bool) -> Outcome:
        """Return the outcome that the message is settled by: a failure after the last attempt."""
        attempts = message.attempts + 1
        if (outcome.kind is JobResult.RETRY or stalled) and attempts >= self._max_attempts:
            reason = f"gave up after {attempts} attempts, the last of which: {outcome.reason}"
            return replace(outcome, kind=JobResult.FAILED, reason=reason)
        if outcome.kind is JobResult.FAILED and self._breaker.reason:
            return replace(outcome, kind=JobResult.STOPPED)  # it ran beside the jobs that have opened the breaker
        return outcome

    def _inform_breaker(self, outcome: Outcome, ended: Outcome, key: str) -> None:
        """Note successes, denials, and failures that more attempts would not have changed."""
        if ended.kind is JobResult.DONE:
            self._breaker.succeeded()
        elif ended.kind is JobResult.DENIED:
            self._breaker.denied(ended.reason)
        elif ended.kind is JobResult.FAILED and outcome.kind is JobResult.FAILED:
            self._breaker.failed(ended.reason, key)

    def _dispose(self, message: Message, ended: Outcome, *, stalled: bool) -> None:
        """Delete, requeue, release or dead-letter a message."""
        kind, attempts, covered = ended.kind, message.attempts, max(ended.offset, message.progress)
        if kind in _ACKNOWLEDGED:
            self._queue.delete(message)
        elif kind is JobResult.FAILED:
            self._queue.dead_letter(message, reason=ended.reason, job=ended.job, trace=message.trace)
        elif kind is JobResult.RETRY:
            self._queue.release(message, self._delay_s(attempts))
        elif kind is JobResult.STOPPED:
            self._queue.requeue(message, attempts=attempts + stalled, progress=covered)
        elif kind is JobResult.DENIED:
            delay_s = round(min(_DENIED_DELAY_S, self._settings.retry_max_s))
            self._queue.requeue(message, attempts=attempts, progress=covered, delay_s=delay_s)
        else:  # BUSY, FENCED: another worker is at it. A copy looks later; SQS would count receives of this one.
            delay_s = round(min(self._settings.visibility_timeout_s, self._settings.retry_max_s))
            # A fenced job was lost, perhaps to a copy of the same message. With the same owner, both copies would take
            # it over from each other again and again, so this one gets a new owner.
            owner = uuid.uuid4().hex if kind is JobResult.FENCED else message.owner
            self._queue.requeue(message, attempts=attempts, progress=covered, delay_s=delay_s, owner=owner)

    def _delay_s(self, attempts: int) -> int:
        """Return the delay before the next attempt: twice as long each time, and random, or all would retry at once."""
        longest = min(self._settings.retry_max_s, self._settings.retry_min_s * 2.0 ** min(attempts, 30))
        return round(longest * self._jitter(0.5, 1.0))

    def _record(self, message: Message, ended: Outcome, key: str, seconds: float) -> None:
        """Count and log an outcome."""
        done = ended.summary
        numbers = JobNumbers(
            lines_in=done.get("lines_in", 0),
            lines_out=done.get("lines_out", 0),
            rejects=done.get("rejected", 0),
            bytes_in=done.get("bytes_in", 0),
            bytes_out=done.get("bytes_out", 0),
            seconds=seconds,
            message_age_s=self._age_s(message),
            retries=message.attempts,
        )
        job_metrics(self._metrics, ended.kind.value, numbers, job=ended.job, key=key)
        log = self._log.bind(job=ended.job, key=key, message=message.id, attempts=message.attempts)
        levels = {JobResult.FAILED: log.error, JobResult.DENIED: log.error, JobResult.RETRY: log.warning}
        counts = {name: done[name] for name in _LOGGED if done.get(name)}
        write = levels.get(ended.kind, log.info)
        write(ended.kind.value, reason=ended.reason, seconds=round(seconds, 3), trace=message.trace, **counts)

    def _age_s(self, message: Message) -> float:
        return self._clock() - message.first_sent / 1000

    def _try(self, action: Callable[[], None], message: Message) -> None:
        """Ask the queue for something; a failure is logged, and never ends the worker."""
        try:
            action()
        except LeaseLostError as error:
            self._log.warning("the message was somebody else's by then", message=message.id, error=str(error))
        except RunnerError as error:
            if isinstance(error, DeniedError):
                self._breaker.denied(str(error))
            # It comes back when its visibility timeout is over, and is then seen to be done, or done again.
            self._log.error("the message could not be settled", message=message.id, error=str(error))
