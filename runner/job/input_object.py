"""The input object of a job, besides its content: which version of it is current, its tags, and its end."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from runner.errors import DeniedError, ObjectDeniedError, StoreError, TagLimitError
from transform import S3Failure, S3Object, SourceChangedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import datetime

    from runner.aws.bucket import Store
    from runner.aws.s3_events import ObjectCreated

MAX_TAGS = 10
"""How many tags S3 allows for an object."""
_OVERWRITTEN = "null"
"""The version of objects that were written without versions. While these are suspended, all contents have it."""


@dataclass(frozen=True, slots=True)
class InputObject:
    """The input object of a job. If S3 denies a request, the methods raise `ObjectDeniedError`.

    Attributes:
        source: The input bucket.
        event: The event of the object.
    """

    source: Store
    event: ObjectCreated

    def identified(self) -> ObjectCreated:
        """Return the event with an ETag, that of the current version if the event has none.

        Without it, all contents of a key would be one source: the output of one would be taken for that of the next,
        and a checkpoint of one would be continued with the other.

        Raises:
            SourceChangedError: It is gone, or there is another version.
            ObjectDeniedError, StoreError: S3 does not return its properties.
        """
        event = self.event
        if event.etag is not None:
            return event
        found = self._head_if_current(None)
        if found is None:
            raise SourceChangedError(f"s3://{event.bucket}/{event.key}: is no longer what the event speaks of")
        return replace(event, etag=found["ETag"].strip('"'), size=found["ContentLength"])

    def find_version(self) -> S3Object:
        """Return the version that the event is about; raises as `identified` does."""
        event = self.identified()
        return S3Object(event.bucket, event.key, event.etag, event.size)

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
        return found if found is not None and self._is(found, etag) else None

    def tags(self, version_id: str | None = None) -> dict[str, str]:
        """Return its tags, or those of one of its versions.

        Raises:
            ObjectDeniedError, StoreError: S3 does not return them.
        """
        version = {} if version_id is None else {"VersionId": version_id}
        with _denials_of_the_object():
            answer = self.source.call("get_object_tagging", Key=self.event.key, **version)
        return {tag["Key"]: tag["Value"] for tag in answer["TagSet"]}

    def delete(self, etag: str | None, check: Callable[[], None]) -> bool:
        """Delete the version that was read, which becomes a delete marker in a bucket with versions.

        A version is not deleted by its id. That would be for good, and the version before it would be the current one
        again. The condition is on the ETag: S3 refuses the request if there is another content by then.

        Args:
            etag: As for `is_current`.
            check: Called before the request; raises if another worker may have the job.

        Returns:
            False if it is not the current version.

        Raises:
            ObjectDeniedError, StoreError: S3 does not do it.
        """
        with _denials_of_the_object():
            found = self.source.head(self.event.key)
        if found is None or not self._is(found, etag):
            return False
        check()
        with _denials_of_the_object():
            return self.source.delete_if(self.event.key, found["ETag"])

    def tag(self, name: str, value: str, etag: str | None, check: Callable[[], None]) -> bool:
        """Add a tag to the version that was read.

        S3 only replaces all tags of a version. One that another program adds between the two requests is lost.

        Args:
            name: The name of the tag.
            value: Its value.
            etag: As for `is_current`.
            check: As for `delete`.

        Returns:
            False if the version is gone; if it is not one that stays when the object is overwritten, as in a bucket
            without versions, if there is another content.

        Raises:
            TagLimitError: It has as many other tags as S3 allows.
            ObjectDeniedError, StoreError: S3 does not do it.
        """
        version_id = self.event.version_id
        if version_id in (None, _OVERWRITTEN):
            found = self._head_if_current(etag)
            if found is None:
                return False
            version_id = version_id or found.get("VersionId")  # it may be overwritten now
        try:
            tags = self.tags(version_id)
            if tags.get(name) == value:
                return True
            if len({*tags, name}) > MAX_TAGS:
                raise TagLimitError(f"it has {MAX_TAGS} other tags, and S3 allows no more: remove one")
            tag_set = [{"Key": key, "Value": text} for key, text in {**tags, name: value}.items()]
            version = {} if version_id is None else {"VersionId": version_id}
            check()
            with _denials_of_the_object():
                self.source.call("put_object_tagging", Key=self.event.key, Tagging={"TagSet": tag_set}, **version)
        except StoreError as error:
            if error.__cause__ is not None and S3Failure.from_error(error.__cause__).is_missing:
                return False
            raise
        return True

    def _is(self, found: Mapping[str, Any], etag: str | None) -> bool:
        """Return whether the properties are those of the version that was read."""
        version, etag = self.event.version_id, etag or self.event.etag
        return etag in (None, found["ETag"].strip('"')) and version in (None, found.get("VersionId", version))


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
