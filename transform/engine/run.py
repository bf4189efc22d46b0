"""A run: lines → decode → evaluate → splice → output, in order, published whole or not at all.

    RowFormat.read ─▶ plan.results ───▶ Stream ─▶ Output
    rows as lines     decode            counts    file, object or pipe
                      evaluate             └────▶ RejectFile
                      splice

`Stream` is a run in progress: it yields the output of an input chunk by chunk, from the start or from a saved state.
`run` writes these parts of the output, and publishes it. `parallel` transforms the chunks, here or in other processes.
"""

import contextlib
import os
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol, TypeVar

import polars as pl

from transform import _process
from transform.decode.inference import SampleSize
from transform.decode.rejects import ChunkResult
from transform.decode.row_format import RowFormat
from transform.decode.schema import Column
from transform.engine.module_sources import Modules
from transform.engine.options import EngineOptions
from transform.engine.parallel import chunk_results
from transform.engine.reject_file import RejectFile, default_target
from transform.engine.rows_plan import RowsPlan, TransformsRows
from transform.engine.summary import State, Summary
from transform.errors import DamagedError, SchemaError, SourceChangedError, TransformError, WidenError
from transform.io.chunks import CHUNK_BYTES, Chunk, LongLine
from transform.io.conflicts import check_no_conflicts, located, refuse_other_format
from transform.io.outputs import Output, Target
from transform.io.source_info import UNKNOWN, SourceInfo
from transform.io.sources import OpenSource, Reader, Source, open_source, reopenable

Chunks = Iterator[Chunk | LongLine]
T = TypeVar("T")


class Plan(TransformsRows, Protocol):
    """Turns any chunk of an input into its output: a pure function, which can be sent to other processes."""

    def describe_schema(self) -> dict[str, tuple[str, str]]:
        """Return the type of each column read, by name, and whether it was declared or inferred."""


class Spec(Protocol):
    """A calculation before anything is known about its input; `prepare` makes a plan of it."""

    @property
    def modules(self) -> Modules:
        """The modules beside the calculation's file, which worker processes need."""

    @property
    def rows(self) -> RowFormat:
        """What the rows of the input are."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes for the user on how the run was done."""

    @property
    def source_fields(self) -> frozenset[str]:
        """What the calculation uses of where a row came from, apart from its offset."""

    @property
    def named_members(self) -> Mapping[str, str]:
        """The members that lines are expected to have, by name, and what is done to them: read, drop or select."""

    def final_notes(self, summary: Summary) -> list[str]:
        """Return notes for the user on what was found in all lines."""

    def prepare(
        self,
        chunks: Chunks,
        max_line_bytes: int,
        widened: Mapping[str, pl.DataType],
        known_columns: Mapping[str, Column] | None = None,
        sample_size: SampleSize | None = None,
        info: SourceInfo = UNKNOWN,
    ) -> tuple[Plan, Chunks]:
        """Find the types of the columns read, from the first chunks; return the plan, and all the chunks.

        Args:
            chunks: The whole input, or the rest of it if the run is resumed.
            max_line_bytes: A longer line is rejected.
            widened: The types of the columns whose inferred type turned out too narrow.
            known_columns: The columns with their types, if the run is resumed.
            sample_size: How much of the input to infer types from; None for the default.
            info: What is known of the input beside its content.
        """


@dataclass(frozen=True, slots=True)
class OutputPart:
    """The output of a chunk; use all of it before you ask for the next.

    If rows are elements of arrays, a chunk of lines may have several parts.

    Attributes:
        output: Bytes to be written one after the other.
        rejects: The rejected lines, as blocks of one or more whole JSON lines.
        resumable: Whether `Stream.state` is the state just before this part, so that a run can be resumed with it. It
            is not within a line whose elements are rows: the state is then that before earlier parts.
    """

    output: Sequence[memoryview]
    rejects: Iterator[bytes]
    resumable: bool = True


