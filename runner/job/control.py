"""The connection of a job process to the worker: orders and requests to stop come in, progress goes out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runner.aws.surroundings import REAL, Surroundings
from runner.errors import StoppedError
from runner.job.protocol import LeaseExtension, Order, ProgressUpdate, Stop

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from runner.machine import Inbox

_TELL_INTERVAL_S = 0.5
_ORPHANED = 3


class Control:
    """Receives messages of the worker in a separate thread, because a job may take long between two checks.

    If the worker is gone, nothing renews the lease on the message, so this process ends at once.

    Args:
        connection: The connection to the worker.
        around: The clock, threads and so on of the process.
    """

    def __init__(self, connection: Connection, around: Surroundings = REAL) -> None:
        self._connection = connection
        self._around = around
        self._clock = around.clock
        self._orders: Inbox[Order] = around.tasks.inbox()
        self._stop = around.tasks.event()
        self._until = float("inf")
        self._told = 0.0
        self._job = ""
        self._offset = 0
        self._position: tuple[int, int | None] = 0, None
        self._sending = around.tasks.condition()  # checkpoints are reported from another thread

    def start(self) -> None:
        """Start to listen to the worker."""
        self._around.tasks.start(self._listen, name="control")

    def next_order(self) -> Order:
        """Wait for the next job."""
        return self._orders.get()

    def begin(self, job: str) -> None:
        """Send the id of the job that begins."""
        self._job, self._offset, self._position = job, 0, (0, None)
        self.send(ProgressUpdate(job, 0, 0, None))

    def check(self) -> None:
        """Raise if the job has to stop.

        Raises:
            StoppedError: The worker asks for it, or another worker may have the message by now.
        """
        if self._stop.is_set():
            raise StoppedError("the worker stops")
        self.check_lease()

    def check_lease(self) -> None:
        """Raise if the job must not even finish its current step.

        Raises:
            StoppedError: Another worker may have the message by now.
        """
        if self._clock.monotonic() > self._until:
            raise StoppedError("the worker's lease on the message has run out")

    def note_checkpoint(self, offset: int) -> None:
        """Send how far the checkpoint has come, at once: the job may wait for a part, and be stopped there."""
        self._offset = offset
        self.send(ProgressUpdate(self._job, offset, *self._position))

    def tell(self, done: int, total: int | None) -> None:
        """Send how far the job has come, if the last time was long enough ago, or if it has started again."""
        has_restarted = done < self._position[0]
        if has_restarted:  # its last checkpoint is of no use any more, and must not count as progress
            self._offset = 0
        self._position = done, total
        now = self._clock.monotonic()
        if has_restarted or now - self._told >= _TELL_INTERVAL_S:
            self._told = now
            self.send(ProgressUpdate(self._job, self._offset, done, total))

    def send(self, message: Any) -> None:
        """Send a message to the worker."""
        try:
            with self._sending:
                self._connection.send(message)
        except OSError:
            self._around.processes.exit(_ORPHANED)

    def _listen(self) -> None:
        try:
            while True:
                match self._connection.recv():
                    case Order() as order:
                        self._stop.clear()
                        self._until = order.lease_until
                        self._orders.put(order)
                    case Stop():
                        self._stop.set()
                    case LeaseExtension(until):
                        self._until = until
        except (EOFError, OSError):
            self._around.processes.exit(_ORPHANED)
