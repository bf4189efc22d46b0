"""What S3 answers is understood once, and becomes an error of the engine or of the worker."""

from __future__ import annotations

import os
from typing import Any

import pytest
from aiohttp import ClientConnectionError
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError
from s3fs.errors import translate_boto_error

from runner.aws.bucket import S3fsRequests, Store, to_error
from runner.errors import (
    ConditionFailedError,
    ConflictError,
    DeniedError,
    NoUploadError,
    RunnerError,
    StoreError,
)
from transform import (
    AccessDeniedError,
    InputError,
    OutputError,
    S3Failure,
    SourceChangedError,
    TransformError,
    UnavailableError,
)
from transform.io.s3 import filesystem, translate_errors

URI = "s3://bucket/key"


def answer(status: int, code: str) -> Exception:
    """Return what s3fs raises for an answer of S3: an error of Python, with that of botocore as its cause."""
    told = {"Code": code, "Message": f"S3 says {code}"}
    response: Any = {"Error": told, "ResponseMetadata": {"HTTPStatusCode": status}}
    error: Exception = translate_boto_error(ClientError(response, "GetObject"))
    return error


def raw(status: int, code: str) -> ClientError:
    """Return what botocore raises where s3fs does not translate it."""
    cause = answer(status, code).__cause__
    assert isinstance(cause, ClientError)
    return cause


Row = tuple[Exception, type[Exception], S3Failure, type[TransformError], type[TransformError], type[RunnerError]]
"""For each error: its type, its `S3Failure`, and the class it becomes for a read, for a read of an object that is known
to exist, and for the worker. For a write it is always an `OutputError`."""

TABLE: list[Row] = [
    (answer(403, "AccessDenied"), PermissionError, S3Failure.DENIED, AccessDeniedError, AccessDeniedError, DeniedError),
    (answer(403, "403"), PermissionError, S3Failure.DENIED, AccessDeniedError, AccessDeniedError, DeniedError),
    (
        answer(403, "SignatureDoesNotMatch"),
        PermissionError,
        S3Failure.DENIED,
        AccessDeniedError,
        AccessDeniedError,
        DeniedError,
    ),
    # Of a file of credentials, say.
    (PermissionError("no"), PermissionError, S3Failure.DENIED, AccessDeniedError, AccessDeniedError, DeniedError),
    (raw(403, "AccessDenied"), ClientError, S3Failure.OTHER, UnavailableError, UnavailableError, StoreError),
    (answer(403, "SomethingNew"), OSError, S3Failure.OTHER, UnavailableError, UnavailableError, StoreError),
    (
        NoCredentialsError(),
        NoCredentialsError,
        S3Failure.NO_CREDENTIALS,
        AccessDeniedError,
        AccessDeniedError,
        DeniedError,
    ),
    (answer(400, "ExpiredToken"), PermissionError, S3Failure.PASSING, UnavailableError, UnavailableError, StoreError),
    (
        answer(403, "RequestTimeTooSkewed"),
        PermissionError,
        S3Failure.PASSING,
        UnavailableError,
        UnavailableError,
        StoreError,
    ),
    (
        RuntimeError("Credentials were refreshed, but the refreshed credentials are still expired."),
        RuntimeError,
        S3Failure.PASSING,
        UnavailableError,
        UnavailableError,
        StoreError,
    ),
    (
        answer(400, "KMS.DisabledException"),
        OSError,
        S3Failure.KEY_REFUSED,
        UnavailableError,
        UnavailableError,
        DeniedError,
    ),
    (
        answer(400, "KMS.NotFoundException"),
        OSError,
        S3Failure.KEY_REFUSED,
        UnavailableError,
        UnavailableError,
        DeniedError,
    ),
    (answer(403, "InvalidObjectState"), PermissionError, S3Failure.ARCHIVED, InputError, InputError, DeniedError),
    (answer(404, "NoSuchBucket"), FileNotFoundError, S3Failure.NO_BUCKET, InputError, InputError, StoreError),
    (
        answer(404, "NoSuchKey"),
        FileNotFoundError,
        S3Failure.NO_KEY,
        InputError,
        SourceChangedError,
        ConditionFailedError,
    ),
    (answer(404, "404"), FileNotFoundError, S3Failure.NOT_FOUND, InputError, SourceChangedError, StoreError),
    (answer(404, "SomethingNew"), OSError, S3Failure.NOT_FOUND, UnavailableError, SourceChangedError, StoreError),
    # From s3fs, which found nothing in a listing.
    (FileNotFoundError("bucket/key"), FileNotFoundError, S3Failure.OTHER, InputError, InputError, StoreError),
    (answer(404, "NoSuchUpload"), FileNotFoundError, S3Failure.NO_UPLOAD, InputError, InputError, NoUploadError),
    (answer(400, "InvalidPart"), OSError, S3Failure.NO_UPLOAD, UnavailableError, UnavailableError, NoUploadError),
    (answer(400, "InvalidPartOrder"), OSError, S3Failure.NO_UPLOAD, UnavailableError, UnavailableError, NoUploadError),
    (answer(400, "EntityTooSmall"), OSError, S3Failure.NO_UPLOAD, UnavailableError, UnavailableError, NoUploadError),
    (
        answer(409, "ConditionalRequestConflict"),
        OSError,
        S3Failure.CONFLICT,
        UnavailableError,
        UnavailableError,
        ConflictError,
    ),
    (answer(409, "OperationAborted"), OSError, S3Failure.CONFLICT, UnavailableError, UnavailableError, ConflictError),
    (
        answer(412, "PreconditionFailed"),
        OSError,
        S3Failure.CONDITION_FAILED,
        SourceChangedError,
        SourceChangedError,
        ConditionFailedError,
    ),
    (
        answer(412, "412"),
        OSError,
        S3Failure.CONDITION_FAILED,
        SourceChangedError,
        SourceChangedError,
        ConditionFailedError,
    ),
    (answer(500, "InternalError"), OSError, S3Failure.OTHER, UnavailableError, UnavailableError, StoreError),
    (answer(503, "SlowDown"), OSError, S3Failure.OTHER, UnavailableError, UnavailableError, StoreError),
    (answer(200, "InternalError"), OSError, S3Failure.OTHER, UnavailableError, UnavailableError, StoreError),
    (TimeoutError(), TimeoutError, S3Failure.OTHER, UnavailableError, UnavailableError, StoreError),
    (
        ClientConnectionError("gone"),
        ClientConnectionError,
        S3Failure.OTHER,
        UnavailableError,
        UnavailableError,
        StoreError,
    ),
    (
        EndpointConnectionError(endpoint_url="http://nowhere"),
        EndpointConnectionError,
        S3Failure.OTHER,
        UnavailableError,
        UnavailableError,
        StoreError,
    ),
]
rows = pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row[0]!r:.60}")