class Stream:
    """Yields the output of an input in parts, in order, and counts; it can be iterated over once.

    Attributes:
        summary: What was done so far, up to the part before the one that is being used.
        headers: For an S3 object, the headers of its response, by the names that boto3 uses.

    Example:
        >>> import io
        >>> from transform import Calculation
        >>> with Calculation.from_sql("a + 1 AS b").stream(io.BytesIO(b'{"a":1}')) as stream:
        ...     output = b"".join(data for part in stream for data in part.output)
        >>> output, stream.summary.lines_out
        (b'{"a":1,"b":2}', 1)
    """

    def __init__(
        self, spec: Spec, reader: Reader, state: State, options: EngineOptions, stack: contextlib.ExitStack
    ) -> None:
        self.summary = state.summary.copy()
        self.summary.source = reader.name
        self.headers: Mapping[str, Any] = reader.headers
        self._spec = spec
        self._reader = reader
        if reader.checksum is not None and state.position is not None and reader.codec is None:
            resumed = reader.checksum.resumed(state.checksum, state.position.offset)
            self._reader = replace(reader, checksum=resumed)
        if not spec.rows.in_lines:
            self._reader = replace(self._reader, version=None)  # no row can be found without those before it
        self._after = state.after
        self._resumed = state
        self._options = options
        self._stack = stack
        self._state = state

    @property
    def position(self) -> tuple[int, int | None]:
        """The number of bytes read of the input as it is stored, and its size, None if that is unknown."""
        return self._reader.position, self._reader.size

    @property
    def state(self) -> State:
        """How far the run has come, without the part that is being used; the returned object does not change.

        Within a line whose elements are rows, it is that before the chunk of the line; see `OutputPart.resumable`.
        """
        return self._state

    def __iter__(self) -> Iterator[OutputPart]:
        """Find the types of the columns read, and yield the parts.

        Raises:
            WidenError: The run has to start again.
            TransformError: The calculation does not fit the input, the input cannot be read, or too many lines were
                rejected.
        """
        resumable = True
        for result in self._stack.enter_context(self._results()):
            _process.check_interrupts()
            rejects = self._rejects(result)
            yield OutputPart(result.output, rejects, resumable)
            for _ in rejects:  # so that those that the caller has not taken are counted, too
                pass
            self.summary.add(result)
            resumable = result.is_last
            if result.is_last:
                self._after = result.after
                if self._reader.checksum is not None and result.checksum is not None:
                    self._reader.checksum.add(result.checksum)
                self._state = self._current_state()
            if self._options.progress:
                self._options.progress(self._reader.position, self._reader.size)
        self._reader.check_whole()
        if self._reader.checksum is not None:
            self._reader.checksum.check(self._reader.name, self._reader.position)
        self._options.policy.check_all(self.summary, in_lines=self._spec.rows.in_lines)
        self.summary.notes += self._spec.final_notes(self.summary)

    def _results(self) -> contextlib.AbstractContextManager[Iterator[ChunkResult]]:
        """Return what each chunk of the rest of the input becomes."""
        options, resumed = self._options, self._resumed
        if resumed.position is not None and resumed.source != self._noted_source:
            raise SourceChangedError(
                f"{self._reader.name}: has the content that was read before, but was written again"
            )
        chunks = self._spec.rows.read(
            self._reader.read_into,
            options.chunk_bytes,
            options.max_line_bytes,
            resumed.position.offset if resumed.position else 0,
            resumed.after,
            only_blank=resumed.summary.lines_read == resumed.summary.blank,
            with_checksums=self._reader.checksum is not None and self._reader.codec is None,
        )
        plan, chunks = self._spec.prepare(
            chunks, options.max_line_bytes, resumed.widened, resumed.columns, options.sample_size, self._reader.info
        )
        self.summary.schema = plan.describe_schema()
        self.summary.notes = [*self._reader.notes, *self._spec.notes]
        if resumed.position is None:
            self.summary.expect(self._spec.named_members)
        whole = RowsPlan(plan, self._spec.rows, min(options.chunk_bytes, CHUNK_BYTES))
        return chunk_results(whole, self._reader, chunks, options, self.summary.notes, self._spec.modules)

    def _rejects(self, result: ChunkResult) -> Iterator[bytes]:
        """Count the rejected lines of a chunk, and yield them as blocks of JSON lines."""
        if not len(result.rejects):
            return
        rejects = self._options.policy.up_to_failure(self.summary, result.rejects)
        if rejects:
            self.summary.count_rejects(rejects)
            yield from rejects.to_json_blocks(self.summary.lines_read + 1)
            self._options.policy.check(self.summary, rejects[-1])

    def _current_state(self) -> State:
        codec = self._reader.codec.name if self._reader.codec else None
        checksum = self._reader.checksum.so_far if self._reader.checksum is not None and codec is None else None
        return State(self.summary.copy(), self._resumed.widened, codec, checksum, self._noted_source, self._after)

    @property
    def _noted_source(self) -> str | None:
        return self._reader.info.noted(self._spec.source_fields)


@contextlib.contextmanager
def open_stream(
    spec: Spec, source: Source, state: State, options: EngineOptions, open_input: OpenSource = open_source
) -> Iterator[Stream]:
    """Open an input, and yield the run.

    Args:
        spec: The calculation.
        source: The input.
        state: How far an earlier run has come that is resumed; the initial state for a new one.
        options: How to read and transform the input.
        open_input: Opens the input.

    Raises:
        TransformError: The input cannot be read.
    """
    with open_input(source, state.position, options.max_inflation) as reader, contextlib.ExitStack() as stack:
        yield Stream(spec, reader, state, options, stack)


