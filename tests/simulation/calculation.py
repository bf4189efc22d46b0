"""The calculation of the simulation: it marks each line, without polars, so that thousands of jobs take a second.

It goes through `transform`'s own loop of a run, from chunks to counts, rejects and states.
"""

from __future__ import annotations

import json
import re
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any, NoReturn, Self

import polars as pl

from transform import WidenError
from transform.decode.rejects import NO_REJECTS, ChunkResult, Reject, Rejects
from transform.decode.row_format import LINES, RowFormat
from transform.engine.options import EngineOptions
from transform.engine.run import Stream, open_stream
from transform.engine.summary import State
from transform.errors import InputError
from transform.io.chunks import Chunk, LongLine
from transform.io.s3 import S3Object, translate_errors
from transform.io.sources import Reader, StoredInput
from transform.runnable import Runnable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tests.simulation.network import SimS3Requests
    from transform.io.sources import Position

BAD, FLOAT = b'{"!"', b"."
"""A row that starts with `BAD` is rejected; one that has a `FLOAT` needs a wider type."""
FORMATS = {
    "lines": LINES,
    "json": LINES.with_format("json"),
    "each": LINES.with_format("json").with_each("n"),
    "each of lines": LINES.with_each("n"),
}
"""What the rows of inputs are, by names that scenarios have."""
_ROWS_OF_TEXTS = (6, 14)  # by turns; the output of the longer ones is several parts of an upload
CHUNK_BYTES = 24
_WIDER = pl.Float64()
_ROW = re.compile(rb'\{"[x!]":[0-9.]+\}')


def content_of(lines: bytes, rows: str) -> bytes:
    """Return a content with lines as its rows: an array of them, or the arrays in several texts."""
    found = lines.splitlines()
    if rows == "json":
        return b"[\n" + b",\n".join(found) + b"\n]\n"
    if rows == "lines":
        return lines
    start, between, end = (b'{"n":[', b",", b"]}\n") if rows == "each of lines" else (b'{"n":[\n', b",\n", b"\n]}\n")
    left, texts = iter(found), list[list[bytes]]()
    while text := list(islice(left, _ROWS_OF_TEXTS[len(texts) % len(_ROWS_OF_TEXTS)])):
        texts.append(text)
    return b"".join(start + between.join(text) + end for text in texts)


def rows_of(content: bytes) -> list[bytes]:
    """Return the rows of a content, whatever they are in: the objects of one number."""
    return _ROW.findall(content)


@lru_cache(maxsize=1 << 10)
def transformed(content: bytes, digest: str) -> tuple[bytes, int]:
    """Return the output for a content, and the number of rejected lines: the reference for all that is checked."""
    rows = rows_of(content)
    wide = any(FLOAT in row and not row.startswith(BAD) for row in rows)
    good = [row for row in rows if not row.startswith(BAD)]
    return b"".join(_marked(row, digest, wide=wide) for row in good), len(rows) - len(good)


def _marked(row: bytes, digest: str, *, wide: bool) -> bytes:
    return row + f" by {digest}{' wide' if wide else ''}\n".encode()


@dataclass(frozen=True, slots=True)
class SimPlan:
    """Turns chunks into results."""

    digest: str
    wide: bool
    max_line_bytes: int = 1 << 20
    in_threads: bool = False

    def transform(self, chunk: Chunk | LongLine) -> ChunkResult:
        assert isinstance(chunk, Chunk)
        places = chunk.places
        output, rejects, at = [], [], chunk.offset
        rows = bytes(chunk.data).splitlines()
        unfit = {one.row: one for one in places.unfit} if places is not None else {}
        for number, row in enumerate(rows):
            offset = at if places is None else int(places.offsets[number])
            if (one := unfit.get(number)) is not None:  # never, if the worker is right: all rows are JSON
                rejects.append(Reject(number, offset, one.kind, one.reason, one.raw, one.length))
            elif row.startswith(BAD):
                rejects.append(Reject(number, offset, "bad", "bad", row))
            elif FLOAT in row and not self.wide:
                raise WidenError("x", _WIDER, offset)
            else:
                output.append(memoryview(_marked(row, self.digest, wide=self.wide)))
            at += len(row) + 1
        kept = Rejects.of(rejects) if rejects else NO_REJECTS
        result = ChunkResult(output, kept, len(rows), len(output), 0, 0, {}, chunk.stop, chunk.after)
        return result.placed(places)

    def describe_schema(self) -> dict[str, tuple[str, str]]:
        return {"x": ("Float64" if self.wide else "Int128", "inferred")}


