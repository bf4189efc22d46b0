"""The checkpoint of a job: a small object with its progress, from which the next worker continues.

`progress.JobProgress` is its content. `Checkpoint` reads and writes the object: each write has the condition that the
object is still the one that was last read or written here, which fences off a worker that was frozen, lost its message,
and thaws. `ProgressLog` makes the content of the writes while a job runs.

The object also names the owner of the job, and `CheckpointHeartbeat` writes it again and again. If there are two
messages about one object at the same time, the second one sees that the job is running, and leaves it to the first.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Self

from runner.aws.surroundings import REAL, Surroundings
from runner.errors import ConditionFailedError, FencedError, NoUploadError, RunnerError
from runner.job.progress import JobProgress, writer_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runner.aws.bucket import Store
    from runner.job.control import Control
    from runner.job.upload import Upload
    from runner.machine import Clock, Task, Tasks
    from transform import State, Stream


class Checkpoint:
    """The checkpoint of one job, as an object in the output bucket.

    Args:
        store: The bucket.
        key: The key of the object.
        around: The chance and threads of the process.
    """

    def __init__(self, store: Store, key: str, around: Surroundings = REAL) -> None:
        self._store = store
        self._key = key
        # ETags are hashes of the content: without this id, a worker that wrote the same content was not fenced off.
        self._writer = around.chance.token()
        self._etag: str | None = None
        self._content = b""
        self._age_s = 0.0
        self._lock = around.tasks.condition()  # the heartbeat writes from another thread

    def read(self) -> JobProgress | None:
        """Return how far the job has come, None if there is no checkpoint, or if its content is not valid.

        The upload that an invalid one may have named is left to `runner sweep`, or to the lifecycle rule of the bucket.
        """
        found = self._store.read_aged(self._key)
        if found is None:
            return None
        content, self._etag, self._age_s = found
        try:
            return JobProgress.from_json(content)
        except ValueError:
            return None

    def is_held(self, progress: JobProgress, owner: str) -> bool:
        """Return whether another owner works on the job, given what was read; copies of a message have one owner."""
        return progress.owner != owner and self._age_s < progress.lease_s

    def write(self, progress: JobProgress) -> None:
        """Write how far the job has come.

        Raises:
            FencedError: Another worker has written the checkpoint since this one last read or wrote it.
        """
        with self._lock:
            self._put(progress.to_json(self._writer))

    def touch(self) -> None:
        """Write the last content again, if there is one; raises as `write` does."""
        with self._lock:
            if self._etag is not None and self._content:
                self._put(self._content)

    def _put(self, content: bytes) -> None:
        try:
            etag = self._put_once(content)
        except (ConditionFailedError, NoUploadError) as error:
            # Perhaps this or an earlier write was done and its answer was lost, so that the object has changed.
            found = self._mine()
            if found is None:
                raise FencedError(f"another worker has resumed the job ({error})") from error
            there, self._etag = found
            etag = self._etag if there == content else self._put_again(content)
        self._etag, self._content = etag, content

    def _put_once(self, content: bytes) -> str:
        condition = {"IfMatch": self._etag} if self._etag else {"IfNoneMatch": "*"}
        arguments = {"Key": self._key, "Body": content, "ContentType": "application/json", **condition}
        return str(self._store.call("put_object", **arguments)["ETag"])

    def _put_again(self, content: bytes) -> str:
        try:
            return self._put_once(content)
        except (ConditionFailedError, NoUploadError) as error:
            raise FencedError(f"another worker has resumed the job ({error})") from error

    def _mine(self) -> tuple[bytes, str] | None:
        """Return the content and the ETag of the object, None unless this worker was the last to write it."""
        found = self._store.read(self._key)
        return found if found is not None and writer_of(found[0]) == self._writer else None

    def exists(self) -> bool:
        """Return whether there is a checkpoint, by any worker."""
        return self._store.head(self._key) is not None

    def remove(self) -> None:
        """Delete the object, if it is the one that this worker last read or wrote; that of another worker stays."""
        with self._lock:
            if self._etag is None:
                return
            if not self._store.delete_if(self._key, self._etag) and (found := self._mine()) is not None:
                self._store.delete_if(self._key, found[1])
            self._etag, self._content = None, b""


class ProgressLog:
    """Writes the progress of one job to its checkpoint.

    Args:
        checkpoint: The checkpoint of the job.
        owner: The owner of the message; see `Message.owner`.
        lease_s: For how many seconds after a write others assume that this owner works on the job.
        about: A description of the job.
        clock: Tells the time.

    Attributes:
        position: How many bytes of the input have become output or rejects, and the size of the input, None if that is
            not known.
        output: The URI of the output, "" before it is known.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        owner: str,
        lease_s: float,
        about: Mapping[str, str],
        clock: Clock = REAL.clock,
    ) -> None:
        self._checkpoint = checkpoint
        self._owner = owner
        self._lease_s = lease_s
        self._about = about
        self._started = datetime.fromtimestamp(clock.time(), UTC).isoformat(timespec="seconds")
        self.position: tuple[int, int | None] = 0, None
        self.output = about.get("output", "")

    def take_up(self) -> JobProgress | None:
        """Read how far an earlier attempt at the job has come; None without a checkpoint."""
        progress = self._checkpoint.read()
        if progress is not None:
            self._started = progress.about.get("started", self._started)
        return progress

    def take_over(self, progress: JobProgress) -> None:
        """Write that this owner continues from a progress, which fences off the worker that had the job before.

        Raises:
            FencedError: Another worker has written the checkpoint since.
        """
        self._checkpoint.write(replace(progress, owner=self._owner, lease_s=self._lease_s))

    def note(self, upload: Upload, state: State, rejects: tuple[str, ...] = (), reject_bytes: int = 0) -> None:
        """Write how far the job has come; raises as `take_over` does."""
        self.take_over(
            JobProgress(
                upload=str(upload.id),
                parts=tuple(upload.parts),
                state=state,
                rejects=rejects,
                reject_bytes=reject_bytes,
                about=self.about("running"),
                sequencer=upload.origin.sequencer,
                modified=upload.origin.modified,
                sent=upload.origin.sent,
                first_sent=upload.origin.first_sent,
                codec=upload.codec,
                output=upload.key,
            )
        )

    def note_position(self, stream: Stream) -> None:
        """Remember how far the input was transformed, for the next write."""
        read, size = stream.position
        if stream.state.codec is None:  # then the position is known exactly, without what was read ahead
            read = stream.summary.bytes_in
        self.position = read, size

    def about(self, outcome: str) -> dict[str, str]:
        """Return the description of the job, with its outcome and position."""
        read, size = self.position
        return {
            **self._about,
            "output": self.output,
            "outcome": outcome,
            "started": self._started,
            "read": str(read),
            "size": "" if size is None else str(size),
        }


