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
    """The rejects of one job.

    Args:
        store: The bucket.
        folder: The prefix of all of them.
        count: How many objects there are already, of the same job.
        highest: How many an earlier start of this job may have written; what is not overwritten is removed at the end.

    Attributes:
        folder: Likewise.
        count: How many objects there are by now.
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
        """Store what is not stored yet."""
        if self._buffer:
            content, self._buffer = bytes(self._buffer), bytearray()
            self._store.call("put_object", Key=self._key(self.count + 1), Body=content, ContentType=_JSON_LINES)
            self.count += 1
            self.highest = max(self.highest, self.count)

    def finish(self, summary: Summary, about: Mapping[str, str]) -> str | None:
        """Store the rest and the index; return the index's key, None where nothing was rejected."""
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
