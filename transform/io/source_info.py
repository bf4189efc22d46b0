"""What is known of an input beside its content."""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Self

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """What is known of an input beside its content; None for what is not known.

    Attributes:
        bucket: The bucket of an object.
        key: The key of an object; of a file, its path as it was given.
        uri: The URI of an object; of a file, its path.
        name: The last part of the key.
        etag: The ETag of the version that is read, without quotes.
        version_id: The id of that version, if the bucket has versions.
        last_modified: When that version was written, or when the file was; in UTC.
    """

    bucket: str | None = None
    key: str | None = None
    uri: str | None = None
    name: str | None = None
    etag: str | None = None
    version_id: str | None = None
    last_modified: datetime | None = None

    @classmethod
    def from_object(cls, bucket: str, key: str, headers: Mapping[str, Any]) -> Self:
        """Return what the response to a request for an object says, given its headers by the names of boto3."""
        modified = headers.get("LastModified")
        etag = headers.get("ETag")
        return cls(
            bucket=bucket,
            key=key,
            uri=f"s3://{bucket}/{key}",
            name=key.rpartition("/")[2],
            etag=etag.strip('"') if isinstance(etag, str) else None,
            version_id=headers.get("VersionId"),
            last_modified=modified.astimezone(UTC) if isinstance(modified, datetime) else None,
        )

    @classmethod
    def from_file(cls, path: str, status: os.stat_result) -> Self:
        """Return what is known of a file; bytes of its path that are not UTF-8 are replaced."""
        text = os.fsencode(path).decode(errors="replace")
        modified = _EPOCH + timedelta(microseconds=status.st_mtime_ns // 1000)
        return cls(key=text, uri=text, name=os.path.basename(text), last_modified=modified)  # noqa: PTH119 - it is text

    def noted(self, fields: Iterable[str]) -> str | None:
        """Return what is known of some fields as text, which is equal if and only if that is; None for no fields."""
        values = {field: getattr(self, field) for field in sorted(fields)}
        return json.dumps(values, default=datetime.isoformat) if values else None


UNKNOWN = SourceInfo()
"""What is known of an input that has no name."""
