"""An unexpected exception in any thread of the worker ends the worker, which would do nothing more and look well."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Any, NoReturn, cast

import pytest

from runner.job.protocol import JobResult, Outcome
from runner.machine import Bugs
from tests.support.whole_worker import WholeWorker

if TYPE_CHECKING:
    from collections.abc import Iterator

LATE_S = 10.0


class BugError(Exception):
    """What nobody expects."""


def fail(*_: object, **__: object) -> NoReturn:
    raise BugError


class Site:
    """A worker with a job that goes on for ever."""

    def __init__(self) -> None:
        self.whole = WholeWorker(VISIBILITY_TIMEOUT_S="120")
        self.ends = threading.Event()
        self.whole.outcome_of = self._outcome
        self.whole.queue.put("in")

    def _outcome(self, _key: str) -> Outcome:
        self.ends.wait(30)
        return Outcome(JobResult.DONE)

    def ends_by_bug(self) -> None:
        """Run it to its end."""
        late = threading.Timer(LATE_S, self.whole.worker.on_signal, [signal.SIGTERM])
        late.start()
        try:
            with pytest.raises(BugError):
                self.whole.worker.run()
        finally:
            late.cancel()


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    yield made
    made.ends.set()


def test_a_bug_of_the_receiver_ends_the_worker(site: Site) -> None:
    site.whole.queue.receive_errors.append(BugError())
    site.ends_by_bug()


def test_a_bug_of_the_heartbeat_ends_the_worker(site: Site) -> None:
    site.whole.worker._leases.interval_s = 0.01
    cast("Any", site.whole.queue).extend = fail
    site.ends_by_bug()


def test_a_bug_of_the_settlement_ends_the_worker(site: Site) -> None:
    cast("Any", site.whole.queue).delete = fail
    site.ends.set()
    site.ends_by_bug()


def test_a_bug_that_appears_while_the_worker_stops_is_not_lost(site: Site) -> None:
    cast("Any", site.whole.queue).requeue = fail

    def stop() -> None:
        site.whole.wait_for(lambda: site.whole.orders)
        site.whole.worker.on_signal(signal.SIGTERM)

    stops = threading.Thread(target=stop)
    stops.start()
    site.ends_by_bug()
    stops.join()


def test_the_first_of_several_bugs_is_raised() -> None:
    bugs = Bugs()
    bugs.raise_first()
    for error in (BugError("first"), BugError("second")):
        bugs.note(error)
    with pytest.raises(BugError, match="first"):
        bugs.raise_first()
