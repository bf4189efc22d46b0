"""Moves dead letters back to the queue, after whatever was wrong has been put right."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from runner.dead_letters import DeadLetters

if TYPE_CHECKING:
    from runner.dead_letters import DeadLetter
    from runner.deployment import Deployment


@dataclass(frozen=True, slots=True)
class Choice:
    """Which dead letters are to be moved: those that meet all that is given.

    Attributes:
        reason: A part of their reason, in any case of letters; None for any reason.
        key: A pattern, as of file names, that the key of one of their objects fits; None for any key.
    """

    reason: str | None = None
    key: str | None = None

    def takes(self, letter: DeadLetter) -> bool:
        """Return whether a letter is to be moved."""
        if self.reason is not None and self.reason.casefold() not in letter.reason.casefold():
            return False
        return self.key is None or any(fnmatchcase(key, self.key) for key in letter.keys)


@dataclass(frozen=True, slots=True)
class Redriven:
    """What was moved, or would be.

    Attributes:
        moved: How many letters by their cause.
        left: How many were not chosen, by their cause.
        foreign: How many are of objects in other buckets, and so of another deployment.
    """

    moved: Counter[str] = field(default_factory=Counter)
    left: Counter[str] = field(default_factory=Counter)
    foreign: Counter[str] = field(default_factory=Counter)


def redrive(deployment: Deployment, choice: Choice, *, dry_run: bool) -> Redriven:
    """Move the dead letters that are chosen back to the queue.

    Raises:
        DeniedError, QueueError: SQS does not do it; what was moved until then is moved.
    """
    done = Redriven()
    letters = DeadLetters(deployment.queue)
    with letters.look() as found:
        for batch in found:
            chosen = []
            for letter in batch:
                if set(letter.buckets) - {deployment.source.bucket}:
                    done.foreign[letter.cause] += 1
                elif choice.takes(letter):
                    chosen.append(letter)
                else:
                    done.left[letter.cause] += 1
            if not dry_run:
                letters.move_back(chosen)
            done.moved.update(letter.cause for letter in chosen)
    return done
