"""Clock, chance, threads and processes of a simulated process: what `runner.machine` is for a real one."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from greenlet import GreenletExit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from tests.simulation.kernel import Kernel, Process, Thread

_MAX_LATENCY_S = 0.01  # of a message between processes


class SimClock:
    """The clock of a process: exact, but for the wall clock, which may be ahead or behind."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._kernel = process.kernel
        self.monotonic: Callable[[], float] = partial(getattr, process.kernel, "now")  # asked for most often

    def time(self) -> float:
        return self._kernel.epoch_s() + self._process.skew_s

    def sleep(self, seconds: float) -> None:
        thread, _ = self._kernel.begin_wait()
        thread.block(seconds)


class SimChance:
    """Chance that the seed decides."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._tokens = 0

    def uniform(self, low: float, high: float) -> float:
        return self._process.chance.uniform(low, high)

    def token(self) -> str:
        self._tokens += 1
        return f"{self._process.name.replace('.', 'c')}n{self._tokens}"


class _Waits(list["tuple[Thread, int]"]):
    """The threads that wait for something, each with the number of its wait.

    Most are empty most of the time: look at that before anything is called.
    """

    __slots__ = ()

    def wait(self, kernel: Kernel, timeout_s: float | None) -> None:
        entry = kernel.begin_wait()
        self.append(entry)
        entry[0].block(timeout_s)
        if self and entry in self:
            self.remove(entry)

    def leave(self, thread: Thread) -> None:
        """Let a thread wait no more, which may wait for something else as well."""
        self[:] = [entry for entry in self if entry[0] is not thread]

    def wake_all(self) -> None:
        waiting = self[:]
        self.clear()
        for thread, wait in waiting:
            thread.wake(wait)

    def resume_all(self) -> None:
        """Let the threads run at once, without a random pause: for events that were delayed themselves."""
        waiting = self[:]
        self.clear()
        for thread, wait in waiting:
            thread.resume(wait)


class SimEvent:
    """As `threading.Event`."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._is_set = False
        self._waits = _Waits()

    def set(self) -> None:
        self._process.check()
        self._is_set = True
        if self._waits:
            self._waits.wake_all()

    def clear(self) -> None:
        self._is_set = False

    def is_set(self) -> bool:
        return self._is_set

    def wait(self, timeout: float | None = None) -> bool:
        if not self._process.alive:
            raise GreenletExit
        if not self._is_set:
            self._waits.wait(self._process.kernel, timeout)
        return self._is_set


class SimCondition:
    """As `threading.Condition`."""

    __slots__ = ("_changed", "_free", "_kernel", "_owner", "_process")

    def __init__(self, process: Process) -> None:
        self._process = process
        self._kernel = process.kernel
        self._owner: Thread | None = None
        self._free = _Waits()
        self._changed = _Waits()

    def __enter__(self) -> bool:
        if not self._process.alive:
            raise GreenletExit
        current = self._kernel.running
        if self._owner is not None:
            assert self._owner is not current, "a lock is taken twice"
            while self._owner is not None:
                self._free.wait(self._kernel, None)
        assert current is not None, "only threads take locks"
        self._owner = current
        return True

    def __exit__(self, *_: object) -> None:
        self._owner = None
        if self._free and self._process.alive:
            self._free.wake_all()

    def wait(self, timeout: float | None = None) -> bool:
        self.__exit__()
        self._changed.wait(self._kernel, timeout)
        self.__enter__()
        return True

    def wait_for(self, predicate: Callable[[], bool], timeout: float | None = None) -> bool:
        kernel = self._kernel
        deadline = None if timeout is None else kernel.now + timeout
        while not predicate():
            left_s = None if deadline is None else deadline - kernel.now
            if left_s is not None and left_s <= 0:
                return predicate()
            self.wait(left_s)
        return True

    def notify_all(self) -> None:
        if self._changed:
            self._changed.wake_all()


