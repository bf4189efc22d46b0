"""What becomes of a message, given the outcome of its job; and what the breaker learns from that."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING

from runner.aws.queue import RETENTION
from runner.job.protocol import JobResult
from runner.worker.breaker import BreakerState

if TYPE_CHECKING:
    from runner.aws.message import Message
    from runner.aws.s3_events import ObjectCreated
    from runner.job.protocol import Outcome
    from runner.worker.context import WorkerContext

_DEFAULT_ATTEMPTS = 5
ACKNOWLEDGED = {JobResult.DONE, JobResult.DUPLICATE, JobResult.STALE, JobResult.SUPERSEDED, JobResult.CANCELLED}
FINAL = ACKNOWLEDGED | {JobResult.FAILED}
"""Results after which a job is not tried again."""


class Disposal(Enum):
    """What becomes of a message."""

    DELETE = "delete"
    """Its job is over."""
    DEAD_LETTER = "dead letter"
    """Its job cannot succeed."""
    RETRY = "retry"
    """It becomes visible again after a delay that grows with its attempts; SQS counts this one."""
    REQUEUE = "requeue"
    """A copy of it is visible at once, or after a delay while no jobs are done: the job goes on from its checkpoint."""
    GIVE_BACK = "give back"
    """A copy of it is visible after a delay; no attempt is counted."""
    LOOK_LATER = "look later"
    """A copy of it is visible once another worker may have done the job; no attempt is counted."""


_DISPOSALS = {
    **dict.fromkeys(ACKNOWLEDGED, Disposal.DELETE),
    JobResult.FAILED: Disposal.DEAD_LETTER,
    JobResult.RETRY: Disposal.RETRY,
    JobResult.STOPPED: Disposal.REQUEUE,
    JobResult.DENIED: Disposal.GIVE_BACK,
    JobResult.BUSY: Disposal.LOOK_LATER,  # SQS would count receives of the message itself
    JobResult.FENCED: Disposal.LOOK_LATER,
}


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of a message, and why.

    Attributes:
        outcome: The outcome that the message is settled by.
        disposal: What becomes of the message.
        stalled: Whether the job was stopped without progress, which counts as an attempt.
    """

    outcome: Outcome
    disposal: Disposal
    stalled: bool


class Disposals:
    """Decides what becomes of messages.

    Args:
        context: Its settings and queues limit attempts; its breaker says whether the deployment may be at fault.
    """

    def __init__(self, context: WorkerContext) -> None:
        self._queue_of = context.queue_of
        self._settings = context.settings
        self._breaker = context.breaker
        self._clock = context.around.clock

    def decide(self, message: Message, outcome: Outcome, event: ObjectCreated, *, counts: bool) -> Decision:
        """Decide what becomes of a message, and tell the breaker about the outcome of its job.

        Args:
            message: The message.
            outcome: What its job has ended with.
            event: The event of the object.
            counts: Whether being stopped counts as an attempt, unless the job has made progress.
        """
        if outcome.kind is JobResult.DENIED and self._breaker.denies_only(event.name):
            outcome = replace(outcome, of_object=True)
        stalled = outcome.kind is JobResult.STOPPED and counts and not _has_progressed(outcome, message)
        ended, disposal = self._choose(message, outcome, stalled=stalled)
        self._inform_breaker(outcome, event)
        return Decision(ended, disposal, stalled)

    def max_attempts(self, message: Message) -> int:
        """Return after how many attempts a message becomes a dead letter."""
        return self._settings.max_attempts or self._queue_of(message).max_receives or _DEFAULT_ATTEMPTS

    def _choose(self, message: Message, outcome: Outcome, *, stalled: bool) -> tuple[Outcome, Disposal]:
        """Return the outcome that the message is settled by, and what becomes of the message."""
        disposal = _DISPOSALS[outcome.kind]
        if outcome.kind is JobResult.DENIED and outcome.of_object:
            disposal = Disposal.RETRY
        if self._is_spared(outcome):
            spared = replace(outcome, kind=JobResult.STOPPED) if outcome.kind is JobResult.FAILED else outcome
            return self._unless_too_old(message, spared, Disposal.GIVE_BACK)
        attempts = message.attempts + 1
        if (disposal is Disposal.RETRY or stalled) and attempts >= self.max_attempts(message):
            reason = f"gave up after {attempts} attempts, the last of which: {outcome.reason}"
            return replace(outcome, kind=JobResult.FAILED, reason=reason), Disposal.DEAD_LETTER
        if outcome.input is not None and outcome.input.may_succeed and attempts < self.max_attempts(message):
            # The output exists; after the last attempt the message is deleted all the same.
            return outcome, Disposal.RETRY
        if disposal is Disposal.REQUEUE and _has_progressed(outcome, message):
            return outcome, disposal
        return self._unless_too_old(message, outcome, disposal)

    def _is_of_object_alone(self, outcome: Outcome) -> bool:
        """Return whether a failure says nothing about the deployment: it may be the object's, and others succeeded."""
        return outcome.kind is JobResult.FAILED and (outcome.of_object or outcome.unfit) and self._breaker.is_proven

    def _is_spared(self, outcome: Outcome) -> bool:
        """Return whether a failure must not count against its message, because it may be that of the deployment.

        While the breaker is open, that is every failure, as of jobs that ran beside those that have opened it. A probe
        counts against its message if only the object can be at fault, so that a queue of nothing else becomes empty.
        """
        if outcome.kind is not JobResult.FAILED and not (outcome.kind is JobResult.DENIED and outcome.of_object):
            return False
        if self._is_of_object_alone(outcome):
            return False
        state = self._breaker.state
        return state is BreakerState.OPEN or (state is BreakerState.PROBING and not outcome.of_object)

    def _unless_too_old(self, message: Message, outcome: Outcome, disposal: Disposal) -> tuple[Outcome, Disposal]:
        """Return what was decided, but a dead letter instead of a copy of a message that SQS would keep no longer.

        SQS forgets the age of a message with each copy, so that copies could be requeued without end.
        """
        copied = disposal in (Disposal.REQUEUE, Disposal.GIVE_BACK, Disposal.LOOK_LATER)
        if not copied or message.age_s(self._clock.time()) <= RETENTION.total_seconds():
            return outcome, disposal
        reason = f"older than {RETENTION.days} days: {outcome.kind.value}: {outcome.reason}"
        return replace(outcome, kind=JobResult.FAILED, reason=reason), Disposal.DEAD_LETTER

    def _inform_breaker(self, outcome: Outcome, event: ObjectCreated) -> None:
        """Note denials, failures that more attempts would not have changed, and probes that must be made again.

        A failure of an object alone is not noted: a probe of it continues with another object at once.
        """
        if outcome.kind is JobResult.DENIED and not outcome.of_object:
            self._breaker.denied(outcome.reason, name=event.name)
        elif outcome.kind in (JobResult.DENIED, JobResult.FAILED) and not self._is_of_object_alone(outcome):
            self._breaker.failed(outcome.reason, event.name, key=event.key, counted=outcome.of_object)
        elif outcome.kind is JobResult.RETRY:
            self._breaker.postpone()


def _has_progressed(outcome: Outcome, message: Message) -> bool:
    """Return whether the checkpoint has come further than when the message was sent."""
    return outcome.offset is not None and outcome.offset > message.progress
