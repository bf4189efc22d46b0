"""A run in progress: the output of an input, chunk by chunk and in order, from its start or a saved state."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import polars as pl

from transform import interrupts
from transform.lines import CHUNK_BYTES, MAX_LINE_BYTES, Chunk, LongLine, read_chunks
from transform.parallel import Transforms, chunk_results
from transform.piece import ChunkResult
from transform.policy import Policy
from transform.ranges import RANGE_BYTES
from transform.reader import Reader
from transform.rejects import to_json_line
from transform.schema import Column
from transform.sources import Source, open_source
from transform.state import State
from transform.summary import Summary

Chunks = Iterator[Chunk | LongLine]
Progress = Callable[[int, int | None], None]


class Plan(Transforms, Protocol):
    """What turns any chunk of an input into its output: a pure function, which can travel to other processes."""

    def describe_schema(self) -> dict[str, tuple[str, str]]:
        """Return by column read its type, and whether it was declared or inferred."""


class Spec(Protocol):
    """What is to be done to an input."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know of how it is done."""

    def prepare(
        self,
        chunks: Chunks,
        max_line_bytes: int,
        widened: Mapping[str, pl.DataType],
        settled: Mapping[str, Column] | None = None,
    ) -> tuple[Plan, Chunks]:
        """Settle all that can be from the first chunks; return the plan, and all the chunks.

        Args:
            chunks: The whole input, or all that is left of it.
            max_line_bytes: A longer line is rejected.
            widened: The types of columns that turned out to need another than was inferred.
            settled: The columns with their types, where a run before this one has settled them.
        """


@dataclass(frozen=True, slots=True)
class Options:
    """How to read and transform an input; see `Calculation.run`."""

    policy: Policy
    max_line_bytes: int = MAX_LINE_BYTES
    max_inflation: int | None = None
    workers: int = 1
    chunk_bytes: int = CHUNK_BYTES
    range_bytes: int = RANGE_BYTES
    progress: Progress | None = None


@dataclass(frozen=True, slots=True)
class OutputPart:
    """What a chunk of the input became; all of it has to be used before the next is asked for.

    Attributes:
        output: Bytes to be written one after the other.
        rejects: The lines to be kept, as JSON lines.
    """

    output: Sequence[memoryview]
    rejects: Iterator[bytes]


class Stream:
    """Yields the parts of a run, in order, and counts them; it can be iterated over once.

    Attributes:
        summary: What was done so far, up to the part before the one that is being used.
        headers: Of an object that is read, what S3 says of it, by the names that boto3 uses.

    Example:
        >>> import io
        >>> from transform import Calculation
        >>> with Calculation.from_sql("a + 1 AS b").stream(io.BytesIO(b'{"a":1}')) as stream:
        ...     output = b"".join(data for part in stream for data in part.output)
        >>> output, stream.summary.lines_out
        (b'{"a":1,"b":2}', 1)
    """

    def __init__(self, spec: Spec, reader: Reader, state: State, options: Options, stack: contextlib.ExitStack) -> None:
        self.summary = Summary.from_dict(state.summary.to_dict())
        self.summary.source = reader.name
        self.headers: Mapping[str, Any] = reader.headers
        self._spec = spec
        self._reader = reader
        self._begun = state
        self._options = options
        self._stack = stack
        self._state = state

    @property
    def position(self) -> tuple[int, int | None]:
        """How many bytes of the input, as it is stored, were read, and how many it has: None if only its end tells."""
        return self._reader.position, self._reader.size

    @property
    def state(self) -> State:
        """How far it has come, up to before the part that is being used; it stays so."""
        return self._state

    def __iter__(self) -> Iterator[OutputPart]:
        """Settle what is to be done to the input, and yield the parts.

        Raises:
            WidenError: It has to start again.
            TransformError: The calculation does not fit the input, which cannot be read on, or too many lines of which
                were rejected.
        """
        for result in self._stack.enter_context(self._results()):
            interrupts.check_interrupts()
            rejects = self._rejects(result)
            yield OutputPart(result.output, rejects)
            for _ in rejects:
                pass
            self.summary.add(result)
            self._state = self._come_so_far()
            if self._options.progress:
                self._options.progress(self._reader.position, self._reader.size)
        self._reader.check_whole()
        self._options.policy.check_all(self.summary)

    def _results(self) -> contextlib.AbstractContextManager[Iterator[ChunkResult]]:
        options, begun = self._options, self._begun
        start = begun.position.offset if begun.position else 0
        only_blank = begun.summary.lines_in == begun.summary.blank
        chunks = read_chunks(
            self._reader.read_into, options.chunk_bytes, options.max_line_bytes, start, only_blank=only_blank
        )
        plan, chunks = self._spec.prepare(chunks, options.max_line_bytes, begun.widened, begun.columns)
        self.summary.schema, self.summary.notes = plan.describe_schema(), list(self._spec.notes)
        sizes = options.range_bytes, options.chunk_bytes
        return chunk_results(plan, self._reader, chunks, options.workers, *sizes, self.summary.notes)

    def _come_so_far(self) -> State:
        codec = self._reader.codec.name if self._reader.codec else None
        return State(Summary.from_dict(self.summary.to_dict()), self._begun.widened, codec)

    def _rejects(self, result: ChunkResult) -> Iterator[bytes]:
        for reject in result.rejects:
            line = self.summary.lines_in + reject.line + 1
            self.summary.count_reject(reject, line)
            yield to_json_line(reject, line)
            self._options.policy.check(self.summary, reject, line)


@contextlib.contextmanager
def open_stream(spec: Spec, source: Source, state: State, options: Options) -> Iterator[Stream]:
    """Open an input, and yield the run.

    Args:
        spec: What is to be done.
        source: The input.
        state: How far it has come already.
        options: How.

    Raises:
        TransformError: The input cannot be read.
    """
    with open_source(source, state.position, options.max_inflation) as reader, contextlib.ExitStack() as stack:
        yield Stream(spec, reader, state, options, stack)
