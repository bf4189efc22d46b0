"""A container engine, and containers of the image on it: Docker where its daemon answers, podman elsewhere."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.conftest import ROOT
from tests.support.deployment import wait_for

if TYPE_CHECKING:
    from collections.abc import Mapping

IMAGE = "transform:test"
MEMORY_MIB = 512
BUILD_TIMEOUT_S = 900
TIMEOUT_S = 120
UNAVAILABLE = 77  # what docker/build_without_daemon.sh exits with where it cannot do it
_WAYS = (
    ("docker",),
    ("podman",),
    # For a root that may not raise limits, and for control groups of both versions, which crun refuses.
    ("podman", "--runtime", "runc", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096"),
)


class UnavailableError(Exception):
    """There is no way to build or to run an image here."""


def build() -> None:
    """Build the image.

    Raises:
        UnavailableError: There is no engine.
    """
    if _docker_answers():
        command = ["docker", "build", "--quiet", "--file", "docker/Dockerfile", "--tag", IMAGE, "."]
    else:
        command = ["docker/build_without_daemon.sh"]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=BUILD_TIMEOUT_S, check=False)
    if built.returncode == UNAVAILABLE:
        raise UnavailableError(built.stderr.strip())
    assert built.returncode == 0, built.stderr[-5000:]


def find_engine() -> Engine:
    """Return the first engine that runs the image.

    Raises:
        UnavailableError: None does.
    """
    said = []
    for program, *options in _WAYS:
        if shutil.which(program) and (program != "docker" or _docker_answers()):
            engine = Engine(program, tuple(options))
            tried = engine.run("--version")
            if tried.returncode == 0:
                return engine
            said.append(tried.stderr)
    raise UnavailableError("no engine runs the image here: " + "".join(said)[-1000:])


@dataclass(frozen=True)
class Engine:
    """What runs containers: always on a read-only root, within the memory that is granted, on the host's network."""

    program: str
    options: tuple[str, ...]

    def command(
        self, *arguments: str, env: Mapping[str, str] | None = None, name: str = "", entry: str = ""
    ) -> list[str]:
        """Return how to run a container."""
        limits = ["--memory", f"{MEMORY_MIB}m", "--memory-swap", f"{MEMORY_MIB}m"]
        given = [part for key, value in (env or {}).items() for part in ("--env", f"{key}={value}")]
        named = ["--name", name] if name else []
        entered = ["--entrypoint", entry] if entry else []
        start = [self.program, "run", "--rm", "--read-only", "--network", "host"]
        if self.program == "podman":
            start.append(
                "--read-only-tmpfs=false"
            )  # it would mount three directories to write to; Docker and ECS do not
        return [*start, *limits, *self.options, *named, *given, *entered, IMAGE, *arguments]

    def run(self, *arguments: str, entry: str = "") -> subprocess.CompletedProcess[str]:
        """Run a container to its end."""
        return self._do(self.command(*arguments, entry=entry))

    def python(self, code: str) -> Any:
        """Run Python code in a container, and return what it prints as JSON."""
        done = self.run("-c", code, entry="python3")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def inspect(self, kind: str, name: str) -> dict[str, Any]:
        """Return what the engine knows of an image or a container."""
        done = self._do([self.program, kind, "inspect", name])
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)[0]
        return found

    def start(self, name: str, env: Mapping[str, str]) -> Container:
        """Start the worker."""
        process = subprocess.Popen(
            self.command(env=env, name=name), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        return Container(self, name, process)

    def _do(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)


@dataclass
class Container:
    """A worker at work."""

    engine: Engine
    name: str
    process: subprocess.Popen[str]
    _ended: tuple[str, str] | None = field(default=None)

    def ask(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run another command in it."""
        return self.engine._do([self.engine.program, "exec", self.name, *command])  # of the same file

    def wait_until_healthy(self) -> None:
        """Wait until the health check of the image says that it is."""
        test = self.engine.inspect("container", self.wait_until_there())["Config"]["Healthcheck"]["Test"]
        assert test[0] == "CMD"
        wait_for(lambda: self.ask(*test[1:]).returncode == 0, TIMEOUT_S)

    def wait_until_there(self) -> str:
        """Wait until it can be asked, and return its name."""

        def is_there() -> bool:
            assert self.process.poll() is None, self.end()
            return self.ask("true").returncode == 0

        wait_for(is_there, TIMEOUT_S)
        return self.name

    def terminate(self) -> None:
        """Send SIGTERM to its first process, as ECS does."""
        done = self.engine._do([self.engine.program, "kill", "--signal", "TERM", self.name])
        assert done.returncode == 0, done.stderr

    def end(self) -> tuple[str, str]:
        """Wait for its end, and return what it wrote to standard output and standard error."""
        self._ended = self._ended or self.process.communicate(timeout=TIMEOUT_S)
        return self._ended

    def remove(self) -> None:
        """Leave nothing of it."""
        self.engine._do([self.engine.program, "rm", "--force", "--volumes", self.name])
        self.process.kill()
        self.end()


def _docker_answers() -> bool:
    return bool(shutil.which("docker")) and (
        subprocess.run(["docker", "info"], capture_output=True, timeout=TIMEOUT_S, check=False).returncode == 0
    )
