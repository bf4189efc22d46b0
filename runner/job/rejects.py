"""The rejected lines of a job: numbered objects under one prefix, and an index of counts and reasons."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runner.aws.bucket import Store
    from transform import Summary

_OBJECT_BYTES = 16 << 20
_JSON_LINES = "application/x-ndjson"


class RejectObjects:
    """The objects of rejected lines of one job.

    Args:
        store: The bucket.
        folder: The prefix of the objects.
        count: How many objects there are already, up to the checkpoint.
        highest: The highest number that an earlier attempt may have written. Objects that are not overwritten are
            deleted at the end.

    Attributes:
        folder: The prefix of the objects.
        count: How many objects there are.
        highest: The highest number that may exist.
    """

    def __init__(self, store: Store, folder: str, count: int = 0, highest: int = 0) -> None:
        self._store = store
        self.folder = folder
        self._buffer = bytearray()
        self.count = count
        self.highest = max(count, highest)

    def write(self, line: bytes) -> None:
        """Keep a line, given as JSON."""
        self._buffer += line
        if len(self._buffer) >= _OBJECT_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write the collected lines as the next object, if there are any."""
        if self._buffer:
            content, self._buffer = bytes(self._buffer), bytearray()
            self._store.call("put_object", Key=self._key(self.count + 1), Body=content, ContentType=_JSON_LINES)
            self.count += 1
            self.highest = max(self.highest, self.count)

    def finish(self, summary: Summary, about: Mapping[str, str]) -> str | None:
        """Write the rest and the index; return the key of the index, None if no line was rejected."""
        self.flush()
        while self.highest > self.count:
            self._store.delete(self._key(self.highest))
            self.highest -= 1
        if not self.count:
            return None
        index = {
            **about,
            "lines": summary.lines_in,
            "rejected": summary.rejected,
            "reasons": {kind: asdict(reason) for kind, reason in summary.reject_reasons.items()},
            "first": summary.first_rejects,
            "objects": [self._key(number) for number in range(1, self.count + 1)],
        }
        key = f"{self.folder}index.json"
        content = json.dumps(index, indent=1, ensure_ascii=False).encode("utf-8", "replace")
        self._store.call("put_object", Key=key, Body=content, ContentType="application/json")
        return key

    def _key(self, number: int) -> str:
        return f"{self.folder}{number:08}.jsonl"
