"""One bucket: `Store` sends single requests, and the functions below it list objects and uploads.

`S3fsRequests` sends them through s3fs.

The answer to a failed request becomes an error of `runner.errors`. Listings are in the order of the keys, and keep one
page in memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar
from urllib.parse import unquote_plus

from aiohttp import ClientError as ConnectionFailedError
from botocore.exceptions import BotoCoreError, ClientError
from fsspec.asyn import sync

from runner.errors import ConditionFailedError, ConflictError, DeniedError, NoUploadError, RunnerError, StoreError
from transform import S3Failure, filesystem, prepare_sending

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


_ERRORS: Mapping[S3Failure, type[RunnerError]] = {
    S3Failure.DENIED: DeniedError,
    S3Failure.NO_CREDENTIALS: DeniedError,
    S3Failure.KEY_REFUSED: DeniedError,
    S3Failure.ARCHIVED: DeniedError,
    S3Failure.NO_UPLOAD: NoUploadError,
    S3Failure.CONDITION_FAILED: ConditionFailedError,
    S3Failure.NO_KEY: ConditionFailedError,
    S3Failure.CONFLICT: ConflictError,
}
"""The errors for the answers of S3; all others become `StoreError`."""

_FAILURES = (OSError, BotoCoreError, ClientError, ConnectionFailedError, RuntimeError)
"""What a request raises; botocore raises `RuntimeError` if refreshed credentials have expired already."""

_T = TypeVar("_T")


class S3Requests(Protocol):
    """Sends requests to S3. What they raise is one of `OSError`, botocore's errors and those of aiohttp."""

    def call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        """Return the answer to a request, which is named as in boto3."""

    def read(self, bucket: str, key: str) -> tuple[dict[str, Any], bytes]:
        """Return the answer to a GetObject request, and the content."""

    def prepare_part(self) -> None:
        """Get ready to send a part of a multipart upload or an object, whose content is bytes."""


@dataclass(frozen=True, slots=True)
class S3fsRequests:
    """Sends requests to S3 through s3fs.

    Attributes:
        filesystem: The file system of s3fs.
    """

    filesystem: Any

    @classmethod
    def open(cls, environ: Mapping[str, str], region: str | None = None) -> Self:
        """Return what sends them to the endpoint in the environment, in a region unless that is None.

        Without a region, the file system is the one that inputs are read through. A second one would take a fifth of a
        second to load the models of the SDK, and its own connections.
        """
        return cls(filesystem(environ, region))

    def call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        """Return the answer to a request, which is named as in boto3."""
        answer: dict[str, Any] = self.filesystem.call_s3(operation, **arguments)
        return answer

    def read(self, bucket: str, key: str) -> tuple[dict[str, Any], bytes]:
        """Return the answer to a GetObject request, and the content."""
        found: tuple[dict[str, Any], bytes] = sync(self.filesystem.loop, self._read, bucket, key)
        return found

    async def _read(self, bucket: str, key: str) -> tuple[dict[str, Any], bytes]:
        answer = await self.filesystem._call_s3("get_object", Bucket=bucket, Key=key)  # noqa: SLF001 # fsspec's name for the same in a coroutine
        async with answer["Body"] as body:
            return answer, await body.read()

    def prepare_part(self) -> None:
        """Make the next part or object be sent at less cost."""
        prepare_sending(self.filesystem)


@dataclass(frozen=True, slots=True)
class Store:
    """One bucket.

    Attributes:
        bucket: Its name.
        requests: Sends the requests.
    """

    bucket: str
    requests: S3Requests

    def call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        """Return the answer to a request, which is named as in boto3.

        Raises:
            DeniedError, ConditionFailedError, ConflictError, NoUploadError, StoreError: The request failed.
        """
        what = f"{operation} of s3://{self.bucket}/{arguments.get('Key', '')}"
        return self._requested(what, self.requests.call, operation, Bucket=self.bucket, **arguments)

    def head(self, key: str) -> dict[str, Any] | None:
        """Return the properties of an object, by the names that boto3 uses; None if it does not exist."""
        try:
            return self.call("head_object", Key=key)
        except StoreError as error:
            if _is_missing(error):
                return None
            raise

    def read(self, key: str) -> tuple[bytes, str] | None:
        """Return the content and the ETag of a small object, None if it does not exist."""
        found = self.read_aged(key)
        return found and found[:2]

    def read_aged(self, key: str) -> tuple[bytes, str, float] | None:
        """Return the content, the ETag and the age of a small object, in seconds by the clock of S3; None as `read`."""
        try:
            what = f"get_object of s3://{self.bucket}/{key}"
            answer, content = self._requested(what, self.requests.read, self.bucket, key)
        except StoreError as error:
            if _is_missing(error):
                return None
            raise
        age = _date_of(answer) - answer["LastModified"]
        return content, answer["ETag"], max(0.0, age.total_seconds())

    def _requested(self, what: str, request: Callable[..., _T], *args: Any, **arguments: Any) -> _T:
        try:
            return request(*args, **arguments)
        except _FAILURES as error:
            raise to_error(error, what) from error

    def delete(self, key: str) -> None:
        """Delete an object, if it exists."""
        self.call("delete_object", Key=key)

    def delete_if(self, key: str, etag: str) -> bool:
        """Delete an object if it still has an ETag; return False if it has another one. One that is gone is no error.

        Raises:
            DeniedError, StoreError: The request failed.
        """
        try:
            self.call("delete_object", Key=key, IfMatch=etag)
        except StoreError as error:
            if not _is_missing(error):
                if isinstance(error, ConditionFailedError):
                    return False
                raise
        return True

    def abort_upload(self, key: str, upload: str) -> None:
        """Abort a multipart upload, if it exists."""
        try:
            self.call("abort_multipart_upload", Key=key, UploadId=upload)
        except NoUploadError:
            return

    def check(self) -> None:
        """Raise if the bucket cannot be reached.

        Raises:
            DeniedError, StoreError: The reason.
        """
        try:
            self.call("head_bucket")
        except StoreError as error:
            if _is_missing(error):
                raise StoreError(f"there is no bucket {self.bucket}") from None
            raise


