"""Cancellation of jobs: an operator's notes, objects that a job looks for when it starts and while it runs.

A note cancels the jobs of one version of an input whose messages were sent before the note: an object that is uploaded
or submitted again later is transformed. Notes are listed, not requested by key, so that a backlog of small jobs costs
one request every few seconds, not one for each job.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from runner.aws.bucket import list_objects
from runner.aws.surroundings import REAL
from runner.errors import CancelledError, StoreError

if TYPE_CHECKING:
    from datetime import datetime

    from runner.aws.bucket import Store
    from runner.machine import Clock

LOOK_INTERVAL_S = 10.0
_BEGUN_LATELY_S = 5.0  # a job that starts may use a listing of this age, made for the job before it
RESOLUTION_MS = 1000
"""Resolution of the time of an object in S3. `runner cancel` waits for so long after it has written a note."""


class Cancellations:
    """The notes in a bucket, as they were when they were last listed.

    Args:
        store: The bucket.
        prefix: The prefix of their keys.
        look_interval_s: How often a running job lists them, in seconds.
        clock: Tells the time.

    Attributes:
        clock: Tells the time.
        look_interval_s: How often a running job lists them, in seconds.
        looked: When they were last listed, by the monotonic clock.
        times: When each note was written, by its key.
    """

    def __init__(
        self, store: Store, prefix: str, look_interval_s: float = LOOK_INTERVAL_S, *, clock: Clock = REAL.clock
    ) -> None:
        self.clock = clock
        self._store = store
        self._prefix = prefix
        self.look_interval_s = look_interval_s
        self.looked = float("-inf")
        self.times: dict[str, datetime] = {}

    def look(self) -> None:
        """List the notes. If the request fails, the earlier listing stays until the next look.

        Raises:
            DeniedError: S3 denies access.
        """
        self.looked = self.clock.monotonic()
        with suppress(StoreError):
            self.times = {found["Key"]: found["LastModified"] for found in list_objects(self._store, self._prefix)}


class Cancellation:
    """Checks whether a job is cancelled.

    Args:
        notes: The notes in the bucket.
        key: The key of a note about the input of the job.
        sent: When the original message was sent, in ms since the epoch.
    """

    def __init__(self, notes: Cancellations, key: str, sent: int) -> None:
        self._notes = notes
        self._key = key
        self._sent = sent
        self._begun = notes.clock.monotonic()
        # A message that was sent just now cannot be cancelled yet, so small jobs in a short queue need no listing.
        young = notes.clock.time() * 1000 - sent < RESOLUTION_MS
        self._known = self._begun if young else float("-inf")

    def check_at_start(self) -> None:
        """Raise if the job is cancelled when it starts; raises as `check` does."""
        self.check(_BEGUN_LATELY_S)
        self._known = self._begun

    def check(self, max_age_s: float | None = None) -> None:
        """Raise if the job is cancelled.

        Args:
            max_age_s: Maximum age of the listing in seconds, otherwise the notes are listed again; by default
                `look_interval_s` of the notes.

        Raises:
            CancelledError: The job is cancelled.
            DeniedError: S3 denies access.
        """
        age_s = self._notes.clock.monotonic() - max(self._notes.looked, self._known)
        if age_s >= (self._notes.look_interval_s if max_age_s is None else max_age_s):
            self._notes.look()
        made = self._notes.times.get(self._key)
        if made is not None and self._sent < made.timestamp() * 1000 + RESOLUTION_MS:
            raise CancelledError(f"cancelled by an operator at {made:%Y-%m-%dT%H:%M:%SZ}")
