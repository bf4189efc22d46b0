"""Counts and logs how jobs have ended, each with a line of the log and numbers in the metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner.aws.message import Lane
from runner.job.protocol import InputResult, JobResult
from runner.metrics import JobNumbers, input_metric, job_metrics

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from runner.aws.message import Message
    from runner.job.protocol import Outcome
    from runner.machine import Clock
    from runner.metrics import Metrics

_LOGGED = (
    *("lines_in", "lines_out", "filtered", "rejected", "rejects_left_out", "blank", "bytes_in", "bytes_out"),
    *("nonfinite", "inexact", "notes"),
)


class JobLog:
    """Counts and logs how jobs have ended.

    Args:
        log: Gets a line for each.
        metrics: Gets its numbers.
        clock: Tells the time.
    """

    def __init__(self, log: FilteringBoundLogger, metrics: Metrics, clock: Clock) -> None:
        self._log = log
        self._metrics = metrics
        self._clock = clock

    def record(self, message: Message, ended: Outcome, key: str, seconds: float, *, is_over: bool) -> None:
        """Count and log an outcome.

        Args:
            message: The message of the job.
            ended: The outcome that the message is settled by.
            key: The key of the object.
            seconds: How long the job took.
            is_over: Whether the job is not tried again.
        """
        done = ended.summary
        numbers = JobNumbers(
            lines_in=done.get("lines_in", 0),
            lines_out=done.get("lines_out", 0),
            rejects=done.get("rejected", 0),
            absent=len(done.get("absent", ())),
            bytes_in=done.get("bytes_in", 0),
            bytes_out=done.get("bytes_out", 0),
            seconds=seconds,
            message_age_s=message.age_s(self._clock.time()),
            retries=message.attempts,
            is_backfill=message.lane is Lane.BACKFILL,
        )
        job_metrics(self._metrics, ended.kind.value, numbers, job=ended.job, key=key)
        log = self._log.bind(job=ended.job, key=key, message=message.id, attempts=message.attempts)
        if message.lane is Lane.BACKFILL:
            log = log.bind(lane=message.lane.value)
        levels = {JobResult.FAILED: log.error, JobResult.DENIED: log.error, JobResult.RETRY: log.warning}
        counts = {name: done[name] for name in _LOGGED if done.get(name)}
        if ended.input is not None:
            counts["input"] = ended.input.kind.value
        write = levels.get(ended.kind, log.info)
        write(ended.kind.value, reason=ended.reason, seconds=round(seconds, 3), trace=message.trace, **counts)
        self._record_input(message, ended, key, is_over=is_over)

    def _record_input(self, message: Message, ended: Outcome, key: str, *, is_over: bool) -> None:
        """Count and log an input that was not tagged or deleted, although its output exists."""
        found = ended.input
        if found is None or not found.reason:
            return
        log = self._log.bind(job=ended.job, key=key, message=message.id)
        if found.kind is InputResult.KEPT:
            log.warning("input kept", reason=found.reason)
            input_metric(self._metrics, "InputsKept", job=ended.job, key=key)
        elif is_over:
            log.error("input not finished", reason=found.reason)
            input_metric(self._metrics, "InputsNotFinished", job=ended.job, key=key)
        else:
            log.warning("input not finished, tried again later", reason=found.reason)