@dataclass(frozen=True, slots=True)
class SimSpec:
    """Makes a plan."""

    digest: str
    notes: tuple[str, ...] = ()
    modules: Any = None
    rows: RowFormat = LINES

    @property
    def named_members(self) -> Mapping[str, str]:
        return {}

    @property
    def source_fields(self) -> frozenset[str]:
        return frozenset()

    def final_notes(self, _summary: object) -> list[str]:
        return []

    def prepare(
        self, chunks: Any, _max_line_bytes: int, widened: Mapping[str, pl.DataType], *_: object
    ) -> tuple[SimPlan, Any]:
        return SimPlan(self.digest, "x" in widened), chunks


class SimCalculation(Runnable):
    """The calculation of one deployment.

    Args:
        digest: Its digest.
        rows: What the rows of inputs are, as `FORMATS` names it.
    """

    def __init__(self, digest: str, rows: str = "lines") -> None:
        self._digest = digest
        self._rows = FORMATS[rows]

    @property
    def digest(self) -> str:
        return self._digest

    def made_from(self, origin: tuple[bytes, ...]) -> Self:  # noqa: ARG002
        return self

    def changing_rows(self, change: Callable[[RowFormat], RowFormat]) -> Self:  # noqa: ARG002
        return self

    def preview(self, *_: object, **__: object) -> NoReturn:
        raise AssertionError

    def spec_for(self, _source: object) -> SimSpec:
        return SimSpec(self._digest, rows=self._rows)

    def stream(self, source: Any, state: State | None = None, *, open_input: Any = None, **_: Any) -> Any:
        options = EngineOptions(chunk_bytes=CHUNK_BYTES, workers=1)
        stream: AbstractContextManager[Stream] = open_stream(
            self.spec_for(source), source, state or State(), options, open_input
        )
        return stream


READ_BYTES = 128


class SimObject:
    """One version of an object that is read in ranges, each with `If-Match`, as `transform.io.s3_reader` does."""

    def __init__(self, requests: SimS3Requests, location: S3Object, offset: int) -> None:
        self._requests = requests
        self._location = location
        self._block = b""
        self._at = offset
        self.headers: dict[str, Any] = {}
        self.size = 0

    def fetch(self) -> None:
        place = self._location
        arguments: dict[str, Any] = {"Bucket": place.bucket, "Key": place.key, "IfMatch": f'"{place.etag}"'}
        with translate_errors(str(place), InputError, pinned=True):
            if self._at and self.size and self._at >= self.size:
                return
            if not self.headers:
                answer = self._requests.call("head_object", **arguments) if not place.size or self._at else None
                if answer is not None and self._at >= answer["ContentLength"]:
                    self.headers, self.size = answer, answer["ContentLength"]
                    return
            answer = self._requests.call(
                "get_object", Range=f"bytes={self._at}-{self._at + READ_BYTES - 1}", **arguments
            )
        self._block = answer["Body"]
        if not self.headers:
            total = answer.get("ContentRange", "").rpartition("/")[2] or answer["ContentLength"]
            self.headers, self.size = answer, int(total)

    def readinto(self, view: memoryview) -> int:
        if not self._block and self._at < self.size:
            self.fetch()
        count = min(len(view), len(self._block))
        view[:count] = self._block[:count]
        self._block = self._block[count:]
        self._at += count
        return count


@contextmanager
def open_object(
    requests: SimS3Requests, source: S3Object, start: Position | None = None, _max_inflation: int | None = None
) -> Iterator[Reader]:
    """Open the input of a job, as `transform.io.sources.open_source` does."""
    offset = start.offset if start is not None else 0
    body = SimObject(requests, source, offset)
    body.fetch()
    stored = StoredInput(str(source), body, offset)

    def read_into(view: memoryview) -> int:
        """Read as `StoredInput` does, but for interrupts of a terminal."""
        count = body.readinto(view)
        stored.position += count
        return count

    yield Reader(stored, read_into, body.size, start=start, headers=body.headers)


def describe(content: bytes) -> str:
    """Return a content in a few characters."""
    return json.dumps(content.decode())[1:-1] if len(content) < 40 else f"{len(content)} bytes"
