"""Members that do not stay, as cuts in the bytes of their lines."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from transform.layout import LineIndex, Positions
from transform.projection import Projection
from transform.scan import named, scan_members


@dataclass(frozen=True, slots=True)
class Cuts:
    """Bytes to cut out: of which line, from where to where; and which lines have no members left."""

    lines: Positions
    starts: Positions
    stops: Positions
    emptied: npt.NDArray[np.bool_]


def plan_cuts(line_index: LineIndex, projection: Projection) -> Cuts:
    """Return the cuts that take members out of the lines of a chunk.

    A member goes with the comma before it and the white space around that. The first that stays begins the object, so
    those before it go with the comma after them. What stands after the opening and before the closing brace stays.
    """
    members = scan_members(line_index)
    stays = np.ones(len(members.lines), dtype=bool)
    if projection.select is not None:
        stays = named(line_index, members, projection.select)
    stays &= ~named(line_index, members, projection.drop)
    bounds = np.searchsorted(members.lines, np.arange(len(line_index.stops) + 1))
    kept = np.concatenate([[0], np.cumsum(stays)])
    kept_before = kept[:-1] - kept[bounds[:-1]][members.lines]
    is_last = np.append(members.lines[1:] != members.lines[:-1], True)[: len(members.lines)]
    gone = np.flatnonzero(~stays)
    follows = kept_before[gone] > 0
    starts = np.where(follows, members.stops[gone - 1], members.starts[gone])
    next_start = members.starts[np.minimum(gone + 1, len(members.starts) - 1)]
    stops = np.where(follows | is_last[gone], members.stops[gone], next_start)
    emptied = (kept[bounds[1:]] == kept[bounds[:-1]]) & (bounds[1:] > bounds[:-1])
    return Cuts(members.lines[gone], starts, stops, emptied)
