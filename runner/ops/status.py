"""The status of a deployment: waiting messages, running jobs with their progress, and dead letters by cause.

Running jobs are known from their checkpoints, which other commands read from here as well.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from runner.aws.bucket import list_objects
from runner.aws.clients import operator_client
from runner.aws.dead_letters import Causes
from runner.errors import SettingsError
from runner.job.keys import cancellations_prefix

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from runner.aws.dead_letters import Cause, DeadLetters
    from runner.aws.queue import Queue
    from runner.ops.deployment import Deployment

MAX_LETTERS = 1000
_AGE_WINDOW = timedelta(minutes=10)  # CloudWatch has the queue's age once a minute, a few minutes late


@dataclass(frozen=True, slots=True)
class CheckpointInfo:
    """A checkpoint.

    Attributes:
        key: The key of its object.
        etag: Its ETag.
        time: When it was written.
        upload: The id of the multipart upload, None if the checkpoint cannot be understood.
        offset: Bytes of the input that are transformed, after decompression.
        about: The job's own description, by name.
    """

    key: str
    etag: str
    time: datetime
    upload: str | None
    offset: int
    about: Mapping[str, str]


def read_checkpoints(deployment: Deployment) -> Iterator[CheckpointInfo]:
    """Yield all checkpoints; one that cannot be understood has no upload and an empty description.

    Raises:
        DeniedError, StoreError: S3 does not list or return them.
    """
    settings, store = deployment.settings, deployment.store
    for found in list_objects(store, settings.checkpoint_prefix):
        if found["Key"].startswith(cancellations_prefix(settings)) or not found["Key"].endswith(".json"):
            continue
        read = store.read(found["Key"])
        if read is not None:  # else it has ended meanwhile
            yield CheckpointInfo(found["Key"], read[1], found["LastModified"], *_parse(read[0]))


def _parse(content: bytes) -> tuple[str | None, int, Mapping[str, str]]:
    try:
        plain: Any = json.loads(content)
        about = {str(name): str(value) for name, value in plain["about"].items()}
        return str(plain["upload"]), int(plain["offset"]), about
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None, 0, {}


@dataclass(frozen=True, slots=True)
class JobStatus:
    """A job with a checkpoint, which has not ended: a worker does it, or it waits on the queue.

    Attributes:
        source: The URI of its input.
        job: The id of the job.
        worker: The writer of the checkpoint: an ECS task's ARN, or a host.
        read: Bytes of the stored input that had been read by then, None if not known.
        size: Size of the stored input in bytes, None if not known.
        started: When the job began, None if not known.
        noted: When the checkpoint was written.
        idle_s: Seconds since then.
        seconds_left: Estimate at the rate up to then, None if not known.
    """

    source: str
    job: str
    worker: str
    read: int | None
    size: int | None
    started: datetime | None
    noted: datetime
    idle_s: float
    seconds_left: float | None


@dataclass(frozen=True, slots=True)
class BackfillStatus:
    """The status of a queue of backfills, with the same attributes as that of the main queue in `Status`."""

    queue: str
    waiting: int
    in_flight: int
    delayed: int
    oldest_age_s: float | None


@dataclass(frozen=True, slots=True)
class Status:
    """The status of a deployment.

    Attributes:
        queue: The name of its main queue.
        waiting: Approximate number of visible messages.
        in_flight: Approximate number of messages that were received and are invisible.
        delayed: Approximate number of delayed messages.
        oldest_age_s: Age of the oldest message in seconds, None if CloudWatch does not have it.
        jobs: Jobs with a checkpoint, the longest idle one last.
        dead_letters: Approximate number of dead letters.
        looked_at: Number of dead letters that were looked at.
        causes: The causes of those, the most frequent first.
        backfill: The status of its queue of backfills, None without one.
    """

    queue: str
    waiting: int
    in_flight: int
    delayed: int
    oldest_age_s: float | None
    jobs: list[JobStatus]
    dead_letters: int
    looked_at: int
    causes: list[Cause]
    backfill: BackfillStatus | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data, for JSON."""
        plain = asdict(self)
        for job in plain["jobs"]:
            job |= {name: job[name] and job[name].isoformat() for name in ("started", "noted")}
        return plain


