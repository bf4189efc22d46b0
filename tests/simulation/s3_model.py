"""A model of S3 in memory: buckets, objects, versions and multipart uploads, by a clock that a simulator moves.

`S3Model.request` takes what a boto3 client takes, returns what it returns, and raises what it raises. It has the
operations and arguments that the worker and the operator's commands use, and raises `NotImplementedError` for others.
Listings are in `s3_listings`. Where emulators differ from AWS, the model follows AWS:

- `LastModified` and the `date` header have whole seconds. The object of a multipart upload has the time when the upload
  was initiated ("Working with object metadata" in the user guide of S3).
- A conditional request needs an object: `If-Match` for a missing key is answered with 404 NoSuchKey, for PUT, DELETE
  and CompleteMultipartUpload ("Add preconditions to S3 operations with conditional requests").
- A conditional CompleteMultipartUpload is answered with 409 ConditionalRequestConflict if the key was written or
  deleted since the upload was initiated, even if the condition holds: a new upload is needed. For `If-None-Match` and
  a deletion, a test of localstack/localstack was run against AWS (`TestS3ObjectWritePrecondition`); for `If-Match`,
  only its implementation suggests it. `overlaps_conflict` turns it off.
- A repeated CompleteMultipartUpload is answered as the first one and has no effect (adobe/S3Mock issue 2586 and
  minio/minio issue 13318, both measured); `replay_completes` turns it off.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from http import HTTPStatus
from itertools import count
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from tests.simulation import s3_listings
from tests.simulation.s3_objects import (
    HEADERS,
    Bucket,
    OpenUpload,
    RefusedError,
    StoredObject,
    check_access,
    check_key,
    content_of,
    description_of,
    find,
    find_upload,
    has_etag,
    moment_of,
    range_of,
    select_parts,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

READS = ("get_object", "head_object")
"""Operations that a foreign KMS key denies on an object that was encrypted with it."""

_MAX_PARTS = 10_000
_NOT_IMPLEMENTED = "A header you provided implies functionality that is not implemented"
_CONFLICT = "The conditional request cannot succeed due to a conflicting operation against this resource."
_CONDITION_FAILED = "At least one of the pre-conditions you specified did not hold"
_WRITE = {"Bucket", "Key", "Metadata", "Tagging", *HEADERS}
_ARGUMENTS: dict[str, set[str]] = {
    "head_bucket": {"Bucket"},
    "get_bucket_versioning": {"Bucket"},
    "head_object": {"Bucket", "Key", "IfMatch", "IfNoneMatch", "Range"},
    "get_object": {"Bucket", "Key", "IfMatch", "IfNoneMatch", "Range"},
    "get_object_tagging": {"Bucket", "Key"},
    "put_object": {*_WRITE, "Body", "IfMatch", "IfNoneMatch"},
    "delete_object": {"Bucket", "Key", "IfMatch"},
    "create_multipart_upload": _WRITE,
    "upload_part": {"Bucket", "Key", "UploadId", "PartNumber", "Body"},
    "complete_multipart_upload": {"Bucket", "Key", "UploadId", "MultipartUpload", "IfMatch", "IfNoneMatch"},
    "abort_multipart_upload": {"Bucket", "Key", "UploadId"},
    "list_objects_v2": {"Bucket", *s3_listings.ARGUMENTS, "StartAfter", "ContinuationToken", "MaxKeys"},
    "list_object_versions": {"Bucket", *s3_listings.ARGUMENTS, "KeyMarker", "VersionIdMarker", "MaxKeys"},
    "list_multipart_uploads": {"Bucket", *s3_listings.ARGUMENTS, "KeyMarker", "UploadIdMarker", "MaxUploads"},
}
_NAMES = {name: name.title().replace("_", "") for name in _ARGUMENTS}


class S3Model:
    """All buckets of an account.

    Args:
        clock: Returns the time, in seconds since the epoch.
        unique_etags: Whether each write has an ETag of its own, as with SSE-KMS; otherwise it is a hash of the content.
        min_part_bytes: Minimum size of a part that is not the last one; in S3 5 MiB.
        page_size: Maximum number of entries in a page of a listing.

    Attributes:
        conflict: Called with the operation, bucket and key of each conditional write whose condition holds; if it
            returns true, the request has no effect and is answered with 409 ConditionalRequestConflict. None for never.
        overlaps_conflict: Whether a conditional request to complete an upload fails with 409 if the key was changed
            since the upload was initiated. With False, only the condition counts, as in emulators.
        replay_completes: Whether a repeated request to complete an upload is answered as the first one. With False, it
            is answered with 404 NoSuchUpload, as the reference says, and as S3 does when it has forgotten the upload.
        initiation_dates: Whether objects of multipart uploads have the time of initiation, as in S3; with False, they
            have the time of completion, as in emulators.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        unique_etags: bool = False,
        min_part_bytes: int = 1,
        page_size: int = 1000,
    ) -> None:
        self._clock = clock
        self._unique_etags = unique_etags
        self._min_part_bytes = min_part_bytes
        self._page_size = page_size
        self._buckets: dict[str, Bucket] = {}
        self._numbers = count(1)
        self._now, self._second = 0.0, -1  # the time of the current request
        self._moment = datetime.fromtimestamp(0, UTC)
        self._date = ""
        self.conflict: Callable[[str, str, str], bool] | None = None
        self.overlaps_conflict = True
        self.replay_completes = True
        self.initiation_dates = True

    def create_bucket(self, name: str, *, versioning: bool = False) -> None:
        """Create a bucket.

        Raises:
            ValueError: It exists.
        """
        if name in self._buckets:
            raise ValueError(f"bucket {name} exists")
        self._buckets[name] = Bucket(name, versioning=versioning)

    def deny(self, bucket: str, key_prefix: str, operations: Collection[str] | None = None) -> None:
        """Answer requests on objects under a prefix with 403; listings of the bucket still contain them.

        Args:
            bucket: The bucket.
            key_prefix: The prefix of the keys.
            operations: The operations to deny, for example `READS`; None for all.
        """
        self._buckets[bucket].denied[key_prefix] = operations

    def allow(self, bucket: str, key_prefix: str) -> None:
        """Take back what `deny` did for this prefix."""
        self._buckets[bucket].denied.pop(key_prefix, None)

    def objects(self, bucket: str) -> dict[str, StoredObject]:
        """Return the current objects of a bucket by their keys, delete markers left out."""
        return dict(self._buckets[bucket].current)

    def current(self, bucket: str, key: str) -> StoredObject | None:
        """Return the current object of a key, None if there is none."""
        return self._buckets[bucket].current.get(key)

    def uploads(self, bucket: str) -> dict[str, OpenUpload]:
        """Return the open multipart uploads of a bucket by their ids."""
        return dict(self._buckets[bucket].uploads)

    def versions(self, bucket: str, key: str) -> list[StoredObject]:
        """Return every version of a key that was ever visible, the oldest first, also without versioning."""
        return list(self._buckets[bucket].history.get(key, ()))

    def request(self, operation: str, **arguments: Any) -> dict[str, Any]:
        """Return the answer to a request; `Body` of an object is bytes.

        Args:
            operation: The operation, as boto3 names it.
            arguments: Its arguments, as boto3 names them.

        Raises:
            ClientError: S3 refuses the request.
            NotImplementedError: The model does not have the operation or an argument.
        """
        if operation not in _HANDLERS:
            raise NotImplementedError(f"the model of S3 has no operation {operation}")
        handler, allowed = _HANDLERS[operation]
        if not allowed.issuperset(arguments):
            raise NotImplementedError(f"the model of S3 does not know {set(arguments) - allowed} of {operation}")
        self._read_clock()
        try:
            bucket = self._buckets.get(arguments["Bucket"])
            if bucket is None:
                raise RefusedError(404, "NoSuchBucket", "The specified bucket does not exist")
            if "Key" in arguments:
                check_key(arguments["Key"])
                if bucket.denied:
                    check_access(bucket, operation, arguments["Key"])
            answer: dict[str, Any] = handler(self, bucket, arguments)
        except RefusedError as error:
            raise self._to_client_error(error, operation) from None
        return answer

    def _to_client_error(self, error: RefusedError, operation: str) -> ClientError:
        code, message = error.code, error.message
        if operation.startswith("head_"):  # without a body, botocore knows only the status
            code, message = str(error.status), HTTPStatus(error.status).phrase
        response = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": self._metadata(error.status)}
        response["ResponseMetadata"]["HTTPHeaders"].update(error.headers)
        return ClientError(response, _NAMES[operation])

    def _metadata(self, status: int) -> dict[str, Any]:
        return {"HTTPStatusCode": status, "HTTPHeaders": {"date": self._date}, "RetryAttempts": 0}

    def _read_clock(self) -> None:
        self._now = self._clock()
        second = int(self._now)
        if second != self._second:
            self._second = second
            self._moment, self._date = moment_of(second)

    def _head_bucket(self, _bucket: Bucket, _arguments: dict[str, Any]) -> dict[str, Any]:
        return {"ResponseMetadata": self._metadata(200)}

    def _get_bucket_versioning(self, bucket: Bucket, _arguments: dict[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = {"ResponseMetadata": self._metadata(200)}
        return answer | {"Status": "Enabled"} if bucket.versioning else answer

    def _head_object(self, bucket: Bucket, arguments: dict[str, Any]) -> dict[str, Any]:
        found = find(bucket, arguments["Key"])
        etag = found.etag
        if "IfMatch" in arguments and not has_etag(arguments["IfMatch"], etag):
            raise RefusedError(412, "PreconditionFailed", _CONDITION_FAILED)
        if "IfNoneMatch" in arguments and has_etag(arguments["IfNoneMatch"], etag):
            raise RefusedError(304, "304", "Not Modified")
        answer: dict[str, Any] = {
            "ResponseMetadata": self._metadata(200),
            "AcceptRanges": "bytes",
            "LastModified": found.last_modified,
            "ContentLength": len(found.body),
            "ETag": etag,
            "ContentType": "binary/octet-stream",
            **found.headers,
            "Metadata": dict(found.metadata),
        }
        if answer.get("StorageClass") == "STANDARD":
            del answer["StorageClass"]
        if found.tags:
            answer["TagCount"] = len(found.tags)
        if bucket.versioning:
            answer["VersionId"] = found.version_id
        limits = range_of(arguments["Range"], len(found.body)) if "Range" in arguments else None
        if limits:
            first, last = limits
            answer["ContentLength"] = last - first + 1
            answer["ContentRange"] = f"bytes {first}-{last}/{len(found.body)}"
            answer["ResponseMetadata"]["HTTPStatusCode"] = 206
        return answer

    def _get_object(self, bucket: Bucket, arguments: dict[str, Any]) -> dict[str, Any]:
        answer = self._head_object(bucket, arguments)
        body = bucket.current[arguments["Key"]].body
        if "ContentRange" in answer:
            first = int(answer["ContentRange"].removeprefix("bytes ").partition("-")[0])
            body = body[first : first + answer["ContentLength"]]
        answer["Body"] = body
        return answer

    def _get_object_tagging(self, bucket: Bucket, arguments: dict[str, Any]) -> dict[str, Any]:
        found = find(bucket, arguments["Key"])
        tag_set = [{"Key": name, "Value": value} for name, value in found.tags.items()]
        version = {"VersionId": found.version_id} if bucket.versioning else {}
        return {"ResponseMetadata": self._metadata(200), "TagSet": tag_set, **version}

    def _put_object(self, bucket: Bucket, arguments: dict[str, Any]) -> dict[str, Any]:
        described = description_of(arguments)
        self._check_write("put_object", bucket, arguments)
        body = content_of(arguments)
        return self._store(bucket, arguments["Key"], body, self._etag(body), None, described)

    def _delete_object(self, bucket: Bucket, arguments: dict[str, Any]) -> dict[str, Any]:
        key = arguments["Key"]
        self._check_write("delete_object", bucket, arguments)
        answer: dict[str, Any] = {"ResponseMetadata": self._metadata(204)}
        if (current := bucket.current.pop(key, None)) is not None:
            current.ended = self._now
            bucket.sorted_keys = None
        if current is not None or bucket.versioning:
            bucket.changed[key] = number = next(self._numbers)
        if bucket.versioning:
            version = f"v{number:012}"
            times = self._moment, self._now
            marker = StoredObject(key, b"", "", version, *times, number, {}, {}, {}, is_delete_marker=True)
            bucket.stacks.setdefault(key, []).append(marker)
            answer |= {"DeleteMarker": True, "VersionId": version}
        return answer

    def _create_multipart_upload(self, bucket: Bucket, arguments: dict[str, Any]) -> dict[str, Any]:
        described = description_of(arguments)
        number = next(self._numbers)
        upload_id = f"upload-{number:012}"
        times = self._moment, self._now
        bucket.uploads[upload_id] = OpenUpload(upload_id, arguments["Key"], *times, number, *described)
        return {
            "ResponseMetadata": self._metadata(200),
            "Bucket": bucket.name,
            "Key": arguments["Key"],
            "UploadId": upload_id,
        }

    def _upload_part(self, bucket: Bucket, arguments: dict[str, Any]) -> dict[str, Any]:
        number = arguments["PartNumber"]
        if not 1 <= number <= _MAX_PARTS:
            raise RefusedError(400, "InvalidArgument", "Part number must be an integer between 1 and 10000, inclusive")
        upload = find_upload(bucket, arguments)
        body = content_of(arguments)
        etag = self._etag(body)
        upload.parts[number] = body, etag
        return {"ResponseMetadata": self._metadata(200), "ETag": etag}

    def _complete_multipart_upload(self, bucket: Bucket, arguments: dict[str, Any]) -> dict[str, Any]:
        named = arguments.get("MultipartUpload", {}).get("Parts", [])
        replayed = bucket.completed.get(arguments["UploadId"])
        if replayed is not None and self.replay_completes and replayed["Key"] == arguments["Key"]:
            return {**replayed, "ResponseMetadata": self._metadata(200)}
        upload = find_upload(bucket, arguments)
        self._check_write("complete_multipart_upload", bucket, arguments, upload)
        parts = select_parts(upload, named, self._min_part_bytes)
        if self._unique_etags:
            etag = f'"{next(self._numbers):032x}-{len(parts)}"'
        else:
            digests = bytes.fromhex("".join(etag[1:-1] for _, etag in parts))
            etag = f'"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(parts)}"'
        del bucket.uploads[upload.id]
        moment = upload.initiated if self.initiation_dates else None
        body = b"".join(content for content, _ in parts)
        described = upload.metadata, upload.headers, upload.tags
        answer = self._store(bucket, upload.key, body, etag, moment, described)
        answer |= {"Bucket": bucket.name, "Key": upload.key, "Location": f"/{bucket.name}/{upload.key}"}
        bucket.completed[upload.id] = answer
        return answer

    def _abort_multipart_upload(self, bucket: Bucket, arguments: dict[str, Any]) -> dict[str, Any]:
        del bucket.uploads[find_upload(bucket, arguments).id]
        return {"ResponseMetadata": self._metadata(204)}

    def _list_objects_v2(self, bucket: Bucket, arguments: dict[str, Any]) -> dict[str, Any]:
        page = s3_listings.list_objects(bucket, arguments, self._page_size)
        return {"ResponseMetadata": self._metadata(200), **page}

    def _list_object_versions(self, bucket: Bucket, arguments: dict[str, Any]) -> dict[str, Any]:
        page = s3_listings.list_versions(bucket, arguments, self._page_size)
        return {"ResponseMetadata": self._metadata(200), **page}

    def _list_multipart_uploads(self, bucket: Bucket, arguments: dict[str, Any]) -> dict[str, Any]:
        page = s3_listings.list_uploads(bucket, arguments, self._page_size)
        return {"ResponseMetadata": self._metadata(200), **page}

    def _check_write(
        self, operation: str, bucket: Bucket, arguments: dict[str, Any], upload: OpenUpload | None = None
    ) -> None:
        """Raise if the condition of a request that changes an object does not hold, or there is a conflict."""
        match, none_match = arguments.get("IfMatch"), arguments.get("IfNoneMatch")
        if match is None and none_match is None:
            return
        key = arguments["Key"]
        if (match is not None and none_match is not None) or none_match not in (None, "*"):
            raise RefusedError(501, "NotImplemented", _NOT_IMPLEMENTED)
        if match == "*" and operation != "delete_object":
            raise RefusedError(501, "NotImplemented", _NOT_IMPLEMENTED)
        if none_match is not None and key in bucket.current:
            raise RefusedError(412, "PreconditionFailed", _CONDITION_FAILED)
        if match is not None and not has_etag(match, find(bucket, key).etag):
            raise RefusedError(412, "PreconditionFailed", _CONDITION_FAILED)
        overlaps = upload is not None and bucket.changed.get(key, 0) > upload.sequence
        if (overlaps and self.overlaps_conflict) or (self.conflict and self.conflict(operation, bucket.name, key)):
            raise RefusedError(409, "ConditionalRequestConflict", _CONFLICT)

    def _etag(self, body: bytes) -> str:
        if self._unique_etags:
            return f'"{next(self._numbers):032x}"'
        return f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'

    def _store(
        self,
        bucket: Bucket,
        key: str,
        body: bytes,
        etag: str,
        moment: datetime | None,
        described: tuple[Mapping[str, str], Mapping[str, str], Mapping[str, str]],
    ) -> dict[str, Any]:
        """Make an object visible; return the answer. Its time is now if `moment` is None."""
        number = next(self._numbers)
        version = f"v{number:012}" if bucket.versioning else "null"
        stored = StoredObject(key, body, etag, version, moment or self._moment, self._now, number, *described)
        if (before := bucket.current.get(key)) is not None:
            before.ended = self._now
        else:
            bucket.sorted_keys = None
        bucket.current[key] = stored
        bucket.changed[key] = number
        bucket.history.setdefault(key, []).append(stored)
        answer: dict[str, Any] = {"ResponseMetadata": self._metadata(200), "ETag": etag}
        if bucket.versioning:
            bucket.stacks.setdefault(key, []).append(stored)
            answer["VersionId"] = version
        return answer


_HANDLERS: dict[str, tuple[Callable[..., dict[str, Any]], set[str]]] = {
    name: (getattr(S3Model, f"_{name}"), allowed) for name, allowed in _ARGUMENTS.items()
}
