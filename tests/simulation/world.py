"""The world of one simulation: buckets, queues, workers under ECS, a producer, an operator, and whatever goes wrong."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cache, partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from runner.aws.bucket import Store
from runner.aws.ecs import TaskMetadata
from runner.aws.message import Lane
from runner.aws.queue import Queue
from runner.aws.surroundings import REAL, Surroundings
from runner.errors import SettingsError
from runner.job.cancellation import Cancellations
from runner.job.context import JobContext
from runner.job.keys import cancellations_prefix
from runner.job.process import serve
from runner.machine import Bugs
from runner.ops.sweep import sweep
from runner.settings import Settings
from runner.worker.breaker import Breaker
from runner.worker.context import WorkerContext
from runner.worker.loop import Worker
from runner.worker.notifications import OutcomeChannels
from tests.simulation.actors import Actors
from tests.simulation.calculation import SimCalculation, open_object
from tests.simulation.kernel import EPOCH_S, Kernel, Process
from tests.simulation.keying import KEYINGS
from tests.simulation.lanes import LaneWatch, WatchingProtection
from tests.simulation.machine import SimChance, SimClock, SimProcesses, SimTasks
from tests.simulation.network import Faults, Network, SimS3Requests, SimSqsClient
from tests.simulation.s3_model import S3Model
from tests.simulation.scenario import DIGESTS, OUTPUT, Action, InputVersion, Kind, Scenario
from tests.simulation.sqs_model import SqsModel
from transform import PartSizes

if TYPE_CHECKING:
    from collections.abc import Callable

    from runner.aws.bucket import S3Requests
    from tests.simulation.machine import SimConnection
    from tests.simulation.trace import Trace

VISIBILITY_S = 60
STOP_S = 20
TICK_S = 20.0  # a receive without a message wakes a worker earlier
_PART_BYTES = 60
_RANGE_BYTES = 15  # beside backfills, so that objects of several parts are large ones
_RESTART_S = 5.0, 40.0
_SCALE_IN_S = 10.0
_HANGS_S = 1e6  # for good


@cache
def settings_with(max_lease_s: float, keying: str = "", backfill_percent: int = 0, after: str = "keep") -> Settings:
    """Return the settings of the workers: as in production, but for sizes."""
    read = Settings.read(
        {**KEYINGS[keying].settings, "S3_OUTPUT_BUCKET": OUTPUT, "SQS_BATCH_QUEUE": "queue", "CALCULATION": "a AS b"}
        | {"VISIBILITY_TIMEOUT_S": str(VISIBILITY_S), "STOP_TIMEOUT_S": str(STOP_S), "RETRY_MIN_S": "5"}
        | ({"BACKFILL_QUEUE": "backfill", "BACKFILL_SHARE": f"{backfill_percent}%"} if backfill_percent else {})
        | {"AFTER": after, "RETRY_MAX_S": "60", "MAX_ATTEMPTS": "8", "OUTPUT_PREFIX": "output/", "POLL_WAIT_S": "20"}
    )
    sizes = {"part_bytes": _PART_BYTES} | ({"range_bytes": _RANGE_BYTES} if backfill_percent else {})
    return read.model_copy(update={**sizes, "max_lease_s": max_lease_s})


@dataclass
class RunningWorker:
    """A worker under ECS.

    Attributes:
        process: Its process.
        digest: The calculation of its deployment.
        worker: The worker itself, None before it runs.
        retired: Whether it is not replaced when it ends.
        protected_until_s: Until when ECS does not stop it.
    """

    process: Process
    digest: str
    worker: Worker | None = None
    retired: bool = False
    protected_until_s: float = 0.0


class _Log:
    """A log whose lines are part of the trace."""

    def __init__(self, world: World, process: Process, bound: dict[str, Any] | None = None) -> None:
        self._world = world
        self._process = process
        self._bound = bound or {}

    def bind(self, **fields: Any) -> _Log:
        return _Log(self._world, self._process, self._bound | fields)

    def info(self, event: str, **fields: Any) -> None:
        if self._world.trace.kept:
            told = {name: value for name, value in (self._bound | fields).items() if value not in ("", None, 0)}
            text = " ".join(f"{name}={str(value)[-200:]}" for name, value in told.items())
            self._world.trace.say(self._world.kernel.now, self._process.name, f"-- {event}: {text}")

    debug = warning = error = critical = info


class _Bugs(Bugs):
    """Bugs of the threads of a worker, which end the simulation at once."""

    def note(self, error: Exception) -> None:
        raise error


class _Agent:
    """The ECS agent of a task."""

    def __init__(self, world: World, running: RunningWorker) -> None:
        self._world = world
        self._running = running

    def protect(self, minutes: int) -> tuple[str, str]:
        world, process = self._world, self._running.process
        clock = SimClock(process)
        clock.sleep(world.faults.latency(process))
        failed = bool(world.scenario.agent_failures) and process.chance.random() < world.scenario.agent_failures
        if failed and process.chance.random() < 0.5:
            return "ThrottlingException", "simulated"
        self._running.protected_until_s = world.kernel.now + 60 * minutes
        return ("no answer", "simulated") if failed else ("", "")


@dataclass
class World:
    """One simulation; `run` it once.

    Attributes:
        scenario: What happens.
        trace: What has happened.
        inputs: All versions of each input, the oldest first.
        cancelled: The keys about which an operator has written a cancellation.
        epoch_s: The wall-clock time of the start.
        digests: The calculations that were deployed, in order.
        lane_problems: What workers have done with the backfill queue that they may not do.
        left_by_calm_work: Uploads and checkpoints that are left although nothing went wrong, before a sweep.
    """

    scenario: Scenario
    trace: Trace
    inputs: dict[str, list[InputVersion]] = field(default_factory=dict)
    cancelled: set[str] = field(default_factory=set)
    epoch_s: float = EPOCH_S
    digests: list[str] = field(default_factory=lambda: [DIGESTS[0]])

    def __post_init__(self) -> None:
        scenario = self.scenario
        self.kernel = Kernel(scenario.seed)
        clock = self.kernel.epoch_s
        self.chance = random.Random(f"{scenario.seed} world")
        # Where contents come again, ETags that are hashes could have an input deleted in the place of another.
        unique = scenario.after == "delete" and scenario.unique_etags
        self.input = S3Model(clock, unique_etags=unique, page_size=scenario.page_size)
        self.output = S3Model(clock, unique_etags=scenario.unique_etags, page_size=scenario.page_size)
        self.output.replay_completes = scenario.replays
        self.output.overlaps_conflict = scenario.overlaps
        inputs = KEYINGS[scenario.keying].buckets
        for bucket in inputs:
            self.input.create_bucket(bucket, versioning=scenario.versioned)
        self.output.create_bucket(OUTPUT)
        self.sqs = SqsModel(clock, random.Random(f"{scenario.seed} sqs"))
        self.sqs.duplicate_probability = scenario.duplicates
        self.sqs.report_expired = scenario.reports_expired
        self.dead_url = self.sqs.create_queue("dead", {"MessageRetentionPeriod": "1209600"})
        self.url = self.sqs.create_queue("queue", {"MessageRetentionPeriod": "1209600"})
        self.backfill_url = self.sqs.create_queue("backfill", {"MessageRetentionPeriod": "1209600"})
        self._queued = self.sqs.stored(self.url)
        self._queued_behind = self.sqs.stored(self.backfill_url)
        self.faults = Faults(
            scenario.fault_rate,
            scenario.calm_s,
            scenario.max_faults,
            (5.0, 200.0),
            scenario.latency_s,
            scenario.left_out,
        )
        self.network = Network(
            self.kernel,
            {**dict.fromkeys(inputs, self.input), OUTPUT: self.output},
            OUTPUT,
            self.sqs,
            self.faults,
            self.trace,
        )
        self.settings = settings_with(scenario.max_lease_s, scenario.keying, scenario.backfill_percent, scenario.after)
        self.workers: list[RunningWorker] = []
        self.told: list[dict[str, Any]] = []
        self.told_s: list[float] = []
        self.to_do = 0
        self.operators = 0
        self._quiet_s = scenario.quiet_s
        self._quiet_since: float | None = None
        self.actors = Actors(self)
        self.lane_problems: list[str] = []
        self.left_by_calm_work: list[str] = []
        self._started = 0

    # The simulation

    def run(self, *, max_s: float, max_events: int) -> None:
        """Let everything happen, until all is at rest.

        Raises:
            Stuck: It does not come to rest.
        """
        for _ in range(self.scenario.workers):
            self.start_worker()
        for action in self.scenario.actions:
            self.at(action.at_s, self.actors.act, action)
        self._run_until_quiet(self.scenario.quiet_s, max_s, max_events)
        if self.scenario.final_submit:
            self.actors.submit(Action(self.kernel.now, Kind.SUBMIT))
            self._run_until_quiet(self.scenario.quiet_s, max_s, max_events)
        self.faults.until_s = 0.0
        left = [*self.output.uploads(OUTPUT), *self.checkpoints()]
        if self.scenario.is_calm:
            self.left_by_calm_work = left
        if not left and not self._has_rejects():  # a sweep would find nothing
            return
        now = timedelta(0)
        self.actors.operate(lambda on: (list(sweep(on, now, dry_run=False, longest_lease=now)), None)[1])
        self._run_until_quiet(0.0, max_s, max_events)

    def _has_rejects(self) -> bool:
        return any(key.startswith(self.settings.rejects_prefix) for key in self.output.objects(OUTPUT))

    def _run_until_quiet(self, quiet_s: float, max_s: float, max_events: int) -> None:
        self._quiet_s, self._quiet_since = quiet_s, None
        if self.kernel.failure is None:
            self.kernel.run(self.is_over, max_s=max_s, max_events=max_events)

    def close(self) -> None:
        """End everything."""
        for running in list(self.workers):  # each that ends leaves the list
            running.process.end(-9)

    def at(self, at_s: float, action: Callable[..., None], *arguments: Any) -> None:
        self.to_do += 1

        def act() -> None:
            self.to_do -= 1
            action(*arguments)

        self.kernel.after(max(0.0, at_s - self.kernel.now), act)

    def is_over(self) -> bool:
        """Return whether all is at rest: nothing is to be done, on its way or frozen, and that for a while."""
        now = self.kernel.now
        kernel, network = self.kernel, self.network
        at_work = self.to_do or self.operators or network.on_the_way or self._queued or self._queued_behind
        if at_work or (kernel.frozen_until > now and self._is_frozen(now)) or self._has_jobs():
            self._quiet_since = None
            return False
        if self._quiet_since is None:
            self._quiet_since = now
        return now - self._quiet_since >= self._quiet_s

    def _has_jobs(self) -> bool:
        """Return whether a worker has a job, or a message to settle, although the queue is empty."""
        workers = [one.worker for one in self.workers if one.worker is not None]
        return any(worker._crew.jobs or worker._settlement._requests._pending for worker in workers)

    def _is_frozen(self, now: float) -> bool:
        return any(
            one.frozen_until > now for worker in self.workers for one in (worker.process, *worker.process.children)
        )

    # ECS

    def start_worker(self) -> None:
        self._started += 1
        process = Process(self.kernel, f"w{self._started}")
        process.skew_s = self.chance.choice((0.0, self.scenario.skew_s, -self.scenario.skew_s))
        running = RunningWorker(process, self.digests[-1])
        self.workers.append(running)
        process.at_death.append(partial(self._replace, running))
        process.start(self._work, running)

    def _replace(self, running: RunningWorker) -> None:
        """Start another worker when one has ended, as a service of ECS does."""
        self.workers.remove(running)
        self.trace.say(self.kernel.now, running.process.name, f"has ended with status {running.process.status}")
        if not running.retired:
            self.at(self.kernel.now + self.chance.uniform(*_RESTART_S), self.start_worker)

    def _hear(self, event: dict[str, Any]) -> None:
        self.told.append(event)
        self.told_s.append(self.kernel.now)

    def _work(self, running: RunningWorker) -> None:
        """Run a worker: the first thread of its process."""
        process, settings = running.process, self.settings
        around, bugs = self.around(process, partial(self._do_jobs, running.digest)), _Bugs()
        log: Any = _Log(self, process)
        metrics: Any = SimpleNamespace(emit=lambda *_, **__: None)
        watch = LaneWatch(self, running)
        main, backfill = self.queues_of(process, watch)
        channel = SimpleNamespace(name="topic", paused_until=0.0, send=self._hear)
        context = WorkerContext(
            settings=settings,
            environ={},
            queue=main,
            breaker=Breaker(settings.breaker_failures, around),
            health=cast("Any", SimpleNamespace(write=lambda *_: None)),
            protection=WatchingProtection(
                watch,
                _Agent(self, running) if self.scenario.has_agent else None,
                log,
                settings.protect_max_s,
                around.clock,
                around.tasks,
                bugs,
            ),
            metrics=metrics,
            channels=OutcomeChannels([cast("Any", channel)], log, metrics, around.clock),
            log=log,
            around=around,
            bugs=bugs,
            backfill=backfill,
        )
        running.worker = Worker(context, self.scenario.jobs_at_once, drain=False, tick_s=TICK_S)
        try:
            status = running.worker.run()
        except SettingsError as error:  # no job process has started: `runner worker` says so and ends
            self.trace.say(self.kernel.now, process.name, f"the worker ends: {error}")
            status = 1
        process.end(status)

    def _do_jobs(self, digest: str, process: Process, connection: SimConnection) -> None:
        """Run a job process: its first thread."""
        around = self.around(process)
        if self.faults.start_fails(process, self.scenario.bad_starts):
            hangs = process.chance.random() < 0.5
            self.trace.say(self.kernel.now, process.name, f"** {'hangs' if hangs else 'dies'} at its start")
            if hangs:
                around.clock.sleep(_HANGS_S)
            around.processes.exit(1)
        requests = around.s3({}, None)
        sources, store = self.sources(requests), Store(OUTPUT, requests)
        notes = Cancellations(store, cancellations_prefix(self.settings), clock=around.clock)
        context = JobContext(
            self.settings,
            SimCalculation(digest, self.scenario.rows),
            sources,
            store,
            notes,
            PartSizes(_PART_BYTES),
            process.name,
            around=around,
        )
        serve(context, cast("Any", connection))

    def scale_in(self, running: RunningWorker) -> None:
        """Stop a worker once it is not protected, as ECS does; it looks every few seconds."""
        if running.protected_until_s > self.kernel.now and running.process.alive:
            self.at(self.kernel.now + _SCALE_IN_S, self.scale_in, running)
        else:
            self.terminate(running)

    def terminate(self, running: RunningWorker) -> None:
        """Stop a worker as ECS does: SIGTERM, and SIGKILL if it has not ended in time."""
        if running.worker is not None and running.process.alive:
            running.process.start(running.worker.on_signal, 15)
            self.at(self.kernel.now + STOP_S + 10, running.process.end, -9)
        else:
            running.process.end(-9)

    def sources(self, requests: S3Requests) -> dict[str, Store]:
        """Return the input buckets."""
        return {name: Store(name, requests) for name in self.settings.input_buckets}

    def queues_of(self, process: Process, watch: LaneWatch | None = None) -> tuple[Queue, Queue | None]:
        """Return the queues as a process uses them: the main one and that of backfills, None without one."""
        client: Any = SimSqsClient(process, self.network, self.sqs)
        if watch is not None:
            client = watch.client_of(process, client)
        main = Queue(client, "queue", self.url, self.dead_url, None)
        if not self.scenario.backfill_percent:
            return main, None
        return main, Queue(client, "backfill", self.backfill_url, self.dead_url, None, Lane.BACKFILL)

    def around(self, process: Process, main: Callable[[Process, SimConnection], None] | None = None) -> Surroundings:
        """Return the surroundings of a process."""
        requests = SimS3Requests(process, self.network)
        return replace(
            REAL,
            clock=SimClock(process),
            chance=SimChance(process),
            tasks=cast("Any", SimTasks(process)),
            processes=cast("Any", SimProcesses(process, main)),
            s3=lambda *_: requests,
            task_metadata=lambda _: TaskMetadata(),
            open_input=partial(open_object, requests),
        )

    def checkpoints(self) -> list[str]:
        prefix = self.settings.checkpoint_prefix
        keys = self.output.objects(OUTPUT)
        return [key for key in keys if key.startswith(prefix) and not key.startswith(f"{prefix}cancelled/")]
