"""However a run ends: the output is the new one, whole, or what was there before, and nothing else is left behind."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from tests.conftest import command_line, environment_with
from tests.support.example import ARGUMENTS, BIG, BIG_TRANSFORMED, CALCULATION, held, lines, transformed, wait_until
from tests.support.places import OLD, FilePlace, ObjectPlace
from transform import OutputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Command, Start
    from tests.support.places import Place

INTERRUPTED = b"transform: interrupted; nothing was published\n"


@pytest.fixture
def file_place(tmp_path: Path) -> FilePlace:
    (tmp_path / "out").mkdir()
    return FilePlace(tmp_path / "out" / "output.jsonl")


@pytest.fixture
def object_place(s3: Any, bucket: str, scratch: Path) -> ObjectPlace:
    return ObjectPlace(s3, bucket, scratch)


@pytest.fixture(params=["file", "object"])
def place(request: pytest.FixtureRequest) -> Place:
    found: Place = request.getfixturevalue(f"{request.param}_place")
    return found


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("big") / "input.jsonl"
    path.write_bytes(BIG)
    return path


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.jsonl"
    path.write_bytes(lines(3))
    return path


IDLE_LOOKS = 30  # a hundredth of a second apart


def wait_until_idle(process: subprocess.Popen[bytes]) -> None:
    """Return once a process has started and waits for something: while it loads libraries, it sleeps for no time."""
    seen, watched = [(0.0, "")] * IDLE_LOOKS, psutil.Process(process.pid)

    def is_idle() -> bool:
        seen.append((watched.cpu_times().user, watched.status()))
        return seen[-1][0] > 0.1 and {*seen[-IDLE_LOOKS:]} == {(seen[-1][0], psutil.STATUS_SLEEPING)}

    wait_until(is_idle)


def end(process: subprocess.Popen[bytes]) -> tuple[int, bytes, bytes]:
    """Return a process's status and what it said, once it has ended; after ^C click leaves a line free."""
    output, errors = process.communicate(timeout=30)
    return process.returncode, output, errors.lstrip(b"\n")


@pytest.mark.parametrize("old", [OLD, None], ids=["over an old output", "new"])
@pytest.mark.parametrize("error", [OSError(5, "no"), ValueError("a bug"), KeyboardInterrupt(), SystemExit(0)], ids=repr)
def test_an_exception_in_the_middle_publishes_nothing(
    place: Place, error: BaseException, old: bytes | None, big: Path
) -> None:
    if old is not None:
        place.put(old)

    def progress(done: int, _total: int | None) -> None:
        if done > 18 << 20:
            assert place.begun() == 1
            raise error

    with pytest.raises(type(error)) as caught:
        CALCULATION.run(big, place.target, progress=progress)
    assert caught.value is error
    assert place.content() == old
    assert place.others() == []


@pytest.mark.parametrize(
    ("number", "old"), [(signal.SIGINT, OLD), (signal.SIGTERM, None), (signal.SIGHUP, OLD)], ids=["INT", "TERM", "HUP"]
)
def test_a_signal_in_the_middle_publishes_nothing(
    place: Place, number: signal.Signals, old: bytes | None, start: Start
) -> None:
    if old is not None:
        place.put(old)
    process = held(start, place)
    process.send_signal(number)
    assert end(process) == (130, b"", INTERRUPTED)
    assert place.content() == old
    assert place.others() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_waits_for_its_first_line_can_be_interrupted(
    number: signal.Signals, file_place: FilePlace, start: Start
) -> None:
    process = start("run", "-", file_place.target, *ARGUMENTS)
    assert process.stdin
    process.stdin.write(b'{"a":1')
    process.stdin.flush()
    wait_until(file_place.others)
    process.send_signal(number)
    process.wait(30)  # without an end of its input
    assert end(process) == (130, b"", INTERRUPTED)
    assert file_place.others() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_waits_for_more_lines_can_be_interrupted(
    number: signal.Signals, file_place: FilePlace, start: Start
) -> None:
    process = held(start, file_place)  # it has imported by now all that has a say in signals
    wait_until_idle(process)
    process.send_signal(number)
    process.wait(30)
    assert end(process) == (130, b"", INTERRUPTED)
    assert file_place.others() == []


