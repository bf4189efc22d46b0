"""Several processes on one input: the same bytes as one gives, and none left behind."""

from __future__ import annotations

import gzip
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cloudpickle
import polars as pl
import psutil
import pytest

from tests.conftest import environment_with
from tests.support import example
from tests.support.example import lines, transformed, wait_until
from tests.support.tuned import Tuned
from transform import Calculation, InputError, LineFunction, RejectedError, SchemaError, Summary, WorkerError
from transform.decode.rejects import NO_REJECTS, ChunkResult
from transform.engine.processes import Processes, import_path
from transform.engine.threads import Threads
from transform.io.chunks import Chunk, LongLine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import Start
    from transform.runnable import Runnable

CALCULATION = Tuned(example.CALCULATION)
ROOT = Path(__file__).parents[3]
WAIT_S = 60.0
RANGE_BYTES = 4000


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


@pytest.mark.parametrize(
    "workers", [2, pytest.param(3, marks=pytest.mark.slow), pytest.param(4, marks=pytest.mark.slow)]
)
def test_ranges_give_the_same_bytes_for_any_number_of_workers(workers: int, tmp_path: Path) -> None:
    data = mixed_lines(3000)
    alone = outcome(data, tmp_path, workers=1)
    for range_bytes in (RANGE_BYTES, 10 * RANGE_BYTES):
        assert outcome(data, tmp_path, workers=workers, range_bytes=range_bytes, chunk_bytes=1000) == alone


def test_a_compressed_input_is_handed_out_in_chunks(tmp_path: Path) -> None:
    data = mixed_lines(2000)
    alone = outcome(data, tmp_path, workers=1)
    assert outcome(gzip.compress(data), tmp_path, name="in.gz", workers=2, chunk_bytes=3000) == alone


def noting_processes(line: dict[str, Any]) -> dict[str, Any]:
    return {"process": os.getpid(), **line}


def processes_of(data: bytes, tmp_path: Path, calculation: Runnable, **options: Any) -> list[int]:
    """Return the processes that transformed the lines of an input."""
    output, rejects, _ = outcome(data, tmp_path, calculation, **options)
    assert rejects == b""
    return [json.loads(line)["process"] for line in output.splitlines()]


def test_other_processes_take_over_from_this_one_once_they_are_ready(tmp_path: Path) -> None:
    # It stays in this process until another has started, which it then leaves all the rest to.
    def slow(line: dict[str, Any]) -> dict[str, Any]:
        if line["a"] % 100 == 0:
            time.sleep(0.01)
        return noting_processes(line)

    for name, data in (("in", lines(100_000)), ("in.gz", gzip.compress(lines(100_000)))):
        found = processes_of(
            data, tmp_path, LineFunction(slow), name=name, workers=2, range_bytes=4000, chunk_bytes=4000
        )
        assert found[0] == os.getpid()
        assert found[-1] != os.getpid()
        others = found[found.index(next(other for other in found if other != os.getpid())) :]
        assert os.getpid() not in others
        assert len({*others}) == 2


def test_a_short_input_starts_no_process(tmp_path: Path) -> None:
    found = processes_of(lines(1000), tmp_path, LineFunction(noting_processes), workers=2, chunk_bytes=1000)
    assert {*found} == {os.getpid()}
    assert len(found) == 1000


def test_all_processes_work_where_they_are_forced(tmp_path: Path) -> None:
    found = processes_of(lines(3000), tmp_path, Tuned(LineFunction(noting_processes)), workers=3, chunk_bytes=300)
    assert len({*found}) == 3
    assert os.getpid() not in found