def translated(error: Exception, error_class: type[TransformError], *, pinned: bool = False) -> TransformError:
    with pytest.raises(TransformError) as caught, translate_errors(URI, error_class, pinned=pinned):
        raise error
    assert str(caught.value).startswith(f"{URI}: ")
    assert "\n" not in str(caught.value)
    return caught.value


@rows
def test_an_error_is_one_failure_for_both(row: Row) -> None:
    error, kind, failure, read, read_again, asked = row
    assert isinstance(error, kind)
    assert S3Failure.from_error(error) is failure
    assert type(translated(error, InputError)) is read
    assert type(translated(error, InputError, pinned=True)) is read_again
    assert type(translated(error, OutputError)) is OutputError
    assert type(to_error(error, "get_object of s3://bucket/key")) is asked


def test_every_failure_is_in_the_table() -> None:
    assert {row[2] for row in TABLE} == {*S3Failure}


@pytest.mark.parametrize(
    ("error", "pinned", "message"),
    [
        (NoCredentialsError(), False, "no AWS credentials found. Set AWS_PROFILE, or AWS_ACCESS_KEY_ID and"),
        (answer(403, "AccessDenied"), False, "access denied (S3 says AccessDenied)"),
        (answer(400, "ExpiredToken"), False, "S3 says ExpiredToken"),
        (
            answer(403, "InvalidObjectState"),
            False,
            "is archived, and cannot be read before it is restored (S3 says InvalidObjectState)",
        ),
        (answer(404, "NoSuchKey"), False, "no such bucket or key (S3 says NoSuchKey)"),
        (answer(404, "NoSuchKey"), True, "vanished while it was read; nothing was published"),
        (answer(404, "NoSuchBucket"), True, "no such bucket or key (S3 says NoSuchBucket)"),
        (FileNotFoundError("bucket/key"), True, "no such bucket or key (bucket/key)"),
        (answer(412, "PreconditionFailed"), False, "changed while it was read; nothing was published"),
        (OSError("two\n  lines"), False, "two lines"),
    ],
)
def test_the_engine_says_what_to_do(error: Exception, pinned: bool, message: str) -> None:
    assert str(translated(error, InputError, pinned=pinned)).startswith(f"{URI}: {message}")


def test_the_worker_names_the_request() -> None:
    assert str(to_error(answer(403, "AccessDenied"), "get_object of s3://b/k")) == (
        "get_object of s3://b/k: S3 says AccessDenied"
    )
    assert str(to_error(TimeoutError(), "get_object of s3://b/k")) == "get_object of s3://b/k: TimeoutError"
    assert len(str(to_error(OSError("long " * 200), "x"))) == 500


def test_an_error_that_is_none_of_s3_is_a_bug() -> None:
    with pytest.raises(RuntimeError, match="a bug"), translate_errors(URI, InputError):
        raise RuntimeError("a bug")


class Failing:
    """Stands for s3fs, of which every request fails."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def call_s3(self, *_: object, **__: object) -> None:
        raise self._error


@pytest.mark.parametrize("code", ["404", "NoSuchKey", "NoSuchBucket"])
def test_what_is_missing_is_no_error_to_whoever_looks(code: str) -> None:
    assert Store("bucket", S3fsRequests(Failing(answer(404, code)))).head("key") is None


@pytest.mark.parametrize("error", [answer(503, "SlowDown"), FileNotFoundError("/etc/ca.pem"), TimeoutError()])
def test_what_could_not_be_looked_at_is_not_taken_for_missing(error: Exception) -> None:
    with pytest.raises(StoreError):
        Store("bucket", S3fsRequests(Failing(error))).head("key")


def test_requests_and_inputs_of_a_job_have_one_client(monkeypatch: pytest.MonkeyPatch) -> None:
    for endpoint in ({}, {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}):
        for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
            monkeypatch.delenv(name, raising=False)
        for name, value in endpoint.items():
            monkeypatch.setenv(name, value)
        requests = S3fsRequests.open(os.environ)
        assert requests.filesystem is filesystem()
        assert S3fsRequests.open(os.environ, "eu-central-1").filesystem is not requests.filesystem
