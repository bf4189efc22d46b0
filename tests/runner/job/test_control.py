"""A job process obeys its worker, and stops by itself when another worker may have its message."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Pipe
from typing import TYPE_CHECKING, Any, NoReturn, cast

import pytest

from runner.aws.surroundings import REAL
from runner.errors import StoppedError
from runner.job.control import Control
from runner.job.protocol import LeaseExtension, Order, Stop
from runner.machine import Threads
from tests.support.fakes import FakeClock, make_event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from runner.machine import Processes, Task

ORDER = Order(make_event(), 1, 1, tried_before=False, first_sent=1, lease_until=1100.0)


class Ending:
    """Notes that the process should end, which ends the thread that wants it."""

    def exit(self, status: int) -> NoReturn:
        raise SystemExit(status)


class EndingThreads(Threads):
    """Threads that may end so."""

    def start(self, function: Callable[..., None], *arguments: Any, name: str) -> Task:
        def run() -> None:
            with suppress(SystemExit):
                function(*arguments)

        return super().start(run, name=name)


class Site:
    """The control of a job process, and the worker's end of its connection."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.worker, self._theirs = Pipe()
        around = replace(REAL, clock=self.clock, tasks=EndingThreads(), processes=cast("Processes", Ending()))
        self.control = Control(self._theirs, around)
        self.control.start()

    def order(self, order: Order = ORDER) -> None:
        """Give it an order, and wait until it has read that and everything before."""
        self.worker.send(order)
        assert self.control.next_order() == order


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    yield made
    made.worker.close()


def test_a_job_has_a_limit_before_the_first_extension(site: Site) -> None:
    site.order()
    site.clock.now = 1100.0
    site.control.check()
    site.clock.now = 1100.5
    with pytest.raises(StoppedError, match="lease on the message has run out"):
        site.control.check_lease()


def test_an_extension_counts_from_when_it_was_sent_and_not_from_when_it_is_read(site: Site) -> None:
    """A calculation that holds the interpreter lock lets nothing be read for any time."""
    site.worker.send(LeaseExtension(1200.0))
    site.clock.now = 1150.0
    site.order(replace(ORDER, lease_until=1160.0))
    site.clock.now = 1161.0
    with pytest.raises(StoppedError):
        site.control.check()


def test_an_order_forgets_that_the_last_one_was_to_stop(site: Site) -> None:
    site.order()
    site.worker.send(Stop())
    site.order()
    site.control.check()


def test_progress_of_an_attempt_that_begins_anew_does_not_count(site: Site) -> None:
    """What was noted before would be more than what the next worker finds, and its progress would be none."""
    site.control.begin("j")
    site.control.tell(600, 1000)
    site.control.note_checkpoint(500)
    site.control.tell(700, 1000)
    site.control.tell(10, 1000)
    site.control.note_checkpoint(50)
    site.control.tell(80, 1000)
    site.clock.now += 1
    site.control.tell(90, 1000)
    told = []
    while site.worker.poll():
        update = site.worker.recv()
        told.append((update.offset, update.done))
    assert told == [(0, 0), (0, 600), (500, 600), (0, 10), (50, 10), (50, 90)]
