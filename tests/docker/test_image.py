"""What is in the image, and how it starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conftest import ROOT
from tests.docker.engine import IMAGE

if TYPE_CHECKING:
    from tests.docker.engine import Engine

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

UNWANTED = [
    "pip",
    "ensurepip",
    "setuptools",
    "hatchling",
    "ziglang",
    "pytest",
    "hypothesis",
    "moto",
    "ministack",
    "tests",
]


def test_nothing_but_tmp_can_be_written_and_nobody_is_root(engine: Engine) -> None:
    found = engine.python(
        "import json, os; "
        "there = [place for place, _, _ in os.walk('/') if not place.startswith(('/proc', '/sys', '/dev'))]; "
        "print(json.dumps([os.getuid(), os.getgid(), [place for place in there if os.access(place, os.W_OK)]]))"
    )
    assert found == [10001, 10001, ["/tmp"]]


def test_it_holds_no_tools_and_no_tests(engine: Engine) -> None:
    code = f"import json, importlib.util as u; print(json.dumps([n for n in {UNWANTED} if u.find_spec(n)]))"
    assert engine.python(code) == []
    assert (
        engine.run(
            "-c", "for name in cc gcc make git pip pip3; do ! command -v $name || exit 1; done", entry="sh"
        ).returncode
        == 0
    )


def test_the_compiled_kernel_loads(engine: Engine) -> None:
    code = "import json; from transform.native.library import load_library; print(json.dumps(load_library()[1]))"
    assert engine.python(code) in {"v1", "v3", "v4", "neon"}


def test_all_that_a_worker_imports_has_bytecode(engine: Engine) -> None:
    found = engine.python(
        "import json, os, sys, runner.worker.start, runner.job.process, s3fs, isal; "
        "specs = [s for m in list(sys.modules.values()) if (s := getattr(m, '__spec__', None))]; "
        "files = [s.cached for s in specs if s.cached]; "
        "there = {f: int.from_bytes(open(f, 'rb').read(8)[4:], 'little') for f in files if os.path.exists(f)}; "
        "ours = [f for f in files if f.startswith('/opt/')]; "
        "print(json.dumps([len(ours), [f for f in files if f not in there], [f for f in ours if there.get(f) != 1]]))"
    )
    assert found[0] > 500
    assert found[1] == []
    assert found[2] == []  # 1 stands for unchecked: the times of files do not matter


def test_the_calculation_is_the_file_to_edit(engine: Engine) -> None:
    edited = (ROOT / "docker" / "calculation.py").read_text()
    found = engine.python(
        "import json, os; "
        "print(json.dumps([os.environ['CALCULATION'], open(os.environ['CALCULATION']).read(), os.listdir('/app')]))"
    )
    assert found == ["/app/calculation.py", edited, ["calculation.py"]]


def test_the_worker_is_what_runs_by_default(engine: Engine) -> None:
    config = engine.inspect("image", IMAGE)["Config"]
    assert (config["Entrypoint"], config["Cmd"]) == (["runner"], ["worker"])
    assert config["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert list(config["Volumes"]) == ["/tmp"]
    started = engine.run()
    assert started.returncode == 1
    assert "SQS_BATCH_QUEUE: not set" in started.stderr
    assert "CALCULATION" not in started.stderr


def test_another_command_can_be_run(engine: Engine) -> None:
    asked = engine.run("health")
    assert asked.returncode == 1
    assert "the worker has not started" in asked.stdout
    assert engine.run("--version").stdout.startswith("runner, version ")
