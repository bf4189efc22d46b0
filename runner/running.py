"""A job that this worker has taken on, from its message to its outcome."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runner.events import ObjectCreated
    from runner.job_child import JobChild
    from runner.leases import Lease
    from runner.outcome import ProgressUpdate


@dataclass(slots=True)
class ActiveJob:
    """A job that was taken on.

    Attributes:
        event: Of the object.
        lease: On its message.
        large: Whether it has all workers to itself.
        child: The process that does it, None while it waits.
        started: When that began, by the monotonic clock.
        deaths: How many processes have died of it.
        offset: How far its last checkpoint has come.
        told: How far it said it is.
        logged: When that was logged last, and how far it was.
        stopping: Whether it was asked to stop.
        stop_by: When that has to have happened.
        counts: Whether its stopping counts as an attempt, unless it has made progress.
        until: Until when the child knows that it may work.
    """

    event: ObjectCreated
    lease: Lease
    large: bool
    child: JobChild | None = None
    started: float = field(default_factory=time.monotonic)
    deaths: int = 0
    offset: int = 0
    told: ProgressUpdate | None = None
    logged: tuple[float, int] = (0.0, 0)
    stopping: bool = False
    stop_by: float = math.inf
    counts: bool = False
    until: float = 0.0

    @property
    def names(self) -> dict[str, str | None]:
        """What a line of the log says it is about."""
        return {"job": self.told.job if self.told else None, "key": self.event.key, "message": self.lease.message.id}

    @property
    def seconds(self) -> float:
        """How long it has been worked on."""
        return time.monotonic() - self.started
