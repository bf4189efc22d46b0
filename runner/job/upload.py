"""The upload of an output: collected into parts of a multipart upload, or put with one request if it is small.

`Target` is the object that it becomes, with the content type, storage class and tags of the input, and its encoding as
far as that is a compression.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from runner.aws.surroundings import REAL
from transform import MultipartUpload, PartBuffer, codec_of_encoding, codec_of_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from runner.aws.bucket import Store
    from runner.job.context import JobContext
    from runner.job.identity import Origin
    from runner.job.input_object import InputObject
    from runner.machine import Tasks
    from transform import Codec, PartSizes, UploadedPart


_KEPT = ("ContentType", "StorageClass")


MAX_PARTS_IN_FLIGHT = 4  # with fewer, the job would wait for the answers of S3
MAX_BYTES_IN_FLIGHT = 80 << 20  # limits memory: large parts are sent one by one


@dataclass(frozen=True, slots=True)
class Target:
    """The object that an output becomes.

    Attributes:
        store: The bucket.
        key: The key of the object.
        headers: Its content type, metadata and so on, by the names that boto3 uses.
        origin: The origin that its metadata contain.
        codec: The format to compress it in, None for none.
        part_sizes: The sizes of its parts.
    """

    store: Store
    key: str
    headers: Mapping[str, Any]
    origin: Origin
    codec: Codec | None
    part_sizes: PartSizes

    @classmethod
    def from_input(
        cls, context: JobContext, source: InputObject, key: str, headers: Mapping[str, Any], origin: Origin
    ) -> Target:
        """Return the target of the output of an opened input, with the tags of the input.

        Args:
            context: The context, with the buckets.
            source: The input.
            key: The key of the output.
            headers: The properties of the input, by the names that boto3 uses.
            origin: The origin of the output, for its metadata.

        Raises:
            DeniedError, StoreError: S3 does not return the tags.
        """
        kept = {name: headers[name] for name in _KEPT if headers.get(name)} | {"Metadata": origin.to_metadata()}
        if headers.get("TagCount"):
            mark = tuple(context.settings.after_tag.split("=", 1))  # says nothing about the output
            if tags := [tag for tag in source.tags(headers.get("VersionId")).items() if tag != mark]:
                kept["Tagging"] = urlencode(tags)
        codec, encoding = _compression(key, headers.get("ContentEncoding") or "")
        if encoding:
            kept["ContentEncoding"] = encoding
        return cls(context.store, key, kept, origin, codec, context.part_sizes)


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
    """The upload of an output: a multipart upload, or one PutObject if it is small.

    Each part ends a compressed stream, so that another process can continue with the next part.

    Args:
        target: The object that the output becomes.
        upload_id: Id of a multipart upload to continue, None for a new one.
        parts: The parts that this multipart upload has.
        max_parts_in_flight: How many parts may be sent at a time, as `MultipartUpload` takes it.
        threads: Starts the threads that send the parts.
    """

    def __init__(
        self,
        target: Target,
        upload_id: str | None = None,
        parts: Sequence[UploadedPart] = (),
        max_parts_in_flight: int = MAX_PARTS_IN_FLIGHT,
        threads: Tasks = REAL.tasks,
    ) -> None:
        self._target = target
        self._buffer = PartBuffer(target.part_sizes, parts)
        self._compressor = target.codec.compressor() if target.codec else None
        self._pending = False  # whether something was compressed since the last flush
        self._has_begun = False  # whether what was sent last ends within a line
        self._call: Callable[..., dict[str, Any]] = partial(target.store.call, Key=target.key)
        self._multipart = MultipartUpload(
            self._call,
            target.store.requests.prepare_part,
            target.headers,
            max_parts_in_flight=max_parts_in_flight,
            max_bytes_in_flight=MAX_BYTES_IN_FLIGHT,
            upload_id=upload_id,
            parts=parts,
            threads=threads,
        )

    @property
    def origin(self) -> Origin:
        """The origin in the metadata of the object."""
        return self._target.origin

    @property
    def key(self) -> str:
        """The key of the object."""
        return self._target.key

    @property
    def codec(self) -> str | None:
        """The name of the format that it is compressed in, None for none."""
        return None if self._target.codec is None else self._target.codec.name

    @property
    def id(self) -> str | None:
        """Id of the multipart upload, or None."""
        return self._multipart.id

    @property
    def parts(self) -> list[UploadedPart]:
        """The parts that have arrived, up to the first gap."""
        return self._multipart.parts

    def is_full(self, read: tuple[int, int | None], *, within_line: bool = False) -> bool:
        """Return whether there is enough for a part.

        Once a part was sent that ends within a line, there is at the end of that line, so that it can be noted.

        Args:
            read: How much of the input was read, as `PartBuffer` takes it.
            within_line: Whether what was written last is not all of what becomes of a line.
        """
        if within_line:
            return self._buffer.is_full(read, self._buffer.min_size)
        return self._has_begun or self._buffer.is_full(read)

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
        """Start to send what is collected as a part; wait first while too much is in flight.

        Args:
            note: Called once the part and all before it have arrived; see `MultipartUpload.send`.

        Raises:
            NoUploadError, StoreError, RunnerError: An earlier part did not arrive, or its note failed.
        """
        self._end_stream()
        self._multipart.send(self._buffer.take(), note)
        self._has_begun = False

    def send_part_of_line(self) -> None:
        """Start to send most of what is collected, within a line; raises as `send_part` does.

        No job can be continued from there, so the part is noted with the next one. What is left is enough for that.
        """
        self._multipart.send(self._buffer.take(self._buffer.min_size), is_end=False)
        self._has_begun = True

    def finish(self) -> None:
        """Wait until all parts have arrived and are noted; raises as `send_part` does."""
        self._multipart.finish()

    def wait(self) -> None:
        """Wait until nothing is in flight, whether it arrived or not."""
        self._multipart.wait()

    def finish_parts(self) -> None:
        """Send the last part of a multipart upload; after this, only `complete` is missing.

        Raises:
            NoUploadError, StoreError: The part did not arrive; it may be sent again.
        """
        self._end_stream()
        if self.id is not None and self._buffer.size:
            self._multipart.send_last(self._buffer.content())
            self._buffer.take()  # not earlier, because another call needs it if this one fails

    def complete(self, condition: Mapping[str, str]) -> str:
        """Make the object appear, on a condition, and return its ETag; may be called again after an error.

        Raises:
            ConditionFailedError, ConflictError, NoUploadError, StoreError: The request failed. After a StoreError, the
                object may have appeared all the same.
        """
        if self.id is None:
            content = self._buffer.content()
            self._target.store.requests.prepare_part()
            return str(self._call("put_object", Body=content, **self._target.headers, **condition)["ETag"])
        return self._multipart.complete(condition)

    def forget(self) -> None:
        """Do not abort the multipart upload any more, because it was completed."""
        self._multipart.id = None

    def abort(self) -> None:
        """Abort the multipart upload, if there is one."""
        self._multipart.abort()

    def _end_stream(self) -> None:
        """End the compressed stream, if there is something in it; an empty output is one empty stream."""
        if self._compressor is None or self._target.codec is None:
            return
        if self._pending or self._buffer.is_untouched:
            self._buffer.write(self._compressor.flush())
            self._compressor = self._target.codec.compressor()
            self._pending = False
