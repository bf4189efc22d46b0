"""Threads share the work on an input; nothing shows it but the time."""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.stops import stopped, uninterrupted
from transform import Calculation, InputError, LineFunction, SchemaError
from transform.decode.rejects import NO_REJECTS, ChunkResult
from transform.engine.options import EngineOptions
from transform.engine.run import run
from transform.engine.threads import AHEAD, HELD_BYTES, Threads
from transform.io.chunks import Chunk, LongLine
from transform.io.compression import CODECS
from transform.io.ranges import cut
from transform.io.sources import InputVersion, open_source

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CALCULATION = Calculation.from_sql("a * 2 AS b", where="a % 3 <> 0").drop("pad").with_schema({"a": "Int64"})
SMALL: Any = {"chunk_bytes": 700, "range_bytes": 900}


def pool_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("transform")]


def numbered(count: int) -> bytes:
    return b"".join(b'{"pad":"%b","a":%d}\n' % (b"x" * (number % 90), number) for number in range(count))


@pytest.mark.parametrize("workers", [2, 3, 8])
@pytest.mark.parametrize("format_name", ["plain", "gzip"])
@pytest.mark.parametrize("end", [b"", b"nope", b'{"a":"x"}\n\n', b'{"a":7}'])
def test_any_number_of_threads_gives_the_same(workers: int, format_name: str, end: bytes, tmp_path: Path) -> None:
    content = numbered(400) + b'bad\n{"a":null}\n' + numbered(200) + end
    if format_name == "gzip":
        (codec,) = (codec for codec in CODECS if codec.name == "gzip")
        compressor = codec.compressor()
        content = compressor.compress(content) + compressor.flush()
    source = tmp_path / "in"
    source.write_bytes(content)
    found = []
    for number in (1, workers):
        summary = CALCULATION.run(source, tmp_path / "out", workers=number, **SMALL)
        summary.seconds = 0
        counts = summary.to_dict()
        found.append(((tmp_path / "out").read_bytes(), (tmp_path / "out.rejects.jsonl").read_bytes(), counts))
    assert found[0] == found[1]
    assert pool_threads() == []


