"""What a job writes down while it goes on: how far it has come, and what it is, for who looks at its checkpoint."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from runner.checkpoint import JobProgress

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runner.checkpoint import Checkpoint
    from runner.upload import Upload
    from transform import State, Stream


class ProgressLog:
    """The notes of one job.

    Args:
        checkpoint: Where they are written.
        owner: What stands for the message, as `Message.owner` says.
        lease_s: For how long after a note others believe that the job is this owner's.
        about: What the job is.

    Attributes:
        position: How many bytes of the input have become output or rejects, and how many it has, None if only its end
            tells.
    """

    def __init__(self, checkpoint: Checkpoint, owner: str, lease_s: float, about: Mapping[str, str]) -> None:
        self._checkpoint = checkpoint
        self._owner = owner
        self._lease_s = lease_s
        self._about = about
        self._started = datetime.now(UTC).isoformat(timespec="seconds")
        self.position: tuple[int, int | None] = 0, None

    def take_up(self) -> JobProgress | None:
        """Return how far somebody has come with the job, None if nobody has."""
        progress = self._checkpoint.read()
        if progress is not None:
            self._started = progress.about.get("started", self._started)
        return progress

    def take_over(self, progress: JobProgress) -> None:
        """Write down that it goes on from there as this owner's: whoever had it before is fenced off.

        Raises:
            FencedError: Somebody else has noted something since.
        """
        self._checkpoint.write(replace(progress, owner=self._owner, lease_s=self._lease_s))

    def note(self, upload: Upload, state: State, rejects: int = 0) -> None:
        """Write down how far the job has come; raises as `take_over` does."""
        self.take_over(JobProgress(str(upload.id), tuple(upload.parts), state, rejects, self.about("running")))

    def note_position(self, stream: Stream) -> None:
        """Keep in mind how far the input was transformed, for the next note."""
        read, size = stream.position
        if stream.state.codec is None:  # then it is known more exactly than by what was read ahead
            read = stream.state.summary.bytes_in
        self.position = read, size

    def about(self, outcome: str) -> dict[str, str]:
        """Return what the job is, and how it goes or has ended."""
        read, size = self.position
        return {
            **self._about,
            "outcome": outcome,
            "started": self._started,
            "read": str(read),
            "size": "" if size is None else str(size),
        }
