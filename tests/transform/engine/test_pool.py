"""Several processes on one input: the same bytes as one gives, and none left behind."""

from __future__ import annotations

import gzip
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import example
from tests.support.example import lines, transformed, wait_until
from tests.support.tuned import READY_WAIT_S, Tuned
from transform import Calculation, InputError, LineFunction, RejectedError, SchemaError, Summary, WorkerError
from transform.decode.rejects import ChunkResult
from transform.engine.options import PoolOptions
from transform.engine.pool import Pool
from transform.engine.pool_worker import SLOTS, WorkerSetup
from transform.engine.remote_worker import RemoteWorker
from transform.io.chunks import LongLine, Range

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import Start
    from transform.engine.pool_worker import WorkItem
    from transform.runnable import Runnable

CALCULATION = Tuned(example.CALCULATION)
ROOT = Path(__file__).parents[3]
WAIT_S = READY_WAIT_S
RANGE_BYTES = 4000


class Noting(RemoteWorker):
    """A worker that notes what it is given."""

    def __init__(self, given: list[object], setup: WorkerSetup) -> None:
        super().__init__(setup, READY_WAIT_S)
        self._noted = given

    def give(self, item: WorkItem) -> None:
        self._noted.append(item)
        super().give(item)


@dataclass(frozen=True)
class Watch:
    """Runs calculations, and notes what is given to workers."""

    given: list[object] = field(default_factory=list)

    def __call__(self, calculation: Runnable = CALCULATION) -> Tuned:
        return Tuned(
            calculation, pool=PoolOptions(min_chunks=1, start_worker=partial(Noting, self.given), processes=True)
        )


def mixed_lines(count: int) -> bytes:
    """Return lines of all sorts, some of them longer than a range."""
    draw = random.Random(5)
    sorts: list[Callable[[int], bytes]] = [
        lambda n: b'{"a":%d,"b":"x"}' % n,
        lambda n: b'{ "a" : %d }\r' % n,
        lambda _: b"",
        lambda _: b'{"a":"text"}',
        lambda n: b'{"a":%d' % n,
        lambda n: b'{"a":%d,"pad":"%b"}' % (n, b"x" * draw.randrange(3 * RANGE_BYTES)),
        lambda _: b'{"a":"\xff"}',
        lambda _: b'{"c":[1,{"a":2}]}',
    ]
    weights = (60, 8, 3, 3, 3, 2, 2, 8)
    return b"\n".join(draw.choices(sorts, weights)[0](number) for number in range(count))


def outcome(data: bytes, tmp_path: Path, calculation: Runnable = CALCULATION, **options: Any) -> tuple[Any, ...]:
    source, target = tmp_path / options.pop("name", "in.jsonl"), tmp_path / "out.jsonl"
    source.write_bytes(data)
    summary = calculation.run(source, target, **options)
    rejects = tmp_path / "out.jsonl.rejects.jsonl"
    return target.read_bytes(), rejects.read_bytes() if rejects.exists() else b"", numbers(summary)


def numbers(summary: Summary) -> dict[str, Any]:
    return {name: value for name, value in summary.to_dict().items() if name not in ("seconds", "mb_per_s", "source")}


@pytest.mark.parametrize("workers", [2, 3, 4])
def test_ranges_give_the_same_bytes_for_any_number_of_workers(workers: int, tmp_path: Path) -> None:
    data, watched = mixed_lines(3000), Watch()
    alone = outcome(data, tmp_path, watched(), workers=1)
    assert watched.given == []
    for range_bytes in (RANGE_BYTES, 10 * RANGE_BYTES):
        assert outcome(data, tmp_path, watched(), workers=workers, range_bytes=range_bytes, chunk_bytes=1000) == alone
    assert len(watched.given) > len(data) // (11 * RANGE_BYTES) // 2


def test_a_compressed_input_is_handed_out_in_chunks(tmp_path: Path) -> None:
    data, watched = mixed_lines(2000), Watch()
    alone = outcome(data, tmp_path, workers=1)
    packed = outcome(gzip.compress(data), tmp_path, watched(), name="in.gz", workers=3, chunk_bytes=3000)
    assert packed == alone
    assert len(watched.given) > 10


def test_what_is_longer_than_a_workers_memory_goes_through_all_the_same(tmp_path: Path) -> None:
    text = "x" * 200_000
    calculation = Calculation(long=pl.lit("x").str.pad_end(len(text), "x")).with_schema({"a": pl.Int64})
    calculation = calculation.filter(pl.col("a") % 2 == 0)
    data = lines(3000)
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_bytes(data)
    watched = Watch()
    watched(calculation).run(source, target, workers=2, range_bytes=8000, chunk_bytes=2000)
    assert watched.given
    assert target.stat().st_size > 3 * 24 << 20
    with target.open("rb") as output:
        for number, line in enumerate(output):
            assert line == b'{"a":%d,"pad":"","long":"%b"}\n' % (2 * number, text.encode())
    assert number == 1499


