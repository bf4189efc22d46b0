"""The checkpoint of a job: a small object with its progress, from which the next worker continues.

`JobProgress` is its content. `Checkpoint` reads and writes the object: each write has the condition that the object is
still the one that was last read or written here, which fences off a worker that was frozen, lost its message, and
thaws. `ProgressLog` makes the content of the writes while a job runs.

The object also names the owner of the job, and `CheckpointHeartbeat` writes it again and again. If there are two
messages about one object at the same time, the second one sees that the job is running, and leaves it to the first.
"""

from __future__ import annotations

import json
import threading
import uuid
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

from runner.errors import ConditionFailedError, FencedError, NoUploadError, RunnerError
from transform import State, UploadedPart

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runner.aws.bucket import Store
    from runner.job.control import Control
    from runner.job.upload import Upload
    from transform import Stream


_VERSION = 1


@dataclass(frozen=True, slots=True)
class JobProgress:
    """The content of a checkpoint.

    Attributes:
        upload: The id of the multipart upload.
        parts: The parts of the upload that contain the output up to `state`.
        state: How far the input has been transformed.
        rejects: How many objects of rejects have been written up to `state`.
        about: A description of the job, for operators.
        owner: The owner of the message that it was written for; see `Message.owner`.
        lease_s: For how many seconds after it was written others assume that the owner works on the job.
    """

    upload: str
    parts: tuple[UploadedPart, ...] = ()
    state: State = field(default_factory=State)
    rejects: int = 0
    about: Mapping[str, str] = field(default_factory=dict)
    owner: str = ""
    lease_s: float = 0.0

    def to_json(self, writer: str = "") -> bytes:
        """Return the content of the object; `writer` makes it differ from the same content by another process."""
        plain = {
            "version": _VERSION,
            "writer": writer,
            "owner": self.owner,
            "lease_s": self.lease_s,
            "about": dict(self.about),
            "offset": self.state.summary.bytes_in,
            "upload": self.upload,
            "parts": [{"number": part.number, "etag": part.etag, "size": part.size} for part in self.parts],
            "rejects": self.rejects,
            "state": self.state.to_dict(),
        }
        return json.dumps(plain).encode()  # with line breaks, it would take eight times as long for 10,000 parts

    @classmethod
    def from_json(cls, content: bytes) -> Self:
        """Return the progress from the content of the object.

        Raises:
            ValueError: It is not a checkpoint of this version.
        """
        try:
            plain: Any = json.loads(content)
            if not isinstance(plain, dict) or plain.get("version") != _VERSION:
                raise ValueError("no checkpoint of this version")
            parts = tuple(UploadedPart(**part) for part in plain["parts"])
            state, lease_s = State.from_dict(plain["state"]), float(plain.get("lease_s", 0))
            owner = str(plain.get("owner", ""))
            return cls(plain["upload"], parts, state, plain["rejects"], plain["about"], owner, lease_s)
        except (KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"no checkpoint: {error!r}") from error


class Checkpoint:
    """The checkpoint of one job, as an object in the output bucket.

    Args:
        store: The bucket.
        key: The key of the object.
    """

    def __init__(self, store: Store, key: str) -> None:
        self._store = store
        self._key = key
        # ETags are hashes of the content: without this id, a worker that wrote the same content was not fenced off.
        self._writer = uuid.uuid4().hex
        self._etag: str | None = None
        self._content = b""
        self._age_s = 0.0
        self._lock = threading.Lock()  # the heartbeat writes from another thread

    def read(self) -> JobProgress | None:
        """Return how far the job has come, None if there is no checkpoint, or if its content is not valid."""
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
        condition = {"IfMatch": self._etag} if self._etag else {"IfNoneMatch": "*"}
        try:
            answer = self._store.call(
                "put_object", Key=self._key, Body=content, ContentType="application/json", **condition
            )
        except (ConditionFailedError, NoUploadError) as error:
            # Perhaps it was written and the answer was lost, so that the retry found a changed object.
            if (found := self._store.read(self._key)) is not None and found[0] == content:
                self._etag, self._content = found[1], content
                return
            raise FencedError(f"another worker goes on with the job ({error})") from error
        self._etag, self._content = answer["ETag"], content

    def remove(self) -> None:
        """Delete the object, if this worker has read or written it."""
        with self._lock:
            if self._etag is not None:
                self._store.delete(self._key)
                self._etag, self._content = None, b""


class ProgressLog:
    """Writes the progress of one job to its checkpoint.

    Args:
        checkpoint: The checkpoint of the job.
        owner: The owner of the message; see `Message.owner`.
        lease_s: For how many seconds after a write others assume that this owner works on the job.
        about: A description of the job.

    Attributes:
        position: How many bytes of the input have become output or rejects, and the size of the input, None if that is
            not known.
    """

    def __init__(self, checkpoint: Checkpoint, owner: str, lease_s: float, about: Mapping[str, str]) -> None:
        self._checkpoint = checkpoint
        self._owner = owner
        self._lease_s = lease_s
        self._about = about
        self._started = datetime.now(UTC).isoformat(timespec="seconds")
        self.position: tuple[int, int | None] = 0, None

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

    def note(self, upload: Upload, state: State, rejects: int = 0) -> None:
        """Write how far the job has come; raises as `take_over` does."""
        self.take_over(JobProgress(str(upload.id), tuple(upload.parts), state, rejects, self.about("running")))

    def note_position(self, stream: Stream) -> None:
        """Remember how far the input was transformed, for the next write."""
        read, size = stream.position
        if stream.state.codec is None:  # then the position is known exactly, without what was read ahead
            read = stream.state.summary.bytes_in
        self.position = read, size

    def about(self, outcome: str) -> dict[str, str]:
        """Return the description of the job, with its outcome and position."""
        read, size = self.position
        return {
            **self._about,
            "outcome": outcome,
            "started": self._started,
            "read": str(read),
            "size": "" if size is None else str(size),
        }


_BEATS = 3  # for each `lease_s`, so that one may fail
_CLOSE_S = 2.0


class CheckpointHeartbeat:
    """Writes a checkpoint again and again while its job runs, from a separate thread; a context manager.

    So others see that the job is running, however long a part takes. It stops when the lease on the message is lost.

    Args:
        checkpoint: The checkpoint of the job; nothing is written before it exists, or after it was removed.
        control: The connection to the worker, which knows the lease.
        lease_s: For how many seconds after a write others assume that the job is running.
    """

    def __init__(self, checkpoint: Checkpoint, control: Control, lease_s: float) -> None:
        self._checkpoint = checkpoint
        self._control = control
        self._interval_s = lease_s / _BEATS
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="checkpoint", daemon=True)

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
            except RunnerError:  # the job will notice it as well, or S3 is unavailable for a moment
                continue
