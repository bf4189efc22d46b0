"""A crew at work without time, network and processes: a test moves its clock, and speaks for its processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runner.aws.surroundings import REAL
from runner.worker.crew import Crew
from runner.worker.leases import Leases
from runner.worker.settlement import Settlement
from tests.support.fakes import Children, FakeChild, Surroundings, make_event, make_message

if TYPE_CHECKING:
    from runner.worker.active_job import ActiveJob

SETTINGS = {"VISIBILITY_TIMEOUT_S": "120", "MAX_LEASE_S": "1200", "STOP_TIMEOUT_S": "15", "PROGRESS_S": "30"}
LONGEST_S = 1200 - 120


class Site:
    """A crew at work, and its surroundings."""

    def __init__(self, workers: int, **settings: str) -> None:
        known: dict[str, Any] = {**SETTINGS, **settings}
        self.around = Surroundings.make(**known)
        self.clock = self.around.clock
        self.children = Children()
        self.leases = Leases(self.around.context)
        settlement = Settlement(self.around.context)
        self.crew = Crew(self.around.context, workers, settlement, start_child=self.children.start)
        self.waker = REAL.tasks.waker()
        self.number = 0

    def close(self) -> None:
        self.children.close()

    def listen(self) -> None:
        """Hear all that was said."""
        while any(child.connection.poll() for child in self.crew._children):
            self.crew.listen(0.0, self.waker)

    def take_on(self, *, large: bool = False, ago_s: float = 0.0, **message: Any) -> ActiveJob:
        self.number += 1
        lease = self.leases.hold(make_message(self.number, **message), self.clock.now - ago_s)
        self.crew.take_on(make_event(self.number), lease, large=large)
        return self.crew.jobs[-1]

    def start_jobs(self) -> None:
        """Start what there is room for, as the loop does: a process can take an order once it was heard."""
        for _ in range(4):
            self.crew.start_jobs()
            self.listen()

    def begin(self, **options: Any) -> tuple[ActiveJob, FakeChild]:
        """Take a job on and start it; return it and its process, which has read its order."""
        job = self.take_on(**options)
        self.start_jobs()
        assert isinstance(job.child, FakeChild)
        job.child.told()
        return job, job.child

    def wait(self, seconds: float) -> None:
        """Let time pass, in which leases are renewed; then look after the jobs."""
        until = self.clock.now + seconds
        while self.clock.now < until:
            self.clock.now = min(until, self.clock.now + self.leases.interval_s)
            self.leases.renew_all()
        self.around.queue.calls = self.settled()
        self.crew.watch()

    def settled(self) -> list[tuple[str, str, dict[str, Any]]]:
        """Return what was done with messages, but for renewals of their leases."""
        return [call for call in self.around.queue.calls if call[0] != "extend"]

    def names(self) -> list[tuple[str, str]]:
        return [(name, message) for name, message, _ in self.settled()]
