"""The checkpoints of all jobs that have not ended, as an operator sees them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runner.listing import list_objects
from runner.names import cancellations_prefix

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from runner.deployment import Deployment


@dataclass(frozen=True, slots=True)
class CheckpointInfo:
    """A checkpoint.

    Attributes:
        key: The object.
        etag: Its ETag.
        time: When it was written.
        upload: The id of the multipart upload, None where the checkpoint cannot be understood.
        offset: How many bytes of the input are transformed, after decompression.
        about: What the job is, as it says itself.
    """

    key: str
    etag: str
    time: datetime
    upload: str | None
    offset: int
    about: Mapping[str, str]


def read_checkpoints(deployment: Deployment) -> Iterator[CheckpointInfo]:
    """Yield the checkpoints; what cannot be understood is there, with nothing known about it.

    Raises:
        DeniedError, StoreError: S3 does not give them.
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