def read_status(deployment: Deployment, before: Status | None = None, *, max_letters: int = MAX_LETTERS) -> Status:
    """Return the status of a deployment.

    Args:
        deployment: The deployment.
        before: An earlier status; the dead letters are looked at again only if their number has changed since then.
        max_letters: Maximum number of dead letters to look at.

    Raises:
        DeniedError, StoreError, QueueError: S3 or SQS does not answer.
    """
    counts = deployment.queue.waiting()
    now = datetime.fromtimestamp(deployment.around.clock.time(), UTC)
    jobs = sorted((_job(noted, now) for noted in read_checkpoints(deployment)), key=lambda job: job.idle_s)
    letters = deployment.dead_letters()
    dead = sum(one.count() for one in letters)
    if before is not None and before.dead_letters == dead:
        looked_at, causes = before.looked_at, before.causes
    else:
        looked_at, causes = _look(letters, max_letters) if dead else (0, [])
    age_s = _oldest_age_s(deployment, deployment.queue) if sum(counts) else None
    found = max(dead, looked_at), looked_at, causes
    return Status(deployment.queue.name, *counts, age_s, jobs, *found, _backfill_status(deployment))


def _backfill_status(deployment: Deployment) -> BackfillStatus | None:
    queue = deployment.backfill
    if queue is None:
        return None
    counts = queue.waiting()
    return BackfillStatus(queue.name, *counts, _oldest_age_s(deployment, queue) if sum(counts) else None)


def _look(letters: Sequence[DeadLetters], max_letters: int) -> tuple[int, list[Cause]]:
    """Return how many dead letters were looked at, and why they are there."""
    causes = Causes()
    for one in letters:
        if causes.total < max_letters:
            with one.look(max_letters - causes.total) as found:
                for letter in (letter for batch in found for letter in batch):
                    causes.add(letter)
    return causes.total, causes.listed()


def _job(noted: CheckpointInfo, now: datetime) -> JobStatus:
    about = noted.about
    read, size = _number(about.get("read")), _number(about.get("size"))
    started = _moment(about.get("started"))
    left_s = None
    if started is not None and read and size is not None and noted.time > started:
        left_s = round(max(0, size - read) / read * (noted.time - started).total_seconds(), 1)
    return JobStatus(
        source=about.get("source", f"a checkpoint that cannot be understood: {noted.key}"),
        job=about.get("job", ""),
        worker=about.get("worker", ""),
        read=read,
        size=size,
        started=started,
        noted=noted.time,
        idle_s=round(max(0.0, (now - noted.time).total_seconds()), 1),
        seconds_left=left_s,
    )


def _oldest_age_s(deployment: Deployment, queue: Queue) -> float | None:
    """Return the age that CloudWatch has: receiving a message to learn its age would count as an attempt."""
    now = datetime.now(UTC)
    try:
        cloudwatch = operator_client("cloudwatch", deployment.settings)
        points = cloudwatch.get_metric_statistics(
            Namespace="AWS/SQS",
            MetricName="ApproximateAgeOfOldestMessage",
            Dimensions=[{"Name": "QueueName", "Value": queue.name}],
            StartTime=now - _AGE_WINDOW,
            EndTime=now,
            Period=60,
            Statistics=["Maximum"],
        )["Datapoints"]
    except (ClientError, BotoCoreError, SettingsError):  # it may well be denied, and is no reason to say nothing
        return None
    return float(max(points, key=lambda point: point["Timestamp"])["Maximum"]) if points else None


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() else None


def _moment(text: str | None) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return moment if moment.tzinfo else None
