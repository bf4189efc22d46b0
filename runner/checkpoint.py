"""How far a job has come, as a small object beside the output: whoever takes the job next goes on from there.

Each write is made on condition that the one before it is still there, which fences off a worker that was frozen, lost
its message, and thaws.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Self

from runner.errors import ConditionFailedError, FencedError, NoUploadError
from transform import State

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runner.store import Store

_VERSION = 1


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the output that was uploaded."""

    number: int
    etag: str
    size: int


@dataclass(frozen=True, slots=True)
class Progress:
    """What a checkpoint holds.

    Attributes:
        upload: The id of the multipart upload.
        parts: Those of its parts that hold the output up to `state`.
        state: How far the input has been transformed.
        rejects: How many objects of rejects have been written up to there.
        about: What the job is, for who looks at it.
    """

    upload: str
    parts: tuple[Part, ...] = ()
    state: State = field(default_factory=State)
    rejects: int = 0
    about: Mapping[str, str] = field(default_factory=dict)

    def to_json(self, writer: str = "") -> bytes:
        """Return it as the content of an object, which says who writes it."""
        plain = {
            "version": _VERSION,
            "writer": writer,
            "about": dict(self.about),
            "offset": self.state.summary.bytes_in,
            "upload": self.upload,
            "parts": [asdict(part) for part in self.parts],
            "rejects": self.rejects,
            "state": self.state.to_dict(),
        }
        return json.dumps(plain, indent=1).encode()

    @classmethod
    def of_json(cls, content: bytes) -> Self:
        """Return what `to_json` has made an object of.

        Raises:
            ValueError: It is none of this version.
        """
        try:
            plain: Any = json.loads(content)
            if not isinstance(plain, dict) or plain.get("version") != _VERSION:
                raise ValueError("no checkpoint of this version")
            parts = tuple(Part(**part) for part in plain["parts"])
            return cls(plain["upload"], parts, State.from_dict(plain["state"]), plain["rejects"], plain["about"])
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

    def read(self) -> Progress | None:
        """Return how far the job has come, None if nothing is known; what cannot be understood is known to nobody."""
        found = self._store.read(self._key)
        if found is None:
            return None
        content, self._etag = found
        try:
            return Progress.of_json(content)
        except ValueError:
            return None

    def write(self, progress: Progress) -> None:
        """Note how far the job has come.

        Raises:
            FencedError: Somebody else has noted something since this worker last did.
        """
        condition = {"IfMatch": self._etag} if self._etag else {"IfNoneMatch": "*"}
        content = progress.to_json(self._writer)
        try:
            answer = self._store.call(
                "put_object", Key=self._key, Body=content, ContentType="application/json", **condition
            )
        except (ConditionFailedError, NoUploadError) as error:
            # Perhaps it was written and the answer got lost, and now that it was tried again it is there already.
            if (found := self._store.read(self._key)) is not None and found[0] == content:
                self._etag = found[1]
                return
            raise FencedError(f"another worker goes on with the job ({error})") from error
        self._etag = answer["ETag"]

    def remove(self) -> None:
        """Forget how far the job has come."""
        if self._etag is not None:
            self._store.delete(self._key)
            self._etag = None
