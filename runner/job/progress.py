"""The content of a checkpoint: how far a job has come.

Any program that may write to the bucket may have written it, and so may an earlier version of the worker. It is read as
typed data within limits; if anything about it is wrong, there is no checkpoint, and the job starts again.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from math import isfinite
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeVar

import msgspec

from runner.job.identity import Origin, read_sequencer
from runner.job.keys import MAX_KEY_BYTES
from transform import State, Summary, UploadedPart

if TYPE_CHECKING:
    from collections.abc import Mapping

_VERSION = 3
MAX_LEASE_S = 43_200
"""The longest time for which a message can be invisible, and so the longest lease that a checkpoint can claim."""
MAX_PARTS = 10_000
_YEAR_10000_MS = 253_402_300_800_000  # from here on, there are no dates
_CODECS = (None, "gzip", "zstd", "bz2", "xz")

_T = TypeVar("_T")
_Name = Annotated[str, msgspec.Meta(max_length=200)]
_Text = Annotated[str, msgspec.Meta(max_length=4096)]
_Given = Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]
_Key = Annotated[str, msgspec.Meta(max_length=MAX_KEY_BYTES)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
_Milliseconds = Annotated[int, msgspec.Meta(ge=0, le=_YEAR_10000_MS - 1)]
_RejectName = Annotated[str, msgspec.Meta(pattern=r"\A[0-9]{8}-[0-9A-Za-z]{1,40}\.jsonl\Z")]


class _Part(msgspec.Struct):
    number: Annotated[int, msgspec.Meta(ge=1, le=MAX_PARTS)]
    etag: _Given
    size: _Count


class _Content(msgspec.Struct):
    """The content of the object as JSON."""

    version: Literal[3]
    writer: _Name
    owner: _Name
    lease_s: Annotated[float, msgspec.Meta(ge=0, le=MAX_LEASE_S)]
    about: dict[_Name, _Text]
    offset: _Count
    upload: _Given
    parts: Annotated[list[_Part], msgspec.Meta(max_length=MAX_PARTS)]
    rejects: list[_RejectName]
    reject_bytes: _Count
    sequencer: _Name
    modified: _Milliseconds
    sent: _Count
    state: dict[str, Any]
    codec: Literal["gzip", "zstd", "bz2", "xz"] | None
    first_sent: _Count
    output: _Key = ""


class _Writer(msgspec.Struct):
    writer: _Name


@dataclass(frozen=True, slots=True)
class JobProgress:
    """The content of a checkpoint.

    Attributes:
        upload: The id of the multipart upload.
        parts: The parts of the upload that contain the output up to `state`.
        state: How far the input has been transformed.
        rejects: The names of the objects of rejects that were written up to `state`, in order.
        about: A description of the job, for operators.
        owner: The owner of the message that it was written for; see `Message.owner`.
        lease_s: For how many seconds after it was written others assume that the owner works on the job.
        reject_bytes: How many bytes of rejected lines have been kept up to `state`.
        sequencer: The sequencer in the metadata of the upload; see `Origin`, as for the next three.
        modified: When the input was written, as in these metadata.
        sent: When the message was sent, as in these metadata.
        first_sent: When the original of the message was sent, as in these metadata.
        codec: The format in which the parts of the upload are compressed, None if they are not.
        output: The key of the upload, "" if it is not known: earlier versions have not written it.
    """

    upload: str
    parts: tuple[UploadedPart, ...] = ()
    state: State = field(default_factory=State)
    rejects: tuple[str, ...] = ()
    about: Mapping[str, str] = field(default_factory=dict)
    owner: str = ""
    lease_s: float = 0.0
    reject_bytes: int = 0
    sequencer: str = ""
    modified: int = 0
    sent: int = 0
    first_sent: int = 0
    codec: str | None = None
    output: str = ""

    def to_json(self, writer: str = "") -> bytes:
        """Return the content of the object; `writer` makes it differ from the same content by another process."""
        plain = {
            "version": _VERSION,
            "writer": writer,
            "owner": self.owner,
            "lease_s": self.lease_s,
            "about": dict(self.about),
            "offset": self.state.summary.bytes_in,
            "upload": self.upload,
            "parts": [{"number": part.number, "etag": part.etag, "size": part.size} for part in self.parts],
            "rejects": self.rejects,
            "reject_bytes": self.reject_bytes,
            "sequencer": self.sequencer,
            "modified": self.modified,
            "sent": self.sent,
            "first_sent": self.first_sent,
            "codec": self.codec,
            "output": self.output,
            "state": self.state.to_dict(),
        }
        return json.dumps(plain).encode()  # with line breaks, it would take eight times as long for 10,000 parts

    @classmethod
    def from_json(cls, content: bytes) -> Self:
        """Return the progress from the content of the object.

        Raises:
            ValueError: It is not a valid checkpoint of this version.
        """
        plain = _decode(content, _Content)
        parts = tuple(UploadedPart(part.number, part.etag, part.size) for part in plain.parts)
        if any(part.number != number for number, part in enumerate(parts, 1)):
            raise ValueError("the parts have gaps")
        state = _read_state(plain.state)
        if state.summary.bytes_in != plain.offset:
            raise ValueError("the offset is not that of the state")
        plain.output.encode()  # raises ValueError for what is no key of S3
        return cls(
            upload=plain.upload,
            parts=parts,
            state=state,
            rejects=tuple(plain.rejects),
            about=plain.about,
            owner=plain.owner,
            lease_s=plain.lease_s,
            reject_bytes=plain.reject_bytes,
            sequencer=read_sequencer(plain.sequencer),
            modified=plain.modified,
            sent=plain.sent,
            first_sent=plain.first_sent,
            codec=plain.codec,
            output=plain.output,
        )

    def origin(self, origin: Origin) -> Origin:
        """Return the origin that the metadata of the upload contain, for that of another event of the same content."""
        return replace(
            origin, sequencer=self.sequencer, modified=self.modified, sent=self.sent, first_sent=self.first_sent
        )


def writer_of(content: bytes) -> str | None:
    """Return who wrote a checkpoint, None if it is not valid."""
    try:
        return _decode(content, _Writer).writer
    except ValueError:
        return None


def _decode(content: bytes, kind: type[_T]) -> _T:
    try:
        # Not by msgspec alone, because member names and reasons may contain lone surrogates, which it refuses.
        return msgspec.convert(json.loads(content), kind)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"no checkpoint: {error}") from error


def _read_state(plain: dict[str, Any]) -> State:
    """Return the state from plain data; raises ValueError if it is not that of a state."""
    try:
        state = State.from_dict(plain)
        # It takes any values for its numbers and texts.
        summary = msgspec.convert(msgspec.to_builtins(state.summary), Summary)
    except Exception as error:
        raise ValueError(f"no checkpoint: {error!r}") from error
    counts = [value for value in asdict(summary).values() if isinstance(value, int)]
    counts += [*summary.nonfinite.values(), *summary.inexact.values()]
    counts += [count for reason in summary.reject_reasons.values() for count in (reason.count, reason.first_offset)]
    if min(counts) < 0 or max(counts) >= 1 << 63 or not isfinite(summary.seconds) or state.codec not in _CODECS:
        raise ValueError("no checkpoint: a number is out of range, or the compression is unknown")
    return state