@pytest.mark.parametrize("waits_for", ["a writer", "a first byte", "a reader"])
def test_a_run_that_waits_for_a_fifo_can_be_interrupted(
    waits_for: str, file_place: FilePlace, small: Path, tmp_path: Path, start: Start
) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    process = start("run", *((small, fifo) if waits_for == "a reader" else (fifo, file_place.target)), *ARGUMENTS)
    with ExitStack() as stack:
        if waits_for == "a first byte":
            stack.enter_context(fifo.open("wb"))
        wait_until_idle(process)
        process.send_signal(signal.SIGTERM)
        assert end(process) == (130, b"", INTERRUPTED)
    assert file_place.others() == []


def test_nohup_keeps_a_run_going(file_place: FilePlace) -> None:
    process = subprocess.Popen(
        ["nohup", *command_line("run", "-", file_place.target, *ARGUMENTS)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment_with({}),
    )
    with process:
        assert process.stdin
        process.stdin.write(lines(3))
        process.stdin.flush()
        wait_until(file_place.others)
        process.send_signal(signal.SIGHUP)
        process.communicate()
    assert process.returncode == 0
    assert file_place.content() == transformed(3)


def test_the_next_run_sweeps_what_a_killed_one_has_left(place: Place, start: Start, small: Path) -> None:
    place.put(OLD)
    process = held(start, place)
    process.kill()
    process.wait()
    assert place.content() == OLD
    assert place.begun() == 1, "what a killed process leaves is there, or this test would show nothing"
    CALCULATION.run(small, place.target)
    assert place.content() == transformed(3)
    assert place.others() == []


def test_the_next_run_leaves_alone_what_a_living_one_holds(place: Place, start: Start, small: Path) -> None:
    living, killed = held(start, place, 1), held(start, place, 2)
    killed.kill()
    killed.wait()
    CALCULATION.run(small, place.target)
    assert place.begun() == 1
    assert place.content() == transformed(3)
    assert end(living) == (0, b"", b"")  # that closes its input
    assert place.content() == BIG_TRANSFORMED
    assert place.others() == []


def test_a_kill_leaves_the_rejects_of_the_earlier_run(file_place: FilePlace, start: Start) -> None:
    rejects = Path(f"{file_place.target}.rejects.jsonl")
    rejects.write_bytes(OLD)
    process = held(start, file_place)
    process.kill()
    process.wait()
    assert rejects.read_bytes() == OLD


def test_who_stops_reading_ends_the_run_with_an_error(big: Path, start: Start) -> None:
    process = start("run", big, "-", *ARGUMENTS)
    assert process.stdout
    assert process.stdout.readline() == BIG_TRANSFORMED.partition(b"\n")[0] + b"\n"
    process.stdout.close()
    assert process.stderr
    assert process.stderr.read() == (
        b"transform: standard output: the reader closed the pipe; the output is incomplete\n"
    )
    assert process.wait() == 1


@pytest.mark.parametrize("arguments", [("preview", "-n", 1000, "-e", "a + 1 AS b"), ("schema",)], ids=lambda a: a[0])
def test_who_stops_reading_a_table_gets_no_traceback(arguments: tuple[object, ...], tmp_path: Path) -> None:
    source = tmp_path / "input.jsonl"
    source.write_bytes(b"".join(b'{"a":%d,"member%d":1}\n' % (n, n) for n in range(1000)))
    read_end, write_end = os.pipe()
    os.close(read_end)
    name, *options = arguments
    with open(write_end, "wb") as stdout:  # noqa: PTH123 # a descriptor
        done = subprocess.run(
            command_line(name, source, *options),
            stdout=stdout,
            stderr=subprocess.PIPE,
            env=environment_with({}),
            check=False,
        )
    assert b"Traceback" not in done.stderr
    assert b"Exception ignored" not in done.stderr
    assert done.returncode == 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    if sys.platform != "linux" or os.getuid() != 0:
        pytest.skip("only root can mount a small file system, on Linux")
    directory = tmp_path / "disk"
    directory.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", directory], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no small file system can be mounted here: {mounted.stderr.decode().strip()}")
    yield directory
    subprocess.run(["umount", directory], check=True)  # which also shows that nothing on it is still open


