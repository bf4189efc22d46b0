"""A plain Python function run line by line: the slow way, for calculations that are written already."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import polars as pl

from transform.chunks import MAX_LINE_BYTES, Chunk, LongLine, read_chunks
from transform.line_index import index_lines
from transform.members import LineError, is_deep, read_members
from transform.preview import tell_rejected
from transform.rejects import ChunkResult, Reject, reject_long
from transform.runnable import Runnable
from transform.schema import Column
from transform.sources import Source, open_source
from transform.spec import digest
from transform.summary import Summary

Function = Callable[[dict[str, Any]], object]
_SPACES = b" \t\r"
_ANY = msgspec.json.Decoder()
_ENCODER = msgspec.json.Encoder(decimal_format="number")  # as results of expressions are
_PREVIEW_CHUNK_BYTES = 64 << 10


class LineFunction(Runnable):
    """A `def calculation(json_obj)` that returns the object to write, or None to drop the line.

    Each line is decoded, given to the function, and encoded again, so the spelling of numbers, white space and
    duplicates of members are not kept. A line for which the function raises is rejected.

    Args:
        function: The function; it has to be pure.
        origin: The text that it was made from, as its identity.

    Example:
        >>> def calculation(json_obj):
        ...     json_obj["double"] = json_obj["stars"] * 2
        ...     return json_obj
        >>> LineFunction(calculation)
        LineFunction(calculation)
    """

    __slots__ = ("_function", "_origin")

    def __init__(self, function: Function, origin: tuple[bytes, ...] = ()) -> None:
        self._function = function
        self._origin = origin

    @property
    def digest(self) -> str:
        """What distinguishes it from others: a SHA-256 over its text, or over the function as it is pickled."""
        if self._origin:
            return digest(self._origin)
        import cloudpickle  # noqa: PLC0415 - what is loaded from a file has its text

        return digest((cloudpickle.dumps(self._function),))

    def made_from(self, origin: tuple[bytes, ...]) -> "LineFunction":
        """Return it with the text that it was made from, as its identity."""
        return LineFunction(self._function, origin)

    def preview(self, source: Source, rows: int = 10, *, rejected: list[str] | None = None) -> pl.DataFrame:
        """Return the objects that the function makes of the first lines.

        Args:
            source: As for `run`.
            rows: How many.
            rejected: A list that is told of lines that were read on the way, and rejected.

        Raises:
            TransformError: As `run` does.
        """
        found: list[object] = []
        plan, seen = FunctionPlan(self._function), Summary()
        with open_source(source) as reader:
            for chunk in read_chunks(reader.read_into, _PREVIEW_CHUNK_BYTES):
                result = plan.transform(chunk)
                seen.count(result)
                output = b"".join(result.output)
                found += [msgspec.json.decode(line) for line in output.split(b"\n") if line]
                if len(found) >= rows:
                    break
        tell_rejected(seen, rejected)
        return pl.DataFrame(found[:rows], infer_schema_length=None, strict=False)

    @property
    def function(self) -> Function:
        """The function itself."""
        return self._function

    def spec_for(self, source: Source) -> "FunctionSpec":  # noqa: ARG002 - the same for every input
        """Return what is to be done to an input."""
        return FunctionSpec(self._function)

    def __repr__(self) -> str:
        return f"LineFunction({getattr(self._function, '__name__', self._function)})"

    def _repr_html_(self) -> str:
        from transform import html  # noqa: PLC0415 - only notebooks need it

        name = getattr(self._function, "__name__", str(self._function))
        return html.render("LineFunction", html.Table([("function", html.Code(name)), ("runs", "line by line")]))


@dataclass(frozen=True, slots=True)
class FunctionSpec:
    """A function to be called for each line."""

    function: Function

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know of how it is done."""
        name = getattr(self.function, "__name__", "the function")
        return (
            f"ran {name}(…) line by line in Python, the slow way, which decodes and encodes all of every line; "
            "the same as polars expressions, `calculation = Calculation(name=pl.col(…) …)`, takes a fraction of that",
        )

    def prepare(
        self,
        chunks: Iterator[Chunk | LongLine],
        max_line_bytes: int,
        widened: Mapping[str, pl.DataType],
        settled: Mapping[str, Column] | None = None,
    ) -> tuple["FunctionPlan", Iterator[Chunk | LongLine]]:
        """Return the plan, and all the chunks."""
        assert not widened  # noqa: S101 - only columns are, and a function has none
        assert not settled  # noqa: S101 - likewise
        return FunctionPlan(self.function, max_line_bytes), chunks