def test_a_float_that_a_worker_finds_starts_the_run_again(tmp_path: Path) -> None:
    data = lines(5000) + b'{"a":0.5}\n' + lines(1000)
    calculation = Tuned(Calculation.from_sql("a + 1 AS b"))
    output, rejects, summary = outcome(data, tmp_path, calculation, workers=2, range_bytes=RANGE_BYTES)
    assert summary["schema"] == {"a": {"type": "Float64", "from": "inferred"}}
    assert rejects == b""
    rows = [json.loads(line) for line in output.splitlines()]
    assert all(isinstance(row["b"], float) and row["b"] == row["a"] + 1 for row in rows)


def test_of_a_pipe_it_is_an_error_that_says_what_to_declare(tmp_path: Path) -> None:
    packed = tmp_path / "in"
    os.mkfifo(packed)
    data = lines(5000) + b'{"a":0.5}\n' + lines(1000)
    # somebody has to write into the pipe while it is read
    with subprocess.Popen(["/bin/sh", "-c", f"cat > {packed}"], stdin=subprocess.PIPE) as writer:
        threading.Thread(target=writer.communicate, args=[data]).start()
        with pytest.raises(SchemaError, match="--schema a=Float64"):
            Tuned(Calculation.from_sql("a + 1 AS b")).run(packed, tmp_path / "out", workers=2, chunk_bytes=1000)
    assert not (tmp_path / "out").exists()