def to_error(error: BaseException, what: str) -> RunnerError:
    """Return the error for what a request raised.

    Args:
        error: As s3fs raised it.
        what: The request, for the message.
    """
    text = f"{what}: {' '.join(str(error).split()) or type(error).__name__}"[:500]
    return _ERRORS.get(S3Failure.from_error(error), StoreError)(text)


def _is_missing(error: StoreError) -> bool:
    """Return whether S3 answered that the object or bucket does not exist."""
    return error.__cause__ is not None and S3Failure.from_error(error.__cause__).is_missing


def _date_of(answer: Mapping[str, Any]) -> datetime:
    """Return the time of an answer, by the clock of S3 if the answer has it."""
    date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
    return parsedate_to_datetime(date) if date else datetime.now(UTC)


_RESTORED = ["RestoreStatus"]  # for archived objects; S3 sends it only on request


def list_objects(store: Store, prefix: str, after: str = "") -> Iterator[dict[str, Any]]:
    """Yield the objects under a prefix, as S3 describes them.

    Args:
        store: The bucket.
        prefix: The prefix.
        after: Yield only objects whose keys come after this one.

    Raises:
        DeniedError, StoreError: S3 does not list them.
    """
    start = {"StartAfter": after} if after else {}
    tokens = {"NextContinuationToken": "ContinuationToken"}
    for page in _pages(store, "list_objects_v2", tokens, Prefix=prefix, OptionalObjectAttributes=_RESTORED, **start):
        yield from page.get("Contents", ())


def list_latest(store: Store, prefix: str, after: str = "") -> Iterator[dict[str, Any]]:
    """Yield the same of a bucket with versions; `VersionId` is the id of the latest version of each object.

    Raises:
        DeniedError, StoreError: S3 does not list them.
    """
    start = {"KeyMarker": after} if after else {}
    tokens = {"NextKeyMarker": "KeyMarker", "NextVersionIdMarker": "VersionIdMarker"}
    for page in _pages(
        store, "list_object_versions", tokens, Prefix=prefix, OptionalObjectAttributes=_RESTORED, **start
    ):
        yield from (version for version in page.get("Versions", ()) if version["IsLatest"])


def list_uploads(store: Store, prefix: str) -> Iterator[dict[str, Any]]:
    """Yield the open multipart uploads under a prefix, as S3 describes them.

    Raises:
        DeniedError, StoreError: S3 does not list them.
    """
    tokens = {"NextKeyMarker": "KeyMarker", "NextUploadIdMarker": "UploadIdMarker"}
    for page in _pages(store, "list_multipart_uploads", tokens, Prefix=prefix):
        yield from page.get("Uploads", ())


def has_versions(store: Store) -> bool:
    """Return whether a bucket has, or has had, versions.

    Raises:
        DeniedError, StoreError: S3 does not say.
    """
    return store.call("get_bucket_versioning").get("Status") in ("Enabled", "Suspended")


def _pages(store: Store, operation: str, tokens: dict[str, str], **arguments: Any) -> Iterator[dict[str, Any]]:
    """Yield the pages of a listing; `tokens` maps members of a page to arguments of the request for the next."""
    while True:
        # Keys may have control characters, which XML cannot have; the SDK encodes keys of objects, but not of uploads.
        page = store.call(operation, EncodingType="url", **arguments)
        _decode(page)
        yield page
        if not page.get("IsTruncated"):
            return
        arguments = {name: value for name, value in arguments.items() if name != "StartAfter"}
        arguments |= {argument: page[token] for token, argument in tokens.items() if page.get(token)}


def _decode(page: dict[str, Any]) -> None:
    if page.get("EncodingType") != "url":
        return
    for found in (page, *(one for name in ("Contents", "Versions", "Uploads") for one in page.get(name, ()))):
        for name in ("Key", "NextKeyMarker"):
            if name in found:
                found[name] = unquote_plus(found[name])
