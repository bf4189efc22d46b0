"""What the times are held to: ratios between two ways, measured in the same minutes on the same machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    Rows = Mapping[str, Mapping[str, Any]]

NAMES = {"cpu_s": "CPU", "wall_s": "wall", "cpu_s_per_gb": "CPU per byte"}


@dataclass(frozen=True)
class Target:
    """One way takes at most so many times what another takes, or at least."""

    measure: str
    way: str
    beside: str
    bound: float
    at_least: bool = False

    def applies(self, rows: Rows) -> bool:
        """Whether both ways were measured."""
        return self.way in rows and self.beside in rows

    def judge(self, rows: Rows) -> dict[str, Any]:
        """Return what was found, and whether it is within."""
        ratio = rows[self.way][self.measure] / rows[self.beside][self.measure]
        within = ratio >= self.bound if self.at_least else ratio <= self.bound
        return {
            "target": f"{NAMES[self.measure]} of {self.way} to that of {self.beside}",
            "ratio": ratio,
            "bound": f"{'at least' if self.at_least else 'at most'} {self.bound:g}",
            "within": within,
        }


@dataclass(frozen=True)
class Speed:
    """One way goes through at least so many megabytes of its input in a second."""

    way: str
    mb_per_s: float

    def applies(self, rows: Rows) -> bool:
        """Whether the way was measured."""
        return self.way in rows

    def judge(self, rows: Rows) -> dict[str, Any]:
        """Return what was found, and whether it is within."""
        found = rows[self.way]["mb_per_s"]
        bound = f"at least {self.mb_per_s:g}"
        return {"target": f"MB/s of {self.way}", "ratio": found, "bound": bound, "within": found >= self.mb_per_s}


def judged(targets: Iterable[Target | Speed], rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the verdicts on all targets whose ways were measured."""
    by_way = {row["way"]: row for row in rows}
    return [target.judge(by_way) for target in targets if target.applies(by_way)]
