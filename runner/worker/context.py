"""What a worker works with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from structlog.typing import FilteringBoundLogger

    from runner.aws.ecs import Protection
    from runner.aws.queue import Queue
    from runner.health import HealthFile
    from runner.metrics import Metrics
    from runner.settings import Settings
    from runner.worker.breaker import Breaker
    from runner.worker.notifications import OutcomeChannels


@dataclass(frozen=True, slots=True)
class WorkerContext:
    """What a worker works with.

    Attributes:
        settings: What it was told.
        environ: The environment, which job processes get.
        queue: Where messages come from.
        breaker: What keeps a bad deployment from going on.
        health: What the container's health check looks at.
        protection: Against scale-in, while there is work.
        metrics: Where jobs are counted.
        channels: Where others are told how an object has ended.
        log: Where everything is told.
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
