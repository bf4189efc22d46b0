"""Moves dead letters back to the queue, after whatever was wrong has been put right."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from runner.causes import Causes
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
        moved: The letters that were.
        left: Those that were not chosen.
        foreign: Those about objects in other buckets, and so of another deployment.
    """

    moved: Causes = field(default_factory=Causes)
    left: Causes = field(default_factory=Causes)
    foreign: Causes = field(default_factory=Causes)

    def to_dict(self) -> dict[str, list[dict[str, Any]]]:
        """Return it as plain data, for JSON."""
        named = {"moved": self.moved, "left": self.left, "foreign": self.foreign}
        return {name: [asdict(cause) for cause in causes.listed()] for name, causes in named.items()}


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
                    done.foreign.add(letter)
                elif choice.takes(letter):
                    chosen.append(letter)
                else:
                    done.left.add(letter)
            if not dry_run:
                letters.move_back(chosen)
            for letter in chosen:
                done.moved.add(letter)
    return done