@dataclass(frozen=True, slots=True)
class FunctionPlan:
    """Calls a function for each line of a chunk."""

    function: Function
    max_line_bytes: int = MAX_LINE_BYTES

    def describe_schema(self) -> dict[str, tuple[str, str]]:
        """Return by column read its type: a function does not say what it reads."""
        return {}

    def transform(self, chunk: Chunk | LongLine) -> ChunkResult:
        """Return what a chunk becomes."""
        if isinstance(chunk, LongLine):
            reject = reject_long(0, chunk.offset, chunk.head, chunk.length, self.max_line_bytes)
            return ChunkResult((), (reject,), 1, 0, 0, 0, {}, chunk.stop)
        line_index = index_lines(chunk)
        output, rejects, blank, dropped = list[bytes](), list[Reject](), 0, 0
        lines = bytes(chunk.data).split(b"\n")  # the last is what is behind the last line end
        for index in range(len(line_index.stops)):
            line = lines[index]
            try:
                if len(line) > self.max_line_bytes:
                    offset = line_index.offset + int(line_index.bounds[index])
                    rejects.append(reject_long(index, offset, line, len(line), self.max_line_bytes))
                elif not line.strip(_SPACES):
                    blank += 1
                elif (text := self.call(line)) is None:
                    dropped += 1
                else:
                    output += (text, b"\r" if line.endswith(b"\r") else b"", b"\n" if index + 1 < len(lines) else b"")
            except LineError as error:
                rejects.append(line_index.reject(index, error))
        kept = len(line_index.stops) - blank - dropped - len(rejects)
        data = memoryview(b"".join(output))
        stop = chunk.offset + len(chunk.data)
        return ChunkResult((data,), rejects, len(line_index.stops), kept, dropped, blank, {}, stop)

    def call(self, line: bytes) -> bytes | None:
        """Return the text of the object that the function makes of a line, None if it drops it.

        Raises:
            LineError: The line is no JSON object, or the function fails.
        """
        value = _decode(line)
        try:
            result = self.function(value)
        except Exception as error:  # noqa: BLE001 - whatever the user's function raises speaks of that line
            raise LineError("the calculation failed", f"{type(error).__name__}: {error}") from None
        if result is None:
            return None
        if not isinstance(result, dict):
            raise LineError("the calculation failed", f"it returned {type(result).__name__}, not an object or None")
        return _encode(result)


def _decode(line: bytes) -> dict[str, Any]:
    """Return the object that a line holds."""
    try:
        line.decode()  # msgspec looks into the strings it decodes, but says of some what it is not
        value = _ANY.decode(line)
        if type(value) is dict and not is_deep(line):
            return value
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    read_members(line)  # raises, but for what is good JSON and msgspec has no value for: a lone surrogate, 1e999
    try:
        decoded: dict[str, Any] = json.loads(line)
    except (ValueError, RecursionError) as error:  # an integer of thousands of digits
        raise LineError("no Python value", str(error)) from None
    return decoded


def _encode(result: dict[str, Any]) -> bytes:
    """Return the text of a function's result."""
    try:
        try:
            return _ENCODER.encode(result)
        except UnicodeEncodeError:  # a lone surrogate, which has to be written as an escape
            return json.dumps(result, separators=(",", ":"), allow_nan=False).encode()
    except Exception as error:  # noqa: BLE001 - whatever is in it that JSON has no place for
        raise LineError("the calculation failed", f"its result cannot be written: {error}") from None
