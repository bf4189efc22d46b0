"""S3 through s3fs: how objects are named, reached, and what goes wrong said.

How large the parts of a multipart upload have to be, so that an object fits into as many as S3 allows.
"""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

from transform.errors import AccessDeniedError, InputError, SourceChangedError, TransformError, UnavailableError

if TYPE_CHECKING:
    import s3fs


_PRECONDITION_FAILED, _NOT_FOUND = 412, 404


@dataclass(frozen=True, slots=True)
class S3Object(os.PathLike[str]):
    """An object as one version of it; it can stand wherever its URI can.

    Args:
        bucket: Where it is.
        key: Which; whatever it holds is taken as it is.
        etag: Of the version to be read, as S3 gives it but without quotes; None for the one that is there.
        size: In bytes, where it is known: a small object is then asked for whole, and compared with its checksum, which
            S3 does not tell with a range.

    Example:
        >>> str(S3Object("bucket", "folder/in.jsonl", etag="9b2cf535f27731c974343645a3985328"))
        's3://bucket/folder/in.jsonl'
    """

    bucket: str
    key: str
    etag: str | None = None
    size: int | None = None

    def __fspath__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"

    def __str__(self) -> str:
        return self.__fspath__()


def is_uri(location: object) -> bool:
    """Return whether a location is an S3 URI."""
    return isinstance(location, str | os.PathLike) and str(location).startswith("s3://")


def object_at(location: "str | S3Object") -> S3Object:
    """Return the object that a URI names.

    Raises:
        InputError: It is no URI of an object.
    """
    return location if isinstance(location, S3Object) else S3Object(*split_uri(location))


def split_uri(uri: str) -> tuple[str, str]:
    """Return the bucket and the key that a URI names.

    Raises:
        InputError: It names none.
    """
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    if not bucket or not key or key.endswith("/"):
        raise InputError(f"{uri}: expected s3://BUCKET/KEY")
    if "?versionId=" in key:
        raise InputError(f"{uri}: keys that hold `?versionId=` are not supported in a URI, it may mean a version")
    return bucket, key


def filesystem() -> "s3fs.S3FileSystem":
    """Return s3fs, for the endpoint in force."""
    import s3fs

    return s3fs.S3FileSystem(anon=False, endpoint_url=endpoint(), use_listings_cache=False)


class _Stream(BytesIO):
    """Bytes as a stream whose buffer is theirs; one of Python's copies them when it is asked for its buffer."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self._content = content

    def getbuffer(self) -> memoryview:
        return memoryview(self._content)


def spare_copies(filesystem: "s3fs.S3FileSystem") -> None:
    """Have parts of uploads that are given as bytes sent from where they are.

    botocore makes a stream of them, and aiohttp asks that for its buffer, which copies it: for each part on its way as
    much memory again, and a seventh of the time that sending takes.

    Args:
        filesystem: What sends them.

    Example:
        >>> import s3fs
        >>> spare_copies(s3fs.S3FileSystem(anon=True))
    """
    filesystem.s3.meta.events.register_first("before-parameter-build.s3.UploadPart", _as_stream, "transform-stream")


def _as_stream(params: dict[str, Any], **_: object) -> None:
    if isinstance(params.get("Body"), bytes):
        params["Body"] = _Stream(params["Body"])


def endpoint() -> str | None:
    """Return the endpoint in force; given explicitly, as s3fs shares its instances by their arguments."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")


