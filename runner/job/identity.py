"""What a job is, before anything of its input is read: the keys it writes to, and what others are told about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.job.context import digest_of
from runner.job.keys import cancellation_key, checkpoint_key, output_key, rejects_folder
from runner.job.publish import Origin

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runner.aws.s3_events import ObjectCreated
    from runner.job.context import JobContext
    from runner.job.protocol import Order


@dataclass(frozen=True, slots=True)
class JobIdentity:
    """One object, one calculation, and where the output goes.

    Attributes:
        event: The event of the input object.
        origin: What the output is made from. When the input was written follows once it is opened.
        output_key: Key of the output.
        checkpoint_key: Key of the checkpoint.
        cancellation_key: Key of an operator's note that cancels the job.
        rejects_folder: Prefix of the objects of rejected lines.
        about: The same for whoever looks at the checkpoint or the index of rejected lines, by name.
    """

    event: ObjectCreated
    origin: Origin
    output_key: str
    checkpoint_key: str
    cancellation_key: str
    rejects_folder: str
    about: Mapping[str, str]

    @classmethod
    def from_order(cls, context: JobContext, order: Order) -> JobIdentity:
        """Return the identity of the job that an order asks for.

        Raises:
            TransformError, RunnerError: No calculation is meant for the object, or the key of its output is too long.
        """
        event, settings = order.event, context.settings
        source = f"s3://{event.bucket}/{event.key}"
        key = output_key(settings, event.key)
        origin = Origin.from_event(event, digest_of(context.calculation, settings, source), order.sent)
        about = {
            "job": origin.job,
            "source": source,
            "etag": event.etag or "",
            "version": event.version_id or "",
            "output": f"s3://{context.store.bucket}/{key}",
            "digest": origin.digest,
            "worker": context.worker,
        }
        return cls(
            event=event,
            origin=origin,
            output_key=key,
            checkpoint_key=checkpoint_key(settings, origin.job),
            cancellation_key=cancellation_key(settings, origin.source),
            rejects_folder=rejects_folder(settings, event.key, origin.job),
            about=about,
        )

    @property
    def id(self) -> str:
        """The same for the same input and calculation."""
        return self.origin.job

    @property
    def digest(self) -> str:
        """A hash of the calculation."""
        return self.origin.digest
