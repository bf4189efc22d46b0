"""A deployment of the worker as its operator's commands see it: its buckets and queues, whatever it calculates."""

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
        settings: Of its workers, but for the calculation, which says nothing.
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
            SettingsError: A setting is missing or wrong, or what it names is not there.
            QueueError: SQS could not be asked.
        """
        plain = {name: text for name, text in environ.items() if name not in _OF_THE_CALCULATION}
        settings = Settings.read({**plain, "CALCULATION": "1 AS nothing"})
        source, store = (
            Store.open(bucket, environ, settings.region) for bucket in (settings.input_bucket, settings.output_bucket)
        )
        sqs = client_of("sqs", settings)
        return cls(settings, source, store, Queue.open(sqs, settings.queue, settings.dead_letter_queue))


def client_of(service: str, settings: Settings) -> Any:
    """Return a boto3 client that tries again for as long as somebody who waits for it would.

    Raises:
        SettingsError: The AWS settings are not all there, or name what is not.
    """
    config = Config(retries={"mode": "standard", "total_max_attempts": _TRIES}, max_pool_connections=_CONNECTIONS)
    return make_client(service, settings.region, config)
