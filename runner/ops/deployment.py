"""A deployment of the worker for the operator's commands: its buckets and queues, without its calculation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.aws.bucket import Store
from runner.aws.queue import Queue
from runner.aws.surroundings import REAL, Surroundings
from runner.settings import Settings, with_settings_as_variables

if TYPE_CHECKING:
    from collections.abc import Mapping

_OF_THE_CALCULATION = {"WHERE", "SCHEMA", "DROP", "SELECT"}


@dataclass(frozen=True, slots=True)
class Deployment:
    """A deployment of the worker.

    Attributes:
        settings: The settings of its workers, with a placeholder for the calculation.
        source: Its input bucket.
        store: Its output bucket.
        queue: Its queue.
        around: The clock and threads of the command.
    """

    settings: Settings
    source: Store
    store: Store
    queue: Queue
    around: Surroundings = REAL

    @classmethod
    def open(cls, environ: Mapping[str, str], around: Surroundings = REAL) -> Deployment:
        """Return the deployment that the environment names.

        Raises:
            SettingsError: A setting is missing or wrong, or names something that does not exist.
            QueueError: SQS does not answer.
        """
        named = with_settings_as_variables(environ).items()
        plain = {name: text for name, text in named if name not in _OF_THE_CALCULATION}
        settings = Settings.read({**plain, "CALCULATION": "1 AS nothing"})
        requests = around.s3(environ, settings.region)
        queue = Queue.open(around.operator_sqs(settings), settings.queue, settings.dead_letter_queue)
        source, store = Store(settings.input_bucket, requests), Store(settings.output_bucket, requests)
        return cls(settings, source, store, queue, around)
