"""The parts of an output on their way: several are uploaded while the next ones are made, and noted in their order."""

from __future__ import annotations

from collections import deque
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable

    from runner.job.upload import Upload, UploadedPart
    from transform import State

ON_THEIR_WAY_BYTES = 80 << 20  # large parts go one by one, or several would take the memory


@dataclass(frozen=True, slots=True)
class Mark:
    """How far the job has come with a part.

    Attributes:
        state: The input up to which the output is in this part and those before it.
        rejects: How many objects of rejects there are up to there.
    """

    state: State
    rejects: int


class PartSender:
    """Uploads parts in threads of its own; a context manager, which waits at its end for what was begun.

    Parts may arrive in any order. What has arrived without a gap is noted in one more thread, the newest mark alone:
    where noting takes longer than a part does, it is done less often.

    Args:
        upload: What they are parts of.
        note: Notes how far the upload has come; called from a thread, one at a time.
        max_in_flight: How many may be on their way at a time, if they are not large.
    """

    def __init__(self, upload: Upload, note: Callable[[Mark], None], max_in_flight: int) -> None:
        self._upload = upload
        self._note = note
        self._max_in_flight = max_in_flight
        self._uploading = ThreadPoolExecutor(max_in_flight, thread_name_prefix="part")
        self._noting = ThreadPoolExecutor(1, thread_name_prefix="note")
        self._sent: set[Future[None]] = set()
        self._noted: deque[Future[None]] = deque()
        self._arrived: dict[int, tuple[UploadedPart, Mark]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._uploading.shutdown()
        self._noting.shutdown()

    def send(self, mark: Mark) -> None:
        """Upload what is collected, soon; wait where enough is on its way already.

        Raises:
            RunnerError: What became of a part before it, or of noting it.
        """
        room = max(1, ON_THEIR_WAY_BYTES // self._upload.collected_bytes)
        self._settle(leave=min(self._max_in_flight, room) - 1)
        self._sent.add(self._uploading.submit(self._send, *self._upload.take_part(), mark))

    def finish(self) -> None:
        """Wait until all parts are uploaded and noted; raises as `send` does."""
        self._settle(leave=0)
        while self._noted:
            self._noted.popleft().result()

    def _settle(self, leave: int) -> None:
        """Raise what has gone wrong, once no more parts than these are on their way."""
        while True:
            done = {future for future in self._sent if future.done()}
            self._sent -= done
            for future in done:
                future.result()
            while self._noted and self._noted[0].done():
                self._noted.popleft().result()
            if len(self._sent) <= leave:
                return
            wait(self._sent, return_when=FIRST_COMPLETED)

    def _send(self, number: int, content: bytes, mark: Mark) -> None:
        self._arrived[number] = self._upload.put_part(number, content), mark
        self._noted.append(self._noting.submit(self._note_newest))

    def _note_newest(self) -> None:
        """Note what has arrived without a gap, if that is more than was noted."""
        newest = None
        while following := self._arrived.pop(len(self._upload.parts) + 1, None):
            self._upload.parts.append(following[0])
            newest = following[1]
        if newest is not None:
            self._note(newest)
