"""A circuit breaker: one bad deployment must not send a whole backlog to the dead-letter queue."""

from __future__ import annotations

from runner.errors import cause_of


class Breaker:
    """Opens after a number of failures in a row with one cause, or at the first denial; it never closes again.

    Args:
        failures: The number of failures.

    Attributes:
        reason: Why it is open, None while it is closed.
    """

    def __init__(self, failures: int) -> None:
        self._failures = failures
        self._cause = ""
        self._count = 0
        self.reason: str | None = None

    def succeeded(self) -> None:
        """Note that a job is done."""
        self._cause, self._count = "", 0

    def failed(self, reason: str, key: str) -> None:
        """Note that a job cannot succeed; reasons that differ only in numbers and in the object's key are one cause."""
        cause = cause_of(reason, key)
        self._count = self._count + 1 if cause == self._cause else 1
        self._cause = cause
        if self._count >= self._failures:
            self._open(f"{self._count} jobs in a row have failed for one cause: {reason}")

    def denied(self, reason: str) -> None:
        """Note that AWS refuses something that every job needs."""
        self._open(f"access denied: {reason}")

    def broken(self, reason: str) -> None:
        """Note that this worker cannot do jobs any more."""
        self._open(reason)

    def _open(self, reason: str) -> None:
        self.reason = self.reason or reason
