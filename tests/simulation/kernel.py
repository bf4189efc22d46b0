"""The scheduler of the simulation: one thread, virtual time, and greenlets as the threads of simulated processes.

Whatever happens is an event in a heap, in the order of virtual time. A woken thread runs a random moment later. A
greenlet runs until it waits for something. A process can be killed, after which none of its threads runs again and none
of them can ask for anything, or frozen, after which its threads run only when it thaws.
"""

from __future__ import annotations

import random
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any
from zlib import crc32

from greenlet import GreenletExit, getcurrent, greenlet

if TYPE_CHECKING:
    from collections.abc import Callable

EPOCH_S = 1_800_000_000.0
"""The wall-clock time at which simulations start."""

_MAX_PAUSE_S = 0.002  # between the end of a wait and the moment when the thread runs again


class Stuck(Exception):  # noqa: N818 - what has happened, in the words of a trace
    """The simulation has not come to rest within its limits."""


class Process:
    """A simulated process.

    Args:
        kernel: The scheduler.
        name: Its name in traces.
        parent: The process that starts it, None if there is no such process.

    Attributes:
        parent: The process that started it, None if there is no such process.
        alive: Whether its threads may run.
        frozen_until: Its threads do not run before this time.
        chance: Its source of randomness, so that what one process draws does not change what others draw.
        skew_s: How far its wall clock is ahead of the true time.
        status: Its exit status once it has ended.
        children: The processes that it has started.
        requests: How many requests it has sent.
        known: The ETags of checkpoints that it has read or written.
        at_death: Called when it ends.
    """

    def __init__(self, kernel: Kernel, name: str, parent: Process | None = None) -> None:
        self.kernel = kernel
        self.parent = parent
        self.name = name
        self.alive = True
        self.frozen_until = 0.0
        self.chance = random.Random(crc32(f"{kernel.seed} {name}".encode()))  # a text would take longer
        self.skew_s: float = parent.skew_s if parent is not None else 0.0
        self.status: int | None = None
        self.children: list[Process] = []
        self.at_death: list[Callable[[], None]] = []
        self.requests = 0
        self.known: set[str] = set()
        self._threads: dict[Thread, None] = {}  # in the order in which they began
        if parent is not None:
            parent.children.append(self)

    def start(self, function: Callable[..., None], *arguments: Any, delay_s: float = 0.0) -> Thread:
        """Run a function in a new thread of this process."""
        self.check()
        thread = Thread(self, function, arguments)
        self._threads[thread] = None
        self.kernel.after(delay_s, thread.resume, 0)
        return thread

    def check(self) -> None:
        """Raise what ends a thread if the process has ended."""
        if not self.alive:
            raise GreenletExit

    def end(self, status: int) -> None:
        """End the process and all processes that it has started; the thread that calls this goes on until it waits."""
        if not self.alive:
            return
        self.alive, self.status = False, status
        for child in self.children:
            child.end(-9)
        threads, self._threads = self._threads, {}
        for thread in threads:
            thread.throw()
        for action in self.at_death:
            action()

    def freeze(self, seconds: float) -> None:
        """Let no thread of the process run for a number of seconds; its children are not frozen."""
        self.frozen_until = max(self.frozen_until, self.kernel.now + seconds)
        self.kernel.frozen_until = max(self.kernel.frozen_until, self.frozen_until)

    def forget(self, thread: Thread) -> None:
        """Note that a thread has ended."""
        self._threads.pop(thread, None)