def test_the_policy_counts_lines_in_their_order(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_bytes(lines(3000) + b"bad\n" + lines(3000) + b"worse\n" + lines(10))
    with pytest.raises(RejectedError, match=r"line 3001 .*offset"):
        CALCULATION.run(source, tmp_path / "out", workers=3, range_bytes=RANGE_BYTES, on_error="fail")
    with pytest.raises(RejectedError, match="line 6002"):
        CALCULATION.run(source, tmp_path / "out", workers=3, range_bytes=RANGE_BYTES, max_rejects=1)
    assert not (tmp_path / "out").exists()
    assert no_workers()


def test_a_worker_that_is_killed_is_named_and_nothing_is_published(tmp_path: Path) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out"
    source.write_bytes(lines(30_000))
    target.write_bytes(b"old")

    def kill(_done: int, _size: int | None) -> None:
        for child in psutil.Process().children():
            with suppress(psutil.ZombieProcess):  # killed before
                if "transform.engine.pool_worker" in " ".join(child.cmdline()):  # the tests' S3 server is a child, too
                    child.kill()

    with pytest.raises(WorkerError, match=r"killed by SIGKILL, most likely for want of memory"):
        CALCULATION.run(source, target, workers=2, range_bytes=RANGE_BYTES, progress=kill)
    assert target.read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "out"]
    assert no_workers()


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt()])
def test_no_worker_is_left_after_an_exception(error: BaseException, tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_bytes(lines(30_000))

    def fail(_done: int, _size: int | None) -> None:
        raise error

    with pytest.raises(type(error)):
        CALCULATION.run(source, tmp_path / "out", workers=3, range_bytes=RANGE_BYTES, progress=fail)
    assert no_workers()
    assert not (tmp_path / "out").exists()


def test_an_input_that_another_took_the_place_of_is_noticed_by_workers(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_bytes(lines(30_000))

    def replace(_done: int, _size: int | None) -> None:
        other = tmp_path / "other"
        other.write_bytes(lines(30_000, first=1))
        other.replace(source)

    with pytest.raises(InputError, match="changed while it was read"):
        CALCULATION.run(source, tmp_path / "out", workers=2, range_bytes=RANGE_BYTES, progress=replace)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_python_function_that_raises_in_a_worker_rejects_lines(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_bytes(lines(30_000))
    here = os.getpid()

    def fail_elsewhere(value: int) -> int:
        if os.getpid() != here:
            raise SystemError("a bug")
        return value

    calculation = Calculation(b=pl.col("a").map_elements(fail_elsewhere, return_dtype=pl.Int128)).assume_pure()
    # what a Python function raises is a line's fault as far as anybody can tell: such lines are rejected, not lost
    summary = Tuned(calculation).run(source, tmp_path / "out", workers=2, range_bytes=RANGE_BYTES)
    assert summary.rejected > 0
    assert summary.lines_out + summary.rejected == 30_000
    assert next(iter(summary.reject_reasons)) == "the calculation failed"
    assert any("Python functions ran" in note for note in summary.notes)


def test_what_cannot_travel_runs_in_one_process_and_the_summary_says_so(tmp_path: Path) -> None:
    class Unpicklable:
        def __reduce__(self) -> Any:
            raise TypeError("I stay here")

    anchor = Unpicklable()

    def calculation(json_obj: dict[str, Any]) -> dict[str, Any]:
        assert anchor
        return json_obj

    source = tmp_path / "in.jsonl"
    source.write_bytes(lines(3000))
    watched = Watch()
    summary = watched(LineFunction(calculation)).run(source, tmp_path / "out", workers=2, range_bytes=RANGE_BYTES)
    assert watched.given == []
    assert any("one process only" in note and "I stay here" in note for note in summary.notes)
    assert (tmp_path / "out").read_bytes() == lines(3000)


def test_a_script_without_a_main_guard_runs_once(tmp_path: Path) -> None:
    """Workers are not the script again, as those of multiprocessing would be."""
    (tmp_path / "in.jsonl").write_bytes(lines(20_000))
    script = tmp_path / "script.py"
    script.write_text(
        "from tests.support.tuned import Tuned\n"
        "from transform import Calculation\n"
        "print('started')\n"
        "summary = Tuned(Calculation.from_sql('a + 1 AS b')).run('in.jsonl', 'out', workers=3, range_bytes=50_000)\n"
        "print(summary.lines_out)\n"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.run(
        [sys.executable, script], cwd=tmp_path, capture_output=True, check=True, timeout=WAIT_S, env=env
    )
    assert run.stdout == b"started\n20000\n"
    assert (tmp_path / "out").read_bytes() == transformed(20_000)


@pytest.mark.parametrize("after", [b"[1,2]\n", b'{"a":1}\n[2]\n'])
def test_an_array_after_a_blank_start_of_many_ranges_is_refused(after: bytes, tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.write_bytes(b"\n \t\r\n" * 400 + after)
    small = {"workers": 2, "chunk_bytes": 16, "range_bytes": 100}
    if after.startswith(b"["):
        with pytest.raises(InputError, match="JSON array"):
            Tuned(LineFunction(lambda line: line)).run(source, tmp_path / "out", **small)  # type: ignore[arg-type]
        assert not (tmp_path / "out").exists()
    else:
        summary = Tuned(LineFunction(lambda line: line)).run(source, tmp_path / "out", **small)  # type: ignore[arg-type]
        assert (summary.lines_in, summary.lines_out, summary.rejected) == (802, 1, 1)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_leaves_no_worker_behind(sent: signal.Signals, tmp_path: Path, start: Start) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out"
    source.write_bytes(lines(100_000, pad_bytes=900))
    os.mkfifo(target)  # nobody reads from it, so the run stays where it is
    (tmp_path / "plain.py").write_text("def calculation(line):\n    return line\n")  # expressions run in threads
    process = start("run", source, target, "-q", "-c", tmp_path / "plain.py", "--workers", "2")
    reader = os.open(target, os.O_RDONLY | os.O_NONBLOCK)
    try:
        wait_until(lambda: psutil.Process(process.pid).children())
        workers = psutil.Process(process.pid).children()
        os.kill(process.pid, sent)
        _, errors = process.communicate(timeout=WAIT_S)
        assert b"Traceback" not in errors
        assert process.returncode == (-sent if sent == signal.SIGKILL else 130)
        _gone, alive = psutil.wait_procs(workers, timeout=WAIT_S)
        assert alive == []
    finally:
        os.close(reader)


# --- sharing out, with workers whose pace is drawn -----------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """What is to become of a part: so many pieces, and then perhaps an error."""

    pieces: int
    fails: bool = False
    fits: bool = True

    def part(self, number: int) -> WorkItem:
        return Range(number, number + 1) if self.fits else LongLine(b"", 1, number, number + 1)


class PartError(Exception):
    """What a part raises; its argument says which."""


class Sharing:
    """Parts that are shared out between this process and workers of a given pace.

    Args:
        plans: What is to become of the parts.
        free: Whether a worker takes one more when it is asked, over and over.
        answered: Whether one has an answer when it is asked, likewise.
    """

    def __init__(self, plans: list[Plan], free: list[bool], answered: list[bool]) -> None:
        self.plans = plans
        self.received = [0] * len(plans)
        self.here: list[int] = []
        self.told: list[tuple[int, list[int]]] = []
        self.most_ahead = 0
        self.free, self.answered = itertools.cycle(free), itertools.cycle(answered)
        self._buffer = bytearray(8)

    def chunk_results(self, part: WorkItem) -> Iterator[ChunkResult]:
        """Yield the pieces, all in one buffer, as those of a chunk are."""
        number = part.start if isinstance(part, Range) else part.offset
        for piece in range(self.plans[number].pieces):
            self._buffer[:] = b"%4d%4d" % (number, piece)
            yield ChunkResult((memoryview(self._buffer),), (), 1, 1, 0, 0, {}, number)
        if self.plans[number].fails:
            raise PartError(number)

    def results(self, part: WorkItem) -> Iterator[ChunkResult]:
        self.here.append(part.start if isinstance(part, Range) else part.offset)
        open_ = [number for number, plan in enumerate(self.plans) if self.received[number] < plan.pieces]
        ahead = [number for number in self.here if number in open_[1:]]  # what comes next need not be kept
        self.most_ahead = max(self.most_ahead, len(ahead))
        return self.chunk_results(part)

    def prefetch(self, part: Range) -> None:
        self.told.append((part.start, list(self.here)))

    def run(self, workers: int) -> tuple[list[bytes], object]:
        """Return all that comes, and which part has failed."""
        found = []
        with Pool(self, lambda: SlowChild(self), workers - 1) as shared:
            parts = (plan.part(number) for number, plan in enumerate(self.plans))
            try:
                for piece in shared.results(parts):
                    (output,) = piece.output
                    found.append(bytes(output))
                    self.received[piece.stop] += 1
            except PartError as error:
                return found, error.args[0]
        return found, None

    def expected(self) -> tuple[list[bytes], object]:
        found = []
        for number, plan in enumerate(self.plans):
            found += [b"%4d%4d" % (number, piece) for piece in range(plan.pieces)]
            if plan.fails:
                return found, number
        return found, None


class SlowChild:
    """A worker that does what it is told when its answer is asked for."""

    def __init__(self, sharing: Sharing) -> None:
        self._sharing = sharing
        self._parts: deque[WorkItem] = deque()

    def is_free(self) -> bool:
        return next(self._sharing.free) and len(self._parts) < SLOTS

    def give(self, part: WorkItem) -> None:
        assert isinstance(part, Range), "others do not fit"
        assert len(self._parts) < SLOTS
        self._parts.append(part)

    def has_answered(self) -> bool:
        return next(self._sharing.answered)

    def answers(self) -> Iterator[ChunkResult]:
        for piece in self._sharing.chunk_results(self._parts[0]):
            yield replace(piece, output=[memoryview(bytes(part)) for part in piece.output])
        self._parts.popleft()

    def stop(self, *, at_once: bool) -> None:
        pass


plans = st.builds(
    Plan, st.integers(1, 3), st.sampled_from([False] * 12 + [True]), st.sampled_from([True] * 4 + [False])
)
paces = st.lists(st.booleans(), min_size=1, max_size=9)


@settings(max_examples=300, deadline=None)
@given(plans=st.lists(plans, max_size=25), free=paces, answered=paces, workers=st.integers(1, 4))
def test_parts_come_in_order_and_fail_in_their_turn_whoever_does_them(
    plans: list[Plan], free: list[bool], answered: list[bool], workers: int
) -> None:
    sharing = Sharing(plans, free, answered)
    assert sharing.run(workers) == sharing.expected()
    assert sharing.most_ahead <= SLOTS


def test_a_part_that_fails_ahead_of_its_turn_fails_in_its_turn() -> None:
    # The worker takes two, has no room for more, and does not answer: two are done here, of which one fails.
    sharing = Sharing([Plan(1), Plan(2), Plan(1, fails=True), Plan(1), Plan(1)], [True], [False])
    assert sharing.run(2) == sharing.expected()
    assert (sharing.here, sharing.most_ahead) == ([2, 3], 2)


def test_ranges_are_told_of_before_those_before_them_are_done() -> None:
    sharing = Sharing([Plan(1) for _ in range(9)], [True], [False])
    assert sharing.run(2) == sharing.expected()
    assert sharing.told[:3] == [(2, []), (3, []), (4, [2])], "one to be done, and one to be read meanwhile"
    assert [number for number, _ in sharing.told] == sharing.here


def test_a_result_that_is_there_is_yielded_before_anything_is_done_here() -> None:
    sharing = Sharing([Plan(1) for _ in range(9)], [True], [True])
    assert sharing.run(2) == sharing.expected()
    assert sharing.here == []


def test_what_fits_no_worker_does_not_pile_up_behind_a_slow_one() -> None:
    sharing = Sharing([Plan(1), *[Plan(1, fits=False)] * 50], [True], [False])
    assert sharing.run(2) == sharing.expected()
    assert sharing.most_ahead == SLOTS


def no_workers() -> bool:
    return not workers()


def workers() -> list[psutil.Process]:
    children = [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]
    return [child for child in children if "transform.engine.pool_worker" in " ".join(child.cmdline())]
