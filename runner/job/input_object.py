"""The input object of a job, besides its content: which version of it is current, and its tags."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runner.errors import DeniedError, ObjectDeniedError
from transform import S3Failure, S3Object, SourceChangedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from runner.aws.bucket import Store
    from runner.aws.s3_events import ObjectCreated


@dataclass(frozen=True, slots=True)
class InputObject:
    """The input object of a job. If S3 denies a request, the methods raise `ObjectDeniedError`.

    Attributes:
        source: The input bucket.
        event: The event of the object.
    """

    source: Store
    event: ObjectCreated

    def find_version(self) -> S3Object:
        """Return the version that the event is about.

        Raises:
            SourceChangedError: It is gone, or there is another version.
            ObjectDeniedError, StoreError: S3 does not return its properties.
        """
        event = self.event
        if event.etag is not None:
            return S3Object(event.bucket, event.key, event.etag, event.size)
        with _denials_of_the_object():
            found = self.source.head(event.key)
        if found is None or (event.version_id and found.get("VersionId", event.version_id) != event.version_id):
            raise SourceChangedError(f"s3://{event.bucket}/{event.key}: is no longer what the event speaks of")
        return S3Object(event.bucket, event.key, found["ETag"].strip('"'), found["ContentLength"])

    def is_current(self, etag: str | None) -> bool:
        """Return whether a version is the current one.

        Args:
            etag: The ETag of the version that was read, without quotes; None before that, for the version of the event.

        Raises:
            ObjectDeniedError, StoreError: S3 does not return the properties of the current version.
        """
        return self._head_if_current(etag) is not None

    def find_modified(self) -> datetime | None:
        """Return when the version of the event was written, None if it is not the current one.

        Raises:
            ObjectDeniedError, StoreError: S3 does not return the properties of the current version.
        """
        found = self._head_if_current(None)
        modified: datetime | None = None if found is None else found["LastModified"]
        return modified

    def _head_if_current(self, etag: str | None) -> dict[str, Any] | None:
        with _denials_of_the_object():
            found = self.source.head(self.event.key)
        version, etag = self.event.version_id, etag or self.event.etag
        is_current = (
            found is not None
            and etag in (None, found["ETag"].strip('"'))
            and version in (None, found.get("VersionId", version))
        )
        return found if is_current else None

    def tags(self) -> dict[str, str]:
        """Return its tags.

        Raises:
            ObjectDeniedError, StoreError: S3 does not return them.
        """
        with _denials_of_the_object():
            answer = self.source.call("get_object_tagging", Key=self.event.key)
        return {tag["Key"]: tag["Value"] for tag in answer["TagSet"]}


@contextmanager
def _denials_of_the_object() -> Iterator[None]:
    """Raise a denial as one that may concern this object alone; without credentials every request is denied."""
    try:
        yield
    except DeniedError as error:
        cause = error.__cause__
        if cause is not None and S3Failure.from_error(cause) is S3Failure.NO_CREDENTIALS:
            raise
        raise ObjectDeniedError(str(error)) from cause
