"""The keys of the objects that the worker writes for a job."""

from __future__ import annotations

import hashlib
from enum import Enum
from typing import TYPE_CHECKING

from runner.errors import ImpossibleError

if TYPE_CHECKING:
    from datetime import datetime

    from runner.settings import Settings

MAX_KEY_BYTES = 1024
HASH_CHARACTERS = 32
_REJECTS_NAME_BYTES = 80  # `/<job>/00000001-<writer>.jsonl` and some room


class Sharing(Enum):
    """Whether several inputs may have one output key."""

    EXCLUSIVE = "exclusive"
    """Only one input has it: as far as these settings were always the same, what is there is of this input."""
    SHARED = "shared"
    """Others may have it. An output that does not name its input may be of any."""
    SHARED_SINCE = "shared since"
    """Others may have it, but what does not name its input is of this one: it is where the input's output was before
    there were other settings, and earlier versions named no inputs."""


def output_key(settings: Settings, bucket: str, key: str, modified: datetime | None = None) -> str:
    """Return the key of the output for an input.

    Args:
        settings: The settings.
        bucket: The bucket of the input.
        key: Its key.
        modified: When S3 says that the version of the input was written. The event of a version, a later submission and
            a redrive have the same, while the time of an event differs: S3 counts uploads in parts from their begin.
            None only if OUTPUT_KEY has no date.

    Raises:
        ImpossibleError: It is empty, longer than S3 allows, or that of an object of the worker.
    """
    name = _filled(settings, bucket, key, modified)
    if is_reserved(settings, bucket, key, modified):
        what = "no input's key may" if settings.keeps_keys else "OUTPUT_KEY must give no key that"
        raise ImpossibleError(
            f"the output's key would be among the worker's own objects: with an empty OUTPUT_PREFIX, {what}"
            f" start{'' if settings.keeps_keys else 's'} with REJECTS_PREFIX or CHECKPOINT_PREFIX,"
            f" {settings.rejects_prefix} and {settings.checkpoint_prefix}"
        )
    if not name:
        raise ImpossibleError("the output's key would be empty: set OUTPUT_PREFIX, or another OUTPUT_KEY")
    if (size := len(name.encode())) > MAX_KEY_BYTES:
        shorter = "OUTPUT_PREFIX or the key" if settings.keeps_keys else "OUTPUT_PREFIX, OUTPUT_KEY or the key"
        raise ImpossibleError(
            f"the output's key would have {size} bytes, and S3 takes {MAX_KEY_BYTES}: shorten {shorter}"
        )
    return name


def is_reserved(settings: Settings, bucket: str, key: str, modified: datetime | None = None) -> bool:
    """Return whether the output of an input would be among the worker's own objects, and so may not be made.

    This is so only if `OUTPUT_PREFIX` is empty: uploaders of inputs could write checkpoints and cancellations.
    """
    name = _filled(settings, bucket, key, modified)
    return name.startswith((settings.rejects_prefix, settings.checkpoint_prefix))


def _filled(settings: Settings, bucket: str, key: str, modified: datetime | None) -> str:
    return settings.output_prefix + settings.key_template.fill(bucket, key, modified)


def sharing_of(settings: Settings, key: str, output: str) -> Sharing:
    """Return whether other inputs may have the output key of an input."""
    if settings.keeps_keys:
        return Sharing.EXCLUSIVE
    is_kept = len(settings.input_buckets) == 1 and output == settings.output_prefix + key
    return Sharing.SHARED_SINCE if is_kept else Sharing.SHARED


def is_wanted(settings: Settings, key: str) -> bool:
    """Return whether `INPUT_PREFIX` and `INPUT_SUFFIX` let an input be transformed."""
    prefixes, suffixes = settings.input_prefixes, settings.input_suffixes
    return (not prefixes or key.startswith(prefixes)) and (not suffixes or key.endswith(suffixes))


def rejects_folder(settings: Settings, bucket: str, key: str, job: str) -> str:
    """Return the prefix of all rejects of a job; the key of the input is cut if it is too long.

    With several input buckets, the folders of each are in one of their own.
    """
    if len(settings.input_buckets) > 1:
        key = f"{bucket}/{key}"
    room = MAX_KEY_BYTES - _REJECTS_NAME_BYTES - len(settings.rejects_prefix.encode())
    encoded = key.encode()
    name = key if len(encoded) <= room else f"{encoded[: room - 33].decode(errors='ignore')}~{hashed(key)}"
    return f"{settings.rejects_prefix}{name}/{job}/"


def checkpoint_key(settings: Settings, job: str) -> str:
    """Return the key of a job's checkpoint."""
    return f"{settings.checkpoint_prefix}{job}.json"


def claim_key(settings: Settings) -> str:
    """Return the key of the claim to the prefixes; without `.json`, so that it is not taken for a checkpoint."""
    return f"{settings.checkpoint_prefix}claim"


def cancellations_prefix(settings: Settings) -> str:
    """Return the prefix of the notes that cancel jobs."""
    return f"{settings.checkpoint_prefix}cancelled/"


def cancellation_key(settings: Settings, source: str) -> str:
    """Return the key of the note that cancels the jobs of a version of an input; see `Origin.source`."""
    return f"{cancellations_prefix(settings)}{source}.json"


def is_worker_key(settings: Settings, bucket: str, key: str) -> bool:
    """Return whether an object is one that the worker wrote, and so never a job."""
    if bucket != settings.output_bucket:
        return False
    prefixes = settings.output_prefix, settings.rejects_prefix, settings.checkpoint_prefix
    return any(prefix and key.startswith(prefix) for prefix in prefixes)


def hashed(*parts: str) -> str:
    """Return a hash of texts; other texts have another hash."""
    text = "\0".join(parts).encode("utf-8", "surrogatepass")
    return hashlib.sha256(text).hexdigest()[:HASH_CHARACTERS]
