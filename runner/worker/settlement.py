"""Settles a message once its job has ended: acknowledged, requeued, released for a retry, or dead-lettered.

`Settlement` decides at once. The requests to SQS, and before them those that tell subscribers, are sent by a thread, so
that a request that hangs keeps neither the jobs nor the health check waiting; the lease on the message is renewed until
its request is sent.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Any

from runner.aws.message import Lane
from runner.aws.queue import RETENTION, CopiedError
from runner.errors import DeniedError, LeaseLostError, RunnerError
from runner.job.protocol import JobResult
from runner.metrics import JobNumbers, denial_metric, job_metrics
from runner.worker.breaker import BreakerState
from runner.worker.job_log import JobLog
from runner.worker.notifications import describe

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from runner.aws.message import Message
    from runner.aws.s3_events import ObjectCreated
    from runner.job.protocol import Outcome
    from runner.machine import Inbox, Task
    from runner.worker.context import WorkerContext
    from runner.worker.leases import Lease

_GIVEN_BACK_S = 60
_DEFAULT_ATTEMPTS = 5
_MAX_COPIED = 1000
_GATHER_S = 0.05
_MAX_DELETED = 10  # by one request, by the limit of SQS
_ACKNOWLEDGED = {JobResult.DONE, JobResult.DUPLICATE, JobResult.STALE, JobResult.SUPERSEDED, JobResult.CANCELLED}
_FINAL = _ACKNOWLEDGED | {JobResult.FAILED}


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
    **dict.fromkeys(_ACKNOWLEDGED, Disposal.DELETE),
    JobResult.FAILED: Disposal.DEAD_LETTER,
    JobResult.RETRY: Disposal.RETRY,
    JobResult.STOPPED: Disposal.REQUEUE,
    JobResult.DENIED: Disposal.GIVE_BACK,
    JobResult.BUSY: Disposal.LOOK_LATER,  # SQS would count receives of the message itself
    JobResult.FENCED: Disposal.LOOK_LATER,
}


@dataclass(frozen=True, slots=True)
class _Request:
    """A request to SQS that settles a message.

    Attributes:
        send: Sends it; None to delete the message, which one request can do for several.
        message: The message.
        lease: The lease on it, whose message has the newest receipt; None without one.
        name: The bucket and key of the object, "" if the message is not about one.
        done: Whether the job has published its output.
        transformed: Whether it has transformed lines for that.
        event: Tells subscribers about the outcome; None if none is to be sent.
    """

    send: Callable[[Message], None] | None
    message: Message
    lease: Lease | None = None
    name: str = ""
    done: bool = False
    transformed: bool = False
    event: dict[str, Any] | None = None


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
        self._job_log = JobLog(context.log, context.metrics, context.around.clock)
        self._channels = context.channels
        self._clock = context.around.clock
        self._chance = context.around.chance
        self._tasks = context.around.tasks
        self._copied: OrderedDict[str, None] = OrderedDict()  # messages that have a copy and could not be deleted
        self._requests: Inbox[_Request | None] = self._tasks.inbox()
        self._lock = self._tasks.condition()
        self._pending = 0
        self._bugs = context.bugs
        self._thread: Task | None = None

    # The thread

    def start(self) -> None:
        """Start the thread that sends requests."""
        self._thread = self._tasks.start(self._bugs.noted(self._run), name="settlement")

    def close(self, timeout_s: float) -> None:
        """Wait until all requests are sent, for a number of seconds at most."""
        if self._thread is not None:
            self._requests.put(None)
            self._thread.join(timeout_s)

    @property
    def pending(self) -> int:
        """Number of messages whose request has not been answered yet."""
        with self._lock:
            return self._pending

    def _run(self) -> None:
        while (first := self._requests.get()) is not None:
            requests: list[_Request | None] = [first]
            if first.send is None:  # small jobs end one shortly after the other
                self._clock.sleep(_GATHER_S)
            while requests[-1] is not None and len(requests) < _MAX_DELETED and not self._requests.empty():
                requests.append(self._requests.get())
            found = [request for request in requests if request is not None]
            try:
                self._perform(found)
            except Exception as error:  # noqa: BLE001 - a bug, which the main thread raises; the others are settled
                self._bugs.note(error)
            with self._lock:
                self._pending -= len(found)
            if requests[-1] is None:
                return

    # Messages

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
        if outcome.kind is JobResult.DENIED and self._breaker.denies_only(event.name):
            outcome = replace(outcome, of_object=True)
        stalled = outcome.kind is JobResult.STOPPED and counts and not _has_progressed(outcome, message)
        ended, disposal = self._decide(message, outcome, stalled=stalled)
        self._inform_breaker(outcome, event)
        self._job_log.record(message, ended, event.key, seconds, is_over=disposal is not Disposal.RETRY)
        told = None
        if ended.kind in _FINAL:
            told = describe(self._settings, event, message, ended, seconds, self._clock.time())
        send = self._request(disposal, message, ended, stalled=stalled)
        done = ended.kind is JobResult.DONE
        self._do(_Request(send, message, lease, event.name, done, done and _has_transformed(ended), told))

    def ignore(self, message: Message, reason: str, lease: Lease | None = None) -> None:
        """Acknowledge a message that is not a job."""
        self._log.info("ignored", message=message.id, reason=reason)
        self._do(_Request(None, message, lease))

    def refuse(self, message: Message, reason: str, lease: Lease | None = None) -> None:
        """Send a message that cannot be understood to the dead-letter queue."""
        self._log.error("refused", message=message.id, reason=reason)
        numbers = JobNumbers(message_age_s=self._age_s(message), is_backfill=_is_backfill(message))
        job_metrics(self._metrics, "refused", numbers, reason=reason)

        def send(message: Message) -> None:
            self._queue_of(message).dead_letter(message, reason=reason, job="")

        self._do(_Request(send, message, lease))

    def split(self, message: Message, bodies: list[str], lease: Lease | None = None) -> None:
        """Replace a message of several events by one for each; refuse it if that has failed too often.

        Each try that fails may have sent some of them.
        """
        if message.attempts >= self._max_attempts(message):
            self.refuse(
                message, f"it has {len(bodies)} events, and could not be split in {message.attempts} attempts", lease
            )
            return
        self._log.info("split", message=message.id, events=len(bodies))
        self._do(_Request(lambda message: self._queue_of(message).split(message, bodies), message, lease))

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

        def send(message: Message) -> None:
            self._queue_of(message).requeue(message, attempts=message.attempts, progress=covered, **delay)

        self._do(_Request(send, message, lease))

    def finish(self, message: Message, lease: Lease | None = None) -> bool:
        """Delete a message that was settled before, but could not be deleted then.

        Returns:
            False if it was not settled by this worker.
        """
        with self._lock:
            if message.id not in self._copied:
                return False
        self._log.info("settled before", message=message.id)
        self._do(_Request(None, message, lease))
        return True

    # Decisions

    def _decide(self, message: Message, outcome: Outcome, *, stalled: bool) -> tuple[Outcome, Disposal]:
        """Return the outcome that the message is settled by, and what becomes of the message."""
        disposal = _DISPOSALS[outcome.kind]
        if outcome.kind is JobResult.DENIED and outcome.of_object:
            disposal = Disposal.RETRY
        if self._is_spared(outcome):
            spared = replace(outcome, kind=JobResult.STOPPED) if outcome.kind is JobResult.FAILED else outcome
            return self._unless_too_old(message, spared, Disposal.GIVE_BACK)
        attempts = message.attempts + 1
        if (disposal is Disposal.RETRY or stalled) and attempts >= self._max_attempts(message):
            reason = f"gave up after {attempts} attempts, the last of which: {outcome.reason}"
            return replace(outcome, kind=JobResult.FAILED, reason=reason), Disposal.DEAD_LETTER
        if outcome.input is not None and outcome.input.may_succeed and attempts < self._max_attempts(message):
            # The output exists; after the last attempt the message is deleted all the same.
            return outcome, Disposal.RETRY
        if disposal is Disposal.REQUEUE and _has_progressed(outcome, message):
            return outcome, disposal
        return self._unless_too_old(message, outcome, disposal)

    def _max_attempts(self, message: Message) -> int:
        return self._settings.max_attempts or self._queue_of(message).max_receives or _DEFAULT_ATTEMPTS

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
        if not copied or self._age_s(message) <= RETENTION.total_seconds():
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

    def _request(
        self, disposal: Disposal, message: Message, ended: Outcome, *, stalled: bool
    ) -> Callable[[Message], None] | None:
        """Return what requeues, releases or dead-letters a message, None to delete it.

        A copy tells how far the checkpoint has come, even if an earlier one had come further: it was lost, which counts
        as an attempt, and from then on a job that gets on has progressed.
        """
        covered = message.progress if ended.offset is None else ended.offset
        told: dict[str, Any] = {"attempts": message.attempts, "progress": covered}
        queue = self._queue_of(message)
        if disposal is Disposal.DELETE:
            return None
        if disposal is Disposal.DEAD_LETTER:
            return lambda message: queue.dead_letter(message, reason=ended.reason, job=ended.job)
        if disposal is Disposal.RETRY:
            delay_s = self._delay_s(message.attempts)
            return lambda message: queue.release(message, delay_s)
        if disposal is Disposal.REQUEUE:
            told["attempts"] += stalled
            if self._breaker.state is not BreakerState.CLOSED:  # as what waits for a process
                told["delay_s"] = self._give_back_s()
            return lambda message: queue.requeue(message, **told)
        if disposal is Disposal.GIVE_BACK:
            delay_s = self._give_back_s()
            return lambda message: queue.requeue(message, **told, delay_s=delay_s)
        delay_s = round(min(self._settings.visibility_timeout_s, self._settings.retry_max_s))
        # A fenced job was lost, perhaps to a copy of the same message. With the same owner, both copies would take
        # it over from each other again and again, so this one gets a new owner.
        owner = self._chance.token() if ended.kind is JobResult.FENCED else message.owner
        return lambda message: queue.requeue(message, **told, delay_s=delay_s, owner=owner)

    def _delay_s(self, attempts: int) -> int:
        """Return the delay before the next attempt: twice as long each time, and random, or all would retry at once."""
        longest = min(self._settings.retry_max_s, self._settings.retry_min_s * 2.0 ** min(attempts, 30))
        return round(longest * self._chance.uniform(0.5, 1.0))

    def _give_back_s(self) -> int:
        return round(min(_GIVEN_BACK_S, self._settings.retry_max_s) * self._chance.uniform(0.5, 1.0))

    # Requests

    def _do(self, request: _Request) -> None:
        if self._thread is None:
            self._perform([request])
            return
        with self._lock:
            self._pending += 1
        self._requests.put(request)

    def _perform(self, requests: Sequence[_Request]) -> None:
        """Send requests; a failure is logged, and never ends the worker."""
        for request in requests:
            if request.event is not None:  # before the message is deleted, so that it is sent at least once
                self._channels.send(request.event)
        for lane in Lane:
            deletes = [request for request in requests if request.send is None and request.message.lane is lane]
            for request, error in zip(deletes, self._delete([_released(request) for request in deletes]), strict=True):
                self._finish(request, error)
        for request in requests:
            if request.send is not None:
                self._finish(request, _error_of(request.send, _released(request)))

    def _delete(self, messages: Sequence[Message]) -> Sequence[RunnerError | None]:
        """Delete messages of one queue; return what went wrong with each, None for nothing."""
        if len(messages) <= 1:
            return [_error_of(self._queue_of(message).delete, message) for message in messages]
        try:
            return self._queue_of(messages[0]).delete_all(messages)
        except RunnerError as error:
            return [error] * len(messages)

    def _finish(self, request: _Request, error: RunnerError | None) -> None:
        """Note how a request has ended."""
        message = request.message
        if isinstance(error, LeaseLostError):
            self._log.warning("another worker had the message by then", message=message.id, error=str(error))
        elif error is not None:
            # It comes back when its visibility timeout is over, and is then seen to be done, or done again.
            self._log.error("the message could not be settled", message=message.id, error=str(error))
            self._note_failure(error, message, request.name)
            return
        with self._lock:
            self._copied.pop(message.id, None)
        if request.done:
            self._breaker.succeeded(transformed=request.transformed)

    def _note_failure(self, error: RunnerError, message: Message, name: str) -> None:
        """Note that a message could not be settled.

        If copies can be sent and messages cannot be deleted, each round would double the messages. So this worker does
        not copy this one again, and the breaker makes rounds rarer.
        """
        copied = isinstance(error, CopiedError)
        if copied:
            with self._lock:
                self._copied[message.id] = None
                if len(self._copied) > _MAX_COPIED:
                    self._copied.popitem(last=False)
        if isinstance(error.__cause__ if copied else error, DeniedError):
            self._breaker.denied(str(error))
            denial_metric(self._metrics, str(error))
        elif copied:
            self._breaker.failed(str(error), name or message.id)

    def _age_s(self, message: Message) -> float:
        return self._clock.time() - message.first_sent / 1000


def _is_backfill(message: Message) -> bool:
    return message.lane is Lane.BACKFILL


def _released(request: _Request) -> Message:
    """Return the message of a request with its newest receipt, after its lease has ended."""
    if request.lease is None:
        return request.message
    request.lease.release()
    return request.lease.message


def _error_of(send: Callable[[Message], None], message: Message) -> RunnerError | None:
    try:
        send(message)
    except RunnerError as error:
        return error
    return None


def _has_progressed(outcome: Outcome, message: Message) -> bool:
    """Return whether the checkpoint has come further than when the message was sent."""
    return outcome.offset is not None and outcome.offset > message.progress


def _has_transformed(outcome: Outcome) -> bool:
    """Return whether a job has transformed lines, of which a filter may have left none; yes if nothing is counted."""
    counts = outcome.summary
    return not counts or bool(counts.get("lines_out") or counts.get("filtered"))
