"""How far a job has come, as a small object beside the output: whoever takes the job next goes on from there.

Each write is made on condition that the one before it is still there, which fences off a worker that was frozen, lost
its message, and thaws. It also says whose the job is, and is written again while that goes on: of two messages about
one object, delivered at the same time, the second leaves the job to the first, instead of taking it over.

What a job writes down while it goes on: how far it has come, and what it is, for who looks at its checkpoint.

What keeps a checkpoint fresh while its job goes on, however long a part takes, in a thread of its own.
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
    """What a checkpoint holds.

    Attributes:
        upload: The id of the multipart upload.
        parts: Those of its parts that hold the output up to `state`.
        state: How far the input has been transformed.
        rejects: How many objects of rejects have been written up to there.
        about: What the job is, for who looks at it.
        owner: Whose message it was written for, as `Message.owner` says.
        lease_s: For how long after it was written the owner is believed to be at work.
    """

    upload: str
    parts: tuple[UploadedPart, ...] = ()
    state: State = field(default_factory=State)
    rejects: int = 0
    about: Mapping[str, str] = field(default_factory=dict)
    owner: str = ""
    lease_s: float = 0.0

    def to_json(self, writer: str = "") -> bytes:
        """Return it as the content of an object, which says who writes it."""
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
        """Return what `to_json` has made an object of.

        Raises:
            ValueError: It is none of this version.
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
    """The checkpoint of one job.

    Args:
        store: The bucket.
        key: The object.
    """

    def __init__(self, store: Store, key: str) -> None:
        self._store = store
        self._key = key
        # ETags are hashes: were the content the same as the one before, whoever wrote that would not be fenced off.
        self._writer = uuid.uuid4().hex
        self._etag: str | None = None
        self._content = b""
        self._age_s = 0.0
        self._lock = threading.Lock()  # for whoever keeps it fresh

    def read(self) -> JobProgress | None:
        """Return how far the job has come, None if nothing is known; what cannot be understood is known to nobody."""
        found = self._store.read_aged(self._key)
        if found is None:
            return None
        content, self._etag, self._age_s = found
        try:
            return JobProgress.from_json(content)
        except ValueError:
            return None

    def is_held(self, progress: JobProgress, owner: str) -> bool:
        """Return whether somebody else is at work on the job, given what was read; a message's copy is the same one."""
        return progress.owner != owner and self._age_s < progress.lease_s

    def write(self, progress: JobProgress) -> None:
        """Note how far the job has come.

        Raises:
            FencedError: Somebody else has noted something since this worker last did.
        """
        with self._lock:
            self._put(progress.to_json(self._writer))

    def touch(self) -> None:
        """Note once more what was noted last, if anything was; raises as `write` does."""
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
            # Perhaps it was written and the answer got lost, and now that it was tried again it is there already.
            if (found := self._store.read(self._key)) is not None and found[0] == content:
                self._etag, self._content = found[1], content
                return
            raise FencedError(f"another worker goes on with the job ({error})") from error
        self._etag, self._content = answer["ETag"], content

    def remove(self) -> None:
        """Forget how far the job has come."""
        with self._lock:
            if self._etag is not None:
                self._store.delete(self._key)
                self._etag, self._content = None, b""


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
