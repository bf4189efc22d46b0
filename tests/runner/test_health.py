from __future__ import annotations

import json
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from runner.health import HealthFile, check

ROOT = Path(__file__).parents[2]


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "health.json"
    HealthFile(path).write("ok")
    assert check(path) is None
    HealthFile(path).write("failing", "access to bucket incoming is denied")
    assert check(path) == "failing: access to bucket incoming is denied"
    HealthFile(path).write("failing")
    assert check(path) == "failing: it does not say why"
    HealthFile(path).write("ok")
    assert check(path) is None
    assert [*tmp_path.iterdir()] == [path]


def test_no_file(tmp_path: Path) -> None:
    path = tmp_path / "health.json"
    assert check(path) == f"there is no {path}: the worker has not started, or cannot write it"


@pytest.mark.parametrize("age_s", [61, -61])
def test_stale(tmp_path: Path, age_s: int) -> None:
    path = tmp_path / "health.json"
    path.write_text(json.dumps({"state": "ok", "reason": "", "time": time.time() - age_s}))
    assert check(path) == "stale since 61 s: the worker is stuck, or gone"
    assert check(path, max_age_s=70) is None


def test_clock_set_back_a_little_is_borne(tmp_path: Path) -> None:
    path = tmp_path / "health.json"
    path.write_text(json.dumps({"state": "ok", "reason": "", "time": time.time() + 5}))
    assert check(path) is None


def test_directory_is_no_file(tmp_path: Path) -> None:
    assert str(check(tmp_path)).startswith(f"{tmp_path} cannot be read: IsADirectoryError: ")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.one_of(
        st.binary(max_size=50),
        st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists).map(
            lambda v: json.dumps(v).encode()
        ),
        st.dictionaries(
            st.sampled_from(["state", "reason", "time"]), st.none() | st.floats() | st.text() | st.just("ok")
        ).map(lambda v: json.dumps(v).encode()),
    )
)
@example(content=b'{"state":"ok","reason":null,"time":NaN}')
@example(content=b'{"state":"ok","reason":null,"time":1%s}' % (b"0" * 400))
def test_anything_else_is_unreadable_or_not_well(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "health.json"
    path.write_bytes(content)
    assert check(path)


def test_file_that_cannot_be_written_raises_nothing(tmp_path: Path) -> None:
    HealthFile(tmp_path / "not there" / "health.json").write("ok")
    assert check(tmp_path / "not there" / "health.json")


def test_reader_never_sees_a_part(tmp_path: Path) -> None:
    path = tmp_path / "health.json"
    file = HealthFile(path)
    file.write("ok")
    over = threading.Event()

    def write() -> None:
        while not over.is_set():
            file.write("ok", "x" * 100_000)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        assert [check(path) for _ in range(300)] == [None] * 300
    finally:
        over.set()
        thread.join()


def test_check_is_quick(tmp_path: Path) -> None:
    # The processor time of a process that imports it, next to one that does nothing: the machine may be slow or loaded,
    # the difference is not.
    path = tmp_path / "health.json"
    HealthFile(path).write("ok")

    def best_s(program: str) -> float:
        def run_s() -> float:
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, timeout=30)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

        return min(run_s() for _ in range(5))

    asks = f"from runner.health import check; assert check({str(path)!r}) is None"
    assert best_s(asks) - best_s("pass") < 0.15


def test_nothing_heavy_is_imported() -> None:
    program = "import sys, runner.health; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, timeout=30)
    packages = {name.partition(".")[0] for name in loaded.stdout.decode().split()}
    assert not packages & {"transform", "polars", "pydantic", "botocore", "boto3", "numpy"}
