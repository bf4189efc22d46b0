"""Removes what abandoned jobs have left: checkpoints with their uploads, other uploads, and unlisted rejected lines.

Checkpoints are removed first, each on condition that it has not changed. A worker that has resumed the job meanwhile
either has changed the checkpoint, and keeps it with its upload, or is fenced off and starts again.

Objects of rejected lines are valid only if the index beside them lists them. Others belong to jobs that were never
continued, for example because another calculation was deployed. The index is written at the end of a job, so the folder
of a job is left alone if the job has a checkpoint, or if an object in it is young: a running job without a checkpoint
may have written it, as such a job runs for MAX_LEASE_S at most. Checkpoints are read before the folders are listed: a
job that ends in between has its index by then, and a job that begins in between has no old objects.

An index is valid only if one of the objects that it lists exists. S3 may have written it after its worker had died, and
after another worker had given up the job and deleted the objects.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from runner.aws.bucket import list_objects, list_uploads
from runner.aws.queue import RETENTION
from runner.errors import NoUploadError
from runner.job.keys import cancellations_prefix
from runner.job.rejects import INDEX_NAME, is_complete, is_reject_object, listed_objects
from runner.ops.status import read_checkpoints

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runner.ops.deployment import Deployment


@dataclass(frozen=True, slots=True)
class Swept:
    """Something that was removed, or would be.

    Attributes:
        kind: `checkpoint`, `upload`, `rejects` or `cancellation`.
        key: Its key; of an upload, the key of the object that it would have become.
        time: When it was last written, or begun.
        about: The source of the job, "" if not known.
    """

    kind: str
    key: str
    time: datetime
    about: str = ""


def sweep(
    deployment: Deployment,
    age: timedelta,
    *,
    dry_run: bool,
    retention: timedelta = RETENTION,
    longest_lease: timedelta | None = None,
) -> Iterator[Swept]:
    """Remove what is older than an age; yield each thing.

    Without an OUTPUT_PREFIX, uploads that belong to no checkpoint are left alone: they may be of another program.

    Args:
        deployment: The deployment.
        age: Checkpoints and uploads must be older than this.
        dry_run: Yield what would be removed, and remove nothing.
        retention: Notes that jobs are cancelled must be older than this as well: SQS keeps no message for longer.
        longest_lease: Rejected lines must be older than this as well, as no job runs for longer; by default
            MAX_LEASE_S.

    Raises:
        DeniedError, StoreError: S3 refuses; what was yielded is removed.
    """
    now = datetime.fromtimestamp(deployment.around.clock.time(), UTC)
    before = now - age
    # Listed first: what is begun after that is not looked at, and has its checkpoint by the time those are read.
    prefix = deployment.settings.output_prefix
    open_uploads = [upload for upload in list_uploads(deployment.store, prefix) if upload["Initiated"] < before]
    output_of = {upload["UploadId"]: upload["Key"] for upload in open_uploads}
    in_use, jobs = set(), set()
    for noted in read_checkpoints(deployment):
        if noted.time >= before or not (dry_run or deployment.store.delete_if(noted.key, noted.etag)):
            in_use.add(noted.upload)
            jobs.add(noted.key.rpartition("/")[2].removesuffix(".json"))
            continue
        yield Swept("checkpoint", noted.key, noted.time, noted.about.get("source", ""))
        if noted.upload is not None and noted.upload in output_of:
            in_use.add(noted.upload)
            yield from _abort(deployment, output_of[noted.upload], noted.upload, noted.time, dry_run=dry_run)
    for upload in open_uploads if prefix else ():
        if upload["UploadId"] not in in_use:
            yield from _abort(deployment, upload["Key"], upload["UploadId"], upload["Initiated"], dry_run=dry_run)
    lease = timedelta(seconds=deployment.settings.max_lease_s) if longest_lease is None else longest_lease
    yield from _sweep_rejects(deployment, now - max(age, lease), jobs, dry_run=dry_run)
    expired = now - max(age, retention)
    for found in list_objects(deployment.store, cancellations_prefix(deployment.settings)):
        if found["LastModified"] < expired:
            if not dry_run:
                deployment.store.delete(found["Key"])
            yield Swept("cancellation", found["Key"], found["LastModified"])


def _sweep_rejects(deployment: Deployment, before: datetime, jobs: set[str], *, dry_run: bool) -> Iterator[Swept]:
    """Remove the objects of rejected lines that no index lists, and indexes of which none of the objects exists.

    The folders of `jobs` are left alone, because these have a checkpoint.
    """
    store = deployment.store
    listed = list_objects(store, deployment.settings.rejects_prefix)
    for folder, found in itertools.groupby(listed, key=lambda one: one["Key"].rpartition("/")[0]):
        objects = list(found)
        is_young = any(one["LastModified"] >= before for one in objects)
        if is_young or folder.rpartition("/")[2] in jobs or is_complete(objects):
            continue
        index_key = f"{folder}/{INDEX_NAME}"
        index = store.read(index_key)
        kept = {*listed_objects(index[0] if index is not None else b"")}
        written = {one["Key"]: one["LastModified"] for one in objects}
        for key in sorted(written.keys() - kept):
            if is_reject_object(key):
                if not dry_run:
                    store.delete(key)
                yield Swept("rejects", key, written[key])
        if index is None or index_key not in written or not kept or not kept.isdisjoint(written):
            continue
        is_ours = all(key.startswith(f"{folder}/") for key in kept)
        if is_ours and (dry_run or store.delete_if(index_key, index[1])):
            yield Swept("rejects", index_key, written[index_key])


def _abort(deployment: Deployment, key: str, upload: str, time: datetime, *, dry_run: bool) -> Iterator[Swept]:
    if not dry_run:
        try:
            deployment.store.call("abort_multipart_upload", Key=key, UploadId=upload)
        except NoUploadError:  # it has ended meanwhile
            return
    yield Swept("upload", key, time)
