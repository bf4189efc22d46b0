"""The connection of a job process to the worker: orders and requests to stop come in, progress goes out."""

from __future__ import annotations

import os
import queue
import threading
import time
from typing import TYPE_CHECKING, Any

from runner.errors import StoppedError
from runner.job.protocol import LeaseExtension, Order, ProgressUpdate, Stop

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

_TELL_INTERVAL_S = 0.5
_ORPHANED = 3


class Control:
    """Receives messages of the worker in a separate thread, because a job may take long between two checks.

    If the worker is gone, nothing renews the lease on the message, so this process ends at once.

    Args:
        connection: The connection to the worker.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._orders: queue.Queue[Order] = queue.Queue()
        self._stop = threading.Event()
        self._until = float("inf")
        self._told = 0.0
        self._job = ""
        self._offset = 0
        self._position: tuple[int, int | None] = 0, None
        self._sending = threading.Lock()  # checkpoints are reported from another thread
        threading.Thread(target=self._listen, daemon=True).start()

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
        if time.monotonic() > self._until:
            raise StoppedError("the worker's lease on the message has run out")

    def note_checkpoint(self, offset: int) -> None:
        """Send how far the checkpoint has come, at once: the job may wait for a part, and be stopped there."""
        self._offset = offset
        self.send(ProgressUpdate(self._job, offset, *self._position))

    def tell(self, done: int, total: int | None) -> None:
        """Send how far the job has come, if the last time was long enough ago."""
        self._position = done, total
        now = time.monotonic()
        if now - self._told >= _TELL_INTERVAL_S:
            self._told = now
            self.send(ProgressUpdate(self._job, self._offset, done, total))

    def send(self, message: Any) -> None:
        """Send a message to the worker."""
        try:
            with self._sending:
                self._connection.send(message)
        except OSError:
            os._exit(_ORPHANED)

    def _listen(self) -> None:
        try:
            while True:
                match self._connection.recv():
                    case Order() as order:
                        self._stop.clear()
                        self._until = float("inf")
                        self._orders.put(order)
                    case Stop():
                        self._stop.set()
                    case LeaseExtension(seconds):
                        self._until = time.monotonic() + seconds
        except (EOFError, OSError):
            os._exit(_ORPHANED)
