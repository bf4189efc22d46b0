"""The keys of the objects that the worker writes for a job."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from runner.errors import ImpossibleError

if TYPE_CHECKING:
    from runner.settings import Settings

MAX_KEY_BYTES = 1024
HASH_CHARACTERS = 32
_REJECTS_NAME_BYTES = 80  # `/<job>/00000001-<writer>.jsonl` and some room


def output_key(settings: Settings, key: str) -> str:
    """Return the key of the output for an input.

    Raises:
        ImpossibleError: It is longer than S3 allows, or is that of an object of the worker.
    """
    name = settings.output_prefix + key
    if is_reserved(settings, key):
        raise ImpossibleError(
            "the output's key would be among the worker's own objects: with an empty OUTPUT_PREFIX, no input's key may"
            f" start with REJECTS_PREFIX or CHECKPOINT_PREFIX, {settings.rejects_prefix} and"
            f" {settings.checkpoint_prefix}"
        )
    if (size := len(name.encode())) > MAX_KEY_BYTES:
        raise ImpossibleError(
            f"the output's key would have {size} bytes, and S3 takes {MAX_KEY_BYTES}: shorten OUTPUT_PREFIX or the key"
        )
    return name


def rejects_folder(settings: Settings, key: str, job: str) -> str:
    """Return the prefix of all rejects of a job; the key of the input is cut if it is too long."""
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


def is_reserved(settings: Settings, key: str) -> bool:
    """Return whether the output of an input would be among the worker's own objects, and so may not be made.

    This is so only if `OUTPUT_PREFIX` is empty: uploaders of inputs could write checkpoints and cancellations.
    """
    return (settings.output_prefix + key).startswith((settings.rejects_prefix, settings.checkpoint_prefix))


def hashed(*parts: str) -> str:
    """Return a hash of texts; other texts have another hash."""
    text = "\0".join(parts).encode("utf-8", "surrogatepass")
    return hashlib.sha256(text).hexdigest()[:HASH_CHARACTERS]
