"""S3 through s3fs: names of objects, access to them, and errors for what S3 answers."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, NoReturn, Self

from transform.errors import AccessDeniedError, InputError, SourceChangedError, TransformError, UnavailableError

if TYPE_CHECKING:
    import s3fs


MAX_CONNECTIONS = 100
"""With the 10 of botocore, the ranges and parts of a large object would wait for each other on many cores."""

_settings: dict[str, str] = {}
"""The variables of the environment that the file systems kept by s3fs were made with."""


@dataclass(frozen=True, slots=True)
class S3Object(os.PathLike[str]):
    """One version of an object; accepted wherever its URI is.

    Args:
        bucket: The name of its bucket.
        key: Its key, not encoded; any characters are allowed.
        etag: The ETag of the version to be read, without quotes; None for the current version.
        size: Its size in bytes if known, else None. A small object is then requested as a whole and compared with its
            checksum, which S3 does not send with a range.

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
    if not isinstance(location, str | os.PathLike):
        return False
    text = os.fspath(location)
    return isinstance(text, str) and text.startswith("s3://")


def object_at(location: "str | S3Object") -> S3Object:
    """Return the object that a URI names.

    Raises:
        InputError: It is not the URI of an object.
    """
    return location if isinstance(location, S3Object) else S3Object(*split_uri(location))


def split_uri(uri: str) -> tuple[str, str]:
    """Return the bucket and the key that a URI names.

    Raises:
        InputError: It is not the URI of an object.
    """
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    if not bucket or not key or key.endswith("/"):
        raise InputError(f"{uri}: expected s3://BUCKET/KEY")
    if "?versionId=" in key:
        raise InputError(f"{uri}: keys that hold `?versionId=` are not supported in a URI, it may mean a version")
    return bucket, key


def filesystem(environ: Mapping[str, str] | None = None, region: str | None = None) -> "s3fs.S3FileSystem":
    """Return the file system of s3fs for the settings of AWS in force; the same one until they change.

    Args:
        environ: Has the endpoint, instead of the environment of this process.
        region: The region, instead of that of the settings.

    Example:
        >>> filesystem() is filesystem()
        True
    """
    import s3fs

    settings = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    if settings != _settings:  # s3fs knows its file systems by their arguments alone
        forget_filesystems()
        _settings.clear()
        _settings.update(settings)
    options: dict[str, Any] = {"config_kwargs": {"max_pool_connections": MAX_CONNECTIONS}}
    if region:
        options["client_kwargs"] = {"region_name": region}
    return s3fs.S3FileSystem(anon=False, endpoint_url=endpoint(environ), use_listings_cache=False, **options)


def forget_filesystems() -> None:
    """Have s3fs make its file systems again."""
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()


def endpoint(environ: Mapping[str, str] | None = None) -> str | None:
    """Return the endpoint in force; given explicitly, as s3fs shares its instances by their arguments."""
    environ = os.environ if environ is None else environ
    return environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL")


class S3Failure(Enum):
    """Why S3 did not do what a request asked for.

    Example:
        >>> S3Failure.from_error(PermissionError("Access Denied"))
        <S3Failure.DENIED: 'denied'>
    """

    DENIED = "denied"
    NO_CREDENTIALS = "no credentials"
    PASSING = "passing"
    """The credentials have expired or the clock is wrong: the same request may succeed later."""
    KEY_REFUSED = "key refused"
    """KMS does not let its key be used."""
    ARCHIVED = "archived"
    """The object must be restored before it can be read."""
    NO_BUCKET = "no bucket"
    NO_KEY = "no key"
    """S3 also answers with this to a condition on an object that is gone."""
    NOT_FOUND = "not found"
    """Status 404 without saying what is missing, as in the answer to a HEAD request."""
    NO_UPLOAD = "no upload"
    """The multipart upload is gone, or its parts are not those that were uploaded."""
    CONDITION_FAILED = "condition failed"
    CONFLICT = "conflict"
    """Another request is writing the same object."""
    OTHER = "other"
    """Anything else: S3 is unreachable or overloaded, or the request is wrong."""

    @classmethod
    def from_error(cls, error: BaseException) -> Self:
        """Return the failure that an error of s3fs or botocore stands for.

        Args:
            error: As s3fs raised it; it keeps botocore's, with S3's answer, as its cause.
        """
        from botocore.exceptions import NoCredentialsError

        status, code = _answer(error)
        if isinstance(error, NoCredentialsError):
            return cls.NO_CREDENTIALS
        if isinstance(error, PermissionError):  # s3fs raises it for all of these
            return cls(_PERMISSION_CODES.get(code, cls.DENIED))
        if isinstance(error, RuntimeError):  # botocore raises it if refreshed credentials have expired already
            return cls.PASSING
        if code.startswith("KMS."):
            return cls.KEY_REFUSED
        return cls(_CODES.get(code) or _STATUSES.get(status, cls.OTHER))

    @property
    def is_missing(self) -> bool:
        """Whether S3 answered that the bucket or object does not exist."""
        return self in (S3Failure.NO_BUCKET, S3Failure.NO_KEY, S3Failure.NOT_FOUND)


