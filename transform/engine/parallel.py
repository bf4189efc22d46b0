"""The results of all chunks of an input, in order: from this thread alone, from several, or from other processes."""

import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from transform.decode.rejects import ChunkResult
from transform.engine.options import EngineOptions
from transform.engine.rows_plan import TransformsChunks
from transform.engine.threads import GROWTH, Threads
from transform.io.chunks import Chunk, LongLine, is_blank
from transform.io.object_checksum import PieceChecksum, checksum_of
from transform.io.ranges import MIN_RANGES, Range, cut
from transform.io.s3 import is_uri
from transform.io.sources import Position, Reader

if TYPE_CHECKING:
    from transform.engine.module_sources import Modules
    from transform.engine.processes import Processes


@contextlib.contextmanager
def chunk_results(
    plan: TransformsChunks,
    reader: Reader,
    chunks: Iterator[Chunk | LongLine],
    options: EngineOptions,
    notes: list[str],
    modules: "Modules",
) -> Iterator[Iterator[ChunkResult]]:
    """Yield the results of an input, in order.

    What can be read from any offset is cut into ranges, and threads read them; of any other input they get chunks that
    are read here. A thread transforms what it has read, or lets another process do so if that runs Python code.

    Args:
        plan: Turns chunks into results.
        reader: The input.
        chunks: The rest of the input, read by this process.
        options: How many threads or processes to use, and how large ranges and chunks are.
        notes: A list to which a note is added if only this process could be used.
        modules: The modules that other processes need.
    """
    if reader.checksum is not None and reader.codec is None:
        plan = _WithChecksums(plan, reader.checksum.algorithm)
    if options.workers == 1:
        yield _in_turn(plan, chunks)
    elif plan.in_threads and not options.only_processes:
        with Threads(plan.results, options.workers, options.thread_chunk_bytes, plan.max_line_bytes) as threads:
            yield _results(threads, reader, _Chunks(chunks, reader.start), options)
    elif (pickled := _pickle(plan, notes)) is None:
        yield _in_turn(plan, chunks)
    else:
        from transform.engine.processes import Processes  # noqa: PLC0415 - only Python functions need it

        processes = Processes(plan, pickled, modules, options.workers)
        # One more, so that a process need not wait for its next chunk to be read. But then a thread may have to wait
        # for a process, which is in vain while all threads that have one wait for their turn, within a chunk.
        count = options.workers + (0 if plan.in_parts else 1)
        with Threads(processes.results, count, options.chunk_bytes, plan.max_line_bytes) as threads, processes:
            read = _Chunks(chunks, reader.start)
            first = _first_results(plan, processes, reader, read, options)
            yield itertools.chain(first, _results(threads, reader, read, options))


def _in_turn(plan: TransformsChunks, chunks: Iterator[Chunk | LongLine]) -> Iterator[ChunkResult]:
    return itertools.chain.from_iterable(map(plan.results, chunks))


@dataclass(frozen=True, slots=True)
class _WithChecksums:
    """Turns chunks into their results, with the checksums of the chunks.

    Attributes:
        plan: Turns chunks into results.
        algorithm: The algorithm of the checksums.
    """

    plan: TransformsChunks
    algorithm: str

    @property
    def max_line_bytes(self) -> int:
        return self.plan.max_line_bytes

    @property
    def in_threads(self) -> bool:
        return self.plan.in_threads

    @property
    def in_parts(self) -> bool:
        return self.plan.in_parts

    def results(self, chunk: Chunk | LongLine) -> Iterator[ChunkResult]:
        if isinstance(chunk, LongLine):
            value = chunk.checksums[self.algorithm]
        elif chunk.places is not None and chunk.places.checksums is not None:
            value = chunk.places.checksums[self.algorithm]
        else:
            value = checksum_of(self.algorithm, chunk.data)
        checksum = PieceChecksum(chunk.offset, chunk.stop, value)
        for result in self.plan.results(chunk):
            yield replace(result, checksum=checksum) if result.is_last else result


class _Chunks:
    """Chunks that are read by this process, and how far that has come.

    Attributes:
        start: Offset of the first chunk in the input.
        stop: Offset of the next line.
        blank: Whether all lines read are blank, so that a JSON array may still begin, which reading on refuses.
    """

    def __init__(self, chunks: Iterator[Chunk | LongLine], position: Position | None) -> None:
        self._chunks = chunks
        self.start = self.stop = position.offset if position is not None else 0
        self.blank = True

    def __iter__(self) -> Iterator[Chunk | LongLine]:
        for chunk in self._chunks:
            self.stop = chunk.stop
            self.blank = self.blank and isinstance(chunk, Chunk) and is_blank(chunk.data)
            yield chunk


def _first_results(
    plan: TransformsChunks, processes: "Processes", reader: Reader, chunks: _Chunks, options: EngineOptions
) -> Iterator[ChunkResult]:
    """Yield the results of the first chunks, transformed by this process until another one is ready.

    A short input is transformed by this process alone, because that takes less time than starting another one.
    """
    if options.only_processes:
        processes.start()
        return
    for chunk in chunks:
        if max(reader.size or 0, chunk.stop) - chunks.start > MIN_RANGES * options.range_bytes:
            processes.start()
        yield from plan.results(chunk)
        if processes.ready:
            return


def _results(threads: Threads, reader: Reader, chunks: _Chunks, options: EngineOptions) -> Iterator[ChunkResult]:
    """Yield the results of the rest of an input.

    The first request for an object brings `range_bytes`, of which the chunks come. Of a file it is only the first one.
    What is blank at the start is read here, as a JSON array may follow, which `chunks` refuses.
    """
    if reader.version is None or reader.size is None:
        yield from threads.results(chunks)
        return
    size, is_object = reader.size, is_uri(reader.version.location)
    range_bytes = options.range_bytes if is_object else min(options.range_bytes, threads.chunk_bytes)
    head_bytes = range_bytes - options.chunk_bytes if is_object else 0

    def head() -> Iterator[Chunk | LongLine]:
        rest = iter(chunks)
        while chunks.blank or chunks.stop - chunks.start <= head_bytes:
            if (chunk := next(rest, None)) is None:
                return
            yield chunk

    def ranges() -> Iterator[Range]:
        can_grow = not (is_object or options.fixed_chunks)
        yield from cut(
            chunks.stop, size, lambda: GROWTH * range_bytes if can_grow and threads.writes_little else range_bytes
        )

    yield from reader.follow(threads.results(head(), reader.version, ranges()))


def _pickle(plan: TransformsChunks, notes: list[str]) -> bytes | None:
    """Return the plan as it is sent to other processes, None if it cannot be pickled."""
    import cloudpickle  # noqa: PLC0415 - only Python functions need it

    try:
        pickled: bytes = cloudpickle.dumps(plan)
    except Exception as error:  # noqa: BLE001 - a user's object may raise anything when it is pickled
        notes.append(f"used one process only, as the calculation cannot be sent to others: {error}")
        return None
    return pickled
