"""What a worker may do with the queue of backfills, seen from outside: by its requests to SQS and its jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runner.aws.ecs import Protection
from runner.aws.message import Lane

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.simulation.kernel import Process
    from tests.simulation.network import SimSqsClient
    from tests.simulation.world import RunningWorker, World

_MOMENT_S = 0.1  # between an answer and what a worker does because of it, unless it is frozen
_STALE_S = 1.5  # for so long the main queue counts as empty although no receive waits there
_MIN_LATENCY_S = 0.005


class LaneWatch:
    """Checks what one worker does.

    Args:
        world: The world, whose `lane_problems` it adds to.
        running: The worker.
    """

    def __init__(self, world: World, running: RunningWorker) -> None:
        self._world = world
        self._running = running
        self._waiting = 0  # receives of the main queue
        self._answer, self._answered_s = "none", 0.0  # of the last one that has ended

    def client_of(self, process: Process, client: SimSqsClient) -> Any:
        """Return a client whose receives are checked."""
        return _WatchedClient(client, self, process)

    def receive(self, process: Process, ask: Callable[..., dict[str, Any]], arguments: dict[str, Any]) -> Any:
        """Send a receive, and check it if it is one of the backfill queue."""
        if arguments["QueueUrl"] != self._world.url:
            self._check(process)
            return ask(**arguments)
        self._waiting += 1
        self._answer, answer = "an error", {}
        try:
            answer = ask(**arguments)
            self._answer = "a message" if answer.get("Messages") else "nothing"
            return answer
        finally:
            self._waiting -= 1
            self._answered_s = process.kernel.now

    def _check(self, process: Process) -> None:
        now, scenario = process.kernel.now, self._world.scenario
        if process.frozen_until > self._answered_s - _STALE_S:
            return
        since_s = now - self._answered_s
        if not self._waiting and (self._answer != "nothing" or since_s > _STALE_S) and since_s > _MOMENT_S:
            self._report(process, f"the main queue has given {self._answer} {since_s:.1f} s ago")
        if scenario.max_faults or process.frozen_until:
            return
        # The answer that there was nothing may be on its way when a message comes. The next receive is sent when it has
        # arrived, takes effect, and is answered: until then the worker cannot know better.
        bound_s = 3 * (_MIN_LATENCY_S + scenario.latency_s) + _MOMENT_S
        visible = [one.visible_at - self._world.epoch_s for one in self._world.sqs.messages(self._world.url)]
        if visible and now - min(visible) > bound_s:
            self._report(process, f"a main message waits since {now - min(visible):.1f} s")

    def check_share(self) -> None:
        """Check how many processes jobs of backfills have: called whenever a job has begun."""
        world, worker = self._world, self._running.worker
        share, workers = world.scenario.backfill_percent, world.scenario.jobs_at_once
        if worker is None or not share:
            return
        at_work = [job for job in worker._crew.jobs if job.child is not None and job.lane is Lane.BACKFILL]
        if sum(job.slots for job in at_work) > max(1, workers * share // 100):
            world.lane_problems.append(
                f"{self._running.process.name} does {len(at_work)} jobs of backfills in {workers} processes, of which "
                f"it may use {share} %"
            )

    def _report(self, process: Process, reason: str) -> None:
        self._world.lane_problems.append(
            f"{process.name} asks for a backfill at {process.kernel.now:.3f} although {reason}"
        )


class _WatchedClient:
    """A client of SQS whose receives are checked."""

    def __init__(self, client: SimSqsClient, watch: LaneWatch, process: Process) -> None:
        self.meta = client.meta
        self._client = client
        self._watch = watch
        self._process = process

    def __getattr__(self, operation: str) -> Callable[..., dict[str, Any]]:
        ask: Callable[..., dict[str, Any]] = getattr(self._client, operation)
        if operation != "receive_message":
            return ask
        return lambda **arguments: self._watch.receive(self._process, ask, arguments)


class WatchingProtection(Protection):
    """Protection that checks the share of backfills whenever a job has begun."""

    def __init__(self, watch: LaneWatch, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._watch = watch

    def busy(self) -> None:
        super().busy()
        self._watch.check_share()
