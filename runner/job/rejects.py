"""The rejected lines of a job: numbered objects under one prefix, and an index of counts and reasons.

A worker that was frozen cannot be kept from writing an object after it thaws. So the name of an object has the number
and its writer, and no worker overwrites the object of another. The checkpoint and the index list the names that count.

Several attempts at one job reject the same lines: of the same content, by the same calculation. They can run at the
same time, or much later if the same content is uploaded again, while the output of an earlier one exists. So

- an index of outcome `published` is complete. Only one of the same outcome replaces it, and that one is never taken
  back: it has the lines of the existing output, which another attempt may have published. That of a job that has failed
  is not replaced by that of one that was cancelled, which may have come less far;
- an attempt that has written its index deletes older objects. So one that finds an index of the same outcome that is
  younger than itself may have lost objects: it takes those of that index, and writes it again, so that no other attempt
  takes it back. If those are gone, the request for that index took effect after its sender had deleted them, and it
  keeps its own;
- an object that a checkpoint may name stays until there is no checkpoint: the attempt that continues from there puts it
  into its index. If such an object is missing, because a lifecycle rule has deleted it for example, that attempt starts
  again from the beginning.

What an attempt has left that was killed is deleted at the end of the next one, after its index was written, unless it
is younger than the index. An attempt without rejected lines writes no index, and deletes only what it wrote before it
started again: it may have been cancelled early, while another worker does the same job. An object that a frozen worker
writes after that stays, without being named by the index: the lease is checked before each request, so it is one at
most. `runner sweep` deletes it.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from runner.aws.bucket import list_objects
from runner.errors import ConditionFailedError, StartAgainError
from transform import format_exact_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import datetime

    from runner.aws.bucket import Store
    from runner.machine import Clock
    from transform import Summary

_OBJECT_BYTES = 16 << 20
MAX_REJECT_BYTES = 1 << 30
"""How many bytes of rejected lines of a job are kept; those after that are only counted."""
_JSON_LINES = "application/x-ndjson"
INDEX_NAME = "index.json"
_OBJECT_NAME = re.compile(r"[0-9]{8}(-[0-9A-Za-z]+)?\.jsonl")  # earlier versions wrote them without a writer
_WRITER_CHARACTERS = 16
_RESOLUTION_S = 2.0  # of the age of an object: S3 has whole seconds
_INDEX_DELAY = timedelta(seconds=2)  # at most, between the last object of most attempts and the index, in whole seconds
_OUTCOMES = ("cancelled", "failed", "published")
"""In the order in which the index of one replaces that of another."""
_TRIES = 5


class RejectObjects:
    """The objects of rejected lines of one job.

    Args:
        store: The bucket.
        folder: The prefix of the objects.
        writer: A name that no other attempt has.
        clock: Tells the time.
        check: Called before each request to write; raises if another worker may have the job.
        names: The names of the objects that there are already, up to the checkpoint.
        size: How many bytes these have.
        max_bytes: How many bytes to keep. The first line beyond it, and all after that, are not kept.

    Attributes:
        folder: The prefix of the objects.
        names: The names of the objects.
        size: How many bytes were kept, including those that are not in an object yet.
    """

    def __init__(
        self,
        store: Store,
        folder: str,
        writer: str,
        clock: Clock,
        check: Callable[[], None],
        names: Iterable[str] = (),
        size: int = 0,
        max_bytes: int = MAX_REJECT_BYTES,
    ) -> None:
        self._store = store
        self.folder = folder
        self._writer = writer[:_WRITER_CHARACTERS]
        self._clock = clock
        self._begun = clock.monotonic()
        self._check = check
        self._buffer = bytearray()
        self.names = [*names]
        self._in_checkpoint = {*self.names}  # objects that a checkpoint may name
        self._continued = frozenset(self.names)
        self.size = size
        self._replaced: set[str] = set()
        self._doubles: set[str] = set()  # objects with the same lines as those that the index names
        self._max_bytes = max_bytes
        self._index: str | None = None  # the ETag of the index that counts when this attempt ends
        self._may_retract = False  # whether this attempt has written it, and in the place of none that was published
        self._earlier_index: str | None = None  # the ETag of that of an earlier start, whose output was not published

    @property
    def has_doubles(self) -> bool:
        """Whether there may be objects with the same lines as those that the index names."""
        return bool(self._doubles)

    def names_for_checkpoint(self) -> tuple[str, ...]:
        """Return the names of the objects that there are; from now on, a checkpoint may name them."""
        self._in_checkpoint |= {*self.names}
        return tuple(self.names)

    def are_there(self) -> bool:
        """Return whether all objects exist that the checkpoint names."""
        return not self._continued or self._exist(self.names)

    def replace(self, earlier: RejectObjects) -> None:
        """Note that the objects of an earlier start of the same attempt may be deleted at the end, however young."""
        self._replaced |= {*earlier.names, *earlier._replaced, *earlier._doubles}
        self._in_checkpoint |= earlier._in_checkpoint
        self._earlier_index = earlier._index if earlier._may_retract else earlier._earlier_index

    def write(self, lines: bytes, summary: Summary) -> None:
        """Keep lines, given as JSON; count those as left out for which there is no room."""
        fits = not summary.rejects_left_out and self.size + len(lines) <= self._max_bytes
        at_once = fits and len(self._buffer) + len(lines) < _OBJECT_BYTES
        for line in (lines,) if at_once else lines.splitlines(keepends=True):
            if summary.rejects_left_out or self.size + len(line) > self._max_bytes:
                summary.rejects_left_out += 1
                continue
            self.size += len(line)
            self._buffer += line
            if len(self._buffer) >= _OBJECT_BYTES:
                self.flush()

    def flush(self) -> None:
        """Write the collected lines as the next object, if there are any."""
        if self._buffer:
            self._check()
            content, self._buffer = bytes(self._buffer), bytearray()
            name = f"{len(self.names) + 1:08}-{self._writer}.jsonl"
            self._store.call("put_object", Key=self.folder + name, Body=content, ContentType=_JSON_LINES)
            self.names.append(name)

    def finish(self, summary: Summary, about: Mapping[str, str], *, tidy: bool) -> None:
        """Write the rest and the index, if a line was rejected.

        Args:
            summary: The summary of the run.
            about: A description of the job.
            tidy: Delete what earlier attempts may have left.
        """
        self.flush()
        if summary.rejects_left_out:
            summary.notes.append(
                f"the last {summary.rejects_left_out} of {summary.rejected} rejected lines were counted, but not kept: "
                f"a job keeps {format_exact_size(self._max_bytes)} of them at most"
            )
        if self.names or summary.rejects_left_out:
            self._write_index(summary, about)
            if tidy:
                self._tidy()
        elif self._replaced:
            self._check()
            self.retract()
            if self._store.read(self.folder + INDEX_NAME) is None:
                self._delete(self._replaced, self._check)

    def _tidy(self) -> None:
        """Delete objects of an earlier start, and those older than the index.

        Younger ones may be of a worker that has begun the same job since. They are left to `runner sweep`. Those of the
        second of the index are deleted as well: a worker that writes them finds the index, and leaves it as it is.
        """
        self._check()
        found = [*list_objects(self._store, self.folder)]
        indexed = [one["LastModified"] for one in found if one["ETag"] == self._index]
        if not indexed:  # another worker has replaced it
            return
        kept = {*self.names, *self._doubles, INDEX_NAME}
        for one in found:
            name = one["Key"].removeprefix(self.folder)
            if name not in kept and (one["LastModified"] <= indexed[0] or name in self._replaced):
                self._check()
                self._store.delete(one["Key"])

    def discard(self, has_checkpoint: Callable[[], bool]) -> None:
        """Delete the objects of this attempt, and those replaced, unless the index or a checkpoint names them.

        Without an index, all objects of the attempts that it has continued are: the request for their index may still
        take effect, and `runner sweep` deletes it if none of its objects exists.

        Args:
            has_checkpoint: Tells whether there is a checkpoint; not called if there are no objects.
        """
        if self.names or self._doubles or self._replaced:
            in_checkpoint = self._in_checkpoint if has_checkpoint() else set()
            found = self._store.read(self.folder + INDEX_NAME)
            kept = {*self._objects_of(found[0] if found else b"")} | in_checkpoint
            names = {*self.names, *self._doubles, *self._replaced}
            if found is None:
                names |= self._written_beside(self._continued)
            self._delete(names - kept)
            self.names = [name for name in self.names if name in kept]
            self._doubles &= kept

    def retract(self) -> None:
        """Delete the index of this attempt, or of an earlier start of it; not its objects.

        It stays if it has replaced that of a published output, as it has the same lines, or if another one has replaced
        it.
        """
        index = self._earlier_index if self._index is None else self._index if self._may_retract else None
        if index is not None:
            self._store.delete_if(self.folder + INDEX_NAME, index)
            self._index = self._earlier_index = None

    def _write_index(self, summary: Summary, about: Mapping[str, str]) -> None:
        """Write the index.

        Raises:
            StartAgainError: Another attempt has deleted objects of this one.
        """
        mine = {
            **about,
            "lines": summary.lines_in,
            "rejected": summary.rejected,
            "left_out": summary.rejects_left_out,
            "truncated": summary.rejects_truncated,
            "reasons": {kind: asdict(reason) for kind, reason in summary.reject_reasons.items()},
            "first": summary.first_rejects,
            "objects": [self.folder + name for name in self.names],
            "writer": self._writer,
        }
        is_unsure, tries_left, found = False, _TRIES, None
        while True:
            before, etag, age_s = found or (b"", None, 0.0)
            rank, rank_before = _OUTCOMES.index(about["outcome"]), self._rank_of(before, about)
            if rank_before > rank:
                self._keep_index(before, str(etag))
                return
            is_young = found is not None and age_s < self._clock.monotonic() - self._begun + _RESOLUTION_S
            is_unsure |= is_young
            is_alike = rank_before == rank and _rejected_of(before) >= summary.rejected
            is_taken = is_alike and is_young and self._exist(self._objects_of(before))
            index = {**_read(before), "writer": self._writer} if is_taken else mine
            tries_left -= 1
            written, found = self._put_index(index, etag, may_fail=tries_left > 0)
            if written:
                break
        is_own = etag is not None and etag == self._earlier_index
        if is_taken:
            self._keep_index(json.dumps(index).encode(), written)
            self._may_retract = is_own
            return
        self._index, self._may_retract = written, is_own or rank_before < len(_OUTCOMES) - 1
        replaced = {*self._objects_of(before)} - {*self.names}
        self._doubles |= replaced
        self._in_checkpoint |= replaced  # of another attempt, which may have one
        if is_unsure and not self._exist(self.names):
            self.retract()
            raise StartAgainError("rejected lines were deleted by another attempt")

    def _put_index(
        self, index: Mapping[str, Any], etag: str | None, *, may_fail: bool
    ) -> tuple[str, tuple[bytes, str, float] | None]:
        """Write an index in the place of the one with an ETag, or of none.

        Returns:
            The ETag of what was written. If there was another one by then, "" and that: its content, ETag and age.

        Raises:
            ConditionFailedError: There was another one, and `may_fail` is False.
        """
        self._check()
        content = json.dumps(index, indent=1, ensure_ascii=False).encode("utf-8", "replace")
        arguments = {"Key": self.folder + INDEX_NAME, "Body": content, "ContentType": "application/json"}
        condition = {"IfMatch": etag} if etag else {"IfNoneMatch": "*"}
        try:
            return str(self._store.call("put_object", **arguments, **condition)["ETag"]), None
        except ConditionFailedError:
            found = self._store.read_aged(self.folder + INDEX_NAME)
            if found is not None and found[0] == content:  # the request was done, and its answer was lost
                return found[1], None
            if not may_fail:
                raise
            return "", found

    def _exist(self, names: Iterable[str]) -> bool:
        """Return whether all objects of these names exist."""
        found = {one["Key"].removeprefix(self.folder) for one in list_objects(self._store, self.folder)}
        return found.issuperset(names)

    def _written_beside(self, names: Iterable[str]) -> set[str]:
        """Return the names of the objects of the writers that have written some objects."""
        writers = {name.partition("-")[2] for name in names} - {""}
        if not writers:
            return set()
        found = {one["Key"].removeprefix(self.folder) for one in list_objects(self._store, self.folder)}
        return {name for name in found if _OBJECT_NAME.fullmatch(name) and name.partition("-")[2] in writers}

    def _keep_index(self, index: bytes, etag: str) -> None:
        """Note an index that names other objects than those of this attempt, and which a reader may rely on."""
        mine, self.names = self.names, self._objects_of(index)
        self._index, self._may_retract = etag, False
        self._doubles |= {*mine} - {*self.names}

    def _rank_of(self, index: bytes, about: Mapping[str, str]) -> int:
        """Return the place in `_OUTCOMES` of the outcome of an index; -1 if it is not of the same job."""
        plain = _read(index)
        is_of_job = plain.get("job") == about.get("job") and plain.get("outcome") in _OUTCOMES
        return _OUTCOMES.index(plain["outcome"]) if is_of_job else -1

    def _objects_of(self, index: bytes) -> list[str]:
        """Return the names of the objects that an index lists; only those in the folder."""
        found = listed_objects(index)
        names = [key.removeprefix(self.folder) for key in found if key.startswith(self.folder)]
        return [name for name in names if _OBJECT_NAME.fullmatch(name)]

    def _delete(self, names: Iterable[str], check: Callable[[], None] = lambda: None) -> None:
        for name in sorted(names):
            check()
            self._store.delete(self.folder + name)


def listed_objects(index: bytes) -> list[str]:
    """Return the keys of the objects that an index lists."""
    keys = _read(index).get("objects")
    return [key for key in keys if isinstance(key, str)] if isinstance(keys, list) else []


def count_incomplete(index: bytes) -> int:
    """Return how many rejected lines the objects that an index lists do not have, or only in part.

    An index that does not say it counts as one in which all are incomplete.
    """
    plain = _read(index)
    counts = [plain.get(name, plain.get("rejected", 0)) for name in ("left_out", "truncated")]
    return sum(count for count in counts if isinstance(count, int))


def _rejected_of(index: bytes) -> int:
    """Return how many rejected lines an index counts, 0 if it does not say."""
    count = _read(index).get("rejected")
    return count if isinstance(count, int) else 0


def is_reject_object(key: str) -> bool:
    """Return whether a key is that of an object of rejected lines."""
    return _OBJECT_NAME.fullmatch(key.rpartition("/")[2]) is not None


def is_complete(objects: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether one attempt has written all objects of a job, as S3 lists them, and the index just after them.

    The index then lists all of them, so that it need not be read. One that came later may be of another attempt: its
    request took effect when that attempt was over and had deleted its own objects. So may one without any objects.
    """
    names: dict[str, datetime] = {one["Key"].rpartition("/")[2]: one["LastModified"] for one in objects}
    indexed = names.pop(INDEX_NAME, None)
    writers = {name.partition("-")[2] for name in names}
    if indexed is None or len(writers) != 1:
        return False
    return timedelta(0) <= indexed - max(names.values()) <= _INDEX_DELAY


def _read(index: bytes) -> dict[str, Any]:
    """Return the content of an index, which any program may have written."""
    try:
        plain = json.loads(index)
    except (ValueError, RecursionError):
        return {}
    return plain if isinstance(plain, dict) else {}
