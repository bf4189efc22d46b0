"""Removes what abandoned jobs have left: old checkpoints with their uploads, and uploads without a checkpoint.

Checkpoints are removed first, each on condition that it has not changed. A worker that has resumed the job meanwhile
either has changed the checkpoint, and keeps it with its upload, or is fenced off and starts again.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from runner.aws.bucket import list_objects, list_uploads
from runner.errors import ConditionFailedError, NoUploadError
from runner.job.keys import cancellations_prefix
from runner.ops.status import read_checkpoints

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runner.ops.deployment import Deployment

RETENTION = timedelta(days=14)
"""SQS keeps no message for longer, so that a note about a cancelled job has no effect after that."""


@dataclass(frozen=True, slots=True)
class Swept:
    """Something that was removed, or would be.

    Attributes:
        kind: `checkpoint`, `upload` or `cancellation`.
        key: Its key; of an upload, the key of the object that it would have become.
        time: When it was last written, or begun.
        about: The source of the job, "" if not known.
    """

    kind: str
    key: str
    time: datetime
    about: str = ""


def sweep(
    deployment: Deployment, age: timedelta, *, dry_run: bool, retention: timedelta = RETENTION
) -> Iterator[Swept]:
    """Remove what is older than an age; yield each thing.

    Without an OUTPUT_PREFIX, uploads that belong to no checkpoint are left alone: they may be of another program.

    Args:
        deployment: The deployment.
        age: Checkpoints and uploads have to be older than this.
        dry_run: Yield what would be removed, and remove nothing.
        retention: Notes that jobs are cancelled have to be older than this as well.

    Raises:
        DeniedError, StoreError: S3 refuses; what was yielded is removed.
    """
    before = datetime.now(UTC) - age
    # Listed first: what is begun after that is not looked at, and has its checkpoint by the time those are read.
    prefix = deployment.settings.output_prefix
    open_uploads = [upload for upload in list_uploads(deployment.store, prefix) if upload["Initiated"] < before]
    output_of = {upload["UploadId"]: upload["Key"] for upload in open_uploads}
    in_use = set()
    for noted in read_checkpoints(deployment):
        if noted.time >= before or not (dry_run or _removed(deployment, noted.key, noted.etag)):
            in_use.add(noted.upload)
            continue
        yield Swept("checkpoint", noted.key, noted.time, noted.about.get("source", ""))
        if noted.upload is not None and noted.upload in output_of:
            in_use.add(noted.upload)
            yield from _abort(deployment, output_of[noted.upload], noted.upload, noted.time, dry_run=dry_run)
    for upload in open_uploads if prefix else ():
        if upload["UploadId"] not in in_use:
            yield from _abort(deployment, upload["Key"], upload["UploadId"], upload["Initiated"], dry_run=dry_run)
    expired = datetime.now(UTC) - max(age, retention)
    for found in list_objects(deployment.store, cancellations_prefix(deployment.settings)):
        if found["LastModified"] < expired:
            if not dry_run:
                deployment.store.delete(found["Key"])
            yield Swept("cancellation", found["Key"], found["LastModified"])


def _removed(deployment: Deployment, key: str, etag: str) -> bool:
    """Remove a checkpoint unless a worker has resumed the job; return whether it was removed."""
    try:
        deployment.store.call("delete_object", Key=key, IfMatch=etag)
    except ConditionFailedError:
        return False
    return True


def _abort(deployment: Deployment, key: str, upload: str, time: datetime, *, dry_run: bool) -> Iterator[Swept]:
    if not dry_run:
        try:
            deployment.store.call("abort_multipart_upload", Key=key, UploadId=upload)
        except NoUploadError:  # it has ended meanwhile
            return
    yield Swept("upload", key, time)
