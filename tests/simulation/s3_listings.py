"""Pages of listings in the model of S3: of objects, of versions and of multipart uploads."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from bisect import bisect_left, bisect_right
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus

from tests.simulation.s3_objects import RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from tests.simulation.s3_objects import Bucket, OpenUpload, StoredObject

ARGUMENTS = {"Prefix", "EncodingType", "OptionalObjectAttributes"}
"""Arguments that every listing takes; nothing in the model is archived, so there are no optional attributes."""


def list_objects(bucket: Bucket, arguments: Mapping[str, Any], page_size: int) -> dict[str, Any]:
    """Return a page of the current objects, by boto3's names."""
    token, start_after = arguments.get("ContinuationToken"), arguments.get("StartAfter", "")
    after = start_after if token is None else _key_of(token)
    size = min(arguments.get("MaxKeys", page_size), page_size)
    encode = _encoder(arguments)
    keys = list(islice(_keys_after(bucket, arguments.get("Prefix", ""), after), size + 1))
    truncated = 0 < size < len(keys)
    keys = keys[:size]
    page = _page(bucket, arguments, "MaxKeys", size, truncated=truncated) | {"KeyCount": len(keys)}
    if start_after:
        page["StartAfter"] = encode(start_after)
    if token is not None:
        page["ContinuationToken"] = token
    if truncated:
        page["NextContinuationToken"] = urlsafe_b64encode(keys[-1].encode()).decode()
    if keys:
        page["Contents"] = [_described(bucket.current[key], encode) for key in keys]
    return page


def list_versions(bucket: Bucket, arguments: Mapping[str, Any], page_size: int) -> dict[str, Any]:
    """Return a page of the versions and delete markers, by boto3's names; of a key the newest come first."""
    size = min(arguments.get("MaxKeys", page_size), page_size)
    encode = _encoder(arguments)
    key_marker, version_marker = arguments.get("KeyMarker", ""), arguments.get("VersionIdMarker")
    found = list(islice(_versions_after(bucket, arguments.get("Prefix", ""), key_marker, version_marker), size + 1))
    truncated = 0 < size < len(found)
    found = found[:size]
    page = _page(bucket, arguments, "MaxKeys", size, truncated=truncated)
    page |= {"KeyMarker": encode(key_marker), "VersionIdMarker": version_marker or ""}
    if truncated:
        page |= {"NextKeyMarker": encode(found[-1][0].key), "NextVersionIdMarker": found[-1][0].version_id}
    for one, is_latest in found:
        described = {"Key": encode(one.key), "VersionId": one.version_id, "IsLatest": is_latest}
        if one.is_delete_marker:
            page.setdefault("DeleteMarkers", []).append(described | {"LastModified": one.last_modified})
        else:
            page.setdefault("Versions", []).append(_described(one, encode) | described)
    return page


def list_uploads(bucket: Bucket, arguments: Mapping[str, Any], page_size: int) -> dict[str, Any]:
    """Return a page of the open multipart uploads, by boto3's names."""
    size = min(arguments.get("MaxUploads", page_size), page_size)
    encode, prefix = _encoder(arguments), arguments.get("Prefix", "")
    key_marker: str = arguments.get("KeyMarker", "")
    id_marker: str = arguments.get("UploadIdMarker", "")

    def is_after(upload: OpenUpload) -> bool:
        if id_marker and upload.key == key_marker:
            return upload.id > id_marker
        return upload.key > key_marker

    found = [one for one in bucket.uploads.values() if one.key.startswith(prefix) and is_after(one)]
    found.sort(key=lambda upload: (upload.key, upload.id))
    truncated = 0 < size < len(found)
    found = found[:size]
    page = _page(bucket, arguments, "MaxUploads", size, truncated=truncated)
    page |= {"KeyMarker": encode(key_marker), "UploadIdMarker": id_marker}
    if truncated:
        page |= {"NextKeyMarker": encode(found[-1].key), "NextUploadIdMarker": found[-1].id}
    if found:
        page["Uploads"] = [
            {
                "Key": encode(one.key),
                "UploadId": one.id,
                "Initiated": one.initiated,
                "StorageClass": one.headers.get("StorageClass", "STANDARD"),
            }
            for one in found
        ]
    return page


def _page(bucket: Bucket, arguments: Mapping[str, Any], limit: str, size: int, *, truncated: bool) -> dict[str, Any]:
    """Return what the pages of all listings have; their `Name` is called `Bucket` for uploads."""
    encoding = {"EncodingType": arguments["EncodingType"]} if "EncodingType" in arguments else {}
    name = "Bucket" if limit == "MaxUploads" else "Name"
    prefix = _encoder(arguments)(arguments.get("Prefix", ""))
    return {name: bucket.name, "Prefix": prefix, limit: size, "IsTruncated": truncated, **encoding}


def _described(one: StoredObject, encode: Callable[[str], str]) -> dict[str, Any]:
    return {
        "Key": encode(one.key),
        "LastModified": one.last_modified,
        "ETag": one.etag,
        "Size": len(one.body),
        "StorageClass": one.headers.get("StorageClass", "STANDARD"),
    }


def _encoder(arguments: Mapping[str, Any]) -> Callable[[str], str]:
    """Return what encodes the keys of a listing; boto3 decodes them only if the request did not ask for it itself."""
    return _encode if arguments.get("EncodingType") == "url" else str


@lru_cache(maxsize=4096)
def _encode(key: str) -> str:
    return quote_plus(key, safe="/*")


def _key_of(token: str) -> str:
    try:
        return urlsafe_b64decode(token).decode()
    except ValueError:
        raise RefusedError(400, "InvalidArgument", "The continuation token provided is incorrect") from None


def _keys_after(bucket: Bucket, prefix: str, after: str) -> Iterator[str]:
    """Yield the keys of current objects in the order of their UTF-8 bytes, which is that of their code points."""
    if bucket.sorted_keys is None:
        bucket.sorted_keys = sorted(bucket.current)
    return _under(bucket.sorted_keys, prefix, after)


def _under(keys: list[str], prefix: str, after: str) -> Iterator[str]:
    start = max(bisect_left(keys, prefix), bisect_right(keys, after) if after else 0)
    for position in range(start, len(keys)):
        if not keys[position].startswith(prefix):
            return
        yield keys[position]


def _versions_after(
    bucket: Bucket, prefix: str, key_marker: str, version_marker: str | None
) -> Iterator[tuple[StoredObject, bool]]:
    """Yield versions and delete markers, each with whether it is the latest of its key."""
    if not bucket.versioning:
        yield from ((bucket.current[key], True) for key in _keys_after(bucket, prefix, key_marker))
        return
    if version_marker and key_marker in bucket.stacks:
        newest_first: Iterable[StoredObject] = reversed(bucket.stacks[key_marker])
        latest = bucket.stacks[key_marker][-1]
        # Version ids ascend with time.
        yield from ((one, one is latest) for one in newest_first if one.version_id < version_marker)
    for key in _under(sorted(bucket.stacks), prefix, key_marker):
        stack = bucket.stacks[key]
        yield from ((one, one is stack[-1]) for one in reversed(stack))
