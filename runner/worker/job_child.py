"""A job process, from the worker's side."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from multiprocessing.connection import Pipe
from typing import TYPE_CHECKING, Any

from runner.job.protocol import LeaseExtension, Order, Outcome, ProgressUpdate, Ready, Refused, Stop

if TYPE_CHECKING:
    from collections.abc import Mapping
    from multiprocessing.connection import Connection

ChildMessage = ProgressUpdate | Outcome | Ready | Refused
_MAIN = "from runner.job.process import main; main()"

_ONE_CORE = {"POLARS_MAX_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
KEEP_FREED_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(128 << 20)}
"""Has glibc's malloc keep what a chunk took for the next one, as `transform run` does for itself.

glibc reads these variables as the process starts; see "Environment variables" in mallopt(3). Without them it gives
large blocks back as soon as they are freed: allocating eight arrays of 4 MiB 100 times costs 407,000 page faults, with
them 4,100, as many as with calls of mallopt. Other C libraries ignore them.
"""


class JobChild:
    """A job process.

    Args:
        connection: To the process.
        process: The process itself, the leader of a process group.

    Attributes:
        connection: Can be waited for; `receive` then returns what has come.
        ready: Whether the process can take orders.
    """

    def __init__(self, connection: Connection, process: subprocess.Popen[bytes]) -> None:
        self.connection = connection
        self.ready = False
        self._process = process

    @classmethod
    def start(cls, environ: Mapping[str, str]) -> JobChild:
        """Start a process, with the worker's settings in its environment."""
        ours, theirs = Pipe()
        process = subprocess.Popen(  # noqa: S603 - our own interpreter, on our own module
            [sys.executable, "-c", _MAIN, str(theirs.fileno())],
            pass_fds=(theirs.fileno(),),
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr.fileno(),  # ours has JSON lines only
            env={**environ, **_ONE_CORE, **KEEP_FREED_MEMORY, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            process_group=0,  # so that it can be killed with its own children, and Ctrl-C is for the worker
        )
        theirs.close()
        return cls(ours, process)

    def order(self, order: Order, lease_s: float) -> None:
        """Give it a job, and the time that the job has at first."""
        self._send(order)
        self.extend(lease_s)

    def extend(self, lease_s: float) -> None:
        """Let its job go on for this long from now."""
        self._send(LeaseExtension(lease_s))

    def stop(self) -> None:
        """Ask it to stop its job; the answer is an outcome."""
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
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self.connection.close()

    def exit_reason(self) -> str:
        """Return why it has ended; waits for its end."""
        status = self._process.wait()
        if status >= 0:
            return f"a job process ended with status {status}"
        name = signal.Signals(-status).name
        why = ", most likely for want of memory: give the task more, or set WORKERS lower" if name == "SIGKILL" else ""
        return f"a job process was killed by {name}{why}"

    def _send(self, message: Any) -> None:
        with suppress(OSError):  # it has died, which `receive` notices
            self.connection.send(message)