_BEATS = 3  # for each `lease_s`, so that one may fail


class CheckpointHeartbeat:
    """Writes a checkpoint again and again while its job runs, from a separate thread; a context manager.

    So others see that the job is running, however long a part takes. It stops when the lease on the message is lost.

    Args:
        checkpoint: The checkpoint of the job; nothing is written before it exists, or after it was removed.
        control: The connection to the worker, which knows the lease.
        lease_s: For how many seconds after a write others assume that the job is running.
        tasks: Starts the thread.
    """

    def __init__(self, checkpoint: Checkpoint, control: Control, lease_s: float, tasks: Tasks = REAL.tasks) -> None:
        self._checkpoint = checkpoint
        self._control = control
        self._interval_s = lease_s / _BEATS
        self._tasks = tasks
        self._closing = tasks.event()
        self._thread: Task | None = None

    def __enter__(self) -> Self:
        self._thread = self._tasks.start(self._run, name="checkpoint")
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        if self._thread is not None:
            # A write that ended later would change the ETag after the next job of this process has read the checkpoint.
            self._thread.join()

    def _run(self) -> None:
        while not self._closing.wait(self._interval_s):
            try:
                self._control.check_lease()
                self._checkpoint.touch()
            except RunnerError:  # the job will notice it as well, or S3 is unavailable for a moment
                continue