@pytest.mark.parametrize("old", [OLD, None], ids=["over an old output", "new"])
@pytest.mark.parametrize("name", ["output.jsonl", "output.jsonl.gz"])
def test_a_full_disk_leaves_what_was_there(
    name: str, old: bytes | None, small_disk: Path, process: Command, tmp_path: Path
) -> None:
    source = tmp_path / "input.jsonl"
    noise = random.Random(1)
    source.write_bytes(
        b"".join(b'{"a":%d,"noise":"%b"}\n' % (n, noise.randbytes(4000).hex().encode()) for n in range(500))
    )
    place = FilePlace(small_disk / name)
    if old is not None:
        place.put(old)
    done = process("run", source, place.target, *ARGUMENTS)
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.decode() == f"transform: {place.target}: no space left on device\n"
    assert place.content() == old
    assert place.others() == []


def test_a_disk_too_full_for_the_rejects_publishes_none_of_them(
    small_disk: Path, file_place: FilePlace, tmp_path: Path
) -> None:
    rejects = FilePlace(small_disk / "rejects.jsonl")
    rejects.put(OLD)
    source = tmp_path / "input.jsonl"
    source.write_bytes(lines(3) + b"".join(b"no JSON %d %b\n" % (n, b"x" * 5000) for n in range(300)))
    with pytest.raises(OutputError, match=r"rejects\.jsonl: no space left on device"):
        CALCULATION.run(source, file_place.target, rejects=rejects.target)
    assert file_place.content() is None
    assert file_place.others() == []
    assert rejects.content() == OLD
    assert rejects.others() == []


def test_a_file_that_may_not_grow_so_large_leaves_what_was_there(file_place: FilePlace, big: Path) -> None:
    file_place.put(OLD)
    limited = ["/bin/sh", "-c", 'ulimit -f 10000 && exec "$@"', "sh"]  # blocks of 512 or 1024 bytes
    done = subprocess.run(
        [*limited, *command_line("run", big, file_place.target, *ARGUMENTS)],
        capture_output=True,
        env=environment_with({}),
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.decode() == f"transform: {file_place.target}: file too large\n"
    assert file_place.content() == OLD
    assert file_place.others() == []


@pytest.mark.timeout(600)
@pytest.mark.parametrize("times", [200, pytest.param(3000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("how", ["command", "library"])
def test_wherever_a_signal_lands_the_output_is_whole(
    how: str, times: int, file_place: FilePlace, tmp_path: Path
) -> None:
    source = tmp_path / "input.jsonl"
    source.write_bytes(lines(50))
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.kill_storm", how, source, file_place.target, str(times)],
        capture_output=True,
        env=environment_with({}),
        check=True,
    )
    *wrong, statuses = done.stdout.decode().splitlines()
    assert not Counter(wrong)
    assert "0:" in statuses, "no signal came too late"
    assert "130:" in statuses, "no signal came in time"
    assert b"Exception ignored" not in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_wherever_a_signal_lands_the_object_is_whole(
    object_place: ObjectPlace, number: signal.Signals, big: Path, start: Start, small: Path
) -> None:
    moments, expected = random.Random(number), BIG_TRANSFORMED
    for _ in range(25):
        object_place.put(OLD)
        process = start("run", big, object_place.target, *ARGUMENTS)
        try:
            process.wait(moments.uniform(0.4, 2.5))
        except subprocess.TimeoutExpired:
            process.send_signal(number)
        status, _output, _errors = end(process)
        assert object_place.content() in (OLD, expected)
        assert object_place.content() == expected or status != 0
        assert object_place.others() == [] or status == -signal.SIGKILL
    CALCULATION.run(small, object_place.target)
    assert object_place.others() == []
