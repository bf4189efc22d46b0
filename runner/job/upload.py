"""The output on its way: collected into parts of a multipart upload, or one put where it is small.

Where an output goes, and what is said of it: it keeps the input's content type, encoding, storage class and tags.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from runner.errors import ImpossibleError, NoUploadError
from transform import codec_of_encoding, codec_of_name, part_size, spare_copies

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from runner.aws.bucket import Store
    from transform import Codec


_KEPT = ("ContentType", "ContentEncoding", "StorageClass")
_NO_CODING = {"", "aws-chunked", "identity"}


@dataclass(frozen=True, slots=True)
class UploadedPart:
    """A part of the output that was uploaded."""

    number: int
    etag: str
    size: int


@dataclass(frozen=True, slots=True)
class Target:
    """Where an output goes.

    Attributes:
        store: The bucket.
        key: The object.
        headers: What is to be said of it: content type, metadata and so on, by the names that boto3 uses.
        codec: The format to compress it in, None for none.
        part_bytes: How large the first parts are.
    """

    store: Store
    key: str
    headers: Mapping[str, Any]
    codec: Codec | None
    part_bytes: int

    @classmethod
    def from_headers(
        cls,
        store: Store,
        key: str,
        headers: Mapping[str, Any],
        tags: Mapping[str, str],
        metadata: Mapping[str, str],
        part_bytes: int,
    ) -> Target:
        """Return it for the output of an object.

        Args:
            store: The bucket.
            key: The object.
            headers: What S3 says of the input, by the names that boto3 uses.
            tags: Those of the input.
            metadata: What the output is to tell of itself.
            part_bytes: How large the first parts are.

        Raises:
            ImpossibleError: The input is encoded in a way that cannot be written.
        """
        said = {name: headers[name] for name in _KEPT if headers.get(name)} | {"Metadata": metadata}
        if tags:
            said["Tagging"] = urlencode(tags)
        codec = codec_of_name(key) or _codec_of_encoding(headers.get("ContentEncoding", ""))
        return cls(store, key, said, codec, part_bytes)


def _codec_of_encoding(encoding: str) -> Codec | None:
    """Return the format that a `Content-Encoding` names.

    Raises:
        ImpossibleError: It is one that cannot be read.
    """
    tokens = [token.strip() for token in encoding.split(",") if token.strip().lower() not in _NO_CODING]
    codecs = [codec_of_encoding(token) for token in tokens]
    if len(codecs) > 1 or None in codecs:
        raise ImpossibleError(f"the object's Content-Encoding is `{encoding}`; gzip, zstd, bzip2 and xz can be read")
    return codecs[0] if codecs else None


class Upload:
    """An output being collected.

    Each part ends a compressed stream, so that a part can be followed by what another process makes of the rest.

    Args:
        target: Where it goes.
        upload: The id of an upload to go on with.
        parts: What it has.
    """

    def __init__(self, target: Target, upload: str | None = None, parts: Sequence[UploadedPart] = ()) -> None:
        spare_copies(target.store.filesystem)
        self._target = target
        self._buffer = BytesIO()
        self._compressor = target.codec.compressor() if target.codec else None
        self._pending = False  # whether the compressor holds something
        self._taken = len(parts)
        self._taken_bytes = sum(part.size for part in parts)
        self.id = upload
        self.parts = list(parts)

    @property
    def collected_bytes(self) -> int:
        """How much of the content is not in a part yet."""
        return self._buffer.tell()

    def is_full(self, read: tuple[int, int | None]) -> bool:
        """Return whether there is enough for a part, given how much of the input was read, as `part_size` takes it."""
        written = self._taken_bytes + self.collected_bytes
        return self.collected_bytes >= part_size(self._target.part_bytes, self._taken, written, read)

    def write(self, data: memoryview | bytes) -> None:
        """Add to the content."""
        if self._compressor is None:
            self._buffer.write(data)
        elif len(data):
            self._buffer.write(self._compressor.compress(data))
            self._pending = True

    def create(self) -> str:
        """Begin a multipart upload; return its id."""
        answer = self._call("create_multipart_upload", **self._target.headers)
        self.id = str(answer["UploadId"])
        return self.id

    def take_part(self) -> tuple[int, bytes]:
        """Return the number and the content of the next part, which is what was collected, and collect anew."""
        self._end_stream()
        content, self._buffer = self._buffer.getvalue(), BytesIO()
        self._taken += 1
        self._taken_bytes += len(content)
        return self._taken, content

    def put_part(self, number: int, content: bytes) -> UploadedPart:
        """Upload a part; it counts once it is among `parts`, in its place.

        Raises:
            NoUploadError, StoreError: It is not uploaded.
        """
        # As bytes, which botocore makes a stream of; a bytearray would be sent at one go, and hold up other requests.
        answer = self._call("upload_part", UploadId=self.id, PartNumber=number, Body=content)
        return UploadedPart(number, answer["ETag"], len(content))

    def publish(self, condition: Mapping[str, str]) -> str:
        """Make the object appear, on a condition, and return its ETag; may be called again where that failed.

        Raises:
            ConditionFailedError, ConflictError, NoUploadError, StoreError: It did not appear, or so it seems.
        """
        self._end_stream()
        if self.id is None:
            answer = self._call("put_object", Body=self._buffer.getvalue(), **self._target.headers, **condition)
            return str(answer["ETag"])
        if self.collected_bytes:
            self.parts.append(self.put_part(len(self.parts) + 1, self._buffer.getvalue()))
            self._buffer = BytesIO()  # not before: who tries again has to find it
        parts = [{"PartNumber": part.number, "ETag": part.etag} for part in self.parts]
        whole = {"MultipartUpload": {"Parts": parts}}
        return str(self._call("complete_multipart_upload", UploadId=self.id, **whole, **condition)["ETag"])

    def abort(self) -> None:
        """Leave no upload open."""
        if self.id is not None:
            upload, self.id = self.id, None
            with contextlib.suppress(NoUploadError):  # gone already
                self._call("abort_multipart_upload", UploadId=upload)

    def _end_stream(self) -> None:
        """Flush the compressor; an output of nothing is one empty stream."""
        if self._compressor is None or self._target.codec is None:
            return
        if self._pending or not (self._taken or self.collected_bytes):
            self._buffer.write(self._compressor.flush())
            self._compressor = self._target.codec.compressor()
            self._pending = False

    @property
    def _call(self) -> Callable[..., dict[str, Any]]:
        def call(operation: str, **arguments: Any) -> dict[str, Any]:
            return self._target.store.call(operation, Key=self._target.key, **arguments)

        return call
