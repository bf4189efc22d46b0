"""A job process, as the worker sees it."""

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
    """One job process.

    Args:
        environ: Its environment, with the worker's settings.

    Attributes:
        connection: To be waited for; `tell` then says what came.
        ready: Whether it can take orders.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.connection, theirs = Pipe()
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter, on our own module
            [sys.executable, "-c", _MAIN, str(theirs.fileno())],
            pass_fds=(theirs.fileno(),),
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr.fileno(),  # ours has JSON lines only
            env={**environ, **_ONE_CORE, **KEEP_FREED_MEMORY, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            process_group=0,  # so that it can be killed with its own children, and Ctrl-C is for the worker
        )
        theirs.close()
        self.ready = False

    def order(self, order: Order, lease_s: float) -> None:
        """Have a job done."""
        self._send(order)
        self.extend(lease_s)

    def extend(self, lease_s: float) -> None:
        """Let it go on for so long."""
        self._send(LeaseExtension(lease_s))

    def stop(self) -> None:
        """Have it stop its job, which it answers with an outcome."""
        self._send(Stop())

    def receive(self) -> ChildMessage | None:
        """Return what it said; None when it has died."""
        try:
            said: ChildMessage = self.connection.recv()
        except (EOFError, OSError):
            return None
        self.ready = self.ready or isinstance(said, Ready)
        return said

    def kill(self) -> None:
        """End it and its children, whatever they do."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self.connection.close()

    def exit_reason(self) -> str:
        """Return of what it died."""
        status = self._process.wait()
        if status >= 0:
            return f"a job process ended with status {status}"
        name = signal.Signals(-status).name
        why = ", most likely for want of memory: give the task more, or set WORKERS lower" if name == "SIGKILL" else ""
        return f"a job process was killed by {name}{why}"

    def _send(self, message: Any) -> None:
        with suppress(OSError):  # that it has died shows when it is waited for
            self.connection.send(message)
