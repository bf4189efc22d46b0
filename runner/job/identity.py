"""The identity of a job, and the origin of an output: the input and calculation that it was made from.

The origin is in the metadata of an output. Before the output is replaced, `Origin.decide` compares it with that of the
new one. Metadata are ASCII, and 2 KB at most, so they contain hashes rather than keys.
"""

from __future__ import annotations

import re
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


_SEQUENCER = re.compile("[0-9A-Fa-f]{1,64}")  # those of S3 have 18 digits or a few more
_NUMBER = re.compile("-?[0-9]{1,19}")
_AHEAD_MS = 24 * 3600 * 1000  # how far the clock that a time comes from may be ahead


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
        modified: When the input was written, in ms since the epoch; 0 if that is not known.
        sent: When the message was sent, in ms since the epoch; 0 if that is not known.
        first_sent: When the original of the message was sent, in the same unit; equal if the message is not a copy.
    """

    source: str
    digest: str
    sequencer: str = ""
    modified: int = 0
    sent: int = 0
    first_sent: int = 0

    @classmethod
    def from_event(cls, event: ObjectCreated, digest: str, sent: int, first_sent: int | None = None) -> Self:
        """Return the origin of the output of a calculation for an object; without `first_sent` for an original."""
        sequencer = read_sequencer(event.sequencer or "")
        first_sent = sent if first_sent is None else first_sent
        return cls(source_of(event), digest[:HASH_CHARACTERS], sequencer, sent=sent, first_sent=first_sent)

    def with_modified(self, moment: datetime | None) -> Self:
        """Return the same origin with the time when the input was written, if that is known."""
        return self if moment is None else replace(self, modified=int(moment.timestamp() * 1000))

    @property
    def job(self) -> str:
        """The id of the job: the same for the same input and calculation."""
        return hashed(self.source, self.digest)

    @property
    def asked(self) -> tuple[int, int]:
        """When it was asked for; a later copy of a message does not make it newer than a later message."""
        return self.first_sent, self.sent

    def to_metadata(self) -> dict[str, str]:
        """Return it as metadata of an object."""
        return {
            "transform-source": self.source,
            "transform-digest": self.digest,
            "transform-sequencer": self.sequencer,
            "transform-modified": str(self.modified),
            "transform-sent": str(self.sent),
            "transform-first-sent": str(self.first_sent),
        }

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], now: float | None = None) -> Self | None:
        """Return the origin that the metadata of an object contain, None if they contain none.

        Any program may have written them. A sequencer that is not hexadecimal counts as none, and a time that cannot be
        right as unknown. Earlier versions have not written when the original of the message was sent.

        Args:
            metadata: The metadata.
            now: The time in seconds since the epoch: times more than a day later count as unknown. None for no limit.
        """
        try:
            return cls(
                metadata["transform-source"],
                metadata["transform-digest"],
                read_sequencer(metadata.get("transform-sequencer", "")),  # some stores keep no empty ones
                _read_time(metadata["transform-modified"], now),
                _read_time(metadata["transform-sent"], now),
                _read_time(metadata.get("transform-first-sent", metadata["transform-sent"]), now),
            )
        except (KeyError, ValueError):
            return None

    def decide(self, there: Origin | None) -> PublishDecision:
        """Return whether to publish an output of this origin in place of `there`, which is None if nothing is there.

        For another version of the input this is what the origins claim. S3 knows which version is current, and
        `Publisher` asks it before it replaces an output, and before it believes that the existing one is newer.
        """
        if there is None:
            return PublishDecision.PUBLISH
        if there.source != self.source:
            return PublishDecision.STALE if there.is_newer_than(self) else PublishDecision.PUBLISH
        if there.digest != self.digest:  # another deployment: the last submission decides, not S3's order
            return PublishDecision.STALE if there.asked > self.asked else PublishDecision.PUBLISH
        # The newer of two events replaces the output of the older one with the same content, too: between the two there
        # may have been another content, whose output is still on its way, and has to find a newer output here than its
        # own.
        return PublishDecision.PUBLISH if self.is_newer_than(there) else PublishDecision.DUPLICATE

    def is_newer_than(self, other: Origin) -> bool:
        """Return whether its source is known to have been written later.

        Sequencers are compared as S3's documentation says: as hexadecimal text, the shorter with zeros at its end.
        Without two of them, the times are compared, in seconds as S3 has them: two versions of one second have no known
        order.
        """
        if self.sequencer and other.sequencer:
            width = max(len(self.sequencer), len(other.sequencer))
            mine, theirs = (text.upper().ljust(width, "0") for text in (self.sequencer, other.sequencer))
            return mine > theirs
        return bool(self.modified and other.modified and self.modified // 1000 > other.modified // 1000)


def read_sequencer(text: str) -> str:
    """Return a sequencer from metadata, "" if it is not hexadecimal or too long."""
    return text if _SEQUENCER.fullmatch(text) else ""


def _read_time(text: str, now: float | None) -> int:
    """Return a time in ms from metadata, 0 if it cannot be right."""
    if not _NUMBER.fullmatch(text):
        raise ValueError("not a number")
    moment = int(text)
    return moment if moment >= 0 and (now is None or moment <= now * 1000 + _AHEAD_MS) else 0


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
            TransformError, RunnerError: There is no calculation for the object, or the key of its output is too
                long, or that of an object of the worker.
        """
        event, settings = order.event, context.settings
        source = f"s3://{event.bucket}/{event.key}"
        key = output_key(settings, event.key)
        digest = digest_of(context.calculation, settings, source)
        origin = Origin.from_event(event, digest, order.sent, order.first_sent)
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
