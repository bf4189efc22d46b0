"""The names to drop, select or read that the lines of a chunk have, and the nearest ones for those that they lack.

A name that no line has is most likely a typing error, and then members are published that should have been dropped, or
nulls instead of results.
What is found does not depend on how an input is cut into chunks: near names are those of the lines that start near the
start of the input, as far as an offset says.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from transform.decode.decoder import Decoded
from transform.decode.members import read_members
from transform.decode.near_names import nearest
from transform.native.binding import Positions

NEAR_BYTES = 256 << 10
"""Lines that start so far from the start of an input, or nearer, show which names it has."""
MAX_MEMBERS = 1000
"""Number of members of a line that are compared with a name to find near ones."""


_MAX_NEAR_NAMES = 100
"""Number of names to drop or select that get near names; each takes time in proportion to the members."""


class NamesFound(NamedTuple):
    """What lines show of the names to drop or select.

    Attributes:
        seen: Those that a line has.
        near: By name that no line has, the nearest names of members, where there are any.
    """

    seen: frozenset[str] = frozenset()
    near: Mapping[str, Sequence[str]] = {}


def find_names(decoded: Decoded, names: Sequence[str], kept_lines: Positions) -> NamesFound:
    """Return which names to drop or select the lines of a chunk have.

    Args:
        decoded: The lines.
        names: The names.
        kept_lines: The index of each line that is in the output. Other lines do not count.
    """
    bits = np.bitwise_or.reduce(decoded.found.listed[kept_lines], axis=0)
    has = np.unpackbits(bits.astype("<u8").view(np.uint8), bitorder="little")[: len(names)]
    seen = frozenset(name for name, there in zip(names, has.tolist(), strict=True) if there)
    if len(seen) == len(names) or not len(decoded.offsets) or decoded.offsets[0] > NEAR_BYTES:
        return NamesFound(seen)
    there = _member_names(decoded, kept_lines)
    near = {name: nearest(name, there) for name in names[:_MAX_NEAR_NAMES] if name not in seen}
    return NamesFound(seen, {name: found for name, found in near.items() if found})


def find_columns(decoded: Decoded, declared: Sequence[str]) -> NamesFound:
    """Return which columns with a declared type have a value in a row of a chunk.

    Others than those of `find_names` count: also lines that a filter drops, as it may have read the column.

    Args:
        decoded: The lines.
        declared: The names of the columns.
    """
    rows = decoded.frame.height
    seen = frozenset(name for name in declared if decoded.frame[name].null_count() < rows)
    if len(seen) == len(declared) or not len(decoded.offsets) or decoded.offsets[0] > NEAR_BYTES:
        return NamesFound(seen)
    there = _member_names(decoded, decoded.lines)
    near = {name: nearest(name, there - {name}) for name in declared[:_MAX_NEAR_NAMES] if name not in seen}
    return NamesFound(seen, {name: found for name, found in near.items() if found})


def _member_names(decoded: Decoded, kept_lines: Positions) -> set[str]:
    """Return the names of the members of the lines that are kept and start near the start of the input."""
    count = np.searchsorted(decoded.offsets[kept_lines], NEAR_BYTES, side="right")
    found = set[str]()
    for line in kept_lines[:count].tolist():
        members = read_members(decoded.line(line))
        found.update(name for name in itertools.islice(members.values, MAX_MEMBERS))
    return found
