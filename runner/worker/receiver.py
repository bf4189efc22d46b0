"""Receives the messages of a queue in a thread, one message at a time and only on request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner.errors import DeniedError, RunnerError

if TYPE_CHECKING:
    from collections.abc import Callable

    from runner.aws.message import Message
    from runner.aws.queue import Queue
    from runner.aws.surroundings import Surroundings
    from runner.machine import Bugs, Inbox, Task

_FIRST_WAIT_S, _LONGEST_WAIT_S = 1.0, 30.0


class Receiver:
    """Receives messages.

    Args:
        queue: The queue.
        visibility_s: How long a message that was received stays invisible to others.
        wake: Called when a receive has ended.
        around: The clock and threads.
        bugs: Keeps what the thread raises.
        pauses: Whether it waits after a failure other than a denial before the next receive, longer each time.

    Attributes:
        asked: Whether a receive was requested whose result was not taken yet.
    """

    def __init__(
        self,
        queue: Queue,
        visibility_s: int,
        wake: Callable[[], None],
        around: Surroundings,
        bugs: Bugs,
        *,
        pauses: bool = True,
    ) -> None:
        self._queue = queue
        self._wait_s = 0
        self._visibility_s = visibility_s
        self._wake = wake
        self._clock = around.clock
        self._tasks = around.tasks
        self._bugs = bugs
        self._pauses = pauses
        self._inbox: Inbox[tuple[Message | RunnerError | None, float]] = around.tasks.inbox()
        self._wanted = around.tasks.event()
        self._closing = around.tasks.event()
        self._thread: Task | None = None
        self.asked = False

    def start(self) -> None:
        """Start the thread, which waits for requests."""
        self._thread = self._tasks.start(self._bugs.noted(self._run), name="receiver")

    def ask(self, wait_s: int) -> None:
        """Request one message, unless a request is under way.

        Args:
            wait_s: How long the receive waits for a message.
        """
        if not self.asked:
            self.asked, self._wait_s = True, wait_s
            self._wanted.set()

    def take(self) -> list[tuple[Message | RunnerError | None, float]]:
        """Return the results since the last call: a message, None for a receive without one, or an error.

        Each comes with its time by the monotonic clock.
        """
        found = []
        while not self._inbox.empty():
            found.append(self._inbox.get())
            self.asked = False
        return found

    def close(self) -> None:
        """Start no more receives; one that is under way goes on to its end."""
        self._closing.set()
        self._wanted.set()

    def join(self, timeout_s: float) -> None:
        """Wait for the end of the receive that is under way."""
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        wait_s = _FIRST_WAIT_S
        while self._wanted.wait() and not self._closing.is_set():
            self._wanted.clear()
            try:
                self._report(self._queue.receive(self._wait_s, self._visibility_s))
                wait_s = _FIRST_WAIT_S
            except RunnerError as error:
                self._report(error)
                self._closing.wait(wait_s if self._pauses and not isinstance(error, DeniedError) else 0)
                wait_s = min(2 * wait_s, _LONGEST_WAIT_S)

    def _report(self, found: Message | RunnerError | None) -> None:
        self._inbox.put((found, self._clock.monotonic()))
        self._wake()
