"""A storm: workers are killed, stopped and frozen at random moments, while objects come, change and go.

One thread does everything, step by step, as a seeded source of chance says; how the workers fare meanwhile is up to
the machine, so that a seed gives the same weather and not the same course.
"""

from __future__ import annotations

import random
import signal
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psutil

from tests.support.proxy import Hold, Stall
from tests.support.watching import Watched

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.deployment import Deployment
    from tests.support.proxy import Fault, Proxy, Request

CALM_S = 2.5  # that each worker has at least, to begin with something
LEASE_S = 5
HELD_S = 1.0
DELICATE = ("CreateMultipartUpload", "CompleteMultipartUpload", "AbortMultipartUpload", "PutObject", "DeleteObject")
"""What publishing, noting and cleaning up consist of."""


@dataclass(frozen=True)
class Content:
    """What an object holds, and what a calculation makes of it.

    Attributes:
        first: The number of its first line.
        count: Of its lines.
        pad_bytes: How much each line has besides, which compresses badly.
    """

    first: int
    count: int
    pad_bytes: int

    def lines(self) -> bytes:
        """Return the content."""
        return b"".join(b'{"a":%d,"pad":"%b"}\n' % line for line in self._numbered())

    def plus(self, number: int) -> bytes:
        """Return what the calculation `a + number AS b` makes of it."""
        return b"".join(b'{"a":%d,"pad":"%b","b":%d}\n' % (a, pad, a + number) for a, pad in self._numbered())

    def _numbered(self) -> Iterator[tuple[int, bytes]]:
        chance = random.Random(self.first)
        for number in range(self.first, self.first + self.count):
            yield number, chance.randbytes(self.pad_bytes // 2).hex().encode()


@dataclass
class Life:
    """A worker process of a slot, from its start to its end.

    Attributes:
        worker: The process.
        plus: What its calculation adds.
        since: How many requests its slot had made before.
        born: When it was started, by the monotonic clock.
        harmed: Whether it had no chance to clean up behind itself.
        asked: Whether it was told to stop.
        processes: Those that are frozen.
        thaws: When they are to go on.
    """

    worker: Watched
    plus: int
    since: int
    born: float = field(default_factory=time.monotonic)
    harmed: bool = False
    asked: bool = False
    processes: list[psutil.Process] = field(default_factory=list)
    thaws: float = 0.0


class Slot:
    """Where one worker runs, and after its end the next.

    Args:
        deployment: What they work on.
        proxy: Their way to S3.
        chance: When something befalls them.
        workers: How many processes they have for their jobs.
    """

    def __init__(self, deployment: Deployment, proxy: Proxy, chance: random.Random, workers: int) -> None:
        self.deployment, self.proxy, self.chance = deployment, proxy, chance
        self.plus = 1
        self.lives: list[Life] = []
        self.stormy = True
        self._workers = workers
        self._caught, self._released = threading.Event(), threading.Event()
        self._release_at = 0.0
        self._rolled = random.Random(chance.random())
        proxy.rule = self._rule
        self.begin()

    @property
    def life(self) -> Life:
        """The one that is under way."""
        return self.lives[-1]

    def begin(self) -> None:
        """Start a worker, with the calculation that is in force here."""
        env = {
            "CALCULATION": f"a + {self.plus} AS b",
            "WORKERS": str(self._workers),
            "AWS_ENDPOINT_URL_S3": self.proxy.endpoint,
        }
        self.lives.append(Life(Watched(self.deployment, env=env), self.plus, len(self.proxy.requests)))

    def step(self) -> None:
        """Let happen what is due."""
        life, now = self.life, time.monotonic()
        if life.worker.process.poll() is not None:
            self._let_go()
            status = life.worker.end()
            unborn = status == -signal.SIGTERM and not life.worker.log  # it had not begun to listen
            assert life.harmed or unborn or status == 0, (status, life.worker.log[-5:], life.worker.errors[-5:])
            self.begin()
        elif life.processes:
            if now > life.thaws:
                self.thaw()
        elif self._caught.is_set() and not self._release_at:
            self.strike()
            self._release_at = now + HELD_S
        if self._release_at and now > self._release_at:
            self._let_go()

    def strike(self) -> None:
        """Do something to the worker."""
        life = self.life
        if life.asked or life.processes or not self.stormy:
            return
        how = self.chance.choices(["kill", "stop", "freeze", "kill a process"], [5, 3, 2, 1])[0]
        if how == "stop":
            self.stop()
            return
        life.harmed = True
        if how == "kill":
            life.worker.process.kill()
        elif how == "freeze":
            life.processes = [psutil.Process(life.worker.process.pid), *life.worker.family()]
            life.thaws = time.monotonic() + LEASE_S + 2
            for process in life.processes:
                with suppress(psutil.NoSuchProcess):
                    process.suspend()
        elif children := life.worker.children():
            with suppress(psutil.NoSuchProcess):
                self.chance.choice(children).kill()

    def stop(self) -> None:
        """Ask the worker to stop."""
        self.life.asked = True
        self.life.worker.process.terminate()

    def thaw(self) -> None:
        """Let the worker go on."""
        for process in self.life.processes:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGCONT)
        self.life.processes = []

    def is_old_enough(self) -> bool:
        """Return whether something may befall the worker."""
        return time.monotonic() - self.life.born > CALM_S

    def requests_of(self, life: Life) -> list[Request]:
        """Return what a worker has asked of S3."""
        later = [other.since for other in self.lives if other.since > life.since]
        return self.proxy.requests[life.since : min(later, default=None)]

    def _rule(self, request: Request) -> Fault | None:
        """Catch a worker now and then while it publishes, notes or cleans up, before or after S3 has done that."""
        if not self.stormy or request.operation not in DELICATE or self._caught.is_set() or not self.is_old_enough():
            return None
        if self._rolled.random() > 0.1:
            return None
        self._caught.set()
        return (Hold if self._rolled.random() < 0.5 else Stall)(threading.Event(), self._released)

    def _let_go(self) -> None:
        self._released.set()
        self._caught, self._released = threading.Event(), threading.Event()
        self._release_at = 0.0
