"""How an object has ended, as a document for others; docs/outcome-event.schema.json describes it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from runner.names import output_key
from runner.outcome import JobResult

if TYPE_CHECKING:
    from runner.events import ObjectCreated
    from runner.message import Message
    from runner.outcome import Outcome
    from runner.settings import Settings

VERSION = 1
_MAX_REASON_CHARACTERS = 2000  # a traceback may be longer, and SNS takes 256 KiB in all
_COUNTS = ("lines_in", "lines_out", "filtered", "rejected", "blank", "bytes_in", "bytes_out")


def describe(
    settings: Settings, event: ObjectCreated, message: Message, outcome: Outcome, seconds: float
) -> dict[str, Any]:
    """Return the document.

    Args:
        settings: Of the worker.
        event: Of the object.
        message: Which asked for it.
        outcome: What has become of it, for good.
        seconds: How long the last attempt took.
    """
    stands = outcome.kind in (JobResult.DONE, JobResult.DUPLICATE)
    output = {"bucket": settings.output_bucket, "key": output_key(settings, event.key)} if stands else None
    return {
        "version": VERSION,
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "outcome": outcome.kind.value,
        "reason": outcome.reason[:_MAX_REASON_CHARACTERS],
        "source": {
            "bucket": event.bucket,
            "key": event.key,
            "version_id": event.version_id,
            "etag": event.etag,
            "size": event.size,
        },
        "output": output and {**output, "etag": outcome.etag.strip('"') or None},
        "counts": {name: outcome.summary.get(name, 0) for name in _COUNTS} if outcome.summary else None,
        "rejects": {"bucket": settings.output_bucket, "prefix": outcome.rejects} if outcome.rejects else None,
        "job": outcome.job or None,
        "digest": outcome.digest or None,
        "attempts": message.attempts + 1,
        "seconds": round(seconds, 3),
        "message": message.id,
        "trace": message.trace or None,
    }
