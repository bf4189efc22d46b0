"""What all jobs of a worker have in common: its settings, its calculation, its buckets."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.calculation import load_calculation
from runner.cancellation import Cancellations
from runner.names import cancellations_prefix
from runner.store import Store
from runner.task_metadata import read_task_metadata

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runner.settings import Settings
    from transform import Runnable


@dataclass(frozen=True, slots=True)
class JobContext:
    """What all jobs of a worker have in common; `worker` is who does them, for whoever looks at their checkpoints."""

    settings: Settings
    calculation: Runnable
    source: Store
    store: Store
    cancellations: Cancellations
    worker: str = ""

    @classmethod
    def open(cls, settings: Settings, environ: Mapping[str, str]) -> JobContext:
        """Return it, once the calculation loads and the buckets can be reached.

        Raises:
            TransformError, RunnerError: They don't.
        """
        source, store = (Store.open(bucket, environ) for bucket in (settings.input_bucket, settings.output_bucket))
        worker = read_task_metadata(environ).arn or socket.gethostname()
        cancellations = Cancellations(store, cancellations_prefix(settings))
        context = cls(settings, load_calculation(settings), source, store, cancellations, worker)
        context.source.check()
        context.store.check()
        return context
