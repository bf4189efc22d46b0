"""The heartbeat: a thread keeps the messages of running jobs invisible to other workers."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from runner.errors import DeniedError, LeaseLostError, RunnerError

if TYPE_CHECKING:
    from collections.abc import Callable

    from runner.aws.message import Message
    from runner.worker.context import WorkerContext

_BEATS = 3  # for each visibility timeout, so that one of them may fail
_CLOSE_S = 1.0
_MARGIN_S = 1.0  # a lease ends earlier for the worker than for SQS


@dataclass(slots=True)
class Lease:
    """The right to work on a message.

    Attributes:
        message: The message.
        received: When it was received.
        until: When SQS gives it to others, unless the lease is renewed before.
        lost: Why the lease was lost before its end, None if it was not.
        clock: Gives the current time; all times are those of the monotonic clock.
    """

    message: Message
    received: float
    until: float
    lost: str | None = None
    clock: Callable[[], float] = field(default=time.monotonic, repr=False)

    def left_s(self) -> float:
        """Return how much longer the worker may rely on it, in seconds."""
        return self.until - self.clock() - _MARGIN_S

    @property
    def is_over(self) -> bool:
        """Whether another worker may have the message."""
        return self.lost is not None or self.left_s() <= 0


class Leases:
    """All leases that this worker holds. Each is renewed until it is released, or SQS allows no more.

    Args:
        context: Its queue has the messages, its settings say for how long; a denial opens its breaker.
        clock: Gives the current time, by the monotonic clock.

    Attributes:
        interval_s: Seconds between two beats.
    """

    def __init__(self, context: WorkerContext, clock: Callable[[], float] = time.monotonic) -> None:
        self._queue = context.queue
        self._visibility_s = context.settings.visibility_timeout_s
        self._max_lease_s = context.settings.max_lease_s
        self._breaker = context.breaker
        self._log = context.log
        self._clock = clock
        self._held: dict[str, Lease] = {}
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="leases", daemon=True)
        self.interval_s = self._visibility_s / _BEATS

    def start(self) -> None:
        """Start the heartbeat."""
        self._thread.start()

    def hold(self, message: Message, received: float) -> Lease:
        """Return the lease on a message that was received at a time of the monotonic clock."""
        lease = Lease(message, received, received + self._visibility_s, clock=self._clock)
        self._held[message.id] = lease
        return lease

    def release(self, lease: Lease) -> None:
        """Stop renewing a lease."""
        self._held.pop(lease.message.id, None)

    def renew_all(self) -> None:
        """Renew every lease: one beat."""
        for lease in list(self._held.values()):
            self._renew(lease)

    def close(self) -> None:
        """Stop the heartbeat."""
        self._closing.set()
        self._thread.join(_CLOSE_S)

    def _run(self) -> None:
        while not self._closing.wait(self.interval_s):
            self.renew_all()

    def _renew(self, lease: Lease) -> None:
        now = self._clock()
        seconds = min(self._visibility_s, int(lease.received + self._max_lease_s - now))
        if lease.lost or now + seconds <= lease.until:
            return
        if now > lease.until:
            lease.lost = "the message was not renewed in time: this process, or its way to SQS, was held up"
            return
        try:
            self._queue.extend(lease.message, seconds)
            lease.until = now + seconds
        except LeaseLostError as error:
            lease.lost = str(error)
        except RunnerError as error:
            self._report_failure(lease, error)

    def _report_failure(self, lease: Lease, error: RunnerError) -> None:
        """Log that a lease was not renewed; the next beat tries again, unless the queue denies it to all workers."""
        denied = isinstance(error, DeniedError)
        if denied:
            self._breaker.denied(str(error))
        fields = {"message": lease.message.id, "error": str(error)}
        with suppress(Exception):  # the heartbeat goes on even if nothing can be logged
            if denied:
                self._log.error("a message could not be renewed", **fields)
            else:
                self._log.warning("a message could not be renewed", **fields)
