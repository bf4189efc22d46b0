"""What surrounds the jobs of a worker, without time, network and processes: everything that is asked of it is noted."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Pipe
from typing import TYPE_CHECKING, Any, cast

from runner.aws.message import Message
from runner.aws.s3_events import ObjectCreated
from runner.aws.surroundings import REAL
from runner.job.protocol import Ready
from runner.log import make_logger
from runner.metrics import Metrics
from runner.settings import Settings
from runner.worker.breaker import Breaker
from runner.worker.context import WorkerContext
from runner.worker.job_child import JobChild

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LEAST = {"s3InputBucket": "incoming", "S3_OUTPUT_BUCKET": "outgoing", "SQSBatchQueue": "queue", "CALCULATION": "a AS b"}
SENT_MS = 1_700_000_000_000


class FakeClock:
    """A clock that stands still until a test moves it."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class FakeChance:
    """Chance that a test decides, if it wants to.

    Attributes:
        number: What is returned between any limits; None for a random number.
        limits: The limits that were asked for.
    """

    number: float | None = None
    limits: list[tuple[float, float]] = field(default_factory=list)

    def uniform(self, low: float, high: float) -> float:
        self.limits.append((low, high))
        return REAL.chance.uniform(low, high) if self.number is None else self.number

    def token(self) -> str:
        return REAL.chance.token()


@dataclass
class FakeQueue:
    """A queue that notes what is asked of it.

    Attributes:
        calls: The name of each operation, the id of its message, and what else it was told.
        errors: What the next operations raise, in this order; None for one that succeeds.
        max_receives: As of a redrive policy.
    """

    calls: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    errors: list[Exception | None] = field(default_factory=list)
    max_receives: int | None = None
    name: str = "queue"

    def extend(self, message: Message, seconds: int) -> None:
        self._note("extend", message, seconds=seconds)

    def delete(self, message: Message) -> None:
        self._note("delete", message)

    def delete_all(self, messages: Sequence[Message]) -> list[Exception | None]:
        self.calls.append(("delete_all", " ".join(message.id for message in messages), {}))
        return [self.errors.pop(0) if self.errors else None for _ in messages]

    def release(self, message: Message, delay_s: int) -> None:
        self._note("release", message, delay_s=delay_s)

    def requeue(self, message: Message, **told: Any) -> None:
        self._note("requeue", message, **told)

    def split(self, message: Message, bodies: list[str]) -> None:
        self._note("split", message, bodies=bodies)

    def dead_letter(self, message: Message, **told: Any) -> None:
        self._note("dead_letter", message, **told)

    @property
    def only(self) -> tuple[str, dict[str, Any]]:
        """The name and the arguments of the only operation."""
        ((name, _, told),) = self.calls
        return name, told

    def _note(self, name: str, message: Message, **told: Any) -> None:
        self.calls.append((name, message.id, told))
        error = self.errors.pop(0) if self.errors else None
        if error is not None:
            raise error


@dataclass
class FakeProtection:
    """Notes when the task is said to be busy or idle."""

    said: list[str] = field(default_factory=list)

    def busy(self) -> None:
        self.said.append("busy")

    def idle(self) -> None:
        self.said.append("idle")

    def may_take(self) -> bool:
        return True


@dataclass
class FakeChannels:
    """Keeps events, each with the operations of the queue that came before it."""

    queue: FakeQueue
    events: list[dict[str, Any]] = field(default_factory=list)
    calls_before: list[int] = field(default_factory=list)

    def send(self, event: dict[str, Any]) -> None:
        self.events.append(event)
        self.calls_before.append(len(self.queue.calls))


class FakeChild(JobChild):
    """A job process that is the test: what the worker sends can be read, and what the process says be written."""

    def __init__(self) -> None:
        ours, self.end = Pipe()
        super().__init__(ours, cast("Any", None))
        self.killed = False

    def say(self, message: object) -> None:
        self.end.send(message)

    def die(self) -> None:
        self.end.close()

    def told(self) -> list[Any]:
        """Return what the worker has sent since the last look."""
        found = []
        while self.end.poll():
            found.append(self.end.recv())
        return found

    def kill(self) -> None:
        self.killed = True
        self.connection.close()

    def exit_reason(self) -> str:
        return "it was killed by SIGKILL"


@dataclass
class Children:
    """Starts job processes, which can take orders at once unless told otherwise."""

    ready: bool = True
    started: list[FakeChild] = field(default_factory=list)
    environs: list[Mapping[str, str]] = field(default_factory=list)

    def start(self, _processes: object, environ: Mapping[str, str]) -> FakeChild:
        child = FakeChild()
        self.environs.append(environ)
        self.started.append(child)
        if self.ready:
            child.say(Ready())
        return child

    def close(self) -> None:
        for child in self.started:
            child.end.close()
            child.connection.close()


@dataclass
class Surroundings:
    """A worker's context made of fakes, and the fakes."""

    settings: Settings
    context: WorkerContext
    queue: FakeQueue
    protection: FakeProtection
    channels: FakeChannels
    breaker: Breaker
    output: io.StringIO
    metrics_output: io.StringIO
    clock: FakeClock
    chance: FakeChance
    backfill: FakeQueue = field(default_factory=lambda: FakeQueue(name="backfill"))

    @classmethod
    def make(cls, *, max_receives: int | None = None, **settings: str) -> Surroundings:
        """Return them for some settings."""
        read = Settings.read({**LEAST, **settings})
        queue, protection, output, metrics_output = FakeQueue(), FakeProtection(), io.StringIO(), io.StringIO()
        queue.max_receives = max_receives
        clock, chance = FakeClock(), FakeChance()
        around = replace(REAL, clock=clock, chance=chance)
        channels, breaker = FakeChannels(queue), Breaker(read.breaker_failures, around)
        context = WorkerContext(
            settings=read,
            environ={"SOME": "thing"},
            queue=cast("Any", queue),
            breaker=breaker,
            health=cast("Any", None),
            protection=cast("Any", protection),
            metrics=Metrics("Test", metrics_output, {}),
            channels=cast("Any", channels),
            log=make_logger("debug", output),
            around=around,
        )
        made = cls(read, context, queue, protection, channels, breaker, output, metrics_output, clock, chance)
        if read.backfill_queue is not None:
            made.context = replace(context, backfill=cast("Any", made.backfill))
        return made

    def log(self, event: str | None = None) -> list[dict[str, Any]]:
        """Return the lines of the log, all or those of an event."""
        lines = [json.loads(line) for line in self.output.getvalue().splitlines()]
        return [line for line in lines if event in (None, line["event"])]

    def metrics(self) -> list[dict[str, Any]]:
        """Return the lines of the metrics."""
        return [json.loads(line) for line in self.metrics_output.getvalue().splitlines()]

    def metric(self, name: str) -> list[float]:
        """Return the values of one metric."""
        return [line[name] for line in self.metrics() if name in line]


def make_message(number: int = 1, **fields: Any) -> Message:
    """Return a message that was received for the first time, but for what is given."""
    known: dict[str, Any] = {
        "id": f"m{number}",
        "body": "{}",
        "receipt": f"r{number}",
        "attempts": 0,
        "first_sent": SENT_MS,
    }
    known |= {"sent": SENT_MS, "progress": 0, "trace": "", "owner": f"m{number}"}
    return Message(**(known | fields))


def make_event(number: int = 1, size: int = 100) -> ObjectCreated:
    """Return the event of an object."""
    return ObjectCreated("incoming", f"in/{number}.jsonl", None, "etag", size, "00A1", None)
