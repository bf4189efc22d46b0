"""Settles a message once its job has ended: acknowledged, requeued, released for a retry, or dead-lettered.

`Disposals` decides at once what becomes of it, `JobLog` records it, and `SettlementRequests` sends the request to SQS.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from runner.aws.message import Lane
from runner.job.protocol import JobResult
from runner.metrics import JobNumbers, job_metrics
from runner.worker.breaker import BreakerState
from runner.worker.disposal import FINAL, Disposal, Disposals
from runner.worker.job_log import JobLog
from runner.worker.notifications import describe
from runner.worker.settlement_requests import SettlementRequest, SettlementRequests

if TYPE_CHECKING:
    from collections.abc import Callable

    from runner.aws.message import Message
    from runner.aws.s3_events import ObjectCreated
    from runner.job.protocol import Outcome
    from runner.worker.context import WorkerContext
    from runner.worker.disposal import Decision
    from runner.worker.leases import Lease

_GIVEN_BACK_S = 60


class Settlement:
    """Settles messages, and records how their jobs have ended.

    Until `start` is called, requests are sent by the thread of the caller.

    Args:
        context: Its queue has the messages; its breaker, log, metrics and channels hear of every outcome.
    """

    def __init__(self, context: WorkerContext) -> None:
        self._queue_of = context.queue_of
        self._settings = context.settings
        self._breaker = context.breaker
        self._log = context.log
        self._metrics = context.metrics
        self._clock = context.around.clock
        self._chance = context.around.chance
        self._disposals = Disposals(context)
        self._job_log = JobLog(context.log, context.metrics, context.around.clock)
        self._requests = SettlementRequests(context)

    def start(self) -> None:
        """Start the thread that sends requests."""
        self._requests.start()

    def close(self, timeout_s: float) -> None:
        """Wait until all requests are sent, for a number of seconds at most."""
        self._requests.close(timeout_s)

    @property
    def pending(self) -> int:
        """Number of messages whose request has not been answered yet."""
        return self._requests.pending

    def settle(
        self,
        message: Message,
        outcome: Outcome,
        *,
        event: ObjectCreated,
        seconds: float = 0.0,
        counts: bool = False,
        lease: Lease | None = None,
    ) -> None:
        """Do with a message what the outcome of its job asks for.

        Args:
            message: The message.
            outcome: What its job has ended with.
            event: The object.
            seconds: How long the job took.
            counts: Whether being stopped counts as an attempt, unless the job has made progress.
            lease: The lease on the message, which ends with this.
        """
        decision = self._disposals.decide(message, outcome, event, counts=counts)
        ended, is_over = decision.outcome, decision.disposal is not Disposal.RETRY
        self._job_log.record(message, ended, event.key, seconds, is_over=is_over)
        notice = None
        if ended.kind in FINAL:
            notice = describe(self._settings, event, message, ended, seconds, self._clock.time())
        send = self._request(message, decision)
        done = ended.kind is JobResult.DONE
        transformed = done and _has_transformed(ended)
        self._requests.send(SettlementRequest(send, message, lease, event.name, done, transformed, notice))

    def ignore(self, message: Message, reason: str, lease: Lease | None = None) -> None:
        """Acknowledge a message that is not a job."""
        self._log.info("ignored", message=message.id, reason=reason)
        self._requests.send(SettlementRequest(None, message, lease))

    def refuse(self, message: Message, reason: str, lease: Lease | None = None) -> None:
        """Send a message that cannot be understood to the dead-letter queue."""
        self._log.error("refused", message=message.id, reason=reason)
        numbers = JobNumbers(message_age_s=message.age_s(self._clock.time()), is_backfill=message.lane is Lane.BACKFILL)
        job_metrics(self._metrics, "refused", numbers, reason=reason)
        send = partial(self._queue_of(message).dead_letter, reason=reason, job="")
        self._requests.send(SettlementRequest(send, message, lease))

    def split(self, message: Message, bodies: list[str], lease: Lease | None = None) -> None:
        """Replace a message of several events by one for each; refuse it if that has failed too often.

        Each try that fails may have sent some of them.
        """
        if message.attempts >= self._disposals.max_attempts(message):
            self.refuse(
                message, f"it has {len(bodies)} events, and could not be split in {message.attempts} attempts", lease
            )
            return
        self._log.info("split", message=message.id, events=len(bodies))
        send = partial(self._queue_of(message).split, bodies=bodies)
        self._requests.send(SettlementRequest(send, message, lease))

    def requeue(
        self, message: Message, *, progress: int | None = None, delayed: bool = False, lease: Lease | None = None
    ) -> None:
        """Put a message back on the queue, as if it had not been received.

        Args:
            message: The message.
            progress: How many bytes of the input its checkpoint covers; None if not known.
            delayed: Whether other messages should be received before it.
            lease: The lease on the message, which ends with this.
        """
        covered = message.progress if progress is None else progress
        delay: dict[str, Any] = {"delay_s": self._give_back_s()} if delayed else {}
        send = partial(self._queue_of(message).requeue, attempts=message.attempts, progress=covered, **delay)
        self._requests.send(SettlementRequest(send, message, lease))

    def finish(self, message: Message, lease: Lease | None = None) -> bool:
        """Delete a message that was settled before, but could not be deleted then.

        Returns:
            False if it was not settled by this worker.
        """
        if not self._requests.has_copied(message):
            return False
        self._log.info("settled before", message=message.id)
        self._requests.send(SettlementRequest(None, message, lease))
        return True

    def _request(self, message: Message, decision: Decision) -> Callable[[Message], None] | None:
        """Return what requeues, releases or dead-letters a message, None to delete it.

        A copy tells how far the checkpoint has come, even if an earlier one had come further: it was lost, which counts
        as an attempt, and from then on a job that gets on has progressed.
        """
        ended, disposal = decision.outcome, decision.disposal
        covered = message.progress if ended.offset is None else ended.offset
        noted: dict[str, Any] = {"attempts": message.attempts, "progress": covered}
        queue = self._queue_of(message)
        if disposal is Disposal.DELETE:
            return None
        if disposal is Disposal.DEAD_LETTER:
            return lambda message: queue.dead_letter(message, reason=ended.reason, job=ended.job)
        if disposal is Disposal.RETRY:
            delay_s = self._delay_s(message.attempts)
            return lambda message: queue.release(message, delay_s)
        if disposal is Disposal.REQUEUE:
            noted["attempts"] += decision.stalled
            if self._breaker.state is not BreakerState.CLOSED:  # as what waits for a process
                noted["delay_s"] = self._give_back_s()
            return lambda message: queue.requeue(message, **noted)
        if disposal is Disposal.GIVE_BACK:
            delay_s = self._give_back_s()
            return lambda message: queue.requeue(message, **noted, delay_s=delay_s)
        delay_s = round(min(self._settings.visibility_timeout_s, self._settings.retry_max_s))
        # A fenced job was lost, perhaps to a copy of the same message. With the same owner, both copies would take
        # it over from each other again and again, so this one gets a new owner.
        owner = self._chance.token() if ended.kind is JobResult.FENCED else message.owner
        return lambda message: queue.requeue(message, **noted, delay_s=delay_s, owner=owner)

    def _delay_s(self, attempts: int) -> int:
        """Return the delay before the next attempt: twice as long each time, and random, or all would retry at once."""
        longest = min(self._settings.retry_max_s, self._settings.retry_min_s * 2.0 ** min(attempts, 30))
        return round(longest * self._chance.uniform(0.5, 1.0))

    def _give_back_s(self) -> int:
        return round(min(_GIVEN_BACK_S, self._settings.retry_max_s) * self._chance.uniform(0.5, 1.0))


def _has_transformed(outcome: Outcome) -> bool:
    """Return whether a job has transformed lines, of which a filter may have left none; yes if nothing is counted."""
    counts = outcome.summary
    return not counts or bool(counts.get("lines_out") or counts.get("filtered"))
