"""The clock, chance, threads and processes of this machine, behind interfaces that a simulation can replace."""

from __future__ import annotations

import os
import queue
import random
import select
import signal
import subprocess
import sys
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe, wait
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from types import TracebackType

_T = TypeVar("_T")
_Item = TypeVar("_Item")


class Clock(Protocol):
    """Tells the time, and waits."""

    def monotonic(self) -> float:
        """Return seconds from a fixed moment, the same in all processes of the machine; never goes back."""

    def time(self) -> float:
        """Return seconds since the epoch."""

    def sleep(self, seconds: float) -> None:
        """Wait for a number of seconds."""


class SystemClock:
    """The clock of this machine."""

    def monotonic(self) -> float:
        """Return seconds from a fixed moment, the same in all processes of the machine; never goes back."""
        return time.monotonic()  # CLOCK_MONOTONIC of Linux, which begins when the machine starts

    def time(self) -> float:
        """Return seconds since the epoch."""
        return time.time()

    def sleep(self, seconds: float) -> None:
        """Wait for a number of seconds."""
        time.sleep(seconds)


class Chance(Protocol):
    """Random numbers and names."""

    def uniform(self, low: float, high: float) -> float:
        """Return a random number between two limits."""

    def token(self) -> str:
        """Return a unique name."""


class SystemChance:
    """Chance as the operating system provides it."""

    def uniform(self, low: float, high: float) -> float:
        """Return a random number between two limits."""
        return random.uniform(low, high)  # noqa: S311 - not for cryptography

    def token(self) -> str:
        """Return a unique name."""
        return uuid.uuid4().hex


class Task(Protocol):
    """A thread that was started."""

    def join(self, timeout: float | None = None) -> None:
        """Wait for its end."""


class Event(Protocol):
    """A flag that threads wait for, as `threading.Event`."""

    def set(self) -> None: ...  # noqa: D102 - as in `threading`
    def clear(self) -> None: ...  # noqa: D102
    def is_set(self) -> bool: ...  # noqa: D102
    def wait(self, timeout: float | None = None) -> bool: ...  # noqa: D102


class Condition(Protocol):
    """A lock with a condition to wait for, as `threading.Condition`; also used as a plain lock."""

    def __enter__(self) -> bool: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...
    def wait(self, timeout: float | None = None) -> bool: ...  # noqa: D102 - as in `threading`
    def wait_for(self, predicate: Callable[[], bool], timeout: float | None = None) -> bool: ...  # noqa: D102
    def notify_all(self) -> None: ...  # noqa: D102


class Inbox(Protocol[_Item]):
    """A queue between threads, as `queue.SimpleQueue`."""

    def put(self, item: _Item) -> None: ...  # noqa: D102 - as in `queue`
    def get(self) -> _Item: ...  # noqa: D102
    def empty(self) -> bool: ...  # noqa: D102


class Wakeable(Protocol):
    """Ends a wait of another thread."""

    def wake(self) -> None:
        """End the wait that is going on, or the next one."""

    def clear(self) -> None:
        """Forget that it was woken."""


class Tasks(Protocol):
    """Threads, and what they wait for."""

    def start(self, function: Callable[..., None], *arguments: Any, name: str) -> Task:
        """Run a function in a new thread, which does not keep the process alive."""

    def event(self) -> Event:
        """Return a new flag."""

    def condition(self) -> Condition:
        """Return a new lock."""

    def inbox(self) -> Inbox[Any]:
        """Return a new queue."""

    def waker(self) -> Wakeable:
        """Return something that `wait` can wait for besides connections."""

    def wait(self, sources: Sequence[Any], timeout_s: float) -> list[Any]:
        """Return the connections that can be read, and the wakers that were woken; wait until there is one."""

    def run_all(self, function: Callable[[_Item], None], items: Iterable[_Item], at_once: int) -> None:
        """Call a function with each item, several at a time; raise what a call has raised."""


class Bugs:
    """The first unexpected exception in a thread, which another thread raises."""

    def __init__(self) -> None:
        self._first: Exception | None = None

    def note(self, error: Exception) -> None:
        """Keep an exception, unless there was one before."""
        self._first = self._first or error

    def noted(self, function: Callable[[], None]) -> Callable[[], None]:
        """Return a function for a thread, whose exception is kept."""

        def run() -> None:
            try:
                function()
            except Exception as error:  # noqa: BLE001 - it is raised by `raise_first`
                self.note(error)

        return run

    def raise_first(self) -> None:
        """Raise what was kept, if anything."""
        if self._first is not None:
            raise self._first


