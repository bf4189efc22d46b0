"""Makes a worker from the environment, and runs it."""

from __future__ import annotations

import gc
import signal
import sys
from typing import TYPE_CHECKING

from runner.aws.ecs import Protection
from runner.aws.queue import open_queues
from runner.aws.surroundings import REAL, Surroundings
from runner.health import HealthFile
from runner.log import make_logger
from runner.machine import Bugs
from runner.metrics import Metrics
from runner.settings import Settings, near_misses
from runner.worker.breaker import Breaker, tells
from runner.worker.context import WorkerContext
from runner.worker.job_child import JobChild, environ_of_jobs
from runner.worker.loop import Worker
from runner.worker.notifications import OutcomeChannels
from transform import available_cores

if TYPE_CHECKING:
    from collections.abc import Mapping

    from structlog.typing import FilteringBoundLogger

    from runner.aws.ecs import TaskMetadata


def start_worker(environ: Mapping[str, str], *, drain: bool, around: Surroundings = REAL) -> str:
    """Run a worker to its end; return the reason if it has ended without having done its work, otherwise "".

    Raises:
        RunnerError: A setting is wrong, or something that it names does not exist.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # until there is something to requeue
    settings = Settings.read(environ)
    task = around.task_metadata(environ)
    log = make_logger(settings.log_level, task=task.arn, family=task.family)
    for warning in near_misses(environ):
        log.warning("setting", problem=warning)
    # It takes seconds until a job process is ready, in which this process can load the SDK and look for the queue.
    child = JobChild.start(around.processes, environ_of_jobs(settings, environ))
    try:
        worker = _make_worker(settings, environ, task, log, child, drain=drain, around=around)
    except BaseException:
        child.kill()
        raise
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, worker.on_signal)
    gc.freeze()  # collections need not look at what was loaded
    gc.enable()
    worker.run()
    return worker.end_reason


def _make_worker(
    settings: Settings,
    environ: Mapping[str, str],
    task: TaskMetadata,
    log: FilteringBoundLogger,
    child: JobChild,
    *,
    drain: bool,
    around: Surroundings,
) -> Worker:
    queue, backfill = open_queues(around.worker_sqs(settings), settings)
    metrics = Metrics(settings.metrics_namespace, sys.stdout, {"Family": task.family}, around.clock)
    agent_uri = environ.get("ECS_AGENT_URI")
    agent = around.agent(agent_uri) if agent_uri else None
    bugs = Bugs()
    protection = Protection(agent, log, settings.protect_max_s, around.clock, around.tasks, bugs)
    context = WorkerContext(
        settings=settings,
        environ=environ,
        queue=queue,
        breaker=Breaker(settings.breaker_failures, around, tells(log, metrics)),
        health=HealthFile(settings.health_file),
        protection=protection,
        metrics=metrics,
        channels=OutcomeChannels.open(settings, log, metrics),
        log=log,
        around=around,
        bugs=bugs,
        backfill=backfill,
    )
    return Worker(context, settings.workers or available_cores(), drain=drain, child=child)
