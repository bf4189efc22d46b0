"""Publishing is a loop: look at what is there, decide, publish on condition that it still is, and look again.

Where an output comes from: noted in its metadata, and compared before it is replaced.

Metadata are ASCII and 2 KB at most, so they hold hashes rather than keys.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Self

from runner.errors import ConditionFailedError, ConflictError, NoUploadError, StoreError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from runner.aws.bucket import Store
    from runner.aws.s3_events import ObjectCreated
    from runner.job.upload import Upload


_HASH_CHARACTERS = 32


class PublishDecision(Enum):
    """What to do, given the output that is there."""

    PUBLISH = "publish"
    DUPLICATE = "duplicate"
    """It is from the same source and calculation."""
    STALE = "stale"
    """It is from a newer source, or from a calculation that was asked for later."""


@dataclass(frozen=True, slots=True)
class Origin:
    """What an output was made from.

    Attributes:
        source: A hash of the bucket, key and version of the input.
        digest: A hash of the calculation.
        sequencer: S3's sequencer of the event, "" if it had none.
        modified: When the input was written, in ms since the epoch; 0 where that is not known yet.
        sent: When the message was sent, in ms since the epoch.
    """

    source: str
    digest: str
    sequencer: str = ""
    modified: int = 0
    sent: int = 0

    @classmethod
    def from_event(cls, event: ObjectCreated, digest: str, sent: int) -> Self:
        """Return the origin of what a calculation makes of an object."""
        return cls(source_of(event), digest[:_HASH_CHARACTERS], event.sequencer or "", sent=sent)

    def with_modified(self, moment: datetime | None) -> Self:
        """Return the same origin with the time when the input was written, if S3 has said it."""
        return self if moment is None else replace(self, modified=int(moment.timestamp() * 1000))

    @property
    def job(self) -> str:
        """What identifies the job: the same for the same input and calculation."""
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
        """Return the origin that an object's metadata tell, None if it is none of ours."""
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
        """Return what to do where an output of another origin is there already, or of this one."""
        # Newer even where the content is the same again: between the two there may have been another, whose output is
        # still on its way, and has to find a newer one here than itself.
        if there is None or self.is_newer_than(there):
            return PublishDecision.PUBLISH
        if (there.source, there.digest) == (self.source, self.digest):
            return PublishDecision.DUPLICATE
        if there.is_newer_than(self) or (there.source == self.source and there.sent > self.sent):
            return PublishDecision.STALE
        return PublishDecision.PUBLISH

    def is_newer_than(self, other: Origin) -> bool:
        """Return whether its source was written later, as far as is known.

        Sequencers are compared as S3's documentation says: as hexadecimal text, the shorter with zeros at its end.
        """
        if self.sequencer and other.sequencer:
            width = max(len(self.sequencer), len(other.sequencer))
            mine, theirs = (text.upper().ljust(width, "0") for text in (self.sequencer, other.sequencer))
            return mine > theirs
        return bool(self.modified and other.modified and self.modified > other.modified)


def source_of(event: ObjectCreated) -> str:
    """Return what identifies a version of an input."""
    return hashed(event.bucket, event.key, event.etag or event.version_id or "")


def hashed(*parts: str) -> str:
    """Return a hash of texts, which no others give."""
    text = "\0".join(parts).encode("utf-8", "surrogatepass")
    return hashlib.sha256(text).hexdigest()[:_HASH_CHARACTERS]


_TRIES = 8
_NOTHING_THERE = {"IfNoneMatch": "*"}


class StartAgainError(Exception):
    """The upload is of no use any more: what it held has to be made again."""


def look(store: Store, key: str, origin: Origin) -> tuple[PublishDecision, dict[str, str]]:
    """Return what to do given what is there, and the condition under which that stays right."""
    found = store.head(key)
    if found is None:
        return PublishDecision.PUBLISH, _NOTHING_THERE
    decision = origin.decide(Origin.from_metadata(found.get("Metadata", {})))
    return decision, {"IfMatch": found["ETag"]}


def publish(store: Store, key: str, origin: Origin, upload: Upload) -> tuple[PublishDecision, str]:
    """Publish an output, unless one is there that should stay.

    It looks anew each time, whatever was seen when the job began: content that came back has the ETag that it had, so
    that a condition on what was seen long ago may hold although something newer was published since. What is small is
    first put on condition that there is nothing, which is a request less where that is so.

    Returns:
        `PUBLISH` where it was published, else why not; and the ETag of the output where one of this origin stands.

    Raises:
        StartAgainError: It has to be made again.
        StoreError: S3 does not do it; another time may do better.
    """
    multipart = upload.id is not None
    seen = look(store, key, origin) if multipart else (PublishDecision.PUBLISH, _NOTHING_THERE)
    for tries_left in reversed(range(_TRIES)):
        decision, condition = seen
        if decision is not PublishDecision.PUBLISH:
            return decision, condition["IfMatch"] if decision is PublishDecision.DUPLICATE else ""
        try:
            return PublishDecision.PUBLISH, upload.publish(condition)
        except ConditionFailedError:  # somebody else has published meanwhile
            if not tries_left:
                raise
        except ConflictError as error:
            if multipart or not tries_left:  # S3 asks for a new upload then
                raise StartAgainError(str(error)) from error
        except StoreError as error:
            # It may have been done all the same, the answer being lost.
            decision, condition = look(store, key, origin)
            if decision is PublishDecision.DUPLICATE:
                return PublishDecision.PUBLISH, condition["IfMatch"]
            raise (StartAgainError(str(error)) if isinstance(error, NoUploadError) else error) from error
        seen = look(store, key, origin)
    raise AssertionError
