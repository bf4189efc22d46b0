"""The S3 events in a message: which objects were created. Start with `parse`.

S3 sends events in one of two forms: notifications, which encode keys, and events of EventBridge, which do not. Both may
be wrapped in a message of SNS.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, TypeVar
from urllib.parse import quote_plus, unquote_plus

import msgspec
from msgspec import UNSET, UnsetType

from runner.errors import EventError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MAX_MESSAGE_CHARACTERS = 300
"""Maximum length of an error or a reason, which become parts of logs and of message attributes."""
_MAX_SHOWN_CHARACTERS = 100

_NO_WORK = {
    *("IntelligentTiering", "LifecycleExpiration", "LifecycleTransition", "ObjectAcl", "ObjectAnnotation"),
    *("ObjectRemoved", "ObjectRestore", "ObjectTagging", "ReducedRedundancyLostObject", "Replication"),
}
_NO_WORK_OF_EVENTBRIDGE = (  # how a detail-type begins
    *("Async Copy ", "Object ACL ", "Object Access Tier ", "Object Annotation", "Object Deleted", "Object Restore "),
    *("Object Storage Class ", "Object Tags "),
)

_T = TypeVar("_T")
_Text = Annotated[str, msgspec.Meta(min_length=1)]
_Bytes = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
_Time = Annotated[datetime, msgspec.Meta(tz=True)]


@dataclass(frozen=True, slots=True)
class ObjectCreated:
    """The event of an object that was created or overwritten; None for what the event does not contain.

    Attributes:
        bucket: The name of its bucket.
        key: Its key, not encoded.
        version_id: The id of its version if the bucket has versions; `"null"` if they are suspended.
        etag: Its ETag, without quotes.
        size: Its size in bytes.
        sequencer: Orders the events of one key: hexadecimal, to be padded on the right.
        time: When S3 finished the request, in UTC.
    """

    bucket: str
    key: str
    version_id: str | None
    etag: str | None
    size: int | None
    sequencer: str | None
    time: datetime | None

    @property
    def name(self) -> str:
        """The bucket and the key, with `/` between them: of several input buckets, two may have the same key."""
        return f"{self.bucket}/{self.key}"

    def to_body(self) -> str:
        """Return an S3 notification, for which `parse` returns exactly this event unless it is of a folder marker.

        Example:
            >>> event = ObjectCreated("in", "a b+c.jsonl", None, None, 5, None, None)
            >>> parse(event.to_body()).created == (event,)
            True
        """
        described = _Object(
            quote_plus(self.key, safe="/"),
            _or_unset(self.size),
            _or_unset(self.etag),
            _or_unset(self.version_id),
            _or_unset(self.sequencer),
        )
        time = UNSET if self.time is None else self.time.astimezone(UTC)
        record = _Record("ObjectCreated:Put", "2.1", "aws:s3", time, _Entity(_Bucket(self.bucket), described))
        return msgspec.json.encode(_Notification([record])).decode()


@dataclass(frozen=True, slots=True)
class Parsed:
    """The events in one message.

    Attributes:
        created: The objects to work on, in the order of the message.
        ignored: A reason for each event that is not a job: a removal, a folder marker, S3's test event.
    """

    created: tuple[ObjectCreated, ...]
    ignored: tuple[str, ...]


class _Bucket(msgspec.Struct):
    name: _Text


class _Object(msgspec.Struct, rename={"etag": "eTag", "version_id": "versionId"}):
    key: _Text
    size: _Bytes | UnsetType = UNSET
    etag: str | UnsetType = UNSET
    version_id: str | UnsetType | None = UNSET  # S3's documentation says `null` for a bucket without versions
    sequencer: str | UnsetType = UNSET


class _BridgedObject(_Object, rename="kebab"):  # renames only the members that are declared here
    etag: str | UnsetType = UNSET
    version_id: str | UnsetType | None = UNSET


class _Entity(msgspec.Struct):
    bucket: _Bucket
    object: _Object


class _Record(msgspec.Struct, rename="camel"):
    event_name: str
    event_version: str = "2.1"
    event_source: str = "aws:s3"
    event_time: _Time | UnsetType = UNSET
    s3: _Entity | UnsetType = UNSET


class _Notification(msgspec.Struct, rename={"records": "Records"}):
    records: list[_Record]


class _Detail(msgspec.Struct):
    bucket: _Bucket
    object: _BridgedObject


class _Bridged(msgspec.Struct):
    detail: _Detail
    time: _Time | UnsetType = UNSET


class _Wrapped(msgspec.Struct, rename={"message": "Message"}):
    message: str


class _Head(msgspec.Struct, rename={"records": "Records", "type": "Type", "event": "Event", "detail": "detail-type"}):
    """The members that distinguish the kinds of messages."""

    records: msgspec.Raw | UnsetType = UNSET
    type: str | UnsetType = UNSET
    event: str | UnsetType = UNSET
    detail: str | UnsetType = UNSET
    source: str | UnsetType = UNSET


def parse(body: str) -> Parsed:
    """Return the events in the body of a message.

    Raises:
        EventError: The body is not JSON, or one of its records is malformed or of an unknown kind.
    """
    return _parse(body, in_sns=False)


def _parse(body: str, *, in_sns: bool) -> Parsed:
    head = _decode(body, _Head)
    if head.records is not UNSET:
        return _sort(_read_records(_decode(body, _Notification).records))
    if head.detail is not UNSET:
        return _sort([_read_bridged(body, head.detail, head.source)])
    if head.event == "s3:TestEvent":
        return _sort(["s3:TestEvent, which S3 sends when notifications are set up"])
    if head.type == "Notification" and not in_sns:
        return _parse(_decode(body, _Wrapped).message, in_sns=True)
    if head.type is not UNSET:
        place = ", within another" if in_sns else ""
        raise _error(f"an SNS message of the type {_show(head.type)}{place}: not an event of S3")
    names = ", ".join(_show(name) for name in sorted(_decode(body, dict[str, msgspec.Raw])))
    raise _error(f"not an event of S3: a JSON object with {f'the members {names}' if names else 'no members'}")


def _read_records(records: list[_Record]) -> Iterator[ObjectCreated | str]:
    if not records:
        raise _error("Records is empty")
    for position, record in enumerate(records):
        place = f"Records[{position}]"
        family, _, action = record.event_name.removeprefix("s3:").partition(":")
        if record.event_source != "aws:s3":
            raise _error(f"{place} comes from {_show(record.event_source)}, not from aws:s3")
        if not re.fullmatch(r"2\.[0-9]+", record.event_version):
            raise _error(f"{place} has eventVersion {_show(record.event_version)}; 2.x is known")
        if family not in _NO_WORK and not (family == "ObjectCreated" and action):
            raise _error(f"{place} has the unknown eventName {_show(record.event_name)}")
        if record.s3 is UNSET:
            raise _error(f"{place} ({_show(record.event_name)}) has no s3")
        key = _decode_key(record.s3.object.key, place)
        if family == "ObjectCreated":
            yield _describe(record.s3.bucket.name, key, record.s3.object, record.event_time)
        else:
            yield f"{_show(record.event_name)} of {_show(f's3://{record.s3.bucket.name}/{key}')}"


def _read_bridged(body: str, detail_type: str, source: str | UnsetType) -> ObjectCreated | str:
    if source != "aws.s3":
        found = "no source" if source is UNSET else f"the source {_show(source)}"
        raise _error(f"an event of EventBridge, {_show(detail_type)}, with {found}: not one of aws.s3")
    if detail_type == "Object Created":
        event = _decode(body, _Bridged)
        return _describe(event.detail.bucket.name, event.detail.object.key, event.detail.object, event.time)
    if detail_type.startswith(_NO_WORK_OF_EVENTBRIDGE):
        return f"{_show(detail_type)} from EventBridge"
    raise _error(f"an event of EventBridge with the unknown detail-type {_show(detail_type)}")


def _describe(bucket: str, key: str, found: _Object, time: datetime | UnsetType) -> ObjectCreated | str:
    if key.endswith("/") and found.size == 0:
        return f"{_show(f's3://{bucket}/{key}')} is a folder marker: empty, with a key that ends in /"
    size = None if found.size is UNSET else found.size
    etag = (_or_none(found.etag) or "").strip('"') or None
    try:
        moment = None if time is UNSET else time.astimezone(UTC)
    except OverflowError:
        raise _error(f"the time {time} is out of range in UTC") from None
    return ObjectCreated(bucket, key, _or_none(found.version_id), etag, size, _or_none(found.sequencer), moment)


def _sort(found: Iterable[ObjectCreated | str]) -> Parsed:
    every = tuple(found)
    created = tuple(one for one in every if isinstance(one, ObjectCreated))
    return Parsed(created, tuple(_shorten(one, MAX_MESSAGE_CHARACTERS) for one in every if isinstance(one, str)))


def _decode_key(key: str, place: str) -> str:
    try:
        return unquote_plus(key, errors="strict")
    except UnicodeDecodeError:
        raise _error(f"{place} has the key {_show(key)}, which does not decode to UTF-8") from None


def _decode(body: str, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise _error(f"a malformed event: {error}") from None
    except RecursionError:
        raise _error(f"JSON that is nested too deeply: {_show(body)}") from None
    except ValueError as error:  # from msgspec, or because of a lone surrogate in the body
        raise _error(f"not JSON ({_shorten(str(error), _MAX_SHOWN_CHARACTERS)}): {_show(body)}") from None


def _or_none(text: str | UnsetType | None) -> str | None:
    return None if text is UNSET else text or None


def _or_unset(value: _T | None) -> _T | UnsetType:
    return UNSET if value is None else value


def _error(message: str) -> EventError:
    return EventError(_shorten(message, MAX_MESSAGE_CHARACTERS))


def _show(text: str) -> str:
    """Return a text of the message as one short printable line."""
    return _shorten(repr(text[:_MAX_SHOWN_CHARACTERS]) + ("…" if len(text) > _MAX_SHOWN_CHARACTERS else ""), 150)


def _shorten(text: str, characters: int) -> str:
    return text if len(text) <= characters else text[: characters - 1] + "…"
