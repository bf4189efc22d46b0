"""Cancels jobs: writes an object that names the current version of an input; the jobs of the input look for it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from runner.aws.bucket import list_objects
from runner.aws.s3_events import ObjectCreated
from runner.errors import DeniedError, ImpossibleError, SettingsError
from runner.job.cancellation import RESOLUTION_MS
from runner.job.identity import Origin, source_of
from runner.job.keys import cancellation_key, output_key
from runner.ops.status import read_checkpoints

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from runner.aws.bucket import Store
    from runner.ops.deployment import Deployment

_VERSION = 1
_MARGIN_S = 0.2  # clocks may differ by this


@dataclass(frozen=True, slots=True)
class Cancelled:
    """What was cancelled.

    Attributes:
        source: The URI of the input.
        etag: The ETag of its current version, None if there is no such object, and so nothing to cancel.
        running: Number of its jobs that have a checkpoint, and so have begun.
        published: Whether an output was published before; it stays.
    """

    source: str
    etag: str | None
    running: int = 0
    published: bool = False


def cancel(deployment: Deployment, names: Sequence[str], *, dry_run: bool) -> list[Cancelled]:
    """Cancel the jobs of objects whose messages were sent before now.

    Args:
        deployment: The deployment.
        names: Keys or URIs of the inputs.
        dry_run: Write no notes.

    Raises:
        SettingsError: An input is of another bucket, or its bucket is not named although there are several.
        DeniedError, StoreError: S3 refuses a note.
    """
    inputs = [_input(deployment, name) for name in names]
    begun = [(noted.about.get("source"), noted.about.get("etag")) for noted in read_checkpoints(deployment)]
    cancelled = [_cancel(deployment, source, key, begun, dry_run=dry_run) for source, key in inputs]
    if not dry_run and any(one.etag is not None for one in cancelled):
        # The time of a note is in whole seconds: a message that is sent after this returns must count as later.
        deployment.around.clock.sleep(RESOLUTION_MS / 1000 + _MARGIN_S)
    return cancelled


def _cancel(
    deployment: Deployment, bucket: Store, key: str, begun: list[tuple[str | None, str | None]], *, dry_run: bool
) -> Cancelled:
    uri = f"s3://{bucket.bucket}/{key}"
    found = _find(bucket, key)
    if found is None:
        return Cancelled(uri, None)
    etag = str(found["ETag"]).strip('"')
    source = source_of(ObjectCreated(bucket.bucket, key, None, etag, None, None, None))
    if not dry_run:
        _note(deployment, uri, etag, source)
    try:
        output = output_key(deployment.settings, bucket.bucket, key, found["LastModified"])
    except ImpossibleError:  # there cannot be one
        return Cancelled(uri, etag, begun.count((uri, etag)))
    return Cancelled(uri, etag, begun.count((uri, etag)), _is_published(deployment, output, source))


def _find(bucket: Store, key: str) -> dict[str, Any] | None:
    """Return the properties of an object, None if it does not exist; one that may not be read is listed instead."""
    try:
        return bucket.head(key)
    except DeniedError:
        found = next(list_objects(bucket, key), None)  # of all keys that begin with it, the key itself is the first
        return found if found is not None and found["Key"] == key else None


def _is_published(deployment: Deployment, output: str, source: str) -> bool:
    """Return whether the output of a source is there; False if it may not be looked at."""
    try:
        found = deployment.store.head(output) or {}
    except DeniedError:
        return False
    there = Origin.from_metadata(found.get("Metadata", {}))
    return there is not None and there.source == source


def _note(deployment: Deployment, uri: str, etag: str, source: str) -> None:
    moment = datetime.fromtimestamp(deployment.around.clock.time(), UTC).isoformat(timespec="seconds")
    note = {"version": _VERSION, "source": uri, "etag": etag, "cancelled": moment}
    key = cancellation_key(deployment.settings, source)
    content = json.dumps(note, indent=1).encode()
    deployment.store.call("put_object", Key=key, Body=content, ContentType="application/json")


def _input(deployment: Deployment, name: str) -> tuple[Store, str]:
    """Return the bucket and the key that a name stands for."""
    sources = deployment.sources
    if not name.startswith("s3://"):
        if len(sources) > 1:
            raise SettingsError(f"{name}: expected s3://BUCKET/KEY: the input buckets are {_told(sources)}")
        return next(iter(sources.values())), name
    named, _, key = name.removeprefix("s3://").partition("/")
    if named not in sources or not key:
        if len(sources) > 1:
            raise SettingsError(f"{name}: expected s3://BUCKET/KEY: the input buckets are {_told(sources)}")
        bucket = _told(sources)
        raise SettingsError(f"{name}: expected a key, or s3://{bucket}/KEY: the input bucket is {bucket}")
    return sources[named], key


def _told(names: Iterable[str]) -> str:
    return ", ".join(names)
