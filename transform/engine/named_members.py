"""The names to drop or select that the lines of a chunk have, and the nearest ones for those that they do not have.

A name that no line has is most likely a typing error, and then members are published that should have been dropped.
What is found does not depend on how an input is cut into chunks: near names are those of the lines that start near the
start of the input, as far as an offset says.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from transform.decode.line_index import LineIndex, MemberTable, Positions, name_of
from transform.decode.near_names import nearest

NEAR_BYTES = 256 << 10
"""Lines that start so far from the start of an input, or nearer, show which names it has."""
MAX_MEMBERS = 1000
"""Of a line, so many members are looked at for near names."""


_MAX_NEAR_NAMES = 100
"""Of the names to drop or select, so many get near names, each of which takes time in proportion to the members."""


class NamesFound(NamedTuple):
    """What lines show of the names to drop or select.

    Attributes:
        seen: Those that a line has.
        near: By name that no line has, the nearest names of members, where there are any.
    """

    seen: frozenset[str] = frozenset()
    near: Mapping[str, Sequence[str]] = {}


def find_names(
    line_index: LineIndex, members: MemberTable, matches: Positions, names: Sequence[str], kept_lines: Positions
) -> NamesFound:
    """Return which names to drop or select the lines of a chunk have.

    Args:
        line_index: The lines.
        members: Their members.
        matches: Which of the names each member has, as an index, and -1 if none; see `match_names`.
        names: The names.
        kept_lines: The index of each line that is in the output. Other lines do not count.
    """
    kept = np.zeros(len(line_index.stops), dtype=bool)
    kept[kept_lines] = True
    matched = np.flatnonzero(matches >= 0)
    counts = np.bincount(matches[matched[kept[members.lines[matched]]]], minlength=len(names))
    seen = frozenset(name for name, count in zip(names, counts.tolist(), strict=True) if count)
    if len(seen) == len(names) or line_index.offset > NEAR_BYTES:
        return NamesFound(seen)
    there = _member_names(line_index, members, kept)
    near = {name: nearest(name, there) for name in names[:_MAX_NEAR_NAMES] if name not in seen}
    return NamesFound(seen, {name: found for name, found in near.items() if found})


def _member_names(line_index: LineIndex, members: MemberTable, kept: npt.NDArray[np.bool_]) -> set[str]:
    """Return the names of the members of the lines that are kept and start near the start of the input."""
    count = np.searchsorted(line_index.bounds[:-1], NEAR_BYTES - line_index.offset, side="right")
    lines = members.lines[: np.searchsorted(members.lines, count)]
    ordinals = np.arange(len(lines)) - np.searchsorted(lines, lines)
    texts: dict[bytes, int] = {}
    for member in np.flatnonzero(kept[lines] & (ordinals < MAX_MEMBERS)).tolist():
        texts.setdefault(bytes(line_index.view[members.starts[member] : members.names[member]]), member)
    found = {name_of(line_index, members, member) for member in texts.values()}
    return {name for name in found if name is not None}
