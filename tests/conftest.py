"""What many tests need: a real S3 server, a bucket of their own, and the command as a child process."""

from __future__ import annotations

import functools
import gc
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import boto3
import botocore.session
import hypothesis
import pytest

from tests.support.in_process import run_command

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# No test measures time: how long one takes depends on what else the machine does. The examples are the same each time,
# so that what fails fails because of a change. The option `--hypothesis-profile new` makes up others. That takes all
# examples, as does `--hypothesis-profile all`, which `make test-slow` gives; `make test` takes a part of them.
hypothesis.settings.register_profile("part", deadline=None, derandomize=True)
hypothesis.settings.register_profile("all", deadline=None, derandomize=True)
hypothesis.settings.register_profile("new", deadline=None)
hypothesis.settings.load_profile("part")
ONE_EXAMPLE_OF, LEAST_EXAMPLES = 4, 6

# Tests start hundreds of processes. In containers, Python is often set to keep no compiled code. Then each process
# would compile the project again, and each worker of pytest-xdist all of the tests.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# The models of the SDK take a tenth of a second to load for each client, and most tests of S3 need a new one.
botocore.session.create_loader = functools.cache(botocore.session.create_loader)

ROOT = Path(__file__).parents[1]
START_TIMEOUT_S = 90
COMMAND_TIMEOUT_S = 60
_MINISTACK = """
from awscrt.checksums import crc64nvme
from ministack import app
from ministack.services import s3

slow = s3._crc64nvme
s3._crc64nvme = lambda body: slow(body) if len(body) < 1 << 20 else crc64nvme(body)
app.main()
"""
"""Starts the server; its own checksum, in Python, takes 9 seconds for the 20 MB that some tests store."""
_CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Take three workers for two cores, as many tests wait for servers, for processes and for the disk."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores + cores // 2


def pytest_configure() -> None:
    """Look for no garbage while tests are collected, which takes a third of the time for what is kept anyway."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Look for garbage again from here on, among what tests make only."""
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark property tests, and take a part of the examples that each asks for unless all are wanted."""
    functions = set()
    for item in items:
        if isinstance(item, pytest.Function) and hypothesis.is_hypothesis_test(item.obj):
            item.add_marker("property")
            functions.add(getattr(item.obj, "__func__", item.obj))
    if hypothesis.settings.get_current_profile_name() != "part":
        return
    for function in functions:  # shared by all of its parameters
        asked = function._hypothesis_internal_use_settings
        some = min(asked.max_examples, max(LEAST_EXAMPLES, asked.max_examples // ONE_EXAMPLE_OF))
        function._hypothesis_internal_use_settings = hypothesis.settings(asked, max_examples=some)


class Command(Protocol):
    """Runs the command to its end. A variable of `env` that is None is taken out of the environment."""

    def __call__(
        self, *args: object, stdin: bytes = b"", env: Mapping[str, str | None] | None = None
    ) -> subprocess.CompletedProcess[bytes]: ...


class Start(Protocol):
    """Starts `python -m transform` with pipes; it is killed at the end of the test if it still runs by then."""

    def __call__(self, *args: object, env: Mapping[str, str | None] | None = None) -> subprocess.Popen[bytes]: ...


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The endpoint of a real ministack process, one for each worker of pytest-xdist."""
    log = tmp_path_factory.mktemp("ministack") / "log"
    for _ in range(5):  # somebody else may take the free port before ministack does
        with ministack(log) as endpoint:
            if endpoint:
                yield endpoint
                _client_of(endpoint).close()
                return
    pytest.fail(f"ministack does not start:\n{log.read_text()[-2000:]}")


@contextmanager
def ministack(log: Path) -> Iterator[str | None]:
    """Start a server; yield its endpoint once it answers, None where it ended instead."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    # Its data and its AWS settings are not those of whoever runs the tests, and its other ports stay closed.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "S3_"))}
    environment |= {"BIND_HOST": "127.0.0.1", "GATEWAY_PORT": str(port), "TMPDIR": str(log.parent)}
    environment |= {"HOME": str(log.parent), "IOT_MTLS_ENABLED": "false", "SFTP_ENABLED": "false"}
    with (
        log.open("ab") as said,
        subprocess.Popen(
            [sys.executable, "-c", _MINISTACK], env=environment, cwd=log.parent, stdout=said, stderr=said
        ) as process,
    ):
        try:
            yield f"http://127.0.0.1:{port}" if _answers(port, process) else None
        finally:
            process.kill()


def _answers(port: int, process: subprocess.Popen[bytes]) -> bool:
    deadline = time.monotonic() + START_TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/_ministack/health", timeout=1):
                return True
        except OSError:
            time.sleep(0.05)
    return False


@pytest.fixture
def scratch(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory for temporary files of this test alone, and of the processes it starts.

    Runs note their open uploads there, and no test should sweep those of another.
    """
    directory = tmp_path_factory.mktemp("scratch")
    monkeypatch.setenv("TMPDIR", str(directory))
    monkeypatch.setattr(tempfile, "tempdir", str(directory))  # which has been settled for this process
    return directory


@pytest.fixture
def aws(server: str, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> str:  # noqa: ARG001 # isolates the records
    """The endpoint, with the environment set for this process and those it starts."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in {**_CREDENTIALS, "AWS_ENDPOINT_URL": server, "AWS_EC2_METADATA_DISABLED": "true"}.items():
        monkeypatch.setenv(name, value)
    return server


@functools.cache
def _client_of(endpoint: str) -> Any:
    return boto3.client("s3", endpoint_url=endpoint)  # takes a tenth of a second, which tests need not pay each


@pytest.fixture
def s3(aws: str) -> Any:
    """A client of the server that shares nothing with what is tested."""
    return _client_of(aws)


@pytest.fixture
def bucket(s3: Any) -> str:
    """The name of a new bucket."""
    name = f"test-{uuid.uuid4().hex}"
    s3.create_bucket(Bucket=name)
    return name


@pytest.fixture(autouse=True, scope="session")
def _hang_up_is_not_ignored() -> None:
    """Let children be hung up on: under nohup they would inherit that they are not."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """Runs the command in this process, with pipes; `process` is for what only a process can show."""
    return functools.partial(run_command, tmp_path)


@pytest.fixture
def process(tmp_path: Path) -> Command:
    """Runs `python -m transform` as a child process, which takes a second."""

    def run(
        *args: object, stdin: bytes = b"", env: Mapping[str, str | None] | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            command_line(*args),
            input=stdin,
            capture_output=True,
            env=environment_with(env or {}),
            cwd=tmp_path,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )

    return run


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts the command as a child process, to be dealt with while it runs."""
    started: list[subprocess.Popen[bytes]] = []

    def run(*args: object, env: Mapping[str, str | None] | None = None) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            command_line(*args),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment_with(env or {}),
            cwd=tmp_path,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe and not pipe.closed:
                with suppress(BrokenPipeError):  # the child ended before it read what was still in the buffer
                    pipe.close()
        process.wait()


def command_line(*args: object) -> list[str]:
    """Return what to execute."""
    return [sys.executable, "-m", "transform", *(os.fspath(a) if isinstance(a, Path) else str(a) for a in args)]


def environment_with(changes: Mapping[str, str | None]) -> dict[str, str]:
    """Return the environment for a child process, the code under test being in its path."""
    merged = {**os.environ, "PYTHONPATH": str(ROOT), **changes}
    return {name: value for name, value in merged.items() if value is not None}
