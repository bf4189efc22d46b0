"""A run: lines → decode → evaluate → splice → sink, in order, published whole or not at all.

A run in progress: the output of an input, chunk by chunk and in order, from its start or a saved state.
"""

import contextlib
import os
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import polars as pl

from transform import _process
from transform.decode.rejects import ChunkResult, to_json_line
from transform.decode.schema import Column
from transform.engine.parallel import Transforms, chunk_results
from transform.engine.reject_file import RejectFile, default_target
from transform.engine.state import State
from transform.engine.summary import Policy, Summary
from transform.errors import SchemaError, TransformError, WidenError
from transform.io.chunks import CHUNK_BYTES, MAX_LINE_BYTES, RANGE_BYTES, Chunk, LongLine, read_chunks
from transform.io.conflicts import check_no_conflicts
from transform.io.outputs import Output, Target
from transform.io.sources import Reader, Source, open_source, reopenable

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
            _process.check_interrupts()
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


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be run; see `Calculation.run`."""

    spec: Spec
    source: Source
    target: Target
    rejects: str | None
    options: Options


def run(
    spec: Spec, source: Source, target: Target, rejects: str | os.PathLike[str] | None, options: Options
) -> Summary:
    """Transform an input into an output; see `Calculation.run`."""
    started = time.perf_counter()
    kept_in = str(rejects) if rejects is not None else default_target(target)
    check_no_conflicts({"input": source, "output": target, "rejects": kept_in})
    job, state = Job(spec, source, target, kept_in, options), State()
    while True:
        try:
            summary = _attempt(job, state)
        except WidenError as error:
            state = restarted(state, error, source)
        else:
            summary.seconds = time.perf_counter() - started
            return summary


def restarted(state: State, error: WidenError, source: Source) -> State:
    """Return the state of a run that starts again, as a column inferred as integer turned out to hold floats.

    Raises:
        SchemaError: The source cannot be read again.
    """
    if not reopenable(source):
        raise _cannot_start_again(error, "the input is a pipe") from None
    return state.restarted(error.name, error.dtype)


def _cannot_start_again(error: WidenError, why: str) -> SchemaError:
    return SchemaError(
        f"{error}. The run cannot start again with that in mind, as {why}: declare the type, for example with "
        f"--schema {shlex.quote(f'{error.name}={error.dtype}')} or .with_schema({{{error.name!r}: pl.{error.dtype}}})"
    )


def _attempt(job: Job, state: State) -> Summary:
    with (
        open_stream(job.spec, job.source, state, job.options) as stream,
        Output(job.target, lambda: stream.position) as output,
        RejectFile(job.rejects) as rejects,
    ):
        try:
            for part in stream:
                for data in part.output:
                    output.write(data)
                for line in part.rejects:
                    rejects.write(line)
        except WidenError as error:
            if output.streams and output.size:
                raise _cannot_start_again(error, "a part of the output is in a pipe already") from None
            raise
        except TransformError as error:
            if rejects.publish():
                raise type(error)(f"{error}. The rejected lines are in {job.rejects}") from error
            raise
        summary = stream.summary
        # The rejects first: whatever happens between the two, no output stands beside the rejects of another run.
        if rejects.publish():
            summary.rejects = job.rejects
        else:
            rejects.remove_old()
        output.publish()
        summary.target = output.name
        return summary
