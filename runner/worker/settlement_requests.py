"""The requests to SQS that settle messages, sent by a thread, and before them the events that tell subscribers.

A request that hangs keeps neither the jobs nor the health check waiting. The lease on a message is renewed until its
request is sent.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runner.aws.message import Lane
from runner.aws.queue import CopiedError
from runner.errors import DeniedError, LeaseLostError, RunnerError
from runner.metrics import denial_metric

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from runner.aws.message import Message
    from runner.machine import Inbox, Task
    from runner.worker.context import WorkerContext
    from runner.worker.leases import Lease

_MAX_COPIED = 1000
_GATHER_S = 0.05
_MAX_DELETED = 10  # by one request, by the limit of SQS


@dataclass(frozen=True, slots=True)
class SettlementRequest:
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


class SettlementRequests:
    """Sends requests. Until `start` is called, the thread of the caller sends them.

    Args:
        context: Its queues have the messages; its channels, breaker, log and metrics hear how requests have ended.
    """

    def __init__(self, context: WorkerContext) -> None:
        self._queue_of = context.queue_of
        self._breaker = context.breaker
        self._log = context.log
        self._metrics = context.metrics
        self._channels = context.channels
        self._clock = context.around.clock
        self._tasks = context.around.tasks
        self._copied: OrderedDict[str, None] = OrderedDict()  # messages that have a copy and could not be deleted
        self._requests: Inbox[SettlementRequest | None] = self._tasks.inbox()
        self._lock = self._tasks.condition()
        self._pending = 0
        self._bugs = context.bugs
        self._thread: Task | None = None

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
            requests: list[SettlementRequest | None] = [first]
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

    def send(self, request: SettlementRequest) -> None:
        """Send a request; a failure is logged, and never ends the worker."""
        if self._thread is None:
            self._perform([request])
            return
        with self._lock:
            self._pending += 1
        self._requests.put(request)

    def has_copied(self, message: Message) -> bool:
        """Return whether a copy of a message was sent that could not be deleted then."""
        with self._lock:
            return message.id in self._copied

    def _perform(self, requests: Sequence[SettlementRequest]) -> None:
        """Send requests, those that delete messages together."""
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

    def _finish(self, request: SettlementRequest, error: RunnerError | None) -> None:
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


def _released(request: SettlementRequest) -> Message:
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
