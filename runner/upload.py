"""The output on its way: collected into parts of a multipart upload, or one put where it is small."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runner.checkpoint import Part
from runner.errors import NoUploadError
from transform import part_size

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from runner.store import Store
    from transform import Codec


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


class Upload:
    """An output being collected.

    Each part ends a compressed stream, so that a part can be followed by what another process makes of the rest.

    Args:
        target: Where it goes.
        upload: The id of an upload to go on with.
        parts: What it has.
    """

    def __init__(self, target: Target, upload: str | None = None, parts: Sequence[Part] = ()) -> None:
        self._target = target
        self._buffer = bytearray()
        self._compressor = target.codec.compressor() if target.codec else None
        self._pending = False  # whether the compressor holds something
        self.id = upload
        self.parts = list(parts)

    @property
    def is_full(self) -> bool:
        """Whether there is enough for a part."""
        return len(self._buffer) >= part_size(self._target.part_bytes, len(self.parts))

    def write(self, data: memoryview | bytes) -> None:
        """Add to the content."""
        if self._compressor is None:
            self._buffer += data
        elif len(data):
            self._buffer += self._compressor.compress(data)
            self._pending = True

    def create(self) -> str:
        """Begin a multipart upload; return its id."""
        answer = self._call("create_multipart_upload", **self._target.headers)
        self.id = str(answer["UploadId"])
        return self.id

    def send_part(self) -> None:
        """Upload what is collected as the next part."""
        self._end_stream()
        # As bytes, which botocore makes a stream of; a bytearray would be sent at one go, and hold up other requests.
        number, content = len(self.parts) + 1, bytes(self._buffer)
        answer = self._call("upload_part", UploadId=self.id, PartNumber=number, Body=content)
        self._buffer.clear()  # not before: who tries again has to find it
        self.parts.append(Part(number, answer["ETag"], len(content)))

    def publish(self, condition: Mapping[str, str]) -> str:
        """Make the object appear, on a condition, and return its ETag; may be called again where that failed.

        Raises:
            ConditionFailedError, ConflictError, NoUploadError, StoreError: It did not appear, or so it seems.
        """
        self._end_stream()
        if self.id is None:
            answer = self._call("put_object", Body=bytes(self._buffer), **self._target.headers, **condition)
            return str(answer["ETag"])
        if self._buffer:
            self.send_part()
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
        if self._pending or not (self.parts or self._buffer):
            self._buffer += self._compressor.flush()
            self._compressor = self._target.codec.compressor()
            self._pending = False

    @property
    def _call(self) -> Callable[..., dict[str, Any]]:
        def call(operation: str, **arguments: Any) -> dict[str, Any]:
            return self._target.store.call(operation, Key=self._target.key, **arguments)

        return call
