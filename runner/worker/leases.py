"""The heartbeat: what keeps the messages of running jobs invisible to others, in a thread of its own."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.errors import DeniedError, LeaseLostError, RunnerError

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import FilteringBoundLogger

    from runner.aws.queue import Message, Queue

_BEATS = 3  # of them for each visibility timeout, so that one may fail
_CLOSE_S = 1.0
_MARGIN_S = 1.0  # by which a lease is over earlier for us than for SQS


@dataclass(slots=True)
class Lease:
    """The right to work on a message.

    Attributes:
        message: Which.
        received: When it was received, by the monotonic clock.
        until: Until when nobody else gets it.
        lost: Why it was lost before that, None if it was not.
    """

    message: Message
    received: float
    until: float
    lost: str | None = None

    def left_s(self) -> float:
        """Return how much longer it can be relied on."""
        return self.until - time.monotonic() - _MARGIN_S


class Leases:
    """All leases that are held, each renewed until it is let go of, or can't be for longer.

    Args:
        queue: Where the messages are from.
        visibility_s: For how long each time.
        max_lease_s: For how long in all since a message was received.
        log: Where failures go.
        denied: ChildMessage when the queue refuses to renew at all.
    """

    def __init__(
        self,
        queue: Queue,
        visibility_s: int,
        max_lease_s: int,
        log: FilteringBoundLogger,
        denied: Callable[[str], None],
    ) -> None:
        self._queue = queue
        self._visibility_s = visibility_s
        self._max_lease_s = max_lease_s
        self._log = log
        self._denied = denied
        self._held: dict[str, Lease] = {}
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="leases", daemon=True)
        self._thread.start()

    def hold(self, message: Message, received: float) -> Lease:
        """Keep a message that was received at a time of the monotonic clock."""
        lease = self._held[message.id] = Lease(message, received, received + self._visibility_s)
        return lease

    def let_go(self, lease: Lease) -> None:
        """Renew a lease no longer."""
        self._held.pop(lease.message.id, None)

    def close(self) -> None:
        """Renew nothing any more."""
        self._closing.set()
        self._thread.join(_CLOSE_S)

    def _run(self) -> None:
        while not self._closing.wait(self._visibility_s / _BEATS):
            for lease in list(self._held.values()):
                self._renew(lease)

    def _renew(self, lease: Lease) -> None:
        now = time.monotonic()
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
            if isinstance(error, DeniedError):
                self._denied(str(error))
            with suppress(Exception):
                tell = (
                    self._log.error if isinstance(error, DeniedError) else self._log.warning
                )  # the one ends the worker
                tell("a message could not be renewed", message=lease.message.id, error=str(error))
