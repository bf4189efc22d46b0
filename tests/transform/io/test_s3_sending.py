"""Content is sent to S3 without a copy, with a checksum, and over TLS without a signature of it."""

from __future__ import annotations

import base64
import zlib
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import s3fs
from aiobotocore.awsrequest import AioAWSResponse  # type: ignore[import-untyped]
from botocore.exceptions import FlexibleChecksumError

from transform import OutputError, prepare_sending
from transform.io.s3 import translate_errors

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CONTENT = bytes(range(256)) * 1000
CHECKSUM = base64.b64encode(zlib.crc32(CONTENT).to_bytes(4, "big")).decode()
OPERATIONS: dict[str, dict[str, Any]] = {"upload_part": {"UploadId": "u", "PartNumber": 1}, "put_object": {}}


class Wire:
    """Takes the requests of a file system before they are sent, and answers them.

    Attributes:
        requests: The requests.
        checksum: The checksum in the answers, None for none.
    """

    def __init__(self, filesystem: s3fs.S3FileSystem, checksum: str | None = CHECKSUM) -> None:
        self.requests: list[Any] = []
        self.checksum = checksum
        for operation in ("UploadPart", "PutObject"):
            filesystem.s3.meta.events.register(f"before-send.s3.{operation}", self.take)

    def take(self, request: Any, **_: object) -> AioAWSResponse:
        self.requests.append(request)
        headers = {"etag": '"e"'} | ({"x-amz-checksum-crc32": self.checksum} if self.checksum else {})

        async def read() -> bytes:
            return b""

        return AioAWSResponse(request.url, 200, headers, SimpleNamespace(read=read))


@pytest.fixture
def filesystem_at(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., s3fs.S3FileSystem]:
    """Returns a file system that is configured as a user may have done."""

    def build(endpoint: str, config: str = "") -> s3fs.S3FileSystem:
        (tmp_path / "config").write_text(f"[default]\nregion = eu-central-1\n{config}")
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
        return s3fs.S3FileSystem(key="k", secret="s", endpoint_url=endpoint, skip_instance_cache=True)

    return build


def sent(filesystem: s3fs.S3FileSystem, operation: str, wire: Wire) -> Any:
    prepare_sending(filesystem)
    prepare_sending(filesystem)  # before each part
    filesystem.call_s3(operation, Bucket="b", Key="k", Body=CONTENT, **OPERATIONS[operation])
    return wire.requests[-1]


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(
    ("endpoint", "config", "is_signed"),
    [
        ("https://127.0.0.1:1", "", False),
        ("https://127.0.0.1:1", "s3 =\n    payload_signing_enabled = true\n", True),
        ("https://127.0.0.1:1", "s3 =\n    addressing_style = virtual\n", False),
        ("http://127.0.0.1:1", "", True),
    ],
)
def test_content_is_signed_only_where_it_must_be(
    endpoint: str, config: str, is_signed: bool, operation: str, filesystem_at: Callable[..., s3fs.S3FileSystem]
) -> None:
    filesystem = filesystem_at(endpoint, config)
    request = sent(filesystem, operation, Wire(filesystem))
    signature = request.headers["X-Amz-Content-SHA256"]
    signature = signature if isinstance(signature, str) else signature.decode()
    assert (signature != "UNSIGNED-PAYLOAD") is is_signed
    assert signature == "UNSIGNED-PAYLOAD" or len(signature) == 64
    style = (filesystem.s3.meta.config.s3 or {}).get("addressing_style")
    assert style == ("virtual" if "virtual" in config else None), "nothing else is changed"


@pytest.mark.parametrize("operation", OPERATIONS)
def test_content_is_sent_as_it_is_with_its_checksum(
    operation: str, filesystem_at: Callable[..., s3fs.S3FileSystem]
) -> None:
    filesystem = filesystem_at("https://127.0.0.1:1")
    request = sent(filesystem, operation, Wire(filesystem))
    headers = {name.lower(): value for name, value in request.headers.items()}
    assert headers["x-amz-checksum-crc32"] in (CHECKSUM, CHECKSUM.encode())
    assert "transfer-encoding" not in headers
    assert "content-encoding" not in headers
    assert request.body.getbuffer().obj is CONTENT, "it was not copied"
    assert request.body.read() == CONTENT


@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_answer_with_another_checksum_is_an_error(
    operation: str, filesystem_at: Callable[..., s3fs.S3FileSystem]
) -> None:
    filesystem = filesystem_at("https://127.0.0.1:1")
    wire = Wire(filesystem, "AAAAAA==")
    with pytest.raises(FlexibleChecksumError, match=f"AAAAAA==, but {CHECKSUM} was sent"):
        sent(filesystem, operation, wire)
    with (
        pytest.raises(OutputError, match=f"^s3://b/k: .* {CHECKSUM} was sent"),
        translate_errors("s3://b/k", OutputError),
    ):
        sent(filesystem, operation, wire)
    wire.checksum = None  # as servers answer that know no checksums
    sent(filesystem, operation, wire)


def test_a_new_client_of_the_file_system_is_prepared_as_well(filesystem_at: Callable[..., s3fs.S3FileSystem]) -> None:
    filesystem = filesystem_at("https://127.0.0.1:1")
    sent(filesystem, "put_object", Wire(filesystem))
    old = filesystem.s3
    filesystem.connect(refresh=True)
    assert filesystem.s3 is not old
    request = sent(filesystem, "put_object", Wire(filesystem))
    assert "x-amz-checksum-crc32" in {name.lower() for name in request.headers}
