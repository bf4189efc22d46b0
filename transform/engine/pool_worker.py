"""A worker process of a pool, and the messages to and from it; `remote_worker` is the other end, which starts it.

The arguments of the process are the descriptors of a connection and of shared memory. It receives a `WorkerSetup` once,
then requests, each for one item of the input, and answers with the results. The bytes are in the shared memory; the
messages are small.
"""

import contextlib
import mmap
import pickle
import sys
import traceback
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from transform._process import keep_freed_memory
from transform.engine.module_sources import Modules, import_from
from transform.io.chunks import Chunk, LongLine, Range, prefetch_range, read_range

if TYPE_CHECKING:
    from transform.decode.rejects import ChunkResult
    from transform.io.sources import InputVersion

WorkItem = Range | Chunk | LongLine
"""An item of an input: a range of it, or lines that were read from it."""

IN_BYTES = 8 << 20
OUT_BYTES = 24 << 20
SLOTS = 2
"""How many requests a worker can hold: the one that it works on, and the next."""
MEMORY_BYTES = SLOTS * (IN_BYTES + OUT_BYTES)
_MANY_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class WorkerSetup:
    """The first message to a worker, before its requests.

    Attributes:
        plan: The plan, pickled.
        version: The input, if the requests are for ranges of it; otherwise None.
        chunk_bytes: How much of a range to read at a time.
        max_line_bytes: A longer line is rejected.
        modules: The modules beside the calculation's file, to be imported as they were when it was loaded.
        path: Where the process that sends this finds other modules.
    """

    plan: bytes
    version: "InputVersion | None"
    chunk_bytes: int
    max_line_bytes: int
    modules: Modules = field(default_factory=dict)
    path: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WorkRequest:
    """An item to transform: a range of the input, or a chunk in the shared memory.

    Attributes:
        slot: The part of the shared memory that it may use.
        byte_range: The range, None for a chunk.
        size: The size of the chunk.
        offset: Where the chunk starts in the input.
    """

    slot: int
    byte_range: Range | None
    size: int = 0
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """Results of a request, some of them or all.

    Attributes:
        results: In order, each with the size of its output in the slot; None if the output is in the result itself.
        last: Whether the request is done.
        error: The exception that was raised.
        trace: Its traceback, as text.
    """

    results: list[tuple["ChunkResult", int | None]]
    last: bool
    error: Exception | None = None
    trace: str = ""


def input_of(slot: int) -> slice:
    """Return the part of the memory for the input of a slot."""
    return slice(slot * IN_BYTES, (slot + 1) * IN_BYTES)


def output_of(slot: int) -> slice:
    """Return the part of the memory for the output of a slot."""
    start = SLOTS * IN_BYTES + slot * OUT_BYTES
    return slice(start, start + OUT_BYTES)


def main() -> None:
    """Work until the connection is closed."""
    keep_freed_memory()
    connection = Connection(int(sys.argv[1]))
    memory = memoryview(mmap.mmap(int(sys.argv[2]), MEMORY_BYTES))
    from transform.engine import plan  # noqa: F401, PLC0415 - it takes a while, so it comes before the setup

    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        setup: WorkerSetup = connection.recv()
        with contextlib.ExitStack() as stack:
            try:
                # At the end: the current directory may be among them, and the engine's own modules do not come from it.
                sys.path += [place for place in setup.path if place not in sys.path]
                import_from(setup.modules)
                worker = _Worker(setup, connection, memory, stack)
            except Exception as error:  # noqa: BLE001 - the process that started this one raises it
                connection.send(_failure(error))
                return
            connection.send(Answer([], last=True))  # ready
            while True:
                for answer in worker.work(worker.next_request()):
                    connection.send(answer)


class _Worker:
    """Receives requests, and yields the answers to them.

    Args:
        setup: The plan, and how to read the input.
        connection: The connection from which requests are received.
        memory: The memory that is shared with the process that started this one.
        stack: Closes the input at the end.
    """

    def __init__(
        self, setup: WorkerSetup, connection: Connection, memory: memoryview, stack: contextlib.ExitStack
    ) -> None:
        from transform.io.sources import open_version  # noqa: PLC0415 - imported with the plan: only workers need it

        self._plan = pickle.loads(setup.plan)  # noqa: S301 - from the process that started this one
        self._setup = setup
        self._source = stack.enter_context(open_version(setup.version)) if setup.version is not None else None
        self._connection = connection
        self._requests: deque[WorkRequest] = deque()
        self._memory = memory

    def next_request(self) -> WorkRequest:
        """Return the next request; wait for one if none has arrived."""
        if not self._requests:
            self._receive()
        return self._requests.popleft()

    def _receive(self) -> None:
        """Receive a request, and start to read the range that it is for."""
        request: WorkRequest = self._connection.recv()
        self._requests.append(request)
        if request.byte_range is not None and self._source is not None:
            prefetch_range(self._source, request.byte_range)

    def work(self, request: WorkRequest) -> Iterator[Answer]:
        """Yield the answers to a request."""
        output, used = self._memory[output_of(request.slot)], 0
        done: list[tuple[ChunkResult, int | None]] = []
        try:
            for chunk in self._chunks(request):
                while self._connection.poll():
                    self._receive()
                result = self._plan.transform(chunk)
                size = sum(len(part) for part in result.output)
                if used + size > len(output):  # the slot is full: sent through the connection, which blocks
                    yield Answer(done, last=False)
                    yield Answer([(replace(result, output=(b"".join(result.output),)), None)], last=False)
                    done, output = [], output[:0]
                    continue
                for part in result.output:
                    output[used : used + len(part)] = part
                    used += len(part)
                done.append((replace(result, output=()), size))
                if sum(len(reject.raw) for reject in result.rejects) > _MANY_BYTES:  # not all of a range at once
                    yield Answer(done, last=False)
                    done = []
            yield Answer(done, last=True)
        except Exception as error:  # noqa: BLE001 - as above
            yield _failure(error)

    def _chunks(self, request: WorkRequest) -> Iterator[Chunk | LongLine]:
        if request.byte_range is None:
            yield Chunk(self._memory[input_of(request.slot)][: request.size], request.offset)
        elif self._source is not None:
            yield from read_range(self._source, request.byte_range, self._setup.chunk_bytes, self._setup.max_line_bytes)


def _failure(error: Exception) -> Answer:
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - just dumped
    except Exception:  # noqa: BLE001 - its class may raise anything
        error = RuntimeError(repr(error))
    return Answer([], last=True, error=error, trace=traceback.format_exc())
