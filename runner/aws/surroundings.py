"""The surroundings of a process: the machine, S3, SQS and the ECS agent, as one value that a simulation replaces."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runner.aws.clients import operator_client, worker_client
from runner.aws.ecs import Agent, TaskMetadata, read_task_metadata
from runner.machine import Subprocesses, SystemChance, SystemClock, Threads

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    from runner.aws.bucket import S3Requests
    from runner.aws.ecs import AsksAgent
    from runner.machine import Chance, Clock, Processes, Tasks
    from runner.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """All that the worker, its job processes and the operator's commands depend on besides their settings.

    Attributes:
        clock: Tells the time.
        chance: Random numbers and names.
        tasks: Threads, and what they wait for.
        processes: Starts job processes.
        s3: Returns what sends requests to S3, for an environment and a region; None for the region of the environment.
        worker_sqs: Returns the worker's client of SQS.
        operator_sqs: Returns the client of SQS for an operator's command.
        agent: Returns the ECS agent at an address.
        task_metadata: Returns the names of the ECS task, for an environment.
        open_input: Opens the input of a job, as `Runnable.stream` takes it; None for the way that it does by itself.
    """

    clock: Clock
    chance: Chance
    tasks: Tasks
    processes: Processes
    s3: Callable[[Mapping[str, str], str | None], S3Requests]
    worker_sqs: Callable[[Settings], Any]
    operator_sqs: Callable[[Settings], Any]
    agent: Callable[[str], AsksAgent]
    task_metadata: Callable[[Mapping[str, str]], TaskMetadata]
    open_input: Callable[..., AbstractContextManager[Any]] | None = None


def _s3fs_requests(environ: Mapping[str, str], region: str | None) -> S3Requests:
    from runner.aws.bucket import S3fsRequests  # noqa: PLC0415 - the process of the worker does without s3fs

    return S3fsRequests.open(environ, region)


REAL = Surroundings(
    clock=SystemClock(),
    chance=SystemChance(),
    tasks=Threads(),
    processes=Subprocesses(),
    s3=_s3fs_requests,
    worker_sqs=lambda settings: worker_client("sqs", settings),
    operator_sqs=lambda settings: operator_client("sqs", settings),
    agent=Agent,
    task_metadata=read_task_metadata,
)
"""This machine, and AWS."""