@pytest.mark.parametrize(
    ("options", "chunks"), [({"workers": 2}, 5), ({"workers": 8}, 2), ({"workers": 8, "chunk_bytes": 4 << 20}, 5)]
)
def test_many_threads_take_larger_chunks(options: Any, chunks: int, tmp_path: Path) -> None:
    source, line = tmp_path / "in", b'{"a":1,"pad":"%b"}\n' % (b"x" * (1 << 16))
    source.write_bytes(line * ((20 << 20) // len(line)))
    sizes = list[int]()
    whole = Calculation.from_sql("a * 2 AS b").with_schema({"a": "Int64"})
    whole.run(source, tmp_path / "out", progress=lambda done, _size: sizes.append(done), **options)
    assert len(sizes) == chunks
    assert sizes[-1] == source.stat().st_size


@pytest.mark.parametrize("workers", [2, 3, 5])
def test_ranges_are_larger_while_little_is_written(workers: int, tmp_path: Path) -> None:
    source, stops = tmp_path / "in", [0]
    # A part of the lines is dropped almost whole, between others of which most stays.
    pieces = [numbered(600), b'{"pad":"%b","a":3}\n' % (b"x" * 80) * 600, numbered(600)]
    source.write_bytes(b"".join(pieces))
    calculation = Calculation.from_sql("a * 2 AS b", where="a <> 3").with_schema({"a": "Int64"})
    calculation.run(source, tmp_path / "expected", workers=1)
    options = EngineOptions(
        workers=workers, chunk_bytes=700, range_bytes=900, progress=lambda done, _size: stops.append(done)
    )
    run(calculation.spec_for(source), source, tmp_path / "out", None, options)
    assert (tmp_path / "out").read_bytes() == (tmp_path / "expected").read_bytes()
    steps = [(start, stop - start) for start, stop in pairwise(stops)]
    begins, ends = len(pieces[0]), len(pieces[0] + pieces[1])
    ahead = (workers + AHEAD + 1) * 1800  # was cut before it was known
    assert {step for start, step in steps if begins + ahead < start < ends - 2000} <= set(range(1700, 1901))
    assert max(step for start, step in steps if start < begins or start > ends + ahead) < 1100


def test_ranges_are_no_larger_while_lines_are_rejected(tmp_path: Path) -> None:
    source, stops = tmp_path / "in", [0]
    source.write_bytes(numbered(100) + b'{"pad":"%b","a":"x"}\n' % (b"x" * 80) * 600)
    options = EngineOptions(
        workers=2, chunk_bytes=700, range_bytes=900, progress=lambda done, _size: stops.append(done)
    )
    run(CALCULATION.spec_for(source), source, tmp_path / "out", None, options)
    assert max(stop - start for start, stop in pairwise(stops) if start > len(numbered(100)) + 9000) < 1100


def test_a_pipe_is_read_here_and_transformed_in_threads(tmp_path: Path) -> None:
    content = numbered(3000)
    (tmp_path / "in").write_bytes(content)
    CALCULATION.run(tmp_path / "in", tmp_path / "expected", workers=1)
    reading, writing = os.pipe()

    def write() -> None:
        with os.fdopen(writing, "wb") as end:
            end.write(content)

    writer = threading.Thread(target=write)
    writer.start()
    with os.fdopen(reading, "rb", 0) as pipe, CALCULATION.stream(pipe, workers=3, **SMALL) as stream:
        output = b"".join(data for part in stream for data in part.output)
    writer.join()
    assert output == (tmp_path / "expected").read_bytes()


@pytest.mark.parametrize("stops", [[1], [5, 3], [0, 11]])
def test_what_several_threads_do_can_be_stopped_and_gone_on_with(stops: list[int], tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.write_bytes(numbered(300))
    whole = uninterrupted(CALCULATION, source, tmp_path, workers=1)
    assert whole.error is None
    assert stopped(CALCULATION, source, stops, workers=2, **SMALL) == whole
    assert pool_threads() == []


def test_a_column_may_widen_in_any_thread(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.write_bytes(numbered(2000) + b'{"a":1.5}\n' + numbered(100))
    Calculation.from_sql("a * 2 AS b").run(source, tmp_path / "out", workers=3, **SMALL)
    assert b'{"a":1.5,"b":3.0}\n' in (tmp_path / "out").read_bytes()


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("after", [b"[1,2]\n", b'[\n{"a":1}\n]\n', b'{"a":1}\n[2]\n'])
def test_an_array_after_a_blank_start_of_many_chunks_is_refused(workers: int, after: bytes, tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.write_bytes(b"\n \t\r\n" * 400 + after)
    if after.startswith(b"["):
        with pytest.raises(InputError, match="JSON array"):
            CALCULATION.run(source, tmp_path / "out", workers=workers, chunk_bytes=16, range_bytes=32)
        assert not (tmp_path / "out").exists()
    else:
        summary = CALCULATION.run(source, tmp_path / "out", workers=workers, chunk_bytes=16, range_bytes=32)
        assert (summary.lines_in, summary.lines_out, summary.rejected) == (802, 1, 1)


def test_an_input_that_changes_is_noticed(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.write_bytes(numbered(3000))

    def replace(_done: int, _size: int | None) -> None:
        (tmp_path / "other").write_bytes(numbered(3001))
        (tmp_path / "other").replace(source)

    with pytest.raises(InputError, match="changed while it was read"):
        CALCULATION.run(source, tmp_path / "out", workers=2, progress=replace, **SMALL)
    assert not (tmp_path / "out").exists()
    assert pool_threads() == []


def test_python_functions_run_in_no_thread(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.write_bytes(numbered(100))

    def note(line: dict[str, object]) -> dict[str, object]:
        return {**line, "thread": threading.current_thread().name}

    LineFunction(note).run(source, tmp_path / "out", workers=2, **SMALL)
    assert b'"thread":"MainThread"' in (tmp_path / "out").read_bytes()
    assert b'"thread":"transform' not in (tmp_path / "out").read_bytes()


class Counting:
    """Transforms nothing, and counts; all wait for `allowed`."""

    def __init__(self) -> None:
        self.begun = 0
        self.allowed = threading.Event()
        self.lock = threading.Lock()

    def results(self, chunk: Chunk | LongLine) -> Iterator[ChunkResult]:
        with self.lock:
            self.begun += 1
        self.allowed.wait()
        assert isinstance(chunk, Chunk)
        if b"fail" in chunk.data.tobytes():
            raise SchemaError("on purpose")
        yield ChunkResult((memoryview(bytes(chunk.data)),), NO_REJECTS, 1, 1, 0, 0, {}, chunk.stop)


def open_files() -> int:
    return int(psutil.Process().num_fds())


def chunks(count: int, taken: list[int]) -> Iterator[Chunk]:
    for number in range(count):
        taken.append(number)
        yield Chunk(memoryview(bytearray(b"%09d\n" % number)), 10 * number)


def test_no_more_is_read_ahead_than_the_threads_need() -> None:
    counting, taken = Counting(), list[int]()
    counting.allowed.set()
    with Threads(counting.results, 3, 100, 100) as threads:
        results = threads.results(chunks(100, taken))
        for used, result in enumerate(results, 1):
            assert bytes(result.output[0]) == b"%09d\n" % (used - 1), "they are in order"
            assert len(taken) <= used + 3 + AHEAD
    assert len(taken) == 100


def test_an_error_comes_in_its_turn_and_ends_all() -> None:
    counting = Counting()
    counting.allowed.set()
    bad = [*chunks(4, []), Chunk(memoryview(bytearray(b"fail\n")), 40), *chunks(50, [])]
    with Threads(counting.results, 2, 100, 100) as threads:
        results = threads.results(bad)
        assert [bytes(result.output[0])[:9] for result in islice(results, 4)] == [b"%09d" % n for n in range(4)]
        with pytest.raises(SchemaError, match="on purpose"):
            next(results)
    assert counting.begun <= 4 + 2 + AHEAD + 1
    assert pool_threads() == []


@pytest.mark.parametrize("used", [0, 1, 7])
def test_what_was_opened_for_ranges_is_closed_however_it_ends(used: int, tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.write_bytes(b"%09d\n" * 100 % tuple(range(100)))
    with open_source(source) as reader:
        version = reader.version
    assert isinstance(version, InputVersion)
    counting = Counting()
    counting.allowed.set()
    before = open_files()
    with Threads(counting.results, 2, 25, 100) as threads:
        found = list(islice(threads.results([], version, cut(0, 1000, lambda: 25)), used))
        assert (
            b"".join(bytes(result.output[0]) for result in found)
            == source.read_bytes()[: len(found) and found[-1].stop]
        )
    assert open_files() == before


class InParts:
    """Makes several results of each chunk, and counts them.

    Args:
        sizes: Of each chunk, the sizes of its results.
        failing: The number of a result, of all chunks, in whose place there is an error.
    """

    def __init__(self, sizes: list[list[int]], failing: tuple[int, int] | None = None) -> None:
        self._sizes = sizes
        self._failing = failing
        self._lock = threading.Lock()
        self.made = [0] * len(sizes)

    def chunks(self) -> Iterator[Chunk]:
        return (Chunk(memoryview(b"x"), number) for number in range(len(self._sizes)))

    def results(self, chunk: Chunk | LongLine) -> Iterator[ChunkResult]:
        sizes = self._sizes[chunk.offset]
        for number, size in enumerate(sizes):
            if (chunk.offset, number) == self._failing:
                raise SchemaError("on purpose")
            with self._lock:
                self.made[chunk.offset] += 1
            is_last = number == len(sizes) - 1
            output = memoryview(bytes([chunk.offset, number]) + bytes(size))
            yield ChunkResult((output,), NO_REJECTS, 1, 1, 0, 0, {}, chunk.stop, is_last=is_last)


@pytest.mark.parametrize("first", [1, 60])
def test_results_of_a_chunk_that_wait_for_their_turn_have_a_limit(first: int) -> None:
    size = HELD_BYTES // 4
    parts = InParts([[size] * count for count in (first, 60, 60, 60, 60)])
    with Threads(parts.results, 3, 100, 100) as threads:
        for used, _ in enumerate(threads.results(parts.chunks()), 1):
            time.sleep(0.1 if used < 5 else 0)  # the threads could make everything in the meantime
            assert sum(parts.made) - used <= 3 * HELD_BYTES // size + 3, "each thread may have made one more"
    assert sum(parts.made) == used == first + 240


@pytest.mark.parametrize("used", [0, 1, 30])
def test_threads_end_that_wait_within_a_chunk(used: int) -> None:
    parts = InParts([[HELD_BYTES] * 60] * 5)
    with Threads(parts.results, 2, 100, 100) as threads:
        assert len(list(islice(threads.results(parts.chunks()), used))) == used
    assert pool_threads() == []


@given(st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=5), max_size=12), st.integers(1, 4), st.data())
def test_results_of_chunks_are_in_order_up_to_an_error(sizes: list[list[int]], count: int, data: st.DataObject) -> None:
    every = [(chunk, number) for chunk, of_chunk in enumerate(sizes) for number in range(len(of_chunk))]
    failing = data.draw(st.sampled_from([None, *every]))
    parts = InParts([[size * HELD_BYTES // 3 for size in of_chunk] for of_chunk in sizes], failing)
    found = list[tuple[int, ...]]()
    with Threads(parts.results, count, 100, 100) as threads, suppress(SchemaError):
        found.extend(tuple(result.output[0][:2]) for result in threads.results(parts.chunks()))
    assert found == (every if failing is None else every[: every.index(failing)])
