"""A worker process from the side of the process that starts it; `pool_worker` runs in the worker.

Workers are new interpreters. Forks would not do, because polars does not survive them; nor would processes of
`multiprocessing`, which import the caller's main module again: a script or a notebook does not expect that.

A worker takes about as long to start as this process did.
"""

import contextlib
import mmap
import os
import signal
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing.connection import Connection, Pipe
from pathlib import Path

from transform import _process
from transform.decode.rejects import ChunkResult
from transform.engine.pool_worker import (
    MEMORY_BYTES,
    SLOTS,
    Answer,
    WorkerSetup,
    WorkItem,
    WorkRequest,
    input_of,
    output_of,
)
from transform.errors import WorkerError
from transform.io.chunks import Chunk, Range

EXIT_S = 5.0
"""How long a process may take to end."""
_MAIN = "from transform.engine.pool_worker import main; main()"  # with -m, its classes would be those of `__main__`


class WorkerProcess:
    """A process that runs `transform.engine.pool_worker`, the connection to it, and the memory that both share."""

    def __init__(self) -> None:
        self.connection: Connection
        self.connection, theirs = Pipe()
        with _shared_file() as memory:
            self.memory = memoryview(mmap.mmap(memory, MEMORY_BYTES))
            self.process = subprocess.Popen(  # noqa: S603 - our own interpreter, on our own module
                [sys.executable, "-P", "-c", _MAIN, str(theirs.fileno()), str(memory)],
                pass_fds=(theirs.fileno(), memory),
                stdin=subprocess.DEVNULL,
                env=_environment(),
                process_group=0,  # Ctrl-C reaches this process only, which then stops its workers
            )
        theirs.close()

    def stop(self, *, at_once: bool) -> None:
        """End the process, and wait until it has ended."""
        self.connection.close()  # a worker that gets no more requests ends
        if at_once:
            self.process.kill()
        try:
            self.process.wait(EXIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextlib.contextmanager
def _shared_file() -> Iterator[int]:
    """Yield an unnamed file that two processes can map; it is removed when both have ended, in whatever way."""
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
    """Return the environment of a worker: it finds the modules that this process finds, and uses one core.

    The current directory is left out, which `-P` leaves out as well: a file in it with the name of a library would be
    executed. Where this process looks there, the worker does so after everything else; see `import_path`.
    """
    return {
        **os.environ,
        "POLARS_MAX_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(filter(os.path.isabs, sys.path)),
    }


def import_path() -> tuple[str, ...]:
    """Return where this process finds modules, in directories that are the same ones for any process."""
    absolute = tuple(filter(os.path.isabs, sys.path))
    try:
        here = Path.cwd()
    except FileNotFoundError:  # it was removed
        return absolute
    return (*absolute, *(str(here / place) for place in sys.path if not os.path.isabs(place)))  # noqa: PTH117 - as above


class RemoteWorker:
    """A worker process that transforms items of an input: a `pool.Worker`.

    Args:
        setup: Sent to the process before the first item.
        ready_wait_s: How long `is_free` waits for a process that is still starting. By default it does not wait, and
            this process transforms the items until the worker is ready.
    """

    def __init__(self, setup: WorkerSetup, ready_wait_s: float = 0.0) -> None:
        self._ready_wait_s = ready_wait_s
        self._worker = WorkerProcess()
        self._connection, self._memory = self._worker.connection, self._worker.memory
        self._ready = False
        self._slots: deque[int] = deque()  # of the items that it has, in order
        self._given = 0
        self._send(setup)

    def is_free(self) -> bool:
        """Return whether it has room for one more item."""
        if not self._ready and self._connection.poll(self._ready_wait_s):
            self._ready = self._receive().last
        return self._ready and len(self._slots) < SLOTS

    def give(self, item: WorkItem) -> None:
        """Send an item to be transformed."""
        slot = self._given % SLOTS
        self._given += 1
        self._slots.append(slot)
        if isinstance(item, Range):
            self._send(WorkRequest(slot, item))
            return
        assert isinstance(item, Chunk)  # noqa: S101 - a long line is transformed in this process
        self._memory[input_of(slot)][: len(item.data)] = item.data
        self._send(WorkRequest(slot, None, len(item.data), item.offset))

    def has_answered(self) -> bool:
        """Return whether a result can be received without waiting, or the process has died."""
        return self._connection.poll()

    def answers(self) -> Iterator[ChunkResult]:
        """Yield the results of the first item that is not done; each is valid until the next is asked for.

        Raises:
            TransformError: What the item raised, or a `WorkerError`.
        """
        output, used = self._memory[output_of(self._slots[0])], 0
        last = False
        while not last:
            answer = self._receive()
            for result, size in answer.results:
                if size is None:
                    yield result
                else:
                    yield replace(result, output=(output[used : used + size],))
                    used += size
            last = answer.last
        self._slots.popleft()

    def stop(self, *, at_once: bool) -> None:
        """End the process; see `WorkerProcess.stop`."""
        self._worker.stop(at_once=at_once)

    def _send(self, message: WorkerSetup | WorkRequest) -> None:
        try:
            self._connection.send(message)
        except OSError:
            raise self._exit_error() from None

    def _receive(self) -> Answer:
        try:
            with _process.interruptible():
                answer: Answer = self._connection.recv()
        except (EOFError, OSError):
            raise self._exit_error() from None
        if answer.error is not None:
            answer.error.add_note(f"In a worker process:\n{answer.trace}")
            raise answer.error
        return answer

    def _exit_error(self) -> WorkerError:
        """Return the error that says how the process has ended."""
        try:
            status = self._worker.process.wait(EXIT_S)
        except subprocess.TimeoutExpired:
            return WorkerError("a worker process no longer answers")
        if status >= 0:
            return WorkerError(f"a worker process ended with status {status}")
        name = signal.Signals(-status).name
        why = ", most likely for want of memory: give it more, or use fewer workers" if name == "SIGKILL" else ""
        return WorkerError(f"a worker process was killed by {name}{why}")
