"""What is in a bucket, page by page: in the order of the keys, and with no more than a page in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_plus

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runner.store import Store

_RESTORED = ["RestoreStatus"]  # of archived objects, which S3 tells only when asked to


def list_objects(store: Store, prefix: str, after: str = "") -> Iterator[dict[str, Any]]:
    """Yield the objects under a prefix whose keys come after one, as S3 describes them.

    Raises:
        DeniedError, StoreError: S3 does not list them.
    """
    start = {"StartAfter": after} if after else {}
    tokens = {"NextContinuationToken": "ContinuationToken"}
    for page in _pages(store, "list_objects_v2", tokens, Prefix=prefix, OptionalObjectAttributes=_RESTORED, **start):
        yield from page.get("Contents", ())


def list_latest(store: Store, prefix: str, after: str = "") -> Iterator[dict[str, Any]]:
    """Yield likewise the objects of a bucket with versions, each with the id of its latest; `VersionId` is that.

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
    """Yield the pages of a listing; `tokens` says which members of one are which arguments for the next."""
    while True:
        # XML has no control characters, which keys may have; the SDK sees to that for objects only, not for uploads.
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
