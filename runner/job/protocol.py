"""The messages between the worker and its job processes.

The worker sends an `Order`, `LeaseExtension`s and perhaps `Stop`; the process sends `Ready` or `Refused` once, then
`ProgressUpdate`s and an `Outcome` for each order.
"""

from __future__ import annotations

import math
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


class InputResult(Enum):
    """What AFTER has done with an input whose output exists."""

    DELETED = "deleted"
    TAGGED = "tagged"
    GONE = "gone"
    """The version that was read is not the current one any more: it was deleted or overwritten."""
    KEPT = "kept"
    """It must not be deleted, for a reason."""
    FAILED = "failed"
    """S3 has refused it, or has not answered."""


@dataclass(frozen=True, slots=True)
class InputOutcome:
    """What became of the input of a job, after its output was published.

    Attributes:
        kind: The result.
        reason: Why it was not deleted or tagged, "" if it was.
        may_succeed: Whether another try may succeed.
    """

    kind: InputResult
    reason: str = ""
    may_succeed: bool = False


@dataclass(frozen=True, slots=True)
class Order:
    """A job to be done.

    Attributes:
        event: The event of the input object.
        sent: When the message was sent, in ms since the epoch.
        workers: How many processes it may use.
        tried_before: Whether there may have been an earlier attempt.
        first_sent: When the original message was sent, which is `sent` if the message is not a copy.
        owner: The owner of the message; see `Message.owner`.
        lease_until: Until when the job may continue, as in a `LeaseExtension`.
    """

    event: ObjectCreated
    sent: int
    workers: int
    tried_before: bool
    first_sent: int
    owner: str = ""
    lease_until: float = math.inf


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a job.

    Attributes:
        kind: The result.
        reason: The reason in a sentence, "" if none is needed.
        summary: The summary of the run, as `transform.Summary.to_dict` returns it.
        job: The id of the job, "" if not known.
        offset: How far the last checkpoint has come, in bytes of the input; None if not known. The worker fills it in.
        digest: The digest of the calculation, "" if not known.
        etag: The ETag of the output that the job has published or found, "" without one.
        output: The key of this output, "" without one.
        rejects: The prefix of the objects of rejected lines, "" without any.
        of_object: Whether the failure is, or may be, the fault of the input object alone: access to it is denied, its
            content cannot be read, its lines are rejected, its key is too long.
        unfit: Whether the calculation does not fit the input: a column is missing, or of a type that it cannot use, or
            no calculation is for the key. Either of them may be at fault.
        input: What became of the input, None if nothing was to be done with it.
    """

    kind: JobResult
    reason: str = ""
    summary: dict[str, Any] = field(default_factory=dict)
    job: str = ""
    offset: int | None = None
    digest: str = ""
    etag: str = ""
    output: str = ""
    rejects: str = ""
    of_object: bool = False
    unfit: bool = False
    input: InputOutcome | None = None


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
    """The job may continue until a later time.

    Attributes:
        until: A time of the monotonic clock, which both processes share.
    """

    until: float
