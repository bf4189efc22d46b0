"""The parts that a worker is made of besides its jobs: created once at its start, and passed to what needs them.

It is a separate file because `crew`, `leases`, `settlement` and `loop` use it and `start` creates it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from runner.aws.message import Lane
from runner.aws.surroundings import REAL, Surroundings
from runner.machine import Bugs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from structlog.typing import FilteringBoundLogger

    from runner.aws.ecs import Protection
    from runner.aws.message import Message
    from runner.aws.queue import Queue
    from runner.health import HealthFile
    from runner.metrics import Metrics
    from runner.settings import Settings
    from runner.worker.breaker import Breaker
    from runner.worker.notifications import OutcomeChannels


@dataclass(frozen=True, slots=True)
class WorkerContext:
    """The parts that a worker is made of besides its jobs.

    Attributes:
        settings: The worker's configuration.
        environ: The environment for job processes.
        queue: The main queue and its dead-letter queue.
        breaker: Stops the worker before a bad deployment spoils a backlog.
        health: The file that the container's health check reads.
        protection: Keeps a busy task from being scaled in.
        metrics: Counts jobs.
        channels: Send outcomes to subscribers.
        log: The worker's log.
        around: The clock, chance, threads and processes.
        bugs: Keeps what threads of the worker raise, which ends the worker.
        backfill: The queue of backfills and its dead-letter queue, None without one.
    """

    settings: Settings
    environ: Mapping[str, str]
    queue: Queue
    breaker: Breaker
    health: HealthFile
    protection: Protection
    metrics: Metrics
    channels: OutcomeChannels
    log: FilteringBoundLogger
    around: Surroundings = REAL
    bugs: Bugs = field(default_factory=Bugs)
    backfill: Queue | None = None

    def queue_of(self, message: Message) -> Queue:
        """Return the queue that a message belongs to: whatever is done with the message is asked of this queue."""
        return self.backfill if message.lane is Lane.BACKFILL and self.backfill is not None else self.queue
