"""The results of all chunks of an input, in order: from this process alone, or from a pool of processes.

`chunk_results` decides which, and whether the pool works on ranges of the input or on chunks that are read here.
"""

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from transform.decode.rejects import ChunkResult
from transform.engine.options import EngineOptions
from transform.engine.threads import Threads
from transform.io.chunks import (
    MIN_RANGES,
    Chunk,
    LongLine,
    RandomAccess,
    Range,
    cut,
    cut_from,
    is_blank,
    prefetch_range,
    read_range,
)
from transform.io.object_checksum import PieceChecksum, checksum_of
from transform.io.s3 import is_uri
from transform.io.sources import InputVersion, Reader, open_version

if TYPE_CHECKING:
    from transform.engine.module_sources import Modules
    from transform.engine.pool import Pool


class Transforms(Protocol):
    """Turns chunks into their results: the part of a plan (`run.Plan`) that is used here."""

    @property
    def max_line_bytes(self) -> int:
        """A longer line is rejected."""

    @property
    def in_threads(self) -> bool:
        """Whether threads can transform chunks side by side, as no Python code runs for each line."""

    def transform(self, chunk: Chunk | LongLine) -> ChunkResult:
        """Return what a chunk becomes."""


@contextlib.contextmanager
def chunk_results(
    plan: Transforms,
    reader: Reader,
    chunks: Iterator[Chunk | LongLine],
    options: EngineOptions,
    notes: list[str],
    modules: "Modules",
) -> Iterator[Iterator[ChunkResult]]:
    """Yield the results of an input, in order.

    An input that can be read from any offset is cut into ranges, and each process reads its own. Any other input is
    read by this process, which distributes the chunks. A short input is transformed by this process alone, because that
    takes less time than starting another one.

    Args:
        plan: Turns chunks into results.
        reader: The input.
        chunks: The rest of the input, read by this process.
        options: How many processes to use, and how large ranges and chunks are.
        notes: A list to which a note is added if only this process could be used.
        modules: The modules that other processes need.
    """
    if reader.checksum is not None and reader.codec is None:
        plan = _WithChecksums(plan, reader.checksum.algorithm)
    start = reader.start.offset if reader.start is not None else 0
    in_threads = plan.in_threads and not options.pool.processes
    if in_threads and options.workers > 1:
        with Threads(plan.transform, options.workers, options.chunk_bytes, plan.max_line_bytes) as threads:
            if reader.version is None or reader.size is None:
                yield threads.results(chunks)
            else:
                results = _results_of_version(threads, reader.version, reader.size, chunks, options, start)
                yield reader.follow(results)
        return
    pickled = _pickle(plan, notes) if options.workers > 1 and not in_threads else None
    if pickled is None:
        yield map(plan.transform, chunks)
    elif reader.version is None or reader.size is None:
        with _open_pool(plan, pickled, modules, options) as pool:
            yield pool.results(chunks)
    elif reader.size - start <= MIN_RANGES * options.range_bytes:
        yield map(plan.transform, chunks)
    else:
        for chunk in chunks:  # what is blank at the start is read here, as a JSON array may follow, which this refuses
            if isinstance(chunk, LongLine) or not is_blank(chunk.data):
                break
        with _open_pool(plan, pickled, modules, options, reader.version) as pool:
            yield reader.follow(pool.results(cut(reader.size, options.range_bytes, start)))


@dataclass(frozen=True, slots=True)
class _WithChecksums:
    """Turns chunks into their results, with the checksums of the chunks.

    Attributes:
        plan: Turns chunks into results.
        algorithm: The algorithm of the checksums.
    """

    plan: Transforms
    algorithm: str

    @property
    def max_line_bytes(self) -> int:
        return self.plan.max_line_bytes

    @property
    def in_threads(self) -> bool:
        return self.plan.in_threads

    def transform(self, chunk: Chunk | LongLine) -> ChunkResult:
        if isinstance(chunk, LongLine):
            value = chunk.checksums[self.algorithm]
        else:
            value = checksum_of(self.algorithm, chunk.data)
        checksum = PieceChecksum(chunk.offset, chunk.stop, value)
        return replace(self.plan.transform(chunk), checksum=checksum)