@contextlib.contextmanager
def translate_errors(uri: str, error_class: type[TransformError], *, pinned: bool = False) -> Iterator[None]:
    """Turn what s3fs and botocore raise into one of our errors.

    Args:
        uri: What it is about.
        error_class: Of the errors; of `InputError`, its subclasses.
        pinned: Whether an object that is not there was there before.
    """
    from aiohttp import ClientError as ConnectionFailedError
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

    reads = error_class is InputError
    denied, unavailable = (AccessDeniedError, UnavailableError) if reads else (error_class, error_class)
    try:
        yield
    except TransformError as error:
        raise (error if isinstance(error, error_class) else error_class(str(error))) from None
    except NoCredentialsError:
        raise denied(
            f"{uri}: no AWS credentials found. Set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
        ) from None
    except PermissionError as error:
        raise _refusal(uri, error, error_class, denied, unavailable) from None
    except RuntimeError as error:  # of botocore, where new credentials have expired already
        if "redentials" not in str(error):
            raise
        raise unavailable(f"{uri}: {error}") from error
    except (OSError, BotoCoreError, ClientError, ConnectionFailedError) as error:
        status, code = _answer(error)
        if reads and (status == _PRECONDITION_FAILED or (pinned and status == _NOT_FOUND and code != "NoSuchBucket")):
            how = "changed while it was read" if status == _PRECONDITION_FAILED else "vanished while it was read"
            raise SourceChangedError(f"{uri}: {how}; nothing was published") from None
        if isinstance(error, FileNotFoundError):
            raise error_class(f"{uri}: no such bucket or key ({error})") from None
        raise unavailable(f"{uri}: {' '.join(str(error).split())}") from error


def _refusal(
    uri: str,
    error: PermissionError,
    error_class: type[TransformError],
    denied: type[TransformError],
    unavailable: type[TransformError],
) -> TransformError:
    """Return the error for what s3fs takes for a denial."""
    match _answer(error)[1]:
        case "ExpiredToken" | "RequestTimeTooSkewed":  # credentials are renewed, and clocks set right
            return unavailable(f"{uri}: {error}")
        case "InvalidObjectState":
            return error_class(f"{uri}: is archived, and cannot be read before it is restored ({error})")
        case _:
            return denied(f"{uri}: access denied ({error})")


def _answer(error: Exception) -> tuple[int, str]:
    """Return the status and the code that S3 answered with; s3fs keeps them as the cause of its errors."""
    response: Any = getattr(error, "response", None) or getattr(error.__cause__, "response", None) or {}
    return response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0), response.get("Error", {}).get("Code", "")


MAX_PARTS = 10_000
MAX_PART_BYTES = 5 << 30
"""Both from the quotas of S3 (Amazon S3 User Guide, "Amazon S3 multipart upload limits")."""

ReadSoFar = tuple[int, int | None]
"""How many bytes of an input were read, and how many it has, None where only its end tells."""

_SPARE = 2  # half of the parts that are left are kept for output that comes to more than it seems now
_PARTS_BEFORE_GROWTH = 1000  # where nothing is known of how much is to come
_LAST_PARTS = 1000
_LAST_PARTS_BEFORE_GROWTH = 100


def part_size(first: int, parts: int, written: int = 0, read: ReadSoFar = (0, None)) -> int:
    """Return how many bytes the next part of an upload should have.

    A part is kept in memory, so none is larger than it has to be: what is still to come, reckoned from what has come
    of the input so far, has to fit into the parts that are left. Of an output of 1 TB they have 200 MB at most. Where
    the size of the input is not known, they double after every 1,000.

    Args:
        first: The size of the parts of an output that is not huge.
        parts: How many there are already.
        written: How many bytes of output there are so far, in parts or not.
        read: How much of the input these came of.

    Example:
        >>> part_size(16 << 20, parts=0, written=16 << 20, read=(16 << 20, 1 << 40)) >> 20
        209
        >>> part_size(16 << 20, parts=1000) >> 20
        32
    """
    position, size = read
    if not position or size is None:
        return min(first << (parts // _PARTS_BEFORE_GROWTH), MAX_PART_BYTES)
    parts_left = max(1, MAX_PARTS - parts)
    even = _SPARE * written * max(0, size - position) // (position * parts_left)
    # Should most of it come at the input's end, the last parts grow whatever was reckoned.
    last = first << (max(0, parts - MAX_PARTS + _LAST_PARTS) // _LAST_PARTS_BEFORE_GROWTH)
    return min(max(first, even, last), MAX_PART_BYTES)
