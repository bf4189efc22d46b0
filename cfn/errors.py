"""The one error of the program, whose message says what was found and what to do."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class DeployError(Exception):
    """Nothing was changed, or what was changed was taken back; the message says why and what to do."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a question with the known names that are similar to a name, if any, to be put after a sentence."""
    by_lower = {other.lower(): other for other in known}
    found = difflib.get_close_matches(name.lower(), by_lower, n=3, cutoff=0.7)
    return f" Did you mean {' or '.join(by_lower[other] for other in found)}?" if found else ""
