"""A job process, from the worker's side."""

from __future__ import annotations

import math
import signal
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from runner.job.protocol import LeaseExtension, Order, Outcome, ProgressUpdate, Ready, Refused, Stop
from runner.machine import can_send
from runner.setting_values import pass_on

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from multiprocessing.connection import Connection

    from runner.machine import ChildProcess, Processes
    from runner.settings import Settings

ChildMessage = ProgressUpdate | Outcome | Ready | Refused
_EXIT_S = 5.0  # the main thread waits
_MAIN = "import gc; gc.disable(); from runner.job.process import main; main()"
"""Without garbage collection up to its first job: of what is imported nothing becomes garbage."""

_ONE_CORE = {"POLARS_MAX_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
KEEP_FREED_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(128 << 20)}
"""Has glibc's malloc keep what a chunk took for the next one, as `transform run` does for itself.

glibc reads these variables as the process starts; see "Environment variables" in mallopt(3). Without them it gives
large blocks back as soon as they are freed: allocating eight arrays of 4 MiB 100 times costs 407,000 page faults, with
them 4,100, as many as with calls of mallopt. Other C libraries ignore them.
"""


def environ_of_jobs(settings: Settings, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for job processes, given that of the worker."""
    region = {"AWS_DEFAULT_REGION": settings.region} if settings.region else {}
    return {**environ, **region, **pass_on(dict(settings))}


class JobChild:
    """A job process.

    Args:
        connection: To the process.
        process: The process itself.
        can_send: Returns whether a message can be sent without waiting for the process to read.

    Attributes:
        connection: Can be waited for; `receive` then returns what has come.
        ready: Whether the process can take orders.
        start_by: When it is killed if it cannot take orders until then, by the monotonic clock.
    """

    def __init__(
        self,
        connection: Connection,
        process: ChildProcess,
        can_send: Callable[[Connection], bool] = can_send,
    ) -> None:
        self.connection = connection
        self._can_send = can_send
        self.ready = False
        self.start_by = math.inf
        self._process = process

    @classmethod
    def start(cls, processes: Processes, environ: Mapping[str, str]) -> JobChild:
        """Start a process, with the worker's settings in its environment."""
        started = processes.start(_MAIN, {**environ, **_ONE_CORE, **KEEP_FREED_MEMORY})
        return cls(*started, processes.can_send)

    def order(self, order: Order) -> None:
        """Give it a job. It has read everything before, as its last job has ended."""
        self._send(order)

    def extend(self, until: float) -> None:
        """Let its job go on until a time of the monotonic clock; does nothing if it does not read.

        A calculation that holds the interpreter lock keeps it from reading. The next extension counts as much as all of
        those before it.
        """
        with suppress(OSError, ValueError):  # it has died, or was killed
            if self._can_send(self.connection):
                self._send(LeaseExtension(until))

    def stop(self) -> None:
        """Ask it to stop its job; the answer is an outcome. The extensions have left room for this message."""
        self._send(Stop())

    def receive(self) -> ChildMessage | None:
        """Return the next message; None if the process has died."""
        try:
            message: ChildMessage = self.connection.recv()
        except (EOFError, OSError):
            return None
        self.ready = self.ready or isinstance(message, Ready)
        return message

    def kill(self) -> None:
        """Kill it and its own children at once."""
        self._process.kill()
        self.connection.close()

    def exit_reason(self) -> str:
        """Return why it has ended; waits for its end, as long as that may take."""
        status = self._process.wait(_EXIT_S)
        if status is None:
            return f"a job process has closed its connection and not ended within {_EXIT_S:g} s"
        if status >= 0:
            return f"a job process ended with status {status}"
        name = signal.Signals(-status).name
        why = ", most likely because memory ran out: give the task more, or lower WORKERS" if name == "SIGKILL" else ""
        return f"a job process was killed by {name}{why}"

    def _send(self, message: Any) -> None:
        with suppress(OSError):  # it has died, which `receive` notices
            self.connection.send(message)
