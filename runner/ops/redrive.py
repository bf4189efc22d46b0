"""Lists dead letters, moves them back to the queue after a fix, or deletes them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import timedelta
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from runner.aws.dead_letters import Causes

if TYPE_CHECKING:
    from collections.abc import Iterator, Set

    from runner.aws.dead_letters import DeadLetter, DeadLetters
    from runner.ops.deployment import Deployment

_CLOCK_STEP = timedelta(seconds=1)
"""SQS tells the time in whole seconds."""


@dataclass(frozen=True, slots=True)
class LetterFilter:
    """Selects the dead letters that meet all conditions.

    Attributes:
        reason: Text in their reason, in upper or lower case; None for any reason.
        key: Pattern, as for file names, that the key of one of their objects matches; None for any key.
    """

    reason: str | None = None
    key: str | None = None

    def takes(self, letter: DeadLetter) -> bool:
        """Return whether a letter is selected."""
        if self.reason is not None and self.reason.casefold() not in letter.reason.casefold():
            return False
        return self.key is None or any(fnmatchcase(key, self.key) for key in letter.keys)


@dataclass(frozen=True, slots=True)
class Redriven:
    """What was moved, or would be.

    Attributes:
        moved: Letters that were moved.
        left: Letters that were not selected.
        foreign: Letters about objects of other buckets, and so of another deployment.
        newer: Letters that arrived meanwhile; some may be moved ones that have failed again.
    """

    moved: Causes = field(default_factory=Causes)
    left: Causes = field(default_factory=Causes)
    foreign: Causes = field(default_factory=Causes)
    newer: Causes = field(default_factory=Causes)

    def to_dict(self) -> dict[str, list[dict[str, Any]]]:
        """Return it as plain data, for JSON."""
        named = {"moved": self.moved, "left": self.left, "foreign": self.foreign, "newer": self.newer}
        return {name: [asdict(cause) for cause in causes.listed()] for name, causes in named.items()}


def redrive(
    deployment: Deployment, choice: LetterFilter, *, dry_run: bool, letters: DeadLetters | None = None
) -> Redriven:
    """Move the selected dead letters back to the queues that they come from.

    Letters that arrive meanwhile stay: without a fix they come back as soon as they are moved, without end.

    Args:
        deployment: The deployment.
        choice: Which letters to move.
        dry_run: Return what would be moved, and move nothing.
        letters: The dead-letter queue; by default all of the deployment.

    Raises:
        DeniedError, QueueError: SQS refuses; the letters moved before stay moved.
    """
    done = Redriven()
    for one in deployment.dead_letters() if letters is None else [letters]:
        _redrive(one, deployment.sources.keys(), choice, done, dry_run=dry_run)
    return done


def _redrive(letters: DeadLetters, buckets: Set[str], choice: LetterFilter, done: Redriven, *, dry_run: bool) -> None:
    began = letters.clock() + _CLOCK_STEP
    with letters.look() as found:
        for batch in found:
            chosen = []
            for letter in batch:
                if set(letter.buckets) - buckets:
                    done.foreign.add(letter)
                elif letter.time >= began:
                    done.newer.add(letter)
                elif choice.takes(letter):
                    chosen.append(letter)
                else:
                    done.left.add(letter)
            if not dry_run:
                letters.move_back(chosen)
            for letter in chosen:
                done.moved.add(letter)


def list_letters(deployment: Deployment, choice: LetterFilter) -> list[DeadLetter]:
    """Return the selected dead letters, of any bucket, the oldest first.

    Raises:
        DeniedError, QueueError: SQS does not return them.
    """
    chosen: list[DeadLetter] = []
    for letters in deployment.dead_letters():
        with letters.look() as found:
            chosen += [letter for batch in found for letter in batch if choice.takes(letter)]
    return sorted(chosen, key=lambda letter: letter.time)


def discard(deployment: Deployment, choice: LetterFilter) -> Iterator[DeadLetter]:
    """Delete the selected dead letters, of any bucket; yield each before it is deleted.

    Raises:
        DeniedError, QueueError: SQS refuses; what was deleted until then is gone.
    """
    for letters in deployment.dead_letters():
        with letters.look() as found:
            for batch in found:
                chosen = [letter for letter in batch if choice.takes(letter)]
                yield from chosen
                if chosen:
                    letters.remove(chosen)
