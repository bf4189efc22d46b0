"""The error that the program raises, and what it prints: text, tables, and the plain commands that do the same.

Texts from AWS, logs and files are not trusted, so control characters in them are made visible.
"""

from __future__ import annotations

import difflib
import shlex
import sys
from typing import TYPE_CHECKING

from transform import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class DeployError(Exception):
    """Nothing was changed, or the change was rolled back; the message says why and what to do."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a question with the known names that are similar to a name, if any, to be put after a sentence."""
    by_lower = {other.lower(): other for other in known}
    found = difflib.get_close_matches(name.lower(), by_lower, n=3, cutoff=0.7)
    return f" Did you mean {' or '.join(by_lower[other] for other in found)}?" if found else ""


def say(text: str = "") -> None:
    """Print lines on standard error."""
    print(printable(text, keep="\n"), file=sys.stderr, flush=True)


def print_result(text: str) -> None:
    """Print the result of a command, on standard output."""
    print(printable(text, keep="\n"), flush=True)


def show_command(*words: str) -> None:
    """Print a command as a shell takes it."""
    say(f"$ {shlex.join(words)}")


def table(rows: Iterable[Sequence[str]], indent: str = "  ") -> str:
    """Return rows as columns; the last one is not padded."""
    lines = [list(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines)
    return "\n".join(f"{indent}{line}" for line in padded)
