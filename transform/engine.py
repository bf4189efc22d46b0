"""A run: lines → decode → evaluate → splice → sink, in order, published whole or not at all."""

import functools
import os
import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

import polars as pl

from transform import interrupts
from transform.apart import check_apart
from transform.errors import SchemaError, TransformError
from transform.judge import WidenError
from transform.lines import CHUNK_BYTES, MAX_LINE_BYTES, Chunk, LongLine, read_chunks
from transform.parallel import pieces_of
from transform.piece import Piece
from transform.policy import Policy
from transform.ranges import RANGE_BYTES
from transform.reject_file import RejectFile, default_target
from transform.sinks import Output, Target
from transform.sources import Source, open_source, reopenable
from transform.summary import Summary

Chunks = Iterator[Chunk | LongLine]
Progress = Callable[[int, int | None], None]
T = TypeVar("T")


class Plan(Protocol):
    """What turns any chunk of an input into its output: a pure function, which can travel to other processes."""

    @property
    def max_line_bytes(self) -> int:
        """A longer line is rejected."""

    def transform(self, chunk: Chunk | LongLine) -> Piece:
        """Return what a chunk becomes."""

    def describe_schema(self) -> dict[str, tuple[str, str]]:
        """Return by column read its type, and whether it was declared or inferred."""


class Task(Protocol):
    """What is to be done to an input."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know of how it is done."""

    def prepare(self, chunks: Chunks, max_line_bytes: int, widened: Mapping[str, pl.DataType]) -> tuple[Plan, Chunks]:
        """Settle all that can be from the first chunks; return the plan, and all the chunks.

        Args:
            chunks: The whole input.
            max_line_bytes: A longer line is rejected.
            widened: The types of columns that turned out to need another than was inferred.
        """


@dataclass(frozen=True, slots=True)
class Options:
    """How to run; see `Calculation.run`."""

    rejects: str | os.PathLike[str] | None = None
    on_error: str = "reject"
    max_rejects: int | str | None = None
    max_line_bytes: int = MAX_LINE_BYTES
    workers: int = 1
    chunk_bytes: int = CHUNK_BYTES
    range_bytes: int = RANGE_BYTES
    progress: Progress | None = None


def run(task: Task, source: Source, target: Target, options: Options) -> Summary:
    """Transform an input into an output; see `Calculation.run`."""
    started = time.perf_counter()
    policy = Policy.of(options.on_error, options.max_rejects)
    kept_in = str(options.rejects) if options.rejects is not None else default_target(target)
    check_apart({"input": source, "output": target, "rejects": kept_in})
    run_once = functools.partial(_attempt, task, source, target, kept_in, policy, options)
    summary = widen_as_needed(source, run_once)
    summary.seconds = time.perf_counter() - started
    return summary


def widen_as_needed(source: Source, attempt: Callable[[dict[str, pl.DataType]], T]) -> T:
    """Return what an attempt returns, which starts again when a column inferred as integer turns out to hold floats.

    Raises:
        SchemaError: The source cannot be read again.
    """
    widened: dict[str, pl.DataType] = {}
    while True:
        try:
            return attempt(widened)
        except WidenError as error:
            if not reopenable(source):
                raise _cannot_start_again(error, "the input is a pipe") from None
            widened[error.name] = error.dtype


def _cannot_start_again(error: WidenError, why: str) -> SchemaError:
    return SchemaError(
        f"column `{error.name}` was inferred as integer, and the line at offset {error.offset} holds a float. The run "
        f"cannot start again with that in mind, as {why}: declare the type, for example with "
        f"--schema {shlex.quote(f'{error.name}={error.dtype}')} or .with_schema({{{error.name!r}: pl.{error.dtype}}})"
    )


def _attempt(
    task: Task,
    source: Source,
    target: Target,
    kept_in: str | None,
    policy: Policy,
    options: Options,
    widened: dict[str, pl.DataType],
) -> Summary:
    with open_source(source) as reader, Output(target) as output, RejectFile(kept_in) as rejects:
        chunks = read_chunks(reader.read_into, options.chunk_bytes, options.max_line_bytes)
        plan, chunks = task.prepare(chunks, options.max_line_bytes, widened)
        summary = Summary(reader.name, output.name, schema=plan.describe_schema(), notes=list(task.notes))
        try:
            sizes = options.range_bytes, options.chunk_bytes
            with pieces_of(plan, reader, chunks, options.workers, *sizes, summary.notes) as pieces:
                for piece in pieces:
                    interrupts.check()
                    for part in piece.output:
                        output.write(part)
                    _keep_rejects(piece, rejects, summary, policy)
                    summary.add(piece)
                    if options.progress:
                        options.progress(reader.position, reader.size)
            reader.check_whole()
            policy.check_all(summary)
        except WidenError as error:
            if output.streams and output.size:
                raise _cannot_start_again(error, "a part of the output is in a pipe already") from None
            raise
        except TransformError as error:
            if rejects.publish():
                raise type(error)(f"{error}. The rejected lines are in {kept_in}") from error
            raise
        # The rejects first: whatever happens between the two, no output stands beside the rejects of another run.
        if rejects.publish():
            summary.rejects = kept_in
        else:
            rejects.remove_old()
        output.publish()
        summary.bytes_out = output.size
        return summary


def _keep_rejects(piece: Piece, rejects: RejectFile, summary: Summary, policy: Policy) -> None:
    for reject in piece.rejects:
        line = summary.lines_in + reject.line + 1
        rejects.write(reject, line)
        summary.count_reject(reject, line)
        policy.check(summary, reject, line)
