"""One S3 object read, as one version of it, in large ranges.

A range of an object in the pieces that it came in, as joining them would have it twice in memory for a moment.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from concurrent.futures import Future  # noqa: TC003
from typing import Any

from transform import _process
from transform.errors import InputError
from transform.io.s3 import S3Object, filesystem, object_at, translate_errors


class Block:
    """A range of an object.

    Args:
        start: Where in the object it starts.
        pieces: Its content.
    """

    def __init__(self, start: int, pieces: Sequence[bytes] = ()) -> None:
        self._pieces = pieces
        self._starts = [start]
        for piece in pieces:
            self._starts.append(self._starts[-1] + len(piece))

    @property
    def size(self) -> int:
        """How many bytes there are."""
        return self._starts[-1] - self._starts[0]

    def holds(self, offset: int) -> bool:
        """Return whether an offset in the object is within it."""
        return self._starts[0] <= offset < self._starts[-1]

    def read_at(self, view: memoryview, offset: int) -> int:
        """Fill a part of the view from an offset in the object on; return how many bytes, 0 outside of the block."""
        filled, number = 0, bisect_right(self._starts, offset) - 1
        while filled < len(view) and 0 <= number < len(self._pieces):
            piece = memoryview(self._pieces[number])[offset + filled - self._starts[number] :]
            part = piece[: len(view) - filled]
            view[filled : filled + len(part)] = part
            filled += len(part)
            number += 1
        return filled


READ_BYTES = 16 << 20
_BLOCKS_AHEAD = 2  # one connection to S3 gives about 90 MB/s, and one process transforms twice as much
_TAIL_BYTES = 64 << 10  # as much more at a time, so that the line that is open where a range stops comes along with it
_TRIES = 5
_FIRST_WAIT_S = 0.2

Answer = tuple[Mapping[str, Any], Block]


class ObjectReader:
    """Reads an object in ranges, each with `If-Match`, so that an object overwritten meanwhile is noticed.

    Args:
        location: A URI, or an `S3Object` whose version is to be read and no other.
        start: Where it is read from first.
        size: Of the version, where that is known already; nothing is asked for then before it is read.

    Attributes:
        size: Of the object, in bytes.
        etag: Of the object as it was opened.
        headers: What S3 says of it, by the names that boto3 uses.

    Raises:
        InputError: It cannot be read; a subclass says why. So do the methods.
    """

    def __init__(self, location: "str | S3Object", start: int = 0, size: int | None = None) -> None:
        with translate_errors(str(location), InputError):
            self._object = object_at(location)
        self._name = str(self._object)
        self._fs = filesystem()
        self._position = start
        self._block = Block(start)
        self._ahead: dict[int, Future[Answer]] = {}
        self._whole = size is None and not start and (self._object.size or READ_BYTES + 1) <= READ_BYTES
        self.etag = self._object.etag or ""
        self.headers: Mapping[str, Any] = {}
        if size is not None:
            self.size = size
            return
        with translate_errors(self._name, InputError, pinned=bool(self.etag)):
            self.headers, self._block = _result(self._fetch_soon(start))
        self.etag = self.headers["ETag"].strip('"')
        self.size = self._block.size if self._whole else _total_size(self.headers)

    def seek(self, offset: int) -> None:
        """Go on reading from an offset."""
        self._stop_reading_ahead()
        self._position = offset

    def readinto(self, view: memoryview) -> int:
        """Fill a part of the view; return how many bytes, 0 at the end."""
        count = self.read_at(view, self._position)
        self._position += count
        return count

    def read_at(self, view: memoryview, offset: int) -> int:
        """Fill a part of the view from an offset on; return how many bytes, 0 at the end."""
        if offset in self._ahead or not self._block.holds(offset):
            if offset >= self.size:
                return 0
            with translate_errors(self._name, InputError, pinned=True):
                self._block = self._next_block(offset)
        return self._block.read_at(view, offset)

    def prefetch(self, offset: int) -> None:
        """Begin to read from an offset on, where reading will go on later."""
        if offset < self.size and offset not in self._ahead:
            self._ahead[offset] = self._fetch_soon(offset)

    def close(self) -> None:
        """Let go of what was read ahead."""
        self._stop_reading_ahead()
        self._block = Block(0)

    def _next_block(self, offset: int) -> Block:
        """Return what stands from an offset on, and begin to read what will be asked for next."""
        block = self._ahead.pop(offset, None)
        if block is None:
            block = self._fetch_soon(offset)
        if offset == self._position and offset > 0:  # it is read from one end to the other
            for number in range(_BLOCKS_AHEAD):
                self.prefetch(offset + (number + 1) * (READ_BYTES + _TAIL_BYTES))
        self._block = Block(0)  # not kept until the next is there
        return _result(block)[1]

    def _stop_reading_ahead(self) -> None:
        for block in self._ahead.values():
            block.cancel()
        self._ahead.clear()

    def _fetch_soon(self, start: int) -> "Future[Answer]":
        import asyncio  # noqa: PLC0415 - with TLS and all it takes 30 ms, which local runs need not pay

        return asyncio.run_coroutine_threadsafe(self._fetch(start), self._fs.loop)

    async def _fetch(self, start: int) -> Answer:
        """Return what S3 says of the object, and up to `READ_BYTES` from an offset on (and a little more)."""
        import asyncio  # noqa: PLC0415 - as above

        stop = start + READ_BYTES + _TAIL_BYTES
        request: dict[str, Any] = {"Bucket": self._object.bucket, "Key": self._object.key}
        if self.etag:
            request["IfMatch"] = f'"{self.etag}"'
        wait_s = _FIRST_WAIT_S
        for left in reversed(range(_TRIES)):
            try:
                headers, block, size = await self._ask(request, start, stop)
            except OSError as error:
                if _is_past_the_end(error):
                    return await self._fs._call_s3("head_object", **request), Block(start)  # noqa: SLF001
                raise
            except Exception:
                if not left:
                    raise
            else:
                # Cut short without a Content-Length, a body looks like a whole one.
                if block.size == min(stop, size) - start:
                    return headers, block
                if not left:
                    raise ConnectionError(f"S3 sent {block.size} bytes of the range from {start} on, again and again")
            await asyncio.sleep(wait_s)
            wait_s *= 2
        raise AssertionError

    async def _ask(self, request: Mapping[str, Any], start: int, stop: int) -> tuple[Mapping[str, Any], Block, int]:
        """Ask once; return what S3 says of the object, the block, and how many the object has.

        What is asked for whole is compared by botocore with the checksum that S3 tells, if it was uploaded with one.
        """
        if self._whole and self._object.size:
            headers = await self._fs._call_s3("get_object", **request)  # noqa: SLF001 # fsspec's name for the same in a coroutine
            async with headers["Body"] as body:
                if headers.get("ContentLength", self._object.size) == self._object.size:
                    return headers, Block(start, [await body.read()]), self._object.size
            self._whole = False  # what was said of its size is wrong, and it may be huge
        headers = await self._fs._call_s3("get_object", **request, Range=f"bytes={start}-{stop - 1}")  # noqa: SLF001
        async with headers["Body"] as body:
            pieces = [piece async for piece in body.iter_chunks(READ_BYTES)]
        return headers, Block(start, pieces), _total_size(headers)


def _result(future: "Future[Answer]") -> Answer:
    """Wait for an answer; who is interrupted meanwhile leaves nothing running."""
    try:
        with _process.interruptible():
            return future.result()
    finally:
        future.cancel()


def _is_past_the_end(error: OSError) -> bool:
    response: Any = getattr(error.__cause__, "response", {})
    return bool(response.get("ResponseMetadata", {}).get("HTTPStatusCode") == 416)


def _total_size(headers: Mapping[str, Any]) -> int:
    """Return the size of an object, as told with a range of it: `bytes 0-9/100`."""
    _, _, total = headers.get("ContentRange", "").rpartition("/")
    return int(total or headers["ContentLength"])
