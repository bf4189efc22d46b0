"""An operator's note that a job is cancelled: an object that the job looks for when it begins, and now and then.

It is about one version of an input, and about messages that were sent before it: an object that is uploaded or
submitted again after that is transformed.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

from runner.errors import CancelledError, StoreError

if TYPE_CHECKING:
    from runner.store import Store

LOOK_INTERVAL_S = 10.0
RESOLUTION_MS = 1000
"""Of the time that S3 tells of an object; who makes a note waits for as long before it is said to be made."""


class Cancellation:
    """Looks whether a job is cancelled.

    Args:
        store: The bucket of the note.
        key: Of the note.
        sent: When the message was sent first, in ms since the epoch.
    """

    def __init__(self, store: Store, key: str, sent: int) -> None:
        self._store = store
        self._key = key
        self._sent = sent
        # What was sent less than that ago cannot be cancelled yet: small jobs need no request more in a short queue.
        young = time.time() * 1000 - sent < RESOLUTION_MS
        self._looked = time.monotonic() if young else float("-inf")

    def check(self, max_age_s: float | None = None) -> None:
        """Raise if the job is cancelled.

        Args:
            max_age_s: Look if the last look was longer ago, in seconds; if not given, `LOOK_INTERVAL_S`.

        Raises:
            CancelledError: It is.
            DeniedError: S3 refuses to say so.
        """
        now = time.monotonic()
        if now - self._looked < (LOOK_INTERVAL_S if max_age_s is None else max_age_s):
            return
        self._looked = now
        with suppress(StoreError):  # the next look makes up for it
            found = self._store.head(self._key)
            if found is not None and self._sent < found["LastModified"].timestamp() * 1000 + RESOLUTION_MS:
                raise CancelledError(f"cancelled by an operator at {found['LastModified']:%Y-%m-%dT%H:%M:%SZ}")
