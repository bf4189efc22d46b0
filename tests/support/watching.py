"""A worker that is watched while it runs: what it logs, and its processes."""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import psutil

from tests.support.deployment import WORKER_TIMEOUT_S, wait_for
from tests.support.proxy import Hold, Stall

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Mapping

    from tests.support.deployment import Deployment
    from tests.support.proxy import Fault, Request

WAIT_TIMEOUT_S = 40


class Holding:
    """A rule of a proxy: requests of one kind are held back until the test lets them go.

    Attributes:
        reached: Set when such a request has come.
        released: To be set by the test.
    """

    def __init__(self, operation: str, key: str = "in", first: int = 1, *, passed_on: bool = True) -> None:
        self.reached = threading.Event()
        self.released = threading.Event()
        self._what = operation, key
        self._left = first
        self._fault = (Hold if passed_on else Stall)(self.reached, self.released)

    def __call__(self, request: Request) -> Fault | None:
        """Let pass what comes before the `first` of them."""
        if request.operation != self._what[0] or not request.key.startswith(self._what[1]) or self.released.is_set():
            return None
        self._left -= 1
        return self._fault if self._left < 1 else None

    def wait(self) -> None:
        """Wait until such a request comes."""
        assert self.reached.wait(WAIT_TIMEOUT_S), "no such request"
        self.reached.clear()


class Watched:
    """A worker process.

    Attributes:
        process: The worker.
        log: What it logged so far, metrics among it.
        errors: What it wrote to standard error.
    """

    def __init__(self, deployment: Deployment, *arguments: str, env: Mapping[str, str | None] | None = None) -> None:
        self.process: subprocess.Popen[str] = deployment.start(*arguments, env=env)
        self.log: list[dict[str, Any]] = []
        self.errors: list[str] = []
        self._readers = [threading.Thread(target=read, daemon=True) for read in (self._read_log, self._read_errors)]
        for reader in self._readers:
            reader.start()

    def logged(self, event: str, count: int = 1) -> dict[str, Any]:
        """Wait until it has logged something as often, and return the last of them."""
        found: list[dict[str, Any]] = wait_for(lambda: self.of(event)[:count] if self._has(event, count) else None)
        return found[-1]

    def of(self, event: str) -> list[dict[str, Any]]:
        """Return what it has logged of an event."""
        return [line for line in self.log if line.get("event") == event]

    def family(self) -> list[psutil.Process]:
        """Return its processes, apart from itself."""
        with suppress(psutil.NoSuchProcess):
            return list(psutil.Process(self.process.pid).children(recursive=True))
        return []

    def children(self, module: str = "runner.job.process") -> list[psutil.Process]:
        """Return those of its processes that run a module."""
        found = []
        for process in self.family():
            with suppress(psutil.NoSuchProcess):
                if any(module in argument for argument in process.cmdline()):
                    found.append(process)
        return found

    def end(self) -> int:
        """Wait for its end, and return the exit status."""
        status = self.process.wait(WORKER_TIMEOUT_S)
        for reader in self._readers:
            reader.join(WORKER_TIMEOUT_S)
        return status

    def stop(self) -> int:
        """Ask it to stop; wait for its end, and return the exit status."""
        self.process.terminate()
        return self.end()

    def _has(self, event: str, count: int) -> bool:
        ended = self.process.poll() is not None and not any(reader.is_alive() for reader in self._readers)
        found = len(self.of(event)) >= count
        assert found or not ended, (event, self.log[-20:], self.errors[-20:])
        return found

    def _read_log(self) -> None:
        assert self.process.stdout
        with suppress(ValueError):  # the test has ended and closed it
            for line in self.process.stdout:
                self.log.append(json.loads(line))

    def _read_errors(self) -> None:
        assert self.process.stderr
        with suppress(ValueError):
            self.errors.extend(self.process.stderr)
