"""Other processes, which run the Python code of a calculation; each serves one thread of `Threads` at a time.

A process is a new interpreter that receives a chunk and returns its results, until its connection is closed. Forks
would not do, because polars does not survive them; nor would processes of `multiprocessing`, which import the caller's
main module again: a script or a notebook does not expect that. Each process has a separate connection, so that one that
is killed while it sends a result does not damage the others' results.
"""

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import traceback
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Self

from transform._process import keep_freed_memory
from transform.engine.module_sources import Modules, import_from
from transform.errors import WorkerError
from transform.io.chunks import Chunk, copy_chunk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from transform.decode.rejects import ChunkResult
    from transform.engine.rows_plan import TransformsChunks
    from transform.io.chunks import LongLine

EXIT_S = 5.0
"""How long a process may take to end."""
_MAIN = "from transform.engine.processes import main; main()"  # with -m, its classes would be those of `__main__`


@dataclass(frozen=True, slots=True)
class WorkerSetup:
    """The first message to a process, before the chunks.

    Attributes:
        plan: The plan, pickled.
        modules: The modules beside the calculation's file, to be imported as they were when it was loaded.
        path: Where the process that sends this finds other modules.
    """

    plan: bytes
    modules: Modules
    path: tuple[str, ...]


class Processes:
    """Transforms chunks in other processes; to be used as a context, which ends them.

    Args:
        plan: Turns chunks into results.
        pickled: The plan, as it is sent to the processes.
        modules: The modules that the processes need.
        count: How many processes there are.
    """

    def __init__(self, plan: "TransformsChunks", pickled: bytes, modules: Modules, count: int) -> None:
        self._plan = plan
        self._setup = WorkerSetup(pickled, modules, import_path())
        self._count = count
        self._workers: list[_Worker] = []
        self._free = SimpleQueue[_Worker]()

    def start(self) -> None:
        """Start the processes, which takes as long as starting this one did, unless they were started before."""
        for _ in range(self._count - len(self._workers)):
            self._workers.append(worker := _Worker(self._setup))
            self._free.put(worker)

    @property
    def ready(self) -> bool:
        """Whether a process has started, or has died at its start, which `results` raises."""
        return any(worker.connection.poll() for worker in self._workers)

    def results(self, chunk: "Chunk | LongLine") -> "Iterator[ChunkResult]":
        """Yield what a chunk becomes, as soon as a process has transformed it; to be called in several threads.

        Raises:
            TransformError: What the chunk raised, or a `WorkerError`.
        """
        if not isinstance(chunk, Chunk):  # it is rejected, which takes no Python code of the calculation
            yield from self._plan.results(chunk)
            return
        worker = self._free.get()
        try:
            yield from worker.results(chunk)
        finally:
            self._free.put(worker)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        """End the processes: those that wait for a chunk, after a run without errors, by closing their connection."""
        idle = []
        with contextlib.suppress(Empty):
            while True:
                idle.append(self._free.get_nowait())
        for worker in self._workers:
            if worker in idle and worker.is_ready and error is None:
                worker.connection.close()
            else:
                worker.process.kill()
        for worker in self._workers:
            worker.wait()
        for worker in idle:  # a thread may wait for one: it gets an error
            self._free.put(worker)


class _Worker:
    """A process, and the connection to it."""

    def __init__(self, setup: WorkerSetup) -> None:
        self.connection: Connection
        self.connection, theirs = Pipe()
        with theirs:
            self.process = subprocess.Popen(  # noqa: S603 - our own interpreter, on our own module
                [sys.executable, "-P", "-c", _MAIN, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env=_environment(),
                process_group=0,  # Ctrl-C reaches this process only, which then ends the others
            )
        self.is_ready = False
        with contextlib.suppress(OSError):  # it has died already, which is noticed when it should answer
            self.connection.send(setup)

    def results(self, chunk: Chunk) -> "Iterator[ChunkResult]":
        """Yield what a chunk becomes; the process waits while none of it is asked for."""
        try:
            if not self.is_ready:
                self._receive()
                self.is_ready = True
            self.connection.send((chunk.offset, chunk.places))
            self.connection.send_bytes(chunk.data)
            is_last = False
            while not is_last:
                result: ChunkResult = self._receive()
                is_last = result.is_last
                yield replace(result, output=(memoryview(self.connection.recv_bytes()),))
        except (EOFError, OSError):
            raise self._exit_error() from None

    def _receive(self) -> Any:
        answer, error, trace = self.connection.recv()
        if error is not None:
            error.add_note(f"In a worker process:\n{trace}")
            raise error
        return answer

    def wait(self) -> int | None:
        """Return the exit status of the process, which is killed if it does not end by itself; None if it did not."""
        try:
            return self.process.wait(EXIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return None

    def _exit_error(self) -> WorkerError:
        """Return the error that says how the process has ended."""
        status = self.wait()
        if status is None:
            return WorkerError("a worker process no longer answers")
        if status >= 0:
            return WorkerError(f"a worker process ended with status {status}")
        name = signal.Signals(-status).name
        why = ", most likely because memory ran out: give it more, or use fewer workers" if name == "SIGKILL" else ""
        return WorkerError(f"a worker process was killed by {name}{why}")


def _environment() -> dict[str, str]:
    """Return the environment of a process: it finds the modules that this process finds, and uses one core.

    The current directory is left out, which `-P` leaves out as well: a file in it with the name of a library would be
    executed. Where this process looks there, the other does so after everything else; see `import_path`.
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


def main() -> None:
    """Transform chunks until the connection is closed, in one of the processes."""
    keep_freed_memory()
    connection = Connection(int(sys.argv[1]))
    from transform.engine import plan as _plan  # noqa: F401, PLC0415 - it takes a while, so it comes before the setup

    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        setup: WorkerSetup = connection.recv()
        try:
            # At the end: the current directory may be among them, and the engine's own modules do not come from it.
            sys.path += [place for place in setup.path if place not in sys.path]
            import_from(setup.modules)
            plan: TransformsChunks = pickle.loads(setup.plan)  # noqa: S301 - from the process that started this one
        except Exception as error:  # noqa: BLE001 - the process that started this one raises it
            connection.send(_failure(error))
            return
        connection.send((None, None, ""))  # ready
        while True:
            offset, places = connection.recv()
            chunk = copy_chunk(Chunk(memoryview(connection.recv_bytes()), offset, places))
            results = plan.results(chunk)
            while True:
                try:
                    result = next(results)
                except Exception as error:  # noqa: BLE001 - as above
                    connection.send(_failure(error))
                    break
                connection.send((replace(result, output=()), None, ""))
                connection.send_bytes(b"".join(result.output))
                if result.is_last:
                    break


def _failure(error: Exception) -> tuple[None, Exception, str]:
    """Return an error as it is sent: with its traceback, and as another error if it cannot be pickled."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - just dumped
    except Exception:  # noqa: BLE001 - its class may raise anything
        error = RuntimeError(repr(error))
    return None, error, traceback.format_exc()
