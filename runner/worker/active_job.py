"""A job that a worker has taken on: its state, its lease and the process that does it.

WAITING ─ start ─▶ RUNNING ─ stop ─▶ STOPPING
▲                  │                 │
└─── note_death ───┴─────────────────┘
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from runner.job.protocol import Order

if TYPE_CHECKING:
    from runner.aws.message import Lane
    from runner.aws.s3_events import ObjectCreated
    from runner.job.protocol import ProgressUpdate
    from runner.machine import Clock, Condition
    from runner.worker.job_child import JobChild
    from runner.worker.leases import Lease


class JobState(Enum):
    """State of a job that this worker has taken on."""

    WAITING = "waiting"
    """For a process."""
    RUNNING = "running"
    """A process does it."""
    STOPPING = "stopping"
    """Its process was asked to stop."""


@dataclass(slots=True)
class ActiveJob:
    """A job that this worker has taken on. Only its own methods change its state.

    The thread of the heartbeat calls `extend`, the main thread everything else.

    Attributes:
        event: The object.
        lease: On its message.
        large: Whether one process is too little for it.
        clock: Tells the time; all times are those of its monotonic clock.
        sending: Held while something is sent to its process, which never waits for the process.
        state: Whether it waits, runs or is to stop.
        child: The process that does it, None while it waits.
        slots: For how many processes it counts; 0 while it waits.
        started: When it was given to a process last, or else taken on.
        deaths: How many processes have died of it.
        progress: What its process has reported last, None before the first report.
        logged: When its progress was logged last, and the bytes that it was at.
        stop_by: When it is killed if it has not stopped by itself.
        stop_counts: Whether being stopped counts as an attempt, unless it has made progress.
    """

    event: ObjectCreated
    lease: Lease
    large: bool
    clock: Clock = field(repr=False)
    sending: Condition = field(repr=False)
    state: JobState = field(default=JobState.WAITING, init=False)
    child: JobChild | None = field(default=None, init=False)
    slots: int = field(default=0, init=False)
    started: float = field(init=False)
    deaths: int = field(default=0, init=False)
    progress: ProgressUpdate | None = field(default=None, init=False)
    logged: tuple[float, int] = field(default=(0.0, 0), init=False)
    stop_by: float = field(default=math.inf, init=False)
    stop_counts: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self.started = self.clock.monotonic()

    @property
    def lane(self) -> Lane:
        """The queue that its message belongs to."""
        return self.lease.message.lane

    @property
    def log_fields(self) -> dict[str, str | None]:
        """The fields that identify it in the log."""
        job = self.progress.job if self.progress else None
        return {"job": job, "key": self.event.key, "message": self.lease.message.id}

    @property
    def offset(self) -> int | None:
        """How far its last checkpoint has come, in bytes of the input; None if not known.

        A process that has not read anything yet may not have looked for the checkpoint.
        """
        progress = self.progress
        return None if progress is None or not (progress.offset or progress.done) else progress.offset

    @property
    def seconds(self) -> float:
        """How long its process has worked on it."""
        return self.clock.monotonic() - self.started

    def start(self, child: JobChild, workers: int) -> None:
        """WAITING → RUNNING: give it to a process, which may use a number of workers."""
        message = self.lease.message
        tried = bool(message.attempts or message.progress or message.is_copy or self.deaths)
        with self.sending:
            until = self.lease.usable_until
            order = Order(self.event, message.sent, workers, tried, message.first_sent, message.owner, until)
            self.state, self.child, self.started = JobState.RUNNING, child, self.clock.monotonic()
            self.logged, self.slots = (self.started, self.logged[1]), workers
            child.order(order)

    def extend(self) -> None:
        """Tell its process that the lease was renewed; the main thread, which may be held up, is not needed for it."""
        with self.sending:
            if self.child is not None:
                self.child.extend(self.lease.usable_until)

    def stop(self, timeout_s: float, *, counts: bool) -> None:
        """RUNNING → STOPPING: ask its process to stop; does nothing in the other states.

        Args:
            timeout_s: After how many seconds it is killed.
            counts: Whether this counts as an attempt, unless it has made progress.
        """
        if self.state is JobState.RUNNING and self.child is not None:
            self.state, self.stop_by, self.stop_counts = JobState.STOPPING, self.clock.monotonic() + timeout_s, counts
            with self.sending:
                self.child.stop()

    def detach(self) -> JobChild | None:
        """Return its process, which receives nothing more about this job."""
        with self.sending:
            child, self.child = self.child, None
        return child

    def note_death(self) -> None:
        """RUNNING or STOPPING → WAITING: its process has died."""
        self.detach()
        self.state, self.slots, self.deaths = JobState.WAITING, 0, self.deaths + 1

    @property
    def has_to_be_killed(self) -> bool:
        """Whether it was asked to stop and has not done so in time."""
        return self.state is JobState.STOPPING and self.clock.monotonic() > self.stop_by
