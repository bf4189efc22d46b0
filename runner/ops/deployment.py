"""A deployment of the worker for the operator's commands: its buckets and queues, without its calculation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.config import Config

from runner.aws.bucket import Store
from runner.aws.clients import make_client
from runner.aws.queue import Queue
from runner.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping

_TRIES = 5
_CONNECTIONS = 16
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
        sqs = client_of("sqs", settings)
        return cls(settings, source, store, Queue.open(sqs, settings.queue, settings.dead_letter_queue))


def client_of(service: str, settings: Settings) -> Any:
    """Return a boto3 client that retries for as long as a person would wait.

    Raises:
        SettingsError: An AWS setting is missing, or names something that does not exist.
    """
    config = Config(retries={"mode": "standard", "total_max_attempts": _TRIES}, max_pool_connections=_CONNECTIONS)
    return make_client(service, settings.region, config)
