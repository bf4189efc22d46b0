"""One version of an S3 object, read in large ranges.

A range is kept in the pieces in which it arrived: joining them would hold it in memory twice for a moment.
"""

from bisect import bisect_right
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Future  # noqa: TC003
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from transform import _process
from transform.errors import InputError
from transform.io.object_checksum import ObjectChecksum
from transform.io.s3 import S3Object, filesystem, object_at, translate_errors

if TYPE_CHECKING:
    import s3fs

READ_BYTES = 16 << 20
_TAIL_BYTES = 64 << 10  # read in addition, so that the line that is open where a range stops is usually complete
_TRIES = 5
_FIRST_WAIT_S = 0.2
_BLOCKS_AHEAD = 2  # one connection to S3 gives about 90 MB/s, and one process transforms twice as much


T = TypeVar("T")


async def _sleep(seconds: float) -> None:
    import asyncio  # noqa: PLC0415 - with TLS it takes 30 ms, which local runs need not pay

    await asyncio.sleep(seconds)


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How an object is read.

    Attributes:
        read_bytes: Size of the range of a request, without the tail; an object of at most this size is read whole.
        tail_bytes: Bytes that each request reads in addition.
        tries: Number of times that a range is requested before its failure is an error.
        first_wait_s: Seconds before the second try; before each later one twice as long as before the last.
        sleep: Waits for a number of seconds.
    """

    read_bytes: int = READ_BYTES
    tail_bytes: int = _TAIL_BYTES
    tries: int = _TRIES
    first_wait_s: float = _FIRST_WAIT_S
    sleep: Callable[[float], Awaitable[object]] = _sleep

    @property
    def block_bytes(self) -> int:
        """Size of the range of a request."""
        return self.read_bytes + self.tail_bytes


READ_OPTIONS = ReadOptions()


class Block:
    """A range of an object.

    Args:
        start: Its offset in the object.
        pieces: Its content.

    Attributes:
        start: Its offset in the object.
    """

    def __init__(self, start: int, pieces: Sequence[bytes] = ()) -> None:
        self.start = start
        self._pieces = pieces
        self._starts = [start]
        for piece in pieces:
            self._starts.append(self._starts[-1] + len(piece))

    @property
    def size(self) -> int:
        """Its size in bytes."""
        return self._starts[-1] - self.start

    def holds(self, offset: int) -> bool:
        """Return whether an offset in the object is within it."""
        return self.start <= offset < self._starts[-1]

    def read_at(self, view: memoryview, offset: int) -> int:
        """Fill a part of the view from an offset in the object; return the number of bytes, 0 outside of the block."""
        filled, number = 0, bisect_right(self._starts, offset) - 1
        while filled < len(view) and 0 <= number < len(self._pieces):
            piece = memoryview(self._pieces[number])[offset + filled - self._starts[number] :]
            part = piece[: len(view) - filled]
            view[filled : filled + len(part)] = part
            filled += len(part)
            number += 1
        return filled


@dataclass(frozen=True, slots=True)
class Answer:
    """The response to a request for a range.

    Attributes:
        headers: The properties of the object, by the names that boto3 uses.
        block: The range.
        size: Of the whole object, in bytes.
    """

    headers: Mapping[str, Any]
    block: Block
    size: int


@dataclass(frozen=True, slots=True)
class BlockFetcher:
    """Requests ranges of an object, and tries again what may succeed later.

    Attributes:
        location: The object. If it has an ETag, requests are made with `If-Match`.
        filesystem: The file system of s3fs that sends the requests.
        options: How it is read.
    """

    location: S3Object
    filesystem: "s3fs.S3FileSystem"
    options: ReadOptions

    def start(self, offset: int, *, whole: bool = False) -> "Future[Answer]":
        """Start to read the block at an offset, or the whole object if it has the size that its location gives."""
        import asyncio  # noqa: PLC0415 - as above

        return asyncio.run_coroutine_threadsafe(self._fetch(offset, whole=whole), self.filesystem.loop)

    def start_checksum(self) -> "Future[ObjectChecksum | None]":
        """Start to ask for the checksum of the object, which S3 does not send with a range; None if it has none."""
        import asyncio  # noqa: PLC0415 - as above

        return asyncio.run_coroutine_threadsafe(self._checksum(), self.filesystem.loop)

    async def _checksum(self) -> ObjectChecksum | None:
        return ObjectChecksum.from_headers(await self._head())

    async def _fetch(self, offset: int, *, whole: bool) -> Answer:
        wait_s = self.options.first_wait_s
        for tries_left in reversed(range(self.options.tries)):
            try:
                answer = await self._whole_object() if whole else None
                if answer is None:
                    whole = False  # the size is wrong, and the object may be huge
                    answer = await self._block(offset)
            except OSError as error:
                if _is_past_the_end(error):
                    headers = await self._head()
                    return Answer(headers, Block(offset), _total_size(headers))
                raise
            except Exception:
                if not tries_left:
                    raise
            else:
                # A body that is cut short without a Content-Length looks complete.
                if answer.block.size == min(offset + self.options.block_bytes, answer.size) - offset:
                    return answer
                if not tries_left:
                    raise ConnectionError(
                        f"S3 sent {answer.block.size} bytes of the range from {offset} on, again and again"
                    )
            await self.options.sleep(wait_s)
            wait_s *= 2
        raise AssertionError

    async def _whole_object(self) -> Answer | None:
        """Request the whole object; return None if it does not have the size that its location gives.

        botocore compares a whole object with the checksum in the response, if it was uploaded with one.
        """
        size = self.location.size or 0
        headers = await self._get()
        async with headers["Body"] as body:
            if headers.get("ContentLength", size) != size:
                return None
            return Answer(headers, Block(0, [await body.read()]), size)

    async def _block(self, offset: int) -> Answer:
        headers = await self._get(Range=f"bytes={offset}-{offset + self.options.block_bytes - 1}")
        async with headers["Body"] as body:
            pieces = [piece async for piece in body.iter_chunks(self.options.read_bytes)]
        return Answer(headers, Block(offset, pieces), _total_size(headers))

    async def _get(self, **more: str) -> Mapping[str, Any]:
        # `_call_s3` is fsspec's name for `call_s3` in a coroutine.
        headers: Mapping[str, Any] = await self.filesystem._call_s3("get_object", **self._request, **more)  # noqa: SLF001
        return headers

    async def _head(self) -> Mapping[str, Any]:
        request = {"ChecksumMode": "ENABLED", **self._request}
        headers: Mapping[str, Any] = await self.filesystem._call_s3("head_object", **request)  # noqa: SLF001 # see _get
        return headers

    @property
    def _request(self) -> dict[str, str]:
        request = {"Bucket": self.location.bucket, "Key": self.location.key}
        return request | {"IfMatch": f'"{self.location.etag}"'} if self.location.etag else request


class ObjectReader:
    """Reads one version of an object in ranges, each with `If-Match`, so that an overwritten object is noticed.

    `open` and `from_version` make one. All methods raise InputError, or a subclass that says why, if the object cannot
    be read.

    Args:
        fetcher: Requests the ranges.
        first: The first response, or a substitute for it with the size of the object.

    Attributes:
        size: Of the object, in bytes.
        headers: Its properties as the first response gives them, by the names that boto3 uses.
        etag: Of the version, without quotes.
        checksum: The checksum that S3 has of it, None without one, or if it was compared already.
    """

    def __init__(self, fetcher: BlockFetcher, first: Answer, checksum: ObjectChecksum | None = None) -> None:
        self.size = first.size
        self.headers = first.headers
        self.etag = fetcher.location.etag or ""
        self.checksum = checksum
        self._fetcher = fetcher
        self._block = first.block
        self._position = first.block.start
        self._ahead: dict[int, Future[Answer]] = {}

    @classmethod
    def open(cls, location: "str | S3Object", start: int = 0, options: ReadOptions = READ_OPTIONS) -> "ObjectReader":
        """Request an object, as the version that is current or has the ETag of the location.

        Args:
            location: A URI, or an `S3Object`. An object whose given size is small is read in one request.
            start: Offset to read from.
            options: How it is read.

        Raises:
            InputError: The object cannot be read; a subclass says why.
        """
        with translate_errors(str(location), InputError):
            place = object_at(location)
        fetcher = BlockFetcher(place, filesystem(), options)
        whole = start == 0 and 0 < (place.size or 0) <= options.read_bytes
        with translate_errors(str(place), InputError, pinned=bool(place.etag)):
            first = _result(fetcher.start(start, whole=whole))
        fetcher = replace(fetcher, location=replace(place, etag=first.headers["ETag"].strip('"')))
        if "ContentRange" not in first.headers:  # botocore has compared the whole with its checksum; else it is the end
            return cls(fetcher, first, None if whole else ObjectChecksum.from_headers(first.headers))
        with translate_errors(str(place), InputError, pinned=True):
            return cls(fetcher, first, _result(fetcher.start_checksum()))

    @classmethod
    def from_version(cls, version: S3Object, size: int, options: ReadOptions = READ_OPTIONS) -> "ObjectReader":
        """Return a reader of a version whose size is known; nothing is requested before it is read."""
        return cls(BlockFetcher(version, filesystem(), options), Answer({}, Block(0), size))

    def readinto(self, view: memoryview) -> int:
        """Fill a part of the view; return the number of bytes, 0 at the end."""
        count = self.read_at(view, self._position)
        self._position += count
        return count

    def read_at(self, view: memoryview, offset: int) -> int:
        """Fill a part of the view from an offset; return the number of bytes, 0 at the end."""
        if offset in self._ahead or not self._block.holds(offset):
            if offset >= self.size:
                return 0
            with translate_errors(str(self._fetcher.location), InputError, pinned=True):
                self._block = self._next_block(offset)
        return self._block.read_at(view, offset)

    def prefetch(self, offset: int) -> None:
        """Start to read from an offset, with which `read_at` will be called later."""
        if offset < self.size and offset not in self._ahead:
            self._ahead[offset] = self._fetcher.start(offset)

    def close(self) -> None:
        """Cancel what is being read ahead, and free the memory."""
        for answer in list(self._ahead.values()):  # a thread that waits for one gets CancelledError
            answer.cancel()
        self._ahead.clear()
        self._block = Block(0)

    def _next_block(self, offset: int) -> Block:
        """Return the block at an offset, and start to read those that will probably be read next."""
        answer = self._ahead.get(offset)
        if answer is None:
            answer = self._ahead[offset] = self._fetcher.start(offset)
        if offset == self._position and offset > 0:  # it is being read sequentially
            for number in range(_BLOCKS_AHEAD):
                self.prefetch(offset + (number + 1) * self._fetcher.options.block_bytes)
        self._block = Block(0)  # the old one is not kept until the next has arrived
        try:
            return _result(answer).block
        finally:
            self._ahead.pop(offset, None)


def _result(future: "Future[T]") -> T:
    """Wait for an answer; an interrupt leaves nothing running."""
    try:
        with _process.interruptible():
            return future.result()
    finally:
        future.cancel()


def _is_past_the_end(error: OSError) -> bool:
    """Return whether a request failed because its range starts at or after the end (416 Range Not Satisfiable)."""
    response: Any = getattr(error.__cause__, "response", {})
    return bool(response.get("ResponseMetadata", {}).get("HTTPStatusCode") == 416)


def _total_size(headers: Mapping[str, Any]) -> int:
    """Return the size of an object from the response for a range of it: `bytes 0-9/100`, or for all of it."""
    _, _, total = headers.get("ContentRange", "").rpartition("/")
    return int(total or headers["ContentLength"])
