"""What the model of S3 stores, and the checks of requests that depend on nothing else."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from botocore.exceptions import ParamValidationError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

HEADERS = ("ContentType", "ContentEncoding", "ContentDisposition", "ContentLanguage", "CacheControl", "StorageClass")
"""Arguments of a write that come back when the object is read."""

_MAX_KEY_BYTES = 1024
_MAX_METADATA_BYTES = 2048
_MAX_TAGS = 10
_RANGE = re.compile(r"bytes=(?:(\d+)-(\d*)|-(\d+))", re.ASCII)
_BAD_RANGE = "The requested range is not satisfiable"


@dataclass(slots=True)
class StoredObject:
    """One version of an object, or a delete marker. Only the model changes it.

    Attributes:
        key: Its key.
        body: Its content.
        etag: Its ETag, in quotes.
        version_id: Its version, "null" in a bucket without versions.
        last_modified: Its time as S3 reports it, in whole seconds.
        written: When it became visible, by the clock of the model.
        sequence: Number of the write, ascending over all buckets.
        metadata: Its metadata, with names in lower case.
        headers: Its content type and so on, by the names that boto3 uses.
        tags: Its tags.
        is_delete_marker: Whether it is a delete marker.
        ended: When it was replaced or deleted, None while it is current.
    """

    key: str
    body: bytes
    etag: str
    version_id: str
    last_modified: datetime
    written: float
    sequence: int
    metadata: Mapping[str, str]
    headers: Mapping[str, str]
    tags: Mapping[str, str]
    is_delete_marker: bool = False
    ended: float | None = None


@dataclass(slots=True)
class OpenUpload:
    """A multipart upload that is neither completed nor aborted. Do not change it.

    Attributes:
        id: Its id; ids ascend with the time when uploads were initiated.
        key: The key of the object that it would become.
        initiated: When it was initiated, in whole seconds.
        begun: The same by the clock of the model.
        sequence: Number of the request, in the order of the writes.
        metadata: The metadata that the object would have; headers and tags likewise.
        parts: The content and the ETag (in quotes) of each part by its number.
    """

    id: str
    key: str
    initiated: datetime
    begun: float
    sequence: int
    metadata: Mapping[str, str]
    headers: Mapping[str, str]
    tags: Mapping[str, str]
    parts: dict[int, tuple[bytes, str]] = field(default_factory=dict)


class Bucket:
    """The content of a bucket.

    Args:
        name: Its name.
        versioning: Whether it keeps versions.

    Attributes:
        current: The current object of each key, delete markers left out.
        stacks: The versions and delete markers of each key, the oldest first; empty without versioning.
        history: Every version of each key that was ever visible.
        changed: The number of the last write or deletion of each key.
        uploads: The open uploads by their ids.
        completed: The answer to the completion of each completed upload by its id.
        denied: The operations that are denied under a prefix, None for all operations on objects.
    """

    def __init__(self, name: str, *, versioning: bool) -> None:
        self.name = name
        self.versioning = versioning
        self.current: dict[str, StoredObject] = {}
        self.stacks: dict[str, list[StoredObject]] = {}
        self.history: dict[str, list[StoredObject]] = {}
        self.changed: dict[str, int] = {}
        self.uploads: dict[str, OpenUpload] = {}
        self.completed: dict[str, dict[str, Any]] = {}
        self.denied: dict[str, Collection[str] | None] = {}
        self.sorted_keys: list[str] | None = None  # sorted when they are listed


@lru_cache(maxsize=1 << 13)
def moment_of(second: int) -> tuple[datetime, str]:
    """Return a whole second since the epoch as S3 has it in answers, and as HTTP headers have it."""
    moment = datetime.fromtimestamp(second, UTC)
    return moment, format_datetime(moment, usegmt=True)


class RefusedError(Exception):
    """The answer to a request that fails.

    Args:
        status: Its HTTP status.
        code: Its error code.
        message: Its message.
        headers: HTTP headers in addition to the date.
    """

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.headers = status, code, message, headers or {}


def check_key(key: str) -> None:
    """Raise if a key is empty or too long."""
    if not key:
        raise ParamValidationError(report="Invalid length for parameter Key, value: 0, valid min length: 1")
    if len(key) > _MAX_KEY_BYTES // 4 and len(key.encode()) > _MAX_KEY_BYTES:
        raise RefusedError(400, "KeyTooLongError", "Your key is too long")


def check_access(bucket: Bucket, operation: str, key: str) -> None:
    """Raise if an operation on a key is denied."""
    for prefix, operations in bucket.denied.items():
        if key.startswith(prefix) and (operations is None or operation in operations):
            raise RefusedError(403, "AccessDenied", "Access Denied")


def find(bucket: Bucket, key: str) -> StoredObject:
    """Return the current object of a key; raise if there is none."""
    found = bucket.current.get(key)
    if found is None:
        marker = {"x-amz-delete-marker": "true"} if key in bucket.stacks else {}
        raise RefusedError(404, "NoSuchKey", "The specified key does not exist.", marker)
    return found


def find_version(bucket: Bucket, arguments: Mapping[str, Any]) -> StoredObject:
    """Return the version of an object that a request names, or the current object; raise if there is none."""
    if "VersionId" not in arguments:
        return find(bucket, arguments["Key"])
    versions = bucket.stacks.get(arguments["Key"], ())
    found = next((one for one in versions if one.version_id == arguments["VersionId"]), None)
    if found is None:
        raise RefusedError(404, "NoSuchVersion", "The specified version does not exist.")
    if found.is_delete_marker:
        raise RefusedError(405, "MethodNotAllowed", "The specified method is not allowed against this resource.")
    return found


def check_tags(tags: Mapping[str, str]) -> None:
    """Raise if an object cannot have so many tags."""
    if len(tags) > _MAX_TAGS:
        raise RefusedError(400, "BadRequest", "Object tags cannot be greater than 10")


def find_upload(bucket: Bucket, arguments: Mapping[str, Any]) -> OpenUpload:
    """Return the open upload that a request is about; raise if there is none with this id and key."""
    upload = bucket.uploads.get(arguments["UploadId"])
    if upload is None or upload.key != arguments["Key"]:
        message = "The specified upload does not exist. The upload ID may be invalid, or the upload may have been"
        raise RefusedError(404, "NoSuchUpload", f"{message} aborted or completed.")
    return upload


def has_etag(condition: str, etag: str) -> bool:
    """Return whether a condition names an ETag, with or without quotes, or any."""
    return condition in (etag, "*") or condition.strip('"') == etag[1:-1]


def range_of(text: str, size: int) -> tuple[int, int] | None:
    """Return the first and the last byte that a range asks for; None if the whole object is sent.

    S3 ignores what is not a valid range.
    """
    match = _RANGE.fullmatch(text)
    if not match:
        return None
    first, last, suffix = match.groups()
    if suffix is not None:
        if not int(suffix) or not size:
            raise RefusedError(416, "InvalidRange", _BAD_RANGE)
        return max(0, size - int(suffix)), size - 1
    start, stop = int(first), int(last) if last else size - 1
    if last and stop < start:
        return None
    if start >= size:
        raise RefusedError(416, "InvalidRange", _BAD_RANGE)
    return start, min(stop, size - 1)


def content_of(arguments: Mapping[str, Any]) -> bytes:
    """Return the body of a request."""
    body = arguments.get("Body", b"")
    return body if type(body) is bytes else bytes(body.read() if hasattr(body, "read") else body)


def description_of(arguments: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
    """Return the metadata, the headers and the tags that a request gives to an object; raise if they are refused."""
    metadata, tagging = arguments.get("Metadata"), arguments.get("Tagging")
    if metadata:
        texts = "".join([*metadata, *metadata.values()])
        if not texts.isascii():
            raise ParamValidationError(report="Non ascii characters found in S3 metadata")
        if len(texts) > _MAX_METADATA_BYTES:
            message = "Your metadata headers exceed the maximum allowed metadata size"
            raise RefusedError(400, "MetadataTooLarge", message)
        metadata = {name.lower(): value.strip() for name, value in metadata.items()}
    tags = dict(parse_qsl(tagging, keep_blank_values=True)) if tagging else {}
    check_tags(tags)
    return metadata or {}, {name: arguments[name] for name in HEADERS if name in arguments}, tags


def select_parts(upload: OpenUpload, named: Sequence[Mapping[str, Any]], min_bytes: int) -> list[tuple[bytes, str]]:
    """Return the parts that a request to complete an upload names; raise if they cannot be joined.

    Args:
        upload: The upload.
        named: The numbers and ETags.
        min_bytes: Minimum size of a part that is not the last one.
    """
    if not named:
        raise RefusedError(400, "MalformedXML", "The XML you provided was not well-formed")
    numbers = [part["PartNumber"] for part in named]
    if any(number >= following for number, following in pairwise(numbers)):
        raise RefusedError(400, "InvalidPartOrder", "The list of parts was not in ascending order.")
    parts = []
    for part in named:
        found = upload.parts.get(part["PartNumber"])
        if found is None or part.get("ETag", "").strip('"') != found[1][1:-1]:
            message = "One or more of the specified parts could not be found."
            raise RefusedError(400, "InvalidPart", f"{message} The part may not have been uploaded.")
        parts.append(found)
    if any(len(content) < min_bytes for content, _ in parts[:-1]):
        message = "Your proposed upload is smaller than the minimum allowed size"
        raise RefusedError(400, "EntityTooSmall", message)
    return parts
