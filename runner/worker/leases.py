"""The heartbeat: a thread keeps the messages of running jobs invisible to other workers."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from runner.aws.message import Lane
from runner.errors import DeniedError, LeaseLostError, RunnerError
from runner.metrics import denial_metric

if TYPE_CHECKING:
    from collections.abc import Callable

    from runner.aws.message import Message
    from runner.machine import Clock, Condition, Task
    from runner.worker.context import WorkerContext

_BEATS = 3  # for each visibility timeout, so that one of them may fail
_CLOSE_S = 1.0
_MARGIN_S = 1.0  # a lease ends earlier for the worker than for SQS


@dataclass(slots=True, eq=False)
class Lease:
    """The right to work on a message.

    Attributes:
        message: The message.
        received: When it was received.
        until: When SQS gives it to others, unless the lease is renewed before.
        lost: Why the lease was lost before its end, None if it was not.
        clock: Tells the time; all times are those of its monotonic clock.
        leases: All that this worker holds.
        renewing: Held while a renewal is under way.
        extended: Called after each renewal, in the thread of the heartbeat; None to call nothing.
    """

    message: Message
    received: float
    until: float
    clock: Clock = field(repr=False)
    leases: Leases = field(repr=False)
    renewing: Condition = field(repr=False)
    lost: str | None = None
    extended: Callable[[], None] | None = field(default=None, repr=False)

    @property
    def usable_until(self) -> float:
        """Until when the worker may rely on it."""
        return self.until - _MARGIN_S

    def left_s(self) -> float:
        """Return how much longer the worker may rely on it, in seconds."""
        return self.usable_until - self.clock.monotonic()

    @property
    def is_over(self) -> bool:
        """Whether another worker may have the message."""
        return self.lost is not None or self.left_s() <= 0

    def release(self) -> None:
        """Stop renewing it; wait for the end of a renewal that is under way."""
        self.leases.release(self)

    def drop(self) -> None:
        """Stop renewing it, without waiting."""
        self.leases.drop(self)

    def extend(self, until: float) -> None:
        """Note that it was renewed, up to a time of the monotonic clock."""
        self.until = until
        if self.extended is not None:
            self.extended()


class Leases:
    """All leases that this worker holds. Each is renewed until it is released, or SQS allows no more.

    Args:
        context: Its queue has the messages, its settings say for how long; a denial opens its breaker.

    Attributes:
        interval_s: Seconds between two beats.
    """

    def __init__(self, context: WorkerContext) -> None:
        self._queue_of = context.queue_of
        self._visibility_s = context.settings.visibility_timeout_s
        self._max_lease_s = context.settings.max_lease_s
        self._breaker = context.breaker
        self._log = context.log
        self._metrics = context.metrics
        self._bugs = context.bugs
        self._tasks = context.around.tasks
        self._clock = context.around.clock
        self._lock = self._tasks.condition()  # held while leases are added, removed or adopted, not during requests
        self._held: dict[Lease, None] = {}  # in the order in which they were taken
        self._first_sent: dict[Lane, float] = {}  # of the messages that were held since it was last asked for
        self._closing = self._tasks.event()
        self._thread: Task | None = None
        self.interval_s = self._visibility_s / _BEATS

    def start(self) -> None:
        """Start the heartbeat."""
        self._thread = self._tasks.start(self._bugs.noted(self._run), name="leases")

    def hold(self, message: Message, received: float) -> Lease:
        """Return the lease on a message that was received at a time of the monotonic clock."""
        until = received + self._visibility_s
        lease = Lease(message, received, until, self._clock, self, self._tasks.condition())
        with self._lock:
            self._held[lease] = None
        self._first_sent[message.lane] = min(self._first_sent.get(message.lane, math.inf), message.first_sent)
        return lease

    def adopt(self, message: Message, received: float) -> bool:
        """Continue the lease on a message with a newer receipt of the same message.

        SQS may deliver a message a second time while this worker holds it. The first receipt may be void by then.

        Args:
            message: The message as it was received again.
            received: When it was received again.

        Returns:
            False if this worker holds no such lease, or if it is over, so that the message is a job of its own.
        """
        with self._lock:
            leases = [lease for lease in self._held if lease.message.id == message.id and not lease.is_over]
            for lease in leases[:1]:
                lease.message = replace(lease.message, receipt=message.receipt)
                lease.received = received
                lease.extend(received + self._visibility_s)
        return bool(leases)

    def release(self, lease: Lease) -> None:
        """Stop renewing a lease; wait for the end of a renewal that is under way.

        After that, its message has the newest receipt, and no renewal makes it invisible for longer than it should be.
        """
        self.drop(lease)
        with lease.renewing:
            pass

    def drop(self, lease: Lease) -> None:
        """Stop renewing a lease, without waiting."""
        with self._lock:
            self._held.pop(lease, None)

    def take_first_sent(self, lane: Lane = Lane.MAIN) -> int | None:
        """Return when the oldest message of a queue was first sent that was held since the last call, however shortly.

        Returns:
            The time in ms since the epoch; None if no message was held.
        """
        held = [lease.message.first_sent for lease in list(self._held) if lease.message.lane is lane]
        oldest = min([self._first_sent.pop(lane, math.inf), *held])
        return int(oldest) if oldest < math.inf else None

    def renew_all(self) -> None:
        """Renew every lease: one beat."""
        for lease in list(self._held):
            with lease.renewing:
                if lease in self._held:  # otherwise it was released during this beat
                    self._renew(lease)

    def close(self) -> None:
        """Stop the heartbeat."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join(_CLOSE_S)

    def _run(self) -> None:
        while not self._closing.wait(self.interval_s):
            self.renew_all()

    def _renew(self, lease: Lease) -> None:
        now, message = self._clock.monotonic(), lease.message
        seconds = min(self._visibility_s, int(lease.received + self._max_lease_s - now))
        if lease.lost or now + seconds <= lease.until:
            return
        if now > lease.until:
            lease.lost = "the message was not renewed in time: this process, or its way to SQS, was held up"
            return
        try:
            self._queue_of(message).extend(message, seconds)
            if lease.message is message:  # otherwise it was received again meanwhile, and is held from then on
                lease.extend(now + seconds)
        except LeaseLostError as error:
            if lease.message is message:
                lease.lost = str(error)
        except RunnerError as error:
            self._report_failure(lease, error)

    def _report_failure(self, lease: Lease, error: RunnerError) -> None:
        """Log that a lease was not renewed; the next beat tries again, unless the queue denies it to all workers."""
        denied = isinstance(error, DeniedError)
        if denied:
            self._breaker.denied(str(error))
            denial_metric(self._metrics, str(error))
        fields = {"message": lease.message.id, "error": str(error)}
        with suppress(Exception):  # the heartbeat goes on even if nothing can be logged
            if denied:
                self._log.error("a message could not be renewed", **fields)
            else:
                self._log.warning("a message could not be renewed", **fields)
