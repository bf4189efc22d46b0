"""The spec and the plan of a plain Python function, which is called for each line: what `LineFunction` runs."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import polars as pl

from transform.decode.inference import SampleSize
from transform.decode.line_errors import LineError
from transform.decode.members import is_deep, read_members
from transform.decode.rejects import ChunkResult, Reject, Rejects, reject_long
from transform.decode.row_format import LINES, RowFormat
from transform.decode.schema import Column
from transform.engine.module_sources import Modules
from transform.engine.summary import Summary
from transform.io.chunks import MAX_LINE_BYTES, Chunk, LongLine
from transform.io.source_info import UNKNOWN, SourceInfo

Function = Callable[[dict[str, Any]], object]
_SPACES = b" \t\r"
_ANY = msgspec.json.Decoder()
_ENCODER = msgspec.json.Encoder(decimal_format="number")  # as the results of expressions are written


@dataclass(frozen=True, slots=True)
class FunctionSpec:
    """A function to be called for each line.

    Attributes:
        function: The function.
        modules: The modules beside its file, which worker processes need.
        rows: What the rows of an input are.
    """

    function: Function
    modules: Modules = field(default_factory=dict)
    rows: RowFormat = LINES

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes for the user on how the run was done."""
        name = getattr(self.function, "__name__", "the function")
        return (
            f"ran {name}(…) line by line in Python, the slow way, which decodes and encodes all of every line; "
            "the same as polars expressions, `calculation = Calculation(name=pl.col(…) …)`, takes a fraction of that",
        )

    @property
    def source_fields(self) -> frozenset[str]:
        """What the function uses of where a row came from: it does not see that."""
        return frozenset()

    @property
    def named_members(self) -> dict[str, str]:
        """The members to drop or select: a function has none."""
        return {}

    def final_notes(self, summary: Summary) -> list[str]:
        """Return notes for the user on what was found in all lines."""
        if not summary.filtered or summary.lines_out:
            return []
        name = getattr(self.function, "__name__", "the function")
        return [f"{name}(…) returned None for every line, which drops it: does it end with `return`, and the object?"]

    def prepare(
        self,
        chunks: Iterator[Chunk | LongLine],
        max_line_bytes: int,
        widened: Mapping[str, pl.DataType],
        known_columns: Mapping[str, Column] | None = None,
        sample_size: SampleSize | None = None,  # noqa: ARG002 - nothing is inferred
        info: SourceInfo = UNKNOWN,  # noqa: ARG002 - a function sees the line only
    ) -> tuple["FunctionPlan", Iterator[Chunk | LongLine]]:
        """Return the plan, and all the chunks."""
        assert not widened  # noqa: S101 - a function has no columns
        assert not known_columns  # noqa: S101 - a function has no columns
        return FunctionPlan(self.function, max_line_bytes), chunks


@dataclass(frozen=True, slots=True)
class FunctionPlan:
    """Calls a function for each line of a chunk."""

    function: Function
    max_line_bytes: int = MAX_LINE_BYTES

    @property
    def in_threads(self) -> bool:
        """Whether threads can transform chunks side by side: a Python function needs processes."""
        return False

    def describe_schema(self) -> dict[str, tuple[str, str]]:
        """Return no columns: which members a function reads is not known."""
        return {}

    def transform(self, chunk: Chunk | LongLine) -> ChunkResult:
        """Return what a chunk becomes."""
        if isinstance(chunk, LongLine):
            return ChunkResult.of_long_line(chunk, self.max_line_bytes)
        output, rejects, blank, dropped = list[bytes](), list[Reject](), 0, 0
        lines = bytes(chunk.data).split(b"\n")
        terminated = lines[-1] == b""
        count, offset, places = len(lines) - terminated, chunk.offset, chunk.places
        unfit = {one.row: one for one in places.unfit} if places is not None else {}
        for index, line in enumerate(lines[:count]):
            if places is not None:
                offset = int(places.offsets[index])
            try:
                if index in unfit:
                    row = unfit[index]
                    rejects.append(Reject(index, offset, row.kind, row.reason, row.raw, row.length))
                elif len(line) > self.max_line_bytes:
                    rejects.append(reject_long(index, offset, line, len(line), self.max_line_bytes))
                elif not line.strip(_SPACES):
                    blank += 1
                elif (text := self.call(line)) is None:
                    dropped += 1
                else:
                    output += (text, b"\r" if line.endswith(b"\r") else b"", b"\n" if index + 1 < len(lines) else b"")
            except LineError as error:
                rejects.append(Reject(index, offset, error.kind, str(error), line))
            offset += len(line) + 1
        kept = count - blank - dropped - len(rejects)
        data = memoryview(b"".join(output))
        result = ChunkResult((data,), Rejects.of(rejects), count, kept, dropped, blank, {}, chunk.stop, chunk.after)
        return result.placed(chunk.places)

    def call(self, line: bytes) -> bytes | None:
        """Return the JSON text of what the function returns for a line, None if it drops the line.

        Raises:
            LineError: The line is not a JSON object, or the function fails.
        """
        value = _decode(line)
        try:
            result = self.function(value)
        except Exception as error:  # noqa: BLE001 - whatever the function raises, that line is rejected
            raise LineError("the calculation failed", f"{type(error).__name__}: {error}") from None
        if result is None:
            return None
        if not isinstance(result, dict):
            raise LineError("the calculation failed", f"it returned {type(result).__name__}, not an object or None")
        return _encode(result)


def _decode(line: bytes) -> dict[str, Any]:
    """Return the object that a line holds."""
    try:
        line.decode()  # for some bytes that are not UTF-8, msgspec gives a wrong reason
        value = _ANY.decode(line)
        if type(value) is dict and not is_deep(line):
            return value
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    read_members(line)  # raises, except for valid JSON that msgspec does not decode: a lone surrogate, 1e999
    try:
        decoded: dict[str, Any] = json.loads(line)
    except (ValueError, RecursionError) as error:  # an integer of thousands of digits
        raise LineError("no Python value", str(error)) from None
    return decoded


def _encode(result: dict[str, Any]) -> bytes:
    """Return the JSON text of a function's result."""
    try:
        try:
            return _ENCODER.encode(result)
        except UnicodeEncodeError:  # a lone surrogate must be written as an escape
            return json.dumps(result, separators=(",", ":"), allow_nan=False).encode()
    except Exception as error:  # noqa: BLE001 - it may contain any object, and whatever encoding that one raises
        raise LineError("the calculation failed", f"its result cannot be written: {error}") from None