class UnsendableError(Exception):
    """An exception that cannot be made again from its arguments."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one} and {two}")


@dataclass(frozen=True)
class FailingPlan:
    """Fails in some way for a chunk that holds "fail"."""

    way: str
    max_line_bytes: int = 1000
    in_threads: bool = False
    in_parts: bool = False

    def results(self, chunk: Chunk | LongLine) -> Iterator[ChunkResult]:
        assert isinstance(chunk, Chunk)
        if b"fail" in bytes(chunk.data):
            match self.way:
                case "raise":
                    raise ValueError("mine")
                case "raise what cannot be sent":
                    raise UnsendableError("a", "b")
                case _:
                    os._exit(3)
        yield ChunkResult((memoryview(bytes(chunk.data)),), NO_REJECTS, 1, 1, 0, 0, {}, chunk.stop)


@pytest.mark.parametrize(
    ("way", "expected", "message"),
    [
        ("raise", ValueError, "^mine"),
        ("raise what cannot be sent", RuntimeError, "a and b"),
        ("exit", WorkerError, "^a worker process ended with status 3$"),
    ],
)
def test_what_a_process_raises_comes_in_its_turn_with_its_traceback(
    way: str, expected: type[Exception], message: str
) -> None:
    plan = FailingPlan(way)
    chunks = [Chunk(memoryview(text), number) for number, text in enumerate((b"one\n", b"two\n", b"fail\n", b"four\n"))]
    processes = Processes(plan, cloudpickle.dumps(plan), {}, 2)
    processes.start()
    with Threads(processes.results, 3, 100, 100) as threads, processes:
        results = threads.results(chunks)
        assert [bytes(next(results).output[0]) for _ in range(2)] == [b"one\n", b"two\n"]
        with pytest.raises(expected, match=message) as caught:
            next(results)
    if expected is not WorkerError:
        assert any("In a worker process:" in note and "raise " in note for note in caught.value.__notes__)
    assert no_workers()


@pytest.mark.parametrize("taken", [0, 1, 5])
def test_no_worker_is_left_after_a_stream_that_is_not_read_to_its_end(taken: int, tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_bytes(lines(30_000))
    with CALCULATION.stream(source, workers=2, chunk_bytes=1000, range_bytes=1000) as stream:
        for _ in islice(stream, taken):
            assert workers()
    assert no_workers()


def test_outputs_that_are_much_longer_than_their_input_go_through(tmp_path: Path) -> None:
    text = "x" * 200_000
    calculation = Calculation(long=pl.lit("x").str.pad_end(len(text), "x")).with_schema({"a": pl.Int64})
    calculation = calculation.filter(pl.col("a") % 2 == 0)
    data = lines(3000)
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_bytes(data)
    Tuned(calculation).run(source, target, workers=2, range_bytes=8000, chunk_bytes=2000)
    assert target.stat().st_size > 3 * 24 << 20
    with target.open("rb") as output:
        for number, line in enumerate(output):
            assert line == b'{"a":%d,"pad":"","long":"%b"}\n' % (2 * number, text.encode())
    assert number == 1499


def test_a_float_that_a_worker_finds_starts_the_run_again(tmp_path: Path) -> None:
    data = lines(5000) + b'{"a":0.5}\n' + lines(1000)
    calculation = Tuned(Calculation.from_sql("a + 1 AS b"))
    output, rejects, summary = outcome(
        data, tmp_path, calculation, workers=2, range_bytes=RANGE_BYTES, chunk_bytes=1000
    )
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
        CALCULATION.run(source, tmp_path / "out", workers=2, range_bytes=RANGE_BYTES, chunk_bytes=1000, on_error="fail")
    with pytest.raises(RejectedError, match="line 6002"):
        CALCULATION.run(source, tmp_path / "out", workers=2, range_bytes=RANGE_BYTES, chunk_bytes=1000, max_rejects=1)
    assert not (tmp_path / "out").exists()
    assert no_workers()


def test_a_worker_that_is_killed_is_named_and_nothing_is_published(tmp_path: Path) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out"
    source.write_bytes(lines(30_000))
    target.write_bytes(b"old")

    def kill(_done: int, _size: int | None) -> None:
        for child in psutil.Process().children():
            with suppress(psutil.NoSuchProcess):  # killed before
                if "transform.engine.processes" in " ".join(child.cmdline()):  # the tests' S3 server is a child, too
                    child.kill()

    with pytest.raises(WorkerError, match=r"killed by SIGKILL, most likely because memory ran out"):
        CALCULATION.run(source, target, workers=2, range_bytes=RANGE_BYTES, chunk_bytes=1000, progress=kill)
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
        CALCULATION.run(source, tmp_path / "out", workers=2, range_bytes=RANGE_BYTES, chunk_bytes=1000, progress=fail)
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
        CALCULATION.run(
            source, tmp_path / "out", workers=2, range_bytes=RANGE_BYTES, chunk_bytes=1000, progress=replace
        )
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_python_function_that_raises_in_a_worker_rejects_lines(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_bytes(lines(30_000))
    here = os.getpid()

    def fail_elsewhere(value: int) -> int:
        if os.getpid() != here and value % 2:
            raise SystemError("a bug")
        return value

    calculation = Calculation(b=pl.col("a").map_elements(fail_elsewhere, return_dtype=pl.Int128)).assume_pure()
    # what a Python function raises is a line's fault as far as anybody can tell: such lines are rejected, not lost
    summary = Tuned(calculation).run(source, tmp_path / "out", workers=2, range_bytes=RANGE_BYTES, chunk_bytes=1000)
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
    summary = Tuned(LineFunction(calculation)).run(
        source, tmp_path / "out", workers=2, range_bytes=RANGE_BYTES, chunk_bytes=1000
    )
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
        "summary = Tuned(Calculation.from_sql('a + 1 AS b')).run('in.jsonl', 'out', workers=3, chunk_bytes=50_000)\n"
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


def no_workers() -> bool:
    return not workers()


def workers() -> list[psutil.Process]:
    children = [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]
    found = []
    for child in children:
        with suppress(psutil.NoSuchProcess):
            if "transform.engine.processes" in " ".join(child.cmdline()):
                found.append(child)
    return found


# --- modules ---

RUN = """
import sys
sys.path[:0] = {places}
from helper import calculation
from tests.support import example
from tests.support.tuned import Tuned
from transform import LineFunction