class SimInbox:
    """As `queue.SimpleQueue`."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._items: list[Any] = []
        self._waits = _Waits()

    def put(self, item: Any) -> None:
        if not self._process.alive:
            raise GreenletExit
        self._items.append(item)
        if self._waits:
            self._waits.wake_all()

    def get(self) -> Any:
        if not self._process.alive:
            raise GreenletExit
        while not self._items:
            self._waits.wait(self._process.kernel, None)
        return self._items.pop(0)

    def empty(self) -> bool:
        return not self._items


class SimWaker:
    """As `runner.machine.Waker`."""

    def __init__(self) -> None:
        self.waits = _Waits()
        self.is_ready = False

    def wake(self) -> None:
        self.is_ready = True
        if self.waits:
            self.waits.wake_all()

    def clear(self) -> None:
        self.is_ready = False


class SimConnection:
    """One end of a connection between two processes, as that of `multiprocessing`.

    Attributes:
        waits: The threads that wait for something to read.
        is_ready: Whether there is something to read, or the end.
        peer: The other end.
    """

    def __init__(self, process: Process) -> None:
        self.waits = _Waits()
        self.is_ready = False
        self.peer: SimConnection
        self._process = process
        self._kernel = process.kernel
        self._items: list[Any] = []
        self._last_s = 0.0
        self._is_over = False

    @staticmethod
    def pair(one: Process, other: Process) -> tuple[SimConnection, SimConnection]:
        """Return both ends."""
        ends = SimConnection(one), SimConnection(other)
        ends[0].peer, ends[1].peer = ends[1], ends[0]
        for end in ends:
            end._process.at_death.append(end.close)
        return ends

    def send(self, item: Any) -> None:
        self._process.check()
        if self.peer._is_over or not self.peer._process.alive:
            raise BrokenPipeError
        # In order, however long each takes.
        self._last_s = max(self._last_s, self._kernel.now + self._kernel.random.random() * _MAX_LATENCY_S)
        self._kernel.after(self._last_s - self._kernel.now, self.peer._arrive, item)

    def recv(self) -> Any:
        self._process.check()
        while not self._items:
            if self._is_over:
                raise EOFError
            self.waits.wait(self._kernel, None)
        item = self._items.pop(0)
        self.is_ready = bool(self._items) or self._is_over
        return item

    def close(self) -> None:
        """Let the other end read what has been sent, and then the end."""
        self._is_over = self.is_ready = True
        self._last_s = max(self._last_s, self._kernel.now)
        self._kernel.after(self._last_s - self._kernel.now, self.peer._arrive_end)

    def _arrive(self, item: Any) -> None:
        if not self._is_over:
            self._items.append(item)
            self.is_ready = True
            if self.waits:
                self.waits.resume_all()

    def _arrive_end(self) -> None:
        self._is_over = self.is_ready = True
        if self.waits:
            self.waits.resume_all()


class SimTasks:
    """As `runner.machine.Threads`."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def start(self, function: Callable[..., None], *arguments: Any, name: str) -> Thread:  # noqa: ARG002
        return self._process.start(function, *arguments)

    def event(self) -> SimEvent:
        return SimEvent(self._process)

    def condition(self) -> SimCondition:
        return SimCondition(self._process)

    def inbox(self) -> SimInbox:
        return SimInbox(self._process)

    def waker(self) -> SimWaker:
        return SimWaker()

    def wait(self, sources: Sequence[Any], timeout_s: float) -> list[Any]:
        if not self._process.alive:
            raise GreenletExit
        ready = [source for source in sources if source.is_ready]
        if ready or timeout_s <= 0:
            return ready
        entry = thread, _ = self._process.kernel.begin_wait()
        for source in sources:
            source.waits.append(entry)
        thread.block(timeout_s)
        for source in sources:
            if source.waits:
                source.waits.leave(thread)
        return [source for source in sources if source.is_ready]

    def run_all(self, function: Callable[[Any], None], items: Iterable[Any], at_once: int) -> None:  # noqa: ARG002
        for item in items:
            function(item)


class SimChild:
    """A process that a worker has started, as `runner.machine.Subprocess`."""

    def __init__(self, process: Process, worker: Process) -> None:
        self._process = process
        self._ended = SimEvent(worker)
        process.at_death.append(lambda: self._ended.set() if worker.alive else None)

    def kill(self) -> None:
        self._process.end(-9)

    def wait(self, timeout_s: float) -> int | None:
        return self._process.status or 0 if self._ended.wait(timeout_s) else None


class SimProcesses:
    """Starts job processes, and ends this process.

    Args:
        process: This process.
        main: Runs a job process, given the process and its end of the connection to the worker.
    """

    def __init__(self, process: Process, main: Callable[[Process, SimConnection], None] | None = None) -> None:
        self._process = process
        self._main = main
        self._started = 0

    def start(self, _code: str, _environ: Mapping[str, str]) -> tuple[SimConnection, SimChild]:
        from tests.simulation.kernel import Process  # noqa: PLC0415

        assert self._main is not None
        self._started += 1
        child = Process(self._process.kernel, f"{self._process.name}.{self._started}", self._process)
        ours, theirs = SimConnection.pair(self._process, child)
        child.start(self._main, child, theirs, delay_s=self._process.chance.uniform(0.1, 2.0))
        return ours, SimChild(child, self._process)

    def can_send(self, _connection: SimConnection) -> bool:
        return True

    def exit(self, status: int) -> NoReturn:
        self._process.end(status)
        raise GreenletExit
