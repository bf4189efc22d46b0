"""The messages between the worker and its job processes.

The worker sends an `Order`, `LeaseExtension`s and perhaps `Stop`; the process sends `Ready` or `Refused` once, then
`ProgressUpdate`s and an `Outcome` for each order.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runner.aws.s3_events import ObjectCreated


class JobResult(Enum):
    """The result of a job."""

    DONE = "done"
    """Its output was published."""
    DUPLICATE = "duplicate"
    """Its output existed already."""
    STALE = "stale"
    """A newer output existed already."""
    SUPERSEDED = "superseded"
    """Its input was deleted or overwritten."""
    CANCELLED = "cancelled"
    """An operator has cancelled it."""
    BUSY = "busy"
    """Another worker does it, for another message."""
    STOPPED = "stopped"
    """It was asked to stop, and can continue from its last checkpoint."""
    FENCED = "fenced"
    """Another worker has taken it over."""
    RETRY = "retry"
    """It failed, and may succeed later."""
    FAILED = "failed"
    """It cannot succeed."""
    DENIED = "denied"
    """AWS denies access that it needs."""


@dataclass(frozen=True, slots=True)
class Order:
    """A job to be done.

    Attributes:
        event: The event of the input object.
        sent: When the message was sent, in ms since the epoch.
        workers: How many processes it may use.
        tried_before: Whether there may have been an earlier attempt.
        first_sent: When the original message was sent; None if the message is not a copy.
        owner: The owner of the message; see `Message.owner`.
    """

    event: ObjectCreated
    sent: int
    workers: int
    tried_before: bool
    first_sent: int | None = None
    owner: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a job.

    Attributes:
        kind: The result.
        reason: The reason in a sentence, "" if none is needed.
        summary: The summary of the run, as `transform.Summary.to_dict` returns it.
        job: The id of the job, "" if not known.
        offset: How far the last checkpoint has come, in bytes of the input.
        digest: The digest of the calculation, "" if not known.
        etag: The ETag of the output that the job has published or found, "" without one.
        rejects: The prefix of the objects of rejected lines, "" without any.
    """

    kind: JobResult
    reason: str = ""
    summary: dict[str, Any] = field(default_factory=dict)
    job: str = ""
    offset: int = 0
    digest: str = ""
    etag: str = ""
    rejects: str = ""


@dataclass(frozen=True, slots=True)
class ProgressUpdate:
    """How far a job has come.

    Attributes:
        job: The id of the job.
        offset: How far its last checkpoint has come, in bytes of the input.
        done: How many bytes of the input were read.
        total: The size of the input, None if not known.
    """

    job: str
    offset: int
    done: int
    total: int | None


@dataclass(frozen=True, slots=True)
class Ready:
    """A job process can take orders."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A job process cannot do any job, for a reason."""

    reason: str


@dataclass(frozen=True, slots=True)
class Stop:
    """The job has to stop."""


@dataclass(frozen=True, slots=True)
class LeaseExtension:
    """The job may continue for a number of seconds from when this was sent."""

    seconds: float