class Waker:
    """Ends a wait of the main thread for its connections; can be waited for as they can."""

    def __init__(self) -> None:
        self._readable, self._writable = os.pipe()
        os.set_blocking(self._writable, False)

    def fileno(self) -> int:
        """Return the descriptor that can be read once it was woken."""
        return self._readable

    def wake(self) -> None:
        """End the wait that is going on, or the next one."""
        with suppress(OSError):  # full, which wakes as well
            os.write(self._writable, b"!")

    def clear(self) -> None:
        """Forget that it was woken; only after a wait has returned it."""
        os.read(self._readable, 1 << 10)


class Threads:
    """Threads of this process."""

    def start(self, function: Callable[..., None], *arguments: Any, name: str) -> Task:
        """Run a function in a new thread, which does not keep the process alive."""
        thread = threading.Thread(target=function, args=arguments, name=name, daemon=True)
        thread.start()
        return thread

    def event(self) -> Event:
        """Return a new flag."""
        return threading.Event()

    def condition(self) -> Condition:
        """Return a new lock."""
        return threading.Condition()

    def inbox(self) -> Inbox[Any]:
        """Return a new queue."""
        return queue.SimpleQueue()

    def waker(self) -> Waker:
        """Return something that `wait` can wait for besides connections."""
        return Waker()

    def wait(self, sources: Sequence[Any], timeout_s: float) -> list[Any]:
        """Return the connections that can be read, and the wakers that were woken; wait until there is one."""
        return wait(sources, timeout_s)

    def run_all(self, function: Callable[[_Item], None], items: Iterable[_Item], at_once: int) -> None:
        """Call a function with each item, several at a time; raise what a call has raised."""
        with ThreadPoolExecutor(at_once) as pool:
            for _ in pool.map(function, items):
                pass


class ChildProcess(Protocol):
    """A process that was started."""

    def kill(self) -> None:
        """Kill it and its own children at once, and wait for its end."""

    def wait(self, timeout_s: float) -> int | None:
        """Wait for its end; return its status, that of a signal as a negative number, or None after the timeout."""


class Processes(Protocol):
    """Starts processes, and ends this one."""

    def start(self, code: str, environ: Mapping[str, str]) -> tuple[Connection, ChildProcess]:
        """Run Python code in a new process; return a connection to it and the process."""

    def can_send(self, connection: Connection) -> bool:
        """Return whether a small message can be sent without waiting for the other process to read."""

    def exit(self, status: int) -> NoReturn:
        """End this process at once."""


def can_send(connection: Connection) -> bool:
    """Return whether a small message can be sent without waiting for the other process to read.

    Linux says that a socket can be written to while at least three quarters of its buffer, which has 208 KiB, are free.
    So a sender that asks before each message leaves room for some more.
    """
    poll = select.poll()  # `select.select` takes no descriptors from 1024 on
    poll.register(connection, select.POLLOUT)
    return bool(poll.poll(0))


class Subprocess:
    """A process that was started, the leader of a process group."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def kill(self) -> None:
        """Kill it and its own children at once, and wait for its end."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def wait(self, timeout_s: float) -> int | None:
        """Wait for its end; return its status, that of a signal as a negative number, or None after the timeout."""
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None


class Subprocesses:
    """Processes of the operating system."""

    def start(self, code: str, environ: Mapping[str, str]) -> tuple[Connection, ChildProcess]:
        """Run Python code in a new process; return a connection to it and the process.

        The code finds the descriptor of its end of the connection in `sys.argv[1]`.
        """
        ours, theirs = Pipe()
        process = subprocess.Popen(  # noqa: S603 - our own interpreter, on our own code
            [sys.executable, "-P", "-c", code, str(theirs.fileno())],  # -P: no modules from the current directory
            pass_fds=(theirs.fileno(),),
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr.fileno(),  # ours has JSON lines only
            env={**environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            process_group=0,  # so that it can be killed with its own children, and Ctrl-C is for the worker
        )
        theirs.close()
        return ours, Subprocess(process)

    def can_send(self, connection: Connection) -> bool:
        """Return whether a small message can be sent without waiting for the other process to read."""
        return can_send(connection)

    def exit(self, status: int) -> NoReturn:
        """End this process at once."""
        os._exit(status)
