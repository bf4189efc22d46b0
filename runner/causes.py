"""Why letters are on the dead-letter queue, counted: reasons that differ in a key and in numbers only are one cause."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.breaker import cause_of

if TYPE_CHECKING:
    from runner.dead_letters import DeadLetter


@dataclass(frozen=True, slots=True)
class Cause:
    """Letters that are there for one cause.

    Attributes:
        count: How many.
        reason: That of the first of them.
        example: What that is about.
    """

    count: int
    reason: str
    example: str


class Causes:
    """Counts letters by their causes."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._first: dict[str, DeadLetter] = {}

    def add(self, letter: DeadLetter) -> None:
        """Count a letter."""
        cause = cause_of(letter.reason, letter.keys[0] if letter.keys else "")
        self._counts[cause] += 1
        self._first.setdefault(cause, letter)

    @property
    def total(self) -> int:
        """How many letters there were."""
        return self._counts.total()

    def listed(self) -> list[Cause]:
        """Return the causes, the commonest first."""
        return [
            Cause(count, self._first[cause].reason, self._first[cause].about)
            for cause, count in self._counts.most_common()
        ]
