"""The start of a worker: the first job process starts at once, and does not outlive a worker that cannot start."""

from __future__ import annotations

import signal
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Pipe
from typing import TYPE_CHECKING, Any, cast

import pytest

from runner.aws.surroundings import REAL
from runner.errors import SettingsError
from runner.worker.start import start_worker

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from multiprocessing.connection import Connection

ENVIRON = {
    "S3_INPUT_BUCKET": "incoming",
    "S3_OUTPUT_BUCKET": "outgoing",
    "SQS_BATCH_QUEUE": "jobs",
    "CALCULATION": "a + 1 AS b",
    "AWS_REGION": "eu-central-1",
}


@dataclass
class Started:
    """Processes that only note what happens to them.

    Attributes:
        events: What has happened, in order.
        environ: The environment of the last process.
    """

    events: list[str] = field(default_factory=list)
    environ: Mapping[str, str] = field(default_factory=dict)

    def start(self, _code: str, environ: Mapping[str, str]) -> tuple[Connection, Started]:
        self.events.append("started")
        self.environ = environ
        return Pipe()[0], self

    def can_send(self, _connection: Connection) -> bool:
        return True

    def kill(self) -> None:
        self.events.append("killed")


@pytest.fixture(autouse=True)
def same_signals() -> Iterator[None]:
    numbers = signal.SIGTERM, signal.SIGINT
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def test_the_first_job_process_starts_before_the_queue_is_looked_for_and_ends_without_it() -> None:
    processes = Started()

    def no_queue(_settings: Any) -> Any:
        processes.events.append("looked")
        raise SettingsError("there is no queue jobs")

    around = replace(REAL, processes=cast("Any", processes), worker_sqs=no_queue)
    with pytest.raises(SettingsError, match="there is no queue jobs"):
        start_worker(ENVIRON, drain=True, around=around)
    assert processes.events == ["started", "looked", "killed"]
    assert processes.environ["AWS_DEFAULT_REGION"] == "eu-central-1"


def test_with_wrong_settings_no_process_starts() -> None:
    processes = Started()
    with pytest.raises(SettingsError, match="CALCULATION"):
        start_worker({**ENVIRON, "CALCULATION": ""}, drain=True, around=replace(REAL, processes=cast("Any", processes)))
    assert not processes.events
