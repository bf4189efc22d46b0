"""One resumable multipart upload of an S3 object: `PartBuffer` collects its parts, `MultipartUpload` sends them.

`transform run` uses it through `s3_sink`, the worker through `runner.job.upload`, which adds checkpoints.
"""

import threading
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from math import log1p
from typing import Any, Protocol
from weakref import WeakSet

from isal.isal_zlib import crc32

from transform import _process
from transform.io.s3 import S3Failure

MAX_PART_BYTES = 5 << 30
"""From the quotas of S3 (Amazon S3 User Guide, "Amazon S3 multipart upload limits"), as the next one."""

MIN_PART_BYTES = 5 << 20
"""The last part of an upload may be smaller."""

ReadSoFar = tuple[int, int | None]
"""How many bytes of an input were read, and its size, None if that is not known."""

_SPARE = 2  # half of the remaining parts are kept for an output that becomes larger than estimated
_GROWTH = 625  # of 10,000 parts, the next one has at most a sixteenth of the output so far: 10,000 / 625
_MAX_GROWTH = 4  # the rest of an input may give this many times its size, or this many times the rate so far


@dataclass(frozen=True, slots=True)
class PartSizes:
    """The sizes of the parts of an upload.

    A part is kept in memory, so it is not larger than necessary: the rest of the output, estimated from the input read
    so far, has to fit into the remaining parts. For an output of 1 TB the largest part has 200 MB.

    If most of the output comes from the end of the input, as of a filter on sorted lines, that estimate is too low. So
    the parts also grow in proportion to the output so far, by the factor with which the remaining parts hold the most
    that may still come: four times the rest of the input, or of what it would give at the rate so far. If no byte of
    the input gives more than one of output, parts are no larger than for an even output of the size of the input.

    If even more comes, the size of the last 1,000 parts doubles after each 100. If the size of the input is not known,
    the size of the parts doubles after each 1,000 parts.

    The start of an input is a poor estimate: a line whose elements are rows may become a thousand times its size. So a
    part has at most a sixteenth of the output so far, or the first size.

    Attributes:
        first: Size of the parts of an output that is not huge, in bytes.
        max_parts: How many parts an upload may have; the default is S3's limit.

    Example:
        >>> sizes = PartSizes(first=16 << 20)
        >>> sizes.next_size(parts=200, written=4 << 30, read=(4 << 30, 1 << 40)) >> 20
        213
        >>> sizes.next_size(parts=1000) >> 20
        32
    """

    first: int
    max_parts: int = 10_000

    def next_size(self, parts: int, written: int = 0, read: ReadSoFar = (0, None)) -> int:
        """Return the minimum number of bytes for the next part.

        Args:
            parts: How many parts there are already.
            written: How many bytes of output there are so far, in parts or not.
            read: How much of the input was read for this output, and the size of the input.
        """
        position, size = read
        tenth = max(1, self.max_parts // 10)
        if not position or size is None:
            return min(self.first << (parts // tenth), MAX_PART_BYTES)
        parts_left = max(1, self.max_parts - parts)
        rest = max(0, size - position)
        even = _SPARE * written * rest // (position * parts_left)
        even = min(even, written // max(1, self.max_parts // _GROWTH))
        most = _MAX_GROWTH * rest * max(1, written / position)
        # As a sum of parts of which each has this share of all before it, the output grows from `written` to `most`.
        uneven = int(written * log1p(most / written) / parts_left) if written else 0
        last = self.first << (max(0, parts - self.max_parts + tenth) // max(1, tenth // 10))
        return min(max(self.first, even, uneven, last), MAX_PART_BYTES)


@dataclass(frozen=True, slots=True)
class UploadedPart:
    """A part of a multipart upload that has arrived at S3.

    Attributes:
        number: Its number, from 1 on.
        etag: S3's ETag of it, with quotes.
        size: Its size in bytes.

    Example:
        >>> UploadedPart(1, '"9b2cf535f27731c974343645a3985328"', 5 << 20).number
        1
    """

    number: int
    etag: str
    size: int


class Threads(Protocol):
    """Starts the threads that send parts; a simulation has others."""

    def start(self, function: Callable[..., None], *arguments: Any, name: str) -> object:
        """Run a function in a new thread, which does not keep the process alive."""

    def condition(self) -> Any:
        """Return a new condition, as `threading.Condition` is one."""


class DaemonThreads:
    """Threads of this process, for which the interpreter does not wait at its end as it does for those of an executor.

    A user who interrupts a command repeatedly does not want to wait for S3.
    """

    def start(self, function: Callable[..., None], *arguments: Any, name: str) -> object:
        """Run a function in a new thread."""
        thread = threading.Thread(target=function, args=arguments, name=name, daemon=True)
        thread.start()
        return thread

    def condition(self) -> threading.Condition:
        """Return a new condition."""
        return threading.Condition()


_THREADS = DaemonThreads()


class PartBuffer:
    """Output collected until it is enough for a part of an upload.

    Args:
        sizes: How large the parts are.
        parts: The parts that the upload has already.

    Example:
        >>> buffer = PartBuffer(PartSizes(first=5 << 20))
        >>> buffer.write(bytes(5 << 20))
        >>> buffer.is_full((0, None)), len(buffer.take()), buffer.size
        (True, 5242880, 0)
    """

    def __init__(self, sizes: PartSizes, parts: Sequence[UploadedPart] = ()) -> None:
        self._sizes = sizes
        self._collected = BytesIO()
        self._parts = len(parts)
        self._bytes_in_parts = sum(part.size for part in parts)

    @property
    def size(self) -> int:
        """How many bytes are collected."""
        return self._collected.tell()

    @property
    def is_untouched(self) -> bool:
        """Whether there was no output so far, in parts or not."""
        return not self._parts and not self.size

    def write(self, data: memoryview | bytes) -> None:
        """Add to the output.

        Args:
            data: What comes next.
        """
        self._collected.write(data)

    def is_full(self, read: ReadSoFar, rest: int = 0) -> bool:
        """Return whether there is enough for a part.

        Args:
            read: How much of the input was read for the output so far, and the size of the input.
            rest: How much must be left after that part.
        """
        written = self._bytes_in_parts + self.size
        return self.size - rest >= self._sizes.next_size(self._parts, written, read)

    @property
    def min_size(self) -> int:
        """The minimum size of any part."""
        return min(MIN_PART_BYTES, self._sizes.first)

    def content(self) -> bytes:
        """Return what is collected."""
        return self._collected.getvalue()

    def take(self, rest: int = 0) -> bytes:
        """Return what is collected, as the next part, and start to collect another one.

        Args:
            rest: How many of the last bytes to leave for that one.
        """
        content, self._collected = self._collected.getvalue(), BytesIO()
        if rest:
            self._collected.write(memoryview(content)[-rest:])
            content = content[:-rest]
        self._parts += 1
        self._bytes_in_parts += len(content)
        return content


class MultipartUpload:
    """One multipart upload of one object, which can be continued by another process.

    Several parts are sent at a time, each by a thread; they may arrive in any order. The methods are for one thread.

    Args:
        call: Sends a request about the object, by boto3's name of the operation and its arguments, and returns the
            answer.
        before_part: Called before each part is sent; see `prepare_sending`.
        headers: Arguments of the request that creates the upload: metadata, content type and so on.
        max_parts_in_flight: How many parts may be sent at a time. With 0, `send` waits for the part and its note.
        max_bytes_in_flight: How many bytes these may have together; a larger part is sent alone.
        upload_id: Id of an upload to continue; with None, `create` begins one.
        parts: The parts that this upload has already.
        threads: Starts the threads that send the parts.

    Attributes:
        id: Id of the upload, None before it is created and after it was aborted.
        parts: The parts that have arrived, up to the first gap, and to a part after which an upload can be continued.

    Example:
        >>> def call(operation, **arguments):
        ...     print(operation, arguments["MultipartUpload"])
        ...     return {"ETag": '"whole"'}
        >>> limits = {"max_parts_in_flight": 2, "max_bytes_in_flight": 64 << 20}
        >>> upload = MultipartUpload(call, bool, {}, **limits, upload_id="1", parts=[UploadedPart(1, '"first"', 5)])
        >>> upload.complete()
        complete_multipart_upload {'Parts': [{'PartNumber': 1, 'ETag': '"first"'}]}
        '"whole"'
    """

    def __init__(
        self,
        call: Callable[..., dict[str, Any]],
        before_part: Callable[[], object],
        headers: Mapping[str, Any],
        *,
        max_parts_in_flight: int,
        max_bytes_in_flight: int,
        upload_id: str | None = None,
        parts: Sequence[UploadedPart] = (),
        threads: Threads = _THREADS,
    ) -> None:
        self._call = call
        self._before_part = before_part
        self._threads = threads
        self._headers = headers
        self._max_parts = max_parts_in_flight
        self._max_bytes = max_bytes_in_flight
        self.id = upload_id
        self.parts = list(parts)
        self._next_number = len(parts) + 1
        # All below is guarded by this, and each change to it is notified.
        self._changed = threads.condition()
        self._in_flight: dict[int, int] = {}
        self._arrived: dict[int, tuple[UploadedPart, Callable[[], None] | None, bool]] = {}
        self._arrived_to = len(parts)  # without a gap
        self._is_noting = False
        self._failure: BaseException | None = None

    def create(self) -> str:
        """Begin the upload; return its id."""
        self.id = str(self._call("create_multipart_upload", **self._headers)["UploadId"])
        return self.id

    def send(self, content: bytes, note: Callable[[], None] | None = None, *, is_end: bool = True) -> None:
        """Start to send the next part; wait first while too much is in flight. Raises what an earlier part raised.

        Args:
            content: The part. It is sent without a copy, so it must not change.
            note: Called once this part and all before it have arrived, from another thread and one at a time; meanwhile
                `parts` ends with this part. If more parts arrive while an earlier note is being made, only the note of
                the last of these is called.
            is_end: Whether an upload can be continued after this part. Otherwise, it belongs to the next one that is an
                end, and does not count without it.
        """
        self._wait_until(lambda: self._has_room(len(content)))
        self._before_part()
        number, self._next_number = self._next_number, self._next_number + 1
        with self._changed:
            self._in_flight[number] = len(content)
        self._threads.start(self._send, number, content, note, is_end, name="upload")
        if not self._max_parts:
            self.finish()

    def send_last(self, content: bytes) -> None:
        """Send one more part and wait for it, after all others. If the part does not arrive, it can be sent again.

        Args:
            content: The part.
        """
        self.finish()
        self._before_part()
        self.parts.append(self._put(self._next_number, content))
        self._next_number += 1

    def finish(self) -> None:
        """Wait until all parts have arrived and are noted. Raises what a part or a note raised."""
        self._wait_until(self._is_idle)
        with self._changed:
            self._add_parts()

    def wait(self) -> None:
        """Wait until nothing is in flight, whether it arrived or not."""
        with self._changed:
            self._changed.wait_for(self._is_idle)

    def complete(self, condition: Mapping[str, str] | None = None) -> str:
        """Make the object appear, once all parts have arrived; return its ETag.

        Args:
            condition: The condition of the request, as arguments: `IfMatch` or `IfNoneMatch`; None for none.
        """
        self.finish()
        parts = [{"PartNumber": part.number, "ETag": part.etag} for part in self.parts]
        arguments = {"UploadId": self.id, "MultipartUpload": {"Parts": parts}, **(condition or {})}
        return str(self._call("complete_multipart_upload", **arguments)["ETag"])

    def abort(self) -> None:
        """Remove the upload with its parts; does nothing if it is gone already."""
        self.wait()  # S3 may keep a part that arrives after the upload was aborted
        upload, self.id = self.id, None
        if upload is None:
            return
        try:
            self._call("abort_multipart_upload", UploadId=upload)
        except Exception as error:
            if not _is_gone(error):
                raise

    def _has_room(self, size: int) -> bool:
        in_flight = self._in_flight.values()
        return not in_flight or (len(in_flight) < self._max_parts and sum(in_flight) + size <= self._max_bytes)

    def _is_idle(self) -> bool:
        return not self._in_flight and not self._is_noting

    def _wait_until(self, is_ready: Callable[[], bool]) -> None:
        with self._changed, _process.interruptible():
            self._changed.wait_for(lambda: self._failure is not None or is_ready())
            if self._failure is not None:
                raise self._failure

    def _put(self, number: int, content: bytes) -> UploadedPart:
        # As bytes, which become a stream; a bytearray would be sent in one go, and block other requests.
        answer = self._call("upload_part", UploadId=self.id, PartNumber=number, Body=content)
        return UploadedPart(number, str(answer["ETag"]), len(content))

    def _send(self, number: int, content: bytes, note: Callable[[], None] | None, is_end: bool) -> None:
        """Send a part; runs in a thread for each part."""
        part, failure = None, None
        try:
            part = self._put(number, content)
        except BaseException as error:  # noqa: BLE001 - it is raised where the upload is waited for
            failure = error
        with self._changed:
            del self._in_flight[number]
            self._failure = self._failure or failure
            if part is not None:
                self._arrived[number] = part, note, is_end
            # While a note is being made, `parts` has to stay as it is.
            if not self._is_noting and (newest := self._advance()):
                self._is_noting = True
                self._threads.start(self._make_notes, newest, name="upload")
            self._changed.notify_all()

    def _make_notes(self, note: Callable[[], None] | None) -> None:
        """Call a note, and the notes of the parts that arrive meanwhile; runs in a separate thread.

        If a note fails, the next one is called all the same, so that its parts need not be sent again.
        """
        while note is not None:
            failure = None
            try:
                note()
            except BaseException as error:  # noqa: BLE001 - it is raised where the upload is waited for
                failure = error
            with self._changed:
                self._failure = self._failure or failure
                note = self._advance()
                self._is_noting = note is not None
                self._changed.notify_all()

    def _advance(self) -> Callable[[], None] | None:
        """Add to `parts` the parts that have arrived without a gap, up to the last that is an end; return its note."""
        newest = None
        while following := self._arrived.get(self._arrived_to + 1):
            self._arrived_to += 1
            _, note, is_end = following
            if is_end:
                newest = note
                self._add_parts()
        return newest

    def _add_parts(self) -> None:
        """Add to `parts` all that have arrived without a gap."""
        for number in range(len(self.parts) + 1, self._arrived_to + 1):
            self.parts.append(self._arrived.pop(number)[0])


def _is_gone(error: BaseException | None) -> bool:
    """Return whether S3 answered that there is no such upload; our own errors have those of s3fs as their cause."""
    while error is not None:
        if S3Failure.from_error(error) is S3Failure.NO_UPLOAD:
            return True
        error = error.__cause__
    return False


class _BodyStream(BytesIO):
    """A stream over bytes that does not copy them when it is asked for its buffer, as `BytesIO` does."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self._content = content

    def getbuffer(self) -> memoryview:
        return memoryview(self._content)


_CHECKSUM = "ChecksumCRC32"
_BODY_OPERATIONS = ("UploadPart", "PutObject")
_PREPARED = WeakSet[Any]()
"""The clients that `prepare_sending` has seen: botocore takes half a millisecond to register them again."""


def prepare_sending(filesystem: Any) -> None:
    """Make botocore send the content of parts and objects, given as bytes, at less cost; to be called before each part.

    - No copy. botocore turns bytes into a stream, and aiohttp asks the stream for its buffer, which copies it. For each
      part in flight that takes its size in memory again, and a seventh of the time of sending. Each request gets a new
      stream, because s3fs may send a request several times, and a stream that was read would be empty the next time.
    - A fast checksum. botocore takes a quarter as much time again for its CRC32, and copies the content once more into
      chunks with the checksum at the end. With a checksum of ours in the header it does neither. S3 compares it with
      the content, and its answer is compared with it.
    - No signature of the content over TLS, unless the user's configuration asks for it. botocore signs content whose
      checksum is not its own, by a SHA-256 that takes as long as all the rest.

    Args:
        filesystem: An s3fs file system.

    Example:
        >>> import s3fs
        >>> filesystem = s3fs.S3FileSystem(anon=True, skip_instance_cache=True)
        >>> prepare_sending(filesystem)
    """
    client = filesystem.s3  # s3fs makes another one when its session has ended
    if client in _PREPARED:
        return
    meta = client.meta
    if meta.endpoint_url.startswith("https:"):
        meta.config.s3 = {"payload_signing_enabled": False, **(meta.config.s3 or {})}
    for operation in _BODY_OPERATIONS:  # with ids, which are for all events, as two threads may come here
        before, after = f"before-parameter-build.s3.{operation}", f"after-call.s3.{operation}"
        meta.events.register_first(before, _prepare_body, f"transform-{before}")
        meta.events.register(after, _check_answer, f"transform-{after}")
    _PREPARED.add(client)


def _prepare_body(params: dict[str, Any], context: dict[str, Any], **_: object) -> None:
    content = params.get("Body")
    if isinstance(content, bytes):
        checksum = b64encode(crc32(content).to_bytes(4, "big")).decode()
        context[_CHECKSUM] = params[_CHECKSUM] = checksum
        params["Body"] = _BodyStream(content)


def _check_answer(parsed: dict[str, Any], context: dict[str, Any], **_: object) -> None:
    sent = context.get(_CHECKSUM)
    found = parsed.get(_CHECKSUM, sent)  # not every server that is compatible with S3 sends it
    if found != sent:
        from botocore.exceptions import FlexibleChecksumError  # noqa: PLC0415 - heavy, and local runs never need it

        raise FlexibleChecksumError(error_msg=f"S3 has stored content with the CRC32 {found}, but {sent} was sent")
