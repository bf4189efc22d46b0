"""A deployment of the worker for the operator's commands: its buckets and queues, without its calculation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.aws.bucket import Store
from runner.aws.clients import operator_client
from runner.aws.queue import Queue
from runner.settings import Settings

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
    """

    settings: Settings
    source: Store
    store: Store
    queue: Queue

    @classmethod
    def open(cls, environ: Mapping[str, str]) -> Deployment:
        """Return the deployment that the environment names.

        Raises:
            SettingsError: A setting is missing or wrong, or names something that does not exist.
            QueueError: SQS does not answer.
        """
        plain = {name: text for name, text in environ.items() if name not in _OF_THE_CALCULATION}
        settings = Settings.read({**plain, "CALCULATION": "1 AS nothing"})
        source, store = (
            Store.open(bucket, environ, settings.region) for bucket in (settings.input_bucket, settings.output_bucket)
        )
        sqs = operator_client("sqs", settings)
        return cls(settings, source, store, Queue.open(sqs, settings.queue, settings.dead_letter_queue))