_PERMISSION_CODES = {
    "ExpiredToken": S3Failure.PASSING,
    "RequestTimeTooSkewed": S3Failure.PASSING,
    "InvalidObjectState": S3Failure.ARCHIVED,
}
_CODES = {
    "NoSuchBucket": S3Failure.NO_BUCKET,
    "NoSuchKey": S3Failure.NO_KEY,
    "NoSuchUpload": S3Failure.NO_UPLOAD,
    "InvalidPart": S3Failure.NO_UPLOAD,
    "InvalidPartOrder": S3Failure.NO_UPLOAD,
    "EntityTooSmall": S3Failure.NO_UPLOAD,
}
_STATUSES = {404: S3Failure.NOT_FOUND, 409: S3Failure.CONFLICT, 412: S3Failure.CONDITION_FAILED}


def _answer(error: BaseException) -> tuple[int, str]:
    """Return the status and the code that S3 answered with, 0 and "" if it did not answer."""
    response: Any = getattr(error, "response", None) or getattr(error.__cause__, "response", None) or {}
    return response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0), response.get("Error", {}).get("Code", "")


@contextlib.contextmanager
def translate_errors(uri: str, error_class: type[TransformError], *, pinned: bool = False) -> Iterator[None]:
    """Turn the errors of s3fs and botocore into one of ours.

    Args:
        uri: Named in the message.
        error_class: Class of the errors; for `InputError`, also its subclasses.
        pinned: Whether the object existed before, so that a missing one has vanished.
    """
    from aiohttp import ClientError as ConnectionFailedError
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except TransformError as error:
        raise (error if isinstance(error, error_class) else error_class(str(error))) from None
    except (OSError, BotoCoreError, ClientError, ConnectionFailedError) as error:
        _raise_translated(error, uri, error_class, pinned=pinned)
    except RuntimeError as error:
        if "redentials" not in str(error):  # not one of botocore's
            raise
        _raise_translated(error, uri, error_class, pinned=pinned)


def _raise_translated(error: Exception, uri: str, error_class: type[TransformError], *, pinned: bool) -> NoReturn:
    reads = error_class is InputError
    denied, unavailable = (AccessDeniedError, UnavailableError) if reads else (error_class, error_class)
    match S3Failure.from_error(error):
        case S3Failure.NO_CREDENTIALS:
            forget_filesystems()  # one that found none would not look again, and a notebook goes on
            hint = "Set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
            raise denied(f"{uri}: no AWS credentials found. {hint}") from None
        case S3Failure.DENIED:
            raise denied(f"{uri}: access denied ({error})") from None
        case S3Failure.ARCHIVED:
            raise error_class(f"{uri}: is archived, and cannot be read before it is restored ({error})") from None
        case S3Failure.CONDITION_FAILED if reads:
            raise SourceChangedError(f"{uri}: changed while it was read; nothing was published") from None
        case S3Failure.NO_KEY | S3Failure.NOT_FOUND if reads and pinned:
            raise SourceChangedError(f"{uri}: vanished while it was read; nothing was published") from None
    if isinstance(error, FileNotFoundError):  # whether S3 answered so or s3fs found nothing in a listing
        raise error_class(f"{uri}: no such bucket or key ({error})") from None
    raise unavailable(f"{uri}: {' '.join(str(error).split())}") from error
