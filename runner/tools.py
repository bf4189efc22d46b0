"""What a worker works with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from runner.breaker import Breaker
    from runner.health import HealthFile
    from runner.metrics import Metrics
    from runner.protection import Protection
    from runner.queue import Queue
    from runner.settings import Settings


@dataclass(frozen=True, slots=True)
class Tools:
    """What a worker works with."""

    settings: Settings
    queue: Queue
    breaker: Breaker
    health: HealthFile
    protection: Protection
    metrics: Metrics
    log: FilteringBoundLogger
