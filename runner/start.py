"""From the environment to a worker at work."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import boto3

from runner.breaker import Breaker
from runner.health import HealthFile
from runner.metrics import Metrics
from runner.protection import Protection
from runner.queue import Queue
from runner.settings import Settings, near_misses
from runner.task_metadata import read_task_metadata
from runner.telemetry import make_logger
from runner.worker import Tools, Worker
from transform import available_cores

if TYPE_CHECKING:
    from collections.abc import Mapping


def start_worker(environ: Mapping[str, str], *, drain: bool) -> int:
    """Run a worker to its end; return the exit status.

    Raises:
        RunnerError: What it needs is not there.
    """
    settings = Settings.read(environ)
    task = read_task_metadata(environ)
    log = make_logger(settings.log_level, task=task.arn, family=task.family)
    for warning in near_misses(environ):
        log.warning("setting", problem=warning)
    client = boto3.client("sqs", region_name=settings.region)
    queue = Queue.open(client, settings.queue, settings.dead_letter_queue)
    tools = Tools(
        settings=settings,
        queue=queue,
        breaker=Breaker(settings.breaker_failures),
        health=HealthFile(settings.health_file),
        protection=Protection(environ.get("ECS_AGENT_URI"), log, settings.protect_max_s),
        metrics=Metrics(settings.metrics_namespace, sys.stdout, {"Family": task.family}),
        log=log,
    )
    return Worker(tools, settings.workers or available_cores(), drain=drain).run()
