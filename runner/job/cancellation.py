"""An operator's notes that jobs are cancelled: objects that a job looks for when it begins, and now and then.

One is about one version of an input, and about messages that were sent before it: an object that is uploaded or
submitted again after that is transformed. They are listed rather than asked for by name, so that a backlog of small
jobs costs a request every few seconds instead of one for each.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

from runner.aws.bucket import list_objects
from runner.errors import CancelledError, StoreError

if TYPE_CHECKING:
    from datetime import datetime

    from runner.aws.bucket import Store

LOOK_INTERVAL_S = 10.0
_BEGUN_LATELY_S = 5.0  # when a job begins, what was seen for the one before it will do
RESOLUTION_MS = 1000
"""Of the time that S3 tells of an object; who makes a note waits for as long before it is said to be made."""


class Cancellations:
    """The notes in a bucket, as they were when somebody last looked.

    Args:
        store: The bucket.
        prefix: Of their keys.
        look_interval_s: How often a job looks while it runs, in seconds.

    Attributes:
        look_interval_s: How often a job looks while it runs, in seconds.
        looked: When that was, by the monotonic clock.
        times: When each was made, by its key.
    """

    def __init__(self, store: Store, prefix: str, look_interval_s: float = LOOK_INTERVAL_S) -> None:
        self._store = store
        self._prefix = prefix
        self.look_interval_s = look_interval_s
        self.looked = float("-inf")
        self.times: dict[str, datetime] = {}

    def look(self) -> None:
        """See which there are now, unless S3 does not say: the next look makes up for it.

        Raises:
            DeniedError: S3 refuses to.
        """
        self.looked = time.monotonic()
        with suppress(StoreError):
            self.times = {found["Key"]: found["LastModified"] for found in list_objects(self._store, self._prefix)}


class Cancellation:
    """Tells whether a job is cancelled.

    Args:
        notes: Where to look.
        key: Of the note about it.
        sent: When the message was sent first, in ms since the epoch.
    """

    def __init__(self, notes: Cancellations, key: str, sent: int) -> None:
        self._notes = notes
        self._key = key
        self._sent = sent
        self._begun = time.monotonic()
        # What was sent less than that ago cannot be cancelled yet: small jobs need no request more in a short queue.
        young = time.time() * 1000 - sent < RESOLUTION_MS
        self._known = self._begun if young else float("-inf")

    def check_at_start(self) -> None:
        """Raise if the job is cancelled; raises as `check` does."""
        self.check(_BEGUN_LATELY_S)
        self._known = self._begun

    def check(self, max_age_s: float | None = None) -> None:
        """Raise if the job is cancelled.

        Args:
            max_age_s: Look if the last look was longer ago, in seconds; if not given, `look_interval_s` of the notes.

        Raises:
            CancelledError: It is.
            DeniedError: S3 refuses to say so.
        """
        age_s = time.monotonic() - max(self._notes.looked, self._known)
        if age_s >= (self._notes.look_interval_s if max_age_s is None else max_age_s):
            self._notes.look()
        made = self._notes.times.get(self._key)
        if made is not None and self._sent < made.timestamp() * 1000 + RESOLUTION_MS:
            raise CancelledError(f"cancelled by an operator at {made:%Y-%m-%dT%H:%M:%SZ}")