class Thread:
    """A thread of a simulated process.

    Args:
        process: The process.
        function: What it runs.
        arguments: The arguments of the function.

    Attributes:
        process: The process.
        done: Whether it has ended.
        joining: Threads that wait for its end, each with the number of its wait.
    """

    def __init__(self, process: Process, function: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        self.process = process
        self.done = False
        self.joining: list[tuple[Thread, int]] = []
        self._kernel = process.kernel
        self._function = function
        self._arguments = arguments
        self._greenlet = greenlet(self._run, parent=process.kernel.hub)
        self._switch = process.kernel.hub.switch
        self._resume = self.resume  # bound once
        self._wait = 0

    def block(self, timeout_s: float | None = None) -> Any:
        """Wait until `wake` is called with the number of this wait; return its value, None after the timeout."""
        process = self.process
        if not process.alive:
            raise GreenletExit
        if timeout_s is not None:
            self._kernel.after(timeout_s, self._resume, self._wait, None)
        value = self._switch()
        if not process.alive:
            raise GreenletExit
        return value

    def wake(self, wait: int, value: Any = None) -> None:
        """End a wait, unless it has ended already; the thread runs a moment later."""
        kernel = self._kernel
        kernel.after(kernel.random.random() * _MAX_PAUSE_S, self._resume, wait, value)

    def join(self, timeout: float | None = None) -> None:
        """Wait for its end."""
        if not self.done:
            current, wait = self._kernel.begin_wait()
            self.joining.append((current, wait))
            current.block(timeout)

    def throw(self) -> None:
        """End it, unless it is the one that runs now."""
        if self._greenlet is not getcurrent() and not self._greenlet.dead:
            before = self._kernel.running
            self._greenlet.parent = getcurrent()  # which goes on once it has ended
            self._greenlet.throw(GreenletExit)
            self._kernel.running = before

    def resume(self, wait: int, value: Any = None) -> None:
        """End a wait at once, unless it has ended already, or begin (wait 0); only events do this: no thread runs."""
        if wait != self._wait or self.done:
            return
        process, kernel = self.process, self._kernel
        if not process.alive:
            return
        if process.frozen_until > kernel.now:
            kernel.after(process.frozen_until - kernel.now, self.resume, wait, value)
            return
        kernel.running = self
        self._wait += 1  # what else was to end this wait comes too late
        if wait:
            self._greenlet.switch(value)
        else:
            self._greenlet.switch()
        kernel.running = None

    def _run(self) -> None:
        try:
            self._function(*self._arguments)
        except GreenletExit:
            pass
        except BaseException as error:  # noqa: BLE001 - a bug, which ends the simulation
            if self.process.alive:
                self._kernel.failure = self._kernel.failure or (self.process, error)
        self.done = True
        self.process.forget(self)
        for thread, wait in self.joining:
            thread.wake(wait)


class Kernel:
    """The scheduler.

    Args:
        seed: Decides all that is random.

    Attributes:
        seed: The seed.
        now: Seconds since the start, in virtual time.
        random: The source of randomness of the scheduler.
        running: The thread that runs, None between two events.
        frozen_until: No process is frozen after this time.
        failure: The process in which a thread has ended by an error, and the error.
        events: How many events have happened.
    """

    def __init__(self, seed: object) -> None:
        self.seed = seed
        self.now = 0.0
        self.random = random.Random(f"{seed} kernel")
        self.hub = getcurrent()
        self.running: Thread | None = None
        self.frozen_until = 0.0
        self.failure: tuple[Process, BaseException] | None = None
        self.events = 0
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._pushed = 0

    def begin_wait(self) -> tuple[Thread, int]:
        """Return the thread that runs, and the number of the wait that its next `block` is."""
        thread = self.running
        assert thread is not None, "only threads can wait"
        if not thread.process.alive:
            raise GreenletExit
        thread._wait += 1
        return thread, thread._wait

    def epoch_s(self) -> float:
        """Return the true time, in seconds since the epoch."""
        return EPOCH_S + self.now

    def after(self, seconds: float, action: Callable[..., None], *arguments: Any) -> None:
        """Let an action happen later."""
        self._pushed += 1
        heappush(self._heap, (self.now + seconds, self._pushed, action, arguments))

    def run(self, is_over: Callable[[], bool], *, max_s: float, max_events: int) -> None:
        """Let events happen until the simulation is over, or nothing more happens.

        Raises:
            Stuck: It is not over after `max_s` seconds of virtual time, or `max_events` events.
        """
        heap = self._heap
        max_events += self.events
        while heap and self.failure is None:
            self.now, _, action, arguments = heappop(heap)
            self.events += 1
            if self.now > max_s or self.events > max_events:
                raise Stuck(f"not at rest after {self.now:.0f} s and {self.events} events")
            action(*arguments)
            if is_over():
                return
