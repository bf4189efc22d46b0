"""A deployment of the worker for the operator's commands: its buckets and queues, without its calculation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.aws.bucket import Store
from runner.aws.dead_letters import DeadLetters
from runner.aws.queue import open_queues
from runner.aws.surroundings import REAL, Surroundings
from runner.settings import Settings, with_settings_as_variables

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runner.aws.queue import Queue

_OF_THE_CALCULATION = {"WHERE", "SCHEMA", "DROP", "SELECT"}


@dataclass(frozen=True, slots=True)
class Deployment:
    """A deployment of the worker.

    Attributes:
        settings: The settings of its workers, with a placeholder for the calculation.
        sources: Its input buckets by their names.
        store: Its output bucket.
        queue: Its main queue.
        around: The clock and threads of the command.
        backfill: Its queue of backfills, None without one.
    """

    settings: Settings
    sources: Mapping[str, Store]
    store: Store
    queue: Queue
    around: Surroundings = REAL
    backfill: Queue | None = None

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
        queue, backfill = open_queues(around.operator_sqs(settings), settings)
        sources = {name: Store(name, requests) for name in settings.input_buckets}
        store = Store(settings.output_bucket, requests)
        return cls(settings, sources, store, queue, around, backfill)

    def dead_letters(self) -> list[DeadLetters]:
        """Return its dead-letter queues: one, or two if that of the backfill queue is another one."""
        main = DeadLetters(self.queue, self.around.clock, self.backfill)
        if self.backfill is None or self.backfill.dead_letter_url == self.queue.dead_letter_url:
            return [main]
        return [main, DeadLetters(self.backfill, self.around.clock)]