def retry_widened(source: Source, attempt: Callable[[State], T]) -> T:
    """Return the result of the first attempt that needs no wider type for a column.

    A column inferred as integer may turn out to hold floats. The run then starts again, with the same result as if the
    sample had shown a float.

    Args:
        source: The input that the attempts read.
        attempt: Called with the state to start from: once, and once more for each column that needs a wider type.

    Raises:
        SchemaError: Another attempt is needed, but the source cannot be read again.
    """
    state = State()
    while True:
        try:
            return attempt(state)
        except WidenError as error:
            if not reopenable(source):
                raise _cannot_restart(error, "the input is a pipe") from None
            state = state.restarted(error.name, error.dtype)


def _cannot_restart(error: WidenError, why: str) -> SchemaError:
    """Return the error for a run that has to start again but cannot; its message says which type to declare."""
    return SchemaError(
        f"{error}. The run cannot start again with that in mind, as {why}: declare the type, for example with "
        f"--schema {shlex.quote(f'{error.name}={error.dtype}')} or .with_schema({{{error.name!r}: pl.{error.dtype}}})",
        column=error.name,
    )


def run(
    spec: Spec, source: Source, target: Target, rejects: str | os.PathLike[str] | None, options: EngineOptions
) -> Summary:
    """Transform an input into an output; see `Calculation.run`."""
    started = time.perf_counter()
    source, target = located("input", source), located("output", target)
    refuse_other_format(target)
    rejects_target = default_target(target) if rejects is None else str(located("rejects", rejects, streams=False))
    check_no_conflicts({"input": source, "output": target, "rejects": rejects_target})

    def attempt(state: State, *, is_last: bool) -> Summary:
        with (
            open_stream(spec, source, state, options) as stream,
            Output(target, lambda: stream.position) as output,
            RejectFile(rejects_target) as reject_file,
        ):
            _write(stream, source, output, reject_file, is_last=is_last)
            return _publish(stream.summary, output, reject_file)

    try:
        summary = retry_widened(source, partial(attempt, is_last=False))
    except _ReadAgainError:
        summary = retry_widened(source, partial(attempt, is_last=True))
    summary.seconds = time.perf_counter() - started
    return summary


class _ReadAgainError(Exception):
    """What was read of an object does not have its checksum; another attempt may succeed."""


def _write(stream: Stream, source: Source, output: Output, reject_file: RejectFile, *, is_last: bool) -> None:
    """Write all parts of a run; if it fails for good, publish the lines that were rejected until then.

    Args:
        stream: The run.
        source: The input.
        output: Where its output is written.
        reject_file: Where rejected lines are written.
        is_last: Whether there is no other attempt if what is read does not have the checksum of the object.
    """
    try:
        for part in stream:
            for data in part.output:
                output.write(data)
            for block in part.rejects:
                reject_file.write(block)
    except WidenError as error:
        _check_restart(error, source, output, reject_file)
        raise
    except TransformError as error:
        has_streamed = (output.streams and output.size) or reject_file.sent
        if isinstance(error, DamagedError) and not is_last and not has_streamed:
            raise _ReadAgainError from error
        failure = _with_rejects(error, reject_file)
        if failure is error:
            raise
        raise failure from error


def _check_restart(error: WidenError, source: Source, output: Output, reject_file: RejectFile) -> None:
    """Raise, and publish the lines that were rejected until then, if the run cannot start again with a wider type."""
    if not reopenable(source):
        raise _with_rejects(_cannot_restart(error, "the input is a pipe"), reject_file) from None
    if output.streams and output.size:
        why = "a part of the output is in a pipe already"
        raise _with_rejects(_cannot_restart(error, why), reject_file) from None
    if reject_file.sent:
        why = "rejected lines are in a pipe already"
        raise _with_rejects(_cannot_restart(error, why), reject_file) from None


def _with_rejects(error: TransformError, reject_file: RejectFile) -> TransformError:
    """Publish the lines that were rejected until a run failed; return the error, which says where they are."""
    if not reject_file.publish():
        return error
    return type(error)(f"{error}. The rejected lines are in {reject_file.target}")


def _publish(summary: Summary, output: Output, reject_file: RejectFile) -> Summary:
    """Publish an output and its rejects, and return the summary with their names.

    The rejects are first, so that a run that is killed between the two leaves no output beside the rejects of an
    earlier run.
    """
    if reject_file.publish():
        summary.rejects = reject_file.target
    else:
        reject_file.remove_old()
    output.publish()
    summary.target = output.name
    return summary
