"""The output on its way: collected into parts of a multipart upload, or put with one request if it is small.

It keeps the input's content type, storage class and tags, and its encoding as far as that is a compression.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from transform import MultipartUpload, PartBuffer, codec_of_encoding, codec_of_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from runner.aws.bucket import Store
    from runner.job.context import JobContext
    from runner.job.identity import JobIdentity, Origin
    from transform import Codec, PartSizes, UploadedPart


_KEPT = ("ContentType", "StorageClass")
MAX_PARTS_IN_FLIGHT = 4  # with fewer, it would wait for answers, where those take as long as they do from S3
MAX_BYTES_IN_FLIGHT = 80 << 20  # large parts go one by one, or several would take the memory


@dataclass(frozen=True, slots=True)
class Target:
    """Where an output goes.

    Attributes:
        store: The bucket.
        key: The object.
        headers: What is to be said of it: content type, metadata and so on, by the names that boto3 uses.
        codec: The format to compress it in, None for none.
        part_sizes: The sizes of its parts.
    """

    store: Store
    key: str
    headers: Mapping[str, Any]
    codec: Codec | None
    part_sizes: PartSizes

    @classmethod
    def from_input(
        cls, context: JobContext, identity: JobIdentity, headers: Mapping[str, Any], origin: Origin
    ) -> Target:
        """Return where the output of an opened input goes, with the input's tags.

        Args:
            context: Has the buckets.
            identity: What the job is.
            headers: What S3 says of the input, by the names that boto3 uses.
            origin: What the output is made from, which its metadata say.

        Raises:
            DeniedError, StoreError: S3 does not give the tags.
        """
        kept = {name: headers[name] for name in _KEPT if headers.get(name)} | {"Metadata": origin.to_metadata()}
        if headers.get("TagCount"):
            answer = context.source.call("get_object_tagging", Key=identity.event.key)
            kept["Tagging"] = urlencode({tag["Key"]: tag["Value"] for tag in answer["TagSet"]})
        codec, encoding = _compression(identity.output_key, headers.get("ContentEncoding") or "")
        if encoding:
            kept["ContentEncoding"] = encoding
        return cls(context.store, identity.output_key, kept, codec, context.part_sizes)


def _compression(key: str, encoding: str) -> tuple[Codec | None, str]:
    """Return the format of an output, None for none, and its `Content-Encoding`, "" for none.

    How the content of the input was really stored does not matter: the output is what its own key and headers say. If
    they would contradict each other, the key decides, and the encoding is left out.

    Args:
        key: The output's key.
        encoding: The input's `Content-Encoding`, "" for none.
    """
    named = codec_of_name(key)
    coded = [(codec, token.strip()) for token in encoding.split(",") if (codec := codec_of_encoding(token))]
    if len(coded) == 1 and named in (None, coded[0][0]):
        return coded[0]
    return named, ""


class Upload:
    """An output on its way: a multipart upload, or one PutObject if it is small.

    Each part ends a compressed stream, so that another process can continue with the next part.

    Args:
        target: Where it goes.
        upload_id: Id of an upload to continue.
        parts: The parts that this upload has.
        max_parts_in_flight: How many parts may be sent at a time, as `MultipartUpload` takes it.
    """

    def __init__(
        self,
        target: Target,
        upload_id: str | None = None,
        parts: Sequence[UploadedPart] = (),
        max_parts_in_flight: int = MAX_PARTS_IN_FLIGHT,
    ) -> None:
        self._target = target
        self._buffer = PartBuffer(target.part_sizes, parts)
        self._compressor = target.codec.compressor() if target.codec else None
        self._pending = False  # whether the compressor holds something
        self._call: Callable[..., dict[str, Any]] = partial(target.store.call, Key=target.key)
        self._multipart = MultipartUpload(
            self._call,
            target.store.filesystem,
            target.headers,
            max_parts_in_flight=max_parts_in_flight,
            max_bytes_in_flight=MAX_BYTES_IN_FLIGHT,
            upload_id=upload_id,
            parts=parts,
        )

    @property
    def id(self) -> str | None:
        """Id of the multipart upload, None if there is none."""
        return self._multipart.id

    @property
    def parts(self) -> list[UploadedPart]:
        """The parts that have arrived, up to the first gap."""
        return self._multipart.parts

    def is_full(self, read: tuple[int, int | None]) -> bool:
        """Return whether there is enough for a part, given how much of the input was read, as `PartBuffer` takes it."""
        return self._buffer.is_full(read)

    def write(self, data: memoryview | bytes) -> None:
        """Add to the content."""
        if self._compressor is None:
            self._buffer.write(data)
        elif len(data):
            self._buffer.write(self._compressor.compress(data))
            self._pending = True

    def create(self) -> str:
        """Begin a multipart upload; return its id."""
        return self._multipart.create()

    def send_part(self, note: Callable[[], None]) -> None:
        """Begin to send what is collected as a part; wait first while too much is in flight.

        Args:
            note: Called once the part and all before it have arrived; see `MultipartUpload.send`.

        Raises:
            NoUploadError, StoreError, RunnerError: An earlier part did not arrive, or its note failed.
        """
        self._end_stream()
        self._multipart.send(self._buffer.take(), note)

    def finish(self) -> None:
        """Wait until all parts have arrived and are noted; raises as `send_part` does."""
        self._multipart.finish()

    def wait(self) -> None:
        """Wait until nothing is in flight, whatever becomes of it."""
        self._multipart.wait()

    def publish(self, condition: Mapping[str, str]) -> str:
        """Make the object appear, on a condition, and return its ETag; may be called again where that failed.

        Raises:
            ConditionFailedError, ConflictError, NoUploadError, StoreError: It did not appear, or so it seems.
        """
        self._end_stream()
        if self.id is None:
            content = self._buffer.content()
            return str(self._call("put_object", Body=content, **self._target.headers, **condition)["ETag"])
        if self._buffer.size:
            self._multipart.send_last(self._buffer.content())
            self._buffer.take()  # not before: who tries again has to find it
        return self._multipart.complete(condition)

    def forget(self) -> None:
        """Leave the multipart upload alone from now on: it was completed."""
        self._multipart.id = None

    def abort(self) -> None:
        """Leave no upload open."""
        self._multipart.abort()

    def _end_stream(self) -> None:
        """Flush the compressor; an output of nothing is one empty stream."""
        if self._compressor is None or self._target.codec is None:
            return
        if self._pending or self._buffer.is_untouched:
            self._buffer.write(self._compressor.flush())
            self._compressor = self._target.codec.compressor()
            self._pending = False
