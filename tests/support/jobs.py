"""Jobs done in this process, against a real server: what a job process does, with no worker around it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from runner.aws.s3_events import ObjectCreated
from runner.aws.surroundings import REAL
from runner.errors import RunnerError
from runner.job.cancellation import LOOK_INTERVAL_S, Cancellations
from runner.job.context import JobContext, digest_of, load_calculation
from runner.job.control import Control
from runner.job.identity import Origin
from runner.job.keys import cancellations_prefix
from runner.job.process import do
from runner.job.protocol import Order, Outcome
from runner.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from runner.machine import Clock
    from tests.support.deployment import Deployment

KEY = "in/some.jsonl"
OUTPUT = f"output/{KEY}"
PART_BYTES = 5 << 20
SENT = 1_700_000_000_000
SEQUENCER = "0055AED6DCD90281E5"


class Killed(BaseException):
    """The process is no more."""


class Free(Control):
    """Lets a job go on, and notes its checkpoints.

    Args:
        lives: After how many checkpoints the process is killed.
        check: Called whenever the job asks whether it may go on.
        check_lease: Called when it asks whether it may at least finish what it is at.
    """

    def __init__(
        self,
        lives: int = -1,
        check: Callable[[], None] = lambda: None,
        check_lease: Callable[[], None] = lambda: None,
    ) -> None:
        self.offsets: list[int] = []
        self._lives = lives
        self._checked = check
        self._checked_lease = check_lease

    def begin(self, job: str) -> None:
        self.job = job

    def check(self) -> None:
        self._checked()

    def check_lease(self) -> None:
        self._checked_lease()

    def note_checkpoint(self, offset: int) -> None:
        self.offsets.append(offset)
        self._lives -= 1
        if self._lives == 0:
            raise Killed

    def tell(self, done: int, total: int | None) -> None:
        pass


@dataclass
class Jobs:
    """Does jobs of a deployment.

    Attributes:
        deployment: Which.
        changes: To its settings.
        context: Changes to the context of the jobs, by the fields of `JobContext`.
        look_interval_s: How often a job looks whether it is cancelled.
        clock: Tells how old that look is.
    """

    deployment: Deployment
    changes: dict[str, str] = field(default_factory=lambda: {"PART_BYTES": "5MiB"})
    context: dict[str, Any] = field(default_factory=dict)
    look_interval_s: float = LOOK_INTERVAL_S
    clock: Clock = REAL.clock

    def settings(self, **changes: str) -> Settings:
        return Settings.read({**self.deployment.env, **self.changes, **changes})

    def event(self, sequencer: str = SEQUENCER, key: str = KEY) -> ObjectCreated:
        """Return the event of the object that is there."""
        found = self.deployment.s3.head_object(Bucket=self.deployment.input, Key=key)
        etag, size = found["ETag"].strip('"'), found["ContentLength"]
        return ObjectCreated(self.deployment.input, key, None, etag, size, sequencer, None)

    def do(
        self,
        event: ObjectCreated | None = None,
        *,
        sent: int = SENT,
        again: bool = False,
        control: Free | None = None,
        workers: int = 1,
        **changes: str,
    ) -> Outcome:
        """Do a job, that of the object that is there if not told otherwise; `again` if somebody may have begun it."""
        context = JobContext.open(self.settings(**changes), os.environ)
        prefix = cancellations_prefix(context.settings)
        notes = Cancellations(context.store, prefix, self.look_interval_s, clock=self.clock)
        context = replace(context, cancellations=notes, **self.context)
        return do(context, Order(event or self.event(), sent, workers, again, sent), control or Free())

    def try_(self, *, again: bool = False) -> Outcome | None:
        """Do a job, if its process gets as far as that."""
        try:
            return self.do(again=again)
        except RunnerError:
            return None

    def origin(self, event: ObjectCreated | None = None, *, sent: int = SENT, **changes: str) -> Origin:
        """Return what the output of a job has in its metadata."""
        settings = self.settings(**changes)
        event = event or self.event()
        digest = digest_of(load_calculation(settings), settings, f"s3://{event.bucket}/{event.key}")
        return Origin.from_event(event, digest, sent)

    def put_output(self, content: bytes, origin: Origin | None = None) -> str:
        """Put an output where a job would; return its ETag."""
        metadata = origin.to_metadata() if origin else {}
        answer: dict[str, Any] = self.deployment.s3.put_object(
            Bucket=self.deployment.output, Key=OUTPUT, Body=content, Metadata=metadata
        )
        return str(answer["ETag"])

    def output(self) -> bytes | None:
        return self.deployment.content(OUTPUT)

    def left(self) -> list[str]:
        """Return what a job that has ended may not leave: open uploads and checkpoints."""
        return [*self.deployment.uploads(), *self.deployment.stored_keys("checkpoints/")]
