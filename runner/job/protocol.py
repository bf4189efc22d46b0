"""What a job is given, and what becomes of it: what the worker and its job processes tell each other."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runner.aws.s3_events import ObjectCreated


class JobResult(Enum):
    """What became of a job."""

    DONE = "done"
    """Its output was published."""
    DUPLICATE = "duplicate"
    """Its output was there already."""
    STALE = "stale"
    """A newer output was there already."""
    SUPERSEDED = "superseded"
    """Its input is gone, or is another now."""
    CANCELLED = "cancelled"
    """An operator has cancelled it."""
    BUSY = "busy"
    """Another worker is at it, for another message."""
    STOPPED = "stopped"
    """It was asked to stop, and goes on from its last checkpoint."""
    FENCED = "fenced"
    """Another worker has taken it over."""
    RETRY = "retry"
    """It failed, and may succeed later."""
    FAILED = "failed"
    """It cannot succeed."""
    DENIED = "denied"
    """AWS refuses what it needs."""


@dataclass(frozen=True, slots=True)
class Order:
    """A job to be done.

    Attributes:
        event: Of the object.
        sent: When the message was sent, in ms since the epoch.
        workers: How many processes it may use.
        tried_before: Whether somebody may have begun with it.
        first_sent: When the first of the message's copies was sent; None where it is the only one.
        owner: What stands for the message, as `Message.owner` says.
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
        kind: In a word.
        reason: In a sentence.
        summary: What was done, as `transform.Summary.to_dict` gives it.
        job: What identifies the job, "" where that is not known.
        offset: How far the last checkpoint has come, in bytes of the input.
        digest: Of the calculation, "" where that is not known.
        etag: Of the output that the job has published or found; "" where there is none of it.
        rejects: The prefix of the objects that hold the rejected lines, "" where there are none.
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
        job: What identifies it.
        offset: How far its last checkpoint has come.
        done: How many bytes of the input were transformed.
        total: How many it has, None where only its end tells.
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
    """A job process cannot do any job, and why."""

    reason: str


@dataclass(frozen=True, slots=True)
class Stop:
    """The job is to stop."""


@dataclass(frozen=True, slots=True)
class LeaseExtension:
    """The job may go on for so long, counted from when this was sent."""

    seconds: float
