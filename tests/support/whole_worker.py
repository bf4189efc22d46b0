"""A whole worker in this process, with a queue in memory and threads for job processes; its time runs faster."""

from __future__ import annotations

import io
import json
import signal
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, Pipe
from typing import TYPE_CHECKING, Any, NoReturn, cast

from runner.aws.message import Lane
from runner.aws.surroundings import REAL
from runner.job.protocol import JobResult, Order, Outcome, Ready
from runner.log import make_logger
from runner.machine import Threads, can_send
from runner.metrics import Metrics
from runner.settings import Settings
from runner.worker.breaker import Breaker, tells
from runner.worker.context import WorkerContext
from runner.worker.loop import Worker
from tests.support.fakes import LEAST, SENT_MS, make_message

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from runner.aws.message import Message
    from runner.errors import RunnerError

RATE = 500
"""Seconds of the worker in each second: a minute of it is 0.12 s."""
TIMEOUT_S = 30
SETTINGS = {"VISIBILITY_TIMEOUT_S": "43200", "MAX_LEASE_S": "43200", "BREAKER_FAILURES": "3", "MAX_ATTEMPTS": "3"}


class FastClock:
    """A clock that runs fast, and begins when the first message was sent."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def monotonic(self) -> float:
        return 1000 + (time.monotonic() - self._began) * RATE

    def time(self) -> float:
        return SENT_MS / 1000 + self.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds / RATE)


class FastTasks(Threads):
    """Threads whose flags are waited for by the fast clock."""

    def event(self) -> FastEvent:
        return FastEvent()


class FastEvent(threading.Event):
    """A flag whose waits are as short as they are by the fast clock."""

    def wait(self, timeout: float | None = None) -> bool:
        return super().wait(None if timeout is None else timeout / RATE)


class MemoryQueue:
    """A queue in memory.

    Attributes:
        dead: The reasons of the dead letters, by the keys of their objects.
        settled: Keys of the objects whose messages were deleted, and the receipts that they were deleted with.
        copies: Keys of the objects whose messages were copied.
        receive_errors: What the next receives raise.
        receives: The times of the receives.
        held: The ids of the messages that were received.
        delete_errors: What the next deletes of messages raise that were copied.
        slow_s: How long each delete takes, in real time.
        again: Keys of objects whose message is delivered a second time while it is held.
        waits: How long each receive waited for a message at most.
        max_receives: As of a redrive policy.
    """

    def __init__(self, clock: FastClock, lane: Lane = Lane.MAIN) -> None:
        self.name = "queue" if lane is Lane.MAIN else lane.value
        self._lane = lane
        self._clock = clock
        self._lock = threading.Lock()
        self._number = 0
        self._visible_at: dict[str, float] = {}
        self._messages: dict[str, Message] = {}
        self.dead: dict[str, str] = {}
        self.settled: list[tuple[str, str]] = []
        self.copies: list[str] = []
        self.receive_errors: list[Exception] = []
        self.receives: list[float] = []
        self.waits: list[int] = []
        self.held: set[str] = set()
        self.again: set[str] = set()
        self.delete_errors: list[RunnerError] = []
        self.slow_s = 0.0
        self.max_receives: int | None = None

    def put(self, key: str, *, delay_s: float = 0.0, **fields: Any) -> None:
        """Send a message about an object."""
        with self._lock:
            self._number += 1
            record = {
                "bucket": {"name": "incoming"},
                "object": {"key": key, "size": 100, "eTag": "e", "sequencer": "0"},
            }
            body = json.dumps({"Records": [{"eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "s3": record}]})
            number = self._number if self._lane is Lane.MAIN else -self._number
            message = make_message(number, **{"body": body, "lane": self._lane, **fields})
            self._messages[message.id], self._visible_at[message.id] = message, self._clock.monotonic() + delay_s

    def receive(self, wait_s: int, visibility_s: int) -> Message | None:
        until = self._clock.monotonic() + wait_s
        with self._lock:
            self.receives.append(self._clock.monotonic())
            self.waits.append(wait_s)
            if self.receive_errors:
                raise self.receive_errors.pop(0)
        while True:
            with self._lock:
                now = self._clock.monotonic()
                for id_, message in self._messages.items():
                    second = id_ in self.held and key_of(message) in self.again
                    if self._visible_at[id_] <= now or second:
                        self.again.discard(key_of(message) if second else "")
                        self._visible_at[id_] = now + visibility_s
                        self.held.add(id_)
                        again = replace(message, receipt=f"{message.receipt}'") if second else message
                        self._messages[id_] = again
                        return again
            if now >= until:
                return None
            time.sleep(0.002)

    def extend(self, message: Message, seconds: int) -> None:
        self._visible_at[message.id] = self._clock.monotonic() + seconds

    def delete(self, message: Message) -> None:
        time.sleep(self.slow_s)
        with self._lock:
            self._messages.pop(message.id, None)
            self.held.discard(message.id)
            self.settled.append((key_of(message), message.receipt))

    def delete_all(self, messages: Sequence[Message]) -> list[RunnerError | None]:
        for message in messages:
            self.delete(message)
        return [None] * len(messages)

    def release(self, message: Message, delay_s: int) -> None:
        with self._lock:
            self.held.discard(message.id)
            self._messages[message.id] = replace(message, attempts=message.attempts + 1)
        self.extend(message, delay_s)

    def requeue(self, message: Message, *, attempts: int, progress: int, delay_s: int = 0, owner: str = "") -> None:
        fields = {"attempts": attempts, "progress": progress, "owner": owner or message.owner}
        self.put(key_of(message), delay_s=delay_s, first_sent=message.first_sent, **fields)
        self.copies.append(key_of(message))
        if self.delete_errors:
            self.extend(message, 60)
            raise self.delete_errors.pop(0)
        self.delete(message)

    def dead_letter(self, message: Message, *, reason: str, **_: str) -> None:
        self.dead[key_of(message)] = reason
        self.delete(message)

    def waiting(self) -> tuple[int, int, int]:
        return len(self._messages), 0, 0

    def attempts(self) -> dict[str, int]:
        """Return the attempts of the messages that are left, by the keys of their objects."""
        return {key_of(message): message.attempts for message in self._messages.values()}


def key_of(message: Message) -> str:
    return str(json.loads(message.body)["Records"][0]["s3"]["object"]["key"])


class Job:
    """A job process that is a thread; `start` takes the place of that of the machine."""

    def __init__(self, site: WholeWorker, end: Connection) -> None:
        self._site, self._end = site, end

    def serve(self) -> None:
        with suppress(OSError, EOFError):
            if self._site.starts:
                self._end.send(Ready())
            while self._site.starts:
                order = self._end.recv() if self._end.poll(0.01) else None
                if isinstance(order, Order):
                    self._site.orders.append(order.event.key)
                    self._end.send(self._site.outcome_of(order.event.key))
        self._end.close()


@dataclass
class Ended:
    """A job process, as the worker sees it."""

    end: Connection

    def kill(self) -> None:
        """Nothing is left to be done: its end is closed by the worker."""

    def wait(self, _timeout_s: float) -> int:
        return 3


@dataclass
class Protected:
    """Protection that a test decides on."""

    takes: bool = True
    said: list[str] = field(default_factory=list)

    def busy(self) -> None:
        self.said.append("busy")

    def idle(self) -> None:
        self.said.append("idle")

    def tick(self) -> None:
        pass

    def close(self) -> None:
        pass

    def may_take(self) -> bool:
        return self.takes


class Health:
    """Keeps what was last said."""

    state, reason = "", ""

    def write(self, state: str, reason: str = "") -> None:
        self.state, self.reason = state, reason


class Channels:
    """Tells nobody."""

    def send(self, event: Mapping[str, Any]) -> None:
        pass


class WholeWorker:
    """A whole worker, and what surrounds it.

    Attributes:
        outcome_of: Returns how the job of an object ends.
        orders: Keys of the objects whose jobs were begun.
        starts: Whether job processes start and live.
    """

    def __init__(self, workers: int = 1, *, drain: bool = False, **settings: str) -> None:
        read = Settings.read({**LEAST, **SETTINGS, **settings})
        self.outcome_of: Callable[[str], Outcome] = lambda _: Outcome(JobResult.DONE)
        self.orders: list[str] = []
        self.starts = True
        self.clock = FastClock()
        self.queue, self.health, self.protection = MemoryQueue(self.clock), Health(), Protected()
        self.backfill = MemoryQueue(self.clock, Lane.BACKFILL)
        self.output, self._metrics = io.StringIO(), io.StringIO()
        around = replace(REAL, clock=self.clock, tasks=FastTasks(), processes=cast("Any", self))
        log, metrics = make_logger("debug", self.output), Metrics("Test", self._metrics, {}, self.clock)
        self.breaker = Breaker(read.breaker_failures, around, tells(log, metrics))
        context = WorkerContext(
            settings=read,
            environ={},
            queue=cast("Any", self.queue),
            breaker=self.breaker,
            health=cast("Any", self.health),
            protection=cast("Any", self.protection),
            metrics=metrics,
            channels=cast("Any", Channels()),
            log=log,
            around=around,
            backfill=cast("Any", self.backfill) if read.backfill_queue is not None else None,
        )
        self.worker = Worker(context, workers, drain=drain, tick_s=0.005)
        self.status: int | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self, _code: str, _environ: Mapping[str, str]) -> tuple[Connection, Ended]:
        """Start a job process."""
        ours, theirs = Pipe()
        threading.Thread(target=Job(self, theirs).serve, daemon=True).start()
        return ours, Ended(theirs)

    def can_send(self, connection: Connection) -> bool:
        return can_send(connection)

    def exit(self, status: int) -> NoReturn:
        raise AssertionError(status)

    def _run(self) -> None:
        self.status = self.worker.run()

    def __enter__(self) -> WholeWorker:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.worker.on_signal(signal.SIGTERM)
        self.join()

    def join(self) -> int:
        """Return the status that it ends with."""
        self._thread.join(TIMEOUT_S)
        assert self.status is not None
        return self.status

    def wait_for(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while not condition():
            assert time.monotonic() < deadline, (self.output.getvalue()[-3000:], self.breaker.reason)
            time.sleep(0.005)

    def wait_until_empty(self) -> None:
        """Wait until no message is left."""
        self.wait_for(lambda: self.queue.waiting() == self.backfill.waiting() == (0, 0, 0))

    def done(self) -> set[str]:
        """Return the keys of objects whose jobs were done."""
        return {line["key"] for line in self.log() if line["event"] == "done"}

    def log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.output.getvalue().splitlines()]

    def metrics(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._metrics.getvalue().splitlines()]