with open("in", "wb") as file:
    file.write(example.lines(60))
Tuned(LineFunction(calculation)).run("in", "out", workers=2, range_bytes=100, chunk_bytes=100)
"""
LIBRARIES = "msgspec", "polars", "numpy", "pyarrow", "json", "mmap", "pickle", "cloudpickle", "transform"
HELPER = "def calculation(line):\n    return {'sum': line['a'] + 1}\n"


def run_code(code: str, cwd: Path, *options: str, helpers: Path) -> str:
    environ = environment_with({})
    environ["PYTHONPATH"] += f"{os.pathsep}{helpers}"
    command = [sys.executable, *options, "-c", code]
    result = subprocess.run(command, cwd=cwd, env=environ, capture_output=True, text=True, check=False, timeout=60)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A directory with files that have the names of libraries."""
    folder = tmp_path / "hostile"
    folder.mkdir()
    for name in LIBRARIES:
        (folder / f"{name}.py").write_text("open('executed', 'a').write(__name__)\nraise SystemExit(__name__)\n")
    return folder


def test_files_in_the_current_directory_are_not_executed(hostile: Path, tmp_path: Path) -> None:
    helpers = tmp_path / "helpers"
    helpers.mkdir()
    (helpers / "helper.py").write_text(HELPER)
    run_code(RUN.format(places=[]), hostile, "-P", helpers=helpers)
    assert not (hostile / "executed").exists()
    assert (hostile / "out").read_bytes().count(b"\n") == 60


def test_modules_in_the_current_directory_are_found_where_this_process_finds_them(tmp_path: Path) -> None:
    # As in notebooks and with `python -c`, which look in the current directory first.
    (tmp_path / "helper.py").write_text(HELPER)
    run_code(RUN.format(places=[]), tmp_path, helpers=tmp_path / "none")
    assert (tmp_path / "out").read_bytes().count(b"\n") == 60


def test_relative_places_are_searched_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", "/one", "inner", "/two"])
    assert import_path() == ("/one", "/two", str(tmp_path), str(tmp_path / "inner"))
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert import_path() == ("/one", "/two")
