"""Worker processes, started when they are needed or ahead of that.

A worker takes about as long to start as this process does. Where it is plain from the start that there will be work for
it, as on the command line, it starts while this process imports what it needs.
"""

import contextlib
import mmap
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextvars import ContextVar
from multiprocessing.connection import Connection, Pipe

from transform.worker import MEMORY_BYTES

EXIT_S = 5.0
"""How long a process may take to end."""
_MAIN = "from transform.worker import main; main()"  # as `__main__`, the module would be another than ours


class WorkerProcess:
    """A process that runs `transform.worker`, the connection to it, and the memory that it shares."""

    def __init__(self) -> None:
        self.connection: Connection
        self.connection, theirs = Pipe()
        with _shared_file() as memory:
            self.memory = memoryview(mmap.mmap(memory, MEMORY_BYTES))
            self.process = subprocess.Popen(  # noqa: S603 - our own interpreter, on our own module
                [sys.executable, "-c", _MAIN, str(theirs.fileno()), str(memory)],
                pass_fds=(theirs.fileno(), memory),
                stdin=subprocess.DEVNULL,
                env=_environment(),
                process_group=0,  # Ctrl-C is for the process that can tell them to stop
            )
        theirs.close()

    def stop(self, *, at_once: bool) -> None:
        """End it, and wait until it has ended."""
        self.connection.close()  # a worker that gets no more orders ends
        if at_once:
            self.process.kill()
        try:
            self.process.wait(EXIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


_STARTED: ContextVar[tuple[WorkerProcess, ...]] = ContextVar("started", default=())


@contextlib.contextmanager
def started_ahead(count: int) -> Iterator[None]:
    """Start so many workers at once, for the runs within; those that none has taken end with it."""
    token = _STARTED.set(tuple(WorkerProcess() for _ in range(count)))
    try:
        yield
    finally:
        for worker in _STARTED.get():
            worker.stop(at_once=True)
        _STARTED.reset(token)


def take_worker() -> WorkerProcess:
    """Return a worker that was started ahead, or a new one; it is the caller's to stop."""
    started = _STARTED.get()
    if not started:
        return WorkerProcess()
    _STARTED.set(started[1:])
    return started[0]


@contextlib.contextmanager
def _shared_file() -> Iterator[int]:
    """Yield a file of no name for two processes to map; it goes when neither does any more, however they end."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("transform")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    try:
        os.truncate(descriptor, MEMORY_BYTES)
        yield descriptor
    finally:
        os.close(descriptor)


def _environment() -> dict[str, str]:
    """Return the environment of a worker: it finds what this process finds, and uses one core."""
    return {
        **os.environ,
        "POLARS_MAX_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
