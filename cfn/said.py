"""What the program prints: sentences, tables, and the plain commands that do what it does."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def say(text: str = "") -> None:
    """Print a line for the user; results go to standard output instead."""
    print(text, file=sys.stderr, flush=True)


def show_command(*words: str) -> None:
    """Print a command as a shell takes it."""
    say(f"$ {shlex.join(words)}")


def table(rows: Iterable[Sequence[str]], indent: str = "  ") -> str:
    """Return rows as columns; the last one is not padded."""
    lines = [list(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines)
    return "\n".join(f"{indent}{line}" for line in padded)