def _results_of_version(
    threads: Threads,
    version: InputVersion,
    size: int,
    chunks: Iterator[Chunk | LongLine],
    options: EngineOptions,
    start: int,
) -> Iterator[ChunkResult]:
    """Yield the results of an input that can be read from any offset: what this process has not read is cut in ranges.

    The first request for an object brings `range_bytes`, of which the chunks come. Of a file it is only the first one.
    What is blank at the start is read here, as a JSON array may follow, which `chunks` refuses.
    """
    range_bytes = options.range_bytes if is_uri(version.location) else min(options.range_bytes, options.chunk_bytes)
    stop, blank = start, True

    def head() -> Iterator[Chunk | LongLine]:
        nonlocal stop, blank
        while blank or stop - start <= range_bytes - options.chunk_bytes:
            if (chunk := next(chunks, None)) is None:
                return
            stop, blank = chunk.stop, blank and isinstance(chunk, Chunk) and is_blank(chunk.data)
            yield chunk

    def rest() -> Iterator[Range]:
        yield from cut_from(stop, size, range_bytes)

    yield from threads.results(head(), version, rest())


def _pickle(plan: Transforms, notes: list[str]) -> bytes | None:
    """Return the plan as it is sent to other processes, None if it cannot be pickled."""
    import cloudpickle  # noqa: PLC0415 - only inputs that take several processes need it

    try:
        pickled: bytes = cloudpickle.dumps(plan)
    except Exception as error:  # noqa: BLE001 - a user's object may raise anything when it is pickled
        notes.append(f"used one process only, as the calculation cannot be sent to others: {error}")
        return None
    return pickled


@contextlib.contextmanager
def _open_pool(
    plan: Transforms, pickled: bytes, modules: "Modules", options: EngineOptions, version: InputVersion | None = None
) -> Iterator["Pool"]:
    """Open a pool: for ranges of a version of the input, or without one for chunks."""
    from transform.engine.pool import Pool  # noqa: PLC0415 - only inputs that take several processes need it
    from transform.engine.pool_worker import WorkerSetup  # noqa: PLC0415 - likewise
    from transform.engine.remote_worker import RemoteWorker, import_path  # noqa: PLC0415 - likewise

    setup = WorkerSetup(pickled, version, options.chunk_bytes, plan.max_line_bytes, modules, import_path())
    start_worker = functools.partial(options.pool.start_worker or RemoteWorker, setup)
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(open_version(version)) if version is not None else None
        local = _LocalTransform(plan, source, options.chunk_bytes)
        start_after = options.pool.min_chunks if version is None else 0
        yield stack.enter_context(Pool(local, start_worker, options.workers - 1, start_after=start_after))


@dataclass(frozen=True, slots=True)
class _LocalTransform:
    """Transforms items of an input in this process.

    Attributes:
        plan: Turns chunks into results.
        source: The input, if items are ranges of it; otherwise None.
        chunk_bytes: How much of a range to read at a time.
    """

    plan: Transforms
    source: RandomAccess | None
    chunk_bytes: int

    def results(self, item: Range | Chunk | LongLine) -> Iterator[ChunkResult]:
        """Yield the results of an item; each is valid until the next is asked for."""
        if not isinstance(item, Range):
            return iter([self.plan.transform(item)])
        assert self.source is not None  # noqa: S101 - only an input that can be read from any offset has ranges
        return map(self.plan.transform, read_range(self.source, item, self.chunk_bytes, self.plan.max_line_bytes))

    def prefetch(self, item: Range) -> None:
        """Start to read a range that `results` will be called with."""
        assert self.source is not None  # noqa: S101 - as above
        prefetch_range(self.source, item)
