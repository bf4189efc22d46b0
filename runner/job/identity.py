"""The identity of a job, and the origin of an output: the input and calculation that it was made from.

The origin is in the metadata of an output. Before the output is replaced, `Origin.decide` compares it with that of the
new one. Metadata are ASCII, and 2 KB at most, so they contain hashes rather than keys.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Self

from runner.job.context import digest_of
from runner.job.keys import HASH_CHARACTERS, cancellation_key, checkpoint_key, hashed, output_key, rejects_folder

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from runner.aws.s3_events import ObjectCreated
    from runner.job.context import JobContext
    from runner.job.protocol import Order


class PublishDecision(Enum):
    """Whether to publish, given the existing output."""

    PUBLISH = "publish"
    DUPLICATE = "duplicate"
    """The existing output is from the same source and calculation."""
    STALE = "stale"
    """The existing output is from a newer source, or of a message that was sent later."""


@dataclass(frozen=True, slots=True)
class Origin:
    """The input and the calculation that an output was made from.

    Attributes:
        source: A hash of the bucket, key and version of the input.
        digest: A hash of the calculation.
        sequencer: S3's sequencer of the event, "" if it had none.
        modified: When the input was written, in ms since the epoch; 0 if that is not known yet.
        sent: When the message was sent, in ms since the epoch.
    """

    source: str
    digest: str
    sequencer: str = ""
    modified: int = 0
    sent: int = 0

    @classmethod
    def from_event(cls, event: ObjectCreated, digest: str, sent: int) -> Self:
        """Return the origin of the output of a calculation for an object."""
        return cls(source_of(event), digest[:HASH_CHARACTERS], event.sequencer or "", sent=sent)

    def with_modified(self, moment: datetime | None) -> Self:
        """Return the same origin with the time when the input was written, if that is known."""
        return self if moment is None else replace(self, modified=int(moment.timestamp() * 1000))

    @property
    def job(self) -> str:
        """The id of the job: the same for the same input and calculation."""
        return hashed(self.source, self.digest)

    def to_metadata(self) -> dict[str, str]:
        """Return it as metadata of an object."""
        return {
            "transform-source": self.source,
            "transform-digest": self.digest,
            "transform-sequencer": self.sequencer,
            "transform-modified": str(self.modified),
            "transform-sent": str(self.sent),
        }

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> Self | None:
        """Return the origin that the metadata of an object contain, None if they contain none."""
        try:
            return cls(
                metadata["transform-source"],
                metadata["transform-digest"],
                metadata.get("transform-sequencer", ""),  # some stores keep no empty ones
                int(metadata["transform-modified"]),
                int(metadata["transform-sent"]),
            )
        except (KeyError, ValueError):
            return None

    def decide(self, there: Origin | None) -> PublishDecision:
        """Return whether to publish an output of this origin in place of `there`, which is None if nothing is there."""
        # A newer source replaces an older one with the same content, too: between the two there may have been another
        # content, whose output is still on its way, and has to find a newer output here than its own.
        if there is None or self.is_newer_than(there):
            return PublishDecision.PUBLISH
        if (there.source, there.digest) == (self.source, self.digest):
            return PublishDecision.DUPLICATE
        if there.is_newer_than(self) or (there.source == self.source and there.sent > self.sent):
            return PublishDecision.STALE
        return PublishDecision.PUBLISH

    def is_newer_than(self, other: Origin) -> bool:
        """Return whether its source is known to have been written later.

        Sequencers are compared as S3's documentation says: as hexadecimal text, the shorter with zeros at its end.
        """
        if self.sequencer and other.sequencer:
            width = max(len(self.sequencer), len(other.sequencer))
            mine, theirs = (text.upper().ljust(width, "0") for text in (self.sequencer, other.sequencer))
            return mine > theirs
        return bool(self.modified and other.modified and self.modified > other.modified)


def source_of(event: ObjectCreated) -> str:
    """Return a hash that identifies a version of an input."""
    return hashed(event.bucket, event.key, event.etag or event.version_id or "")


@dataclass(frozen=True, slots=True)
class JobIdentity:
    """The identity of a job: its input, its calculation, and the keys that it writes to.

    Attributes:
        event: The event of the input object.
        origin: The origin of the output, without the time of the input, which is known once the input is opened.
        output_key: Key of the output.
        checkpoint_key: Key of the checkpoint.
        cancellation_key: Key of an operator's note that cancels the job.
        rejects_folder: Prefix of the objects of rejected lines.
        about: A description of the job, which the checkpoint and the index of rejected lines contain.
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
            TransformError, RunnerError: There is no calculation for the object, or the key of its output is too long.
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
        """The id of the job: the same for the same input and calculation."""
        return self.origin.job

    @property
    def digest(self) -> str:
        """A hash of the calculation."""
        return self.origin.digest
