"""What keeps a checkpoint fresh while its job goes on, however long a part takes, in a thread of its own."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Self

from runner.errors import RunnerError

if TYPE_CHECKING:
    from runner.checkpoint import Checkpoint
    from runner.control import Control

_BEATS = 3  # for each lease, so that one may fail
_CLOSE_S = 2.0


class CheckpointHeartbeat:
    """Says again and again that a job is somebody's, for as long as the message is; a context manager.

    Args:
        checkpoint: Of the job; nothing is said before there is one, or after it was removed.
        control: What the worker says of the message.
        lease_s: For how long others believe what the checkpoint says.
    """

    def __init__(self, checkpoint: Checkpoint, control: Control, lease_s: float) -> None:
        self._checkpoint = checkpoint
        self._control = control
        self._interval_s = lease_s / _BEATS
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._thread.join(_CLOSE_S)

    def _run(self) -> None:
        while not self._closing.wait(self._interval_s):
            try:
                self._control.check_lease()
                self._checkpoint.touch()
            except RunnerError:  # the job comes to know of it, or S3 is away for a moment
                continue
