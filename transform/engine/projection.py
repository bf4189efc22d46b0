"""The members that stay in a line: `drop` and `select` of a calculation, combined.

This file imports neither numpy nor pyarrow, so that a calculation can be defined without waiting for them. `splice`
finds the bytes to cut out.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from transform.errors import CalculationError


@dataclass(frozen=True, slots=True)
class Projection:
    """Which members stay.

    Attributes:
        drop: The names of members to remove.
        select: The names of the only members to keep, None for all.
    """

    drop: frozenset[str] = frozenset()
    select: frozenset[str] | None = None

    def dropping(self, names: Iterable[object]) -> Self:
        """Return the projection that also removes the members of these names.

        Raises:
            CalculationError: A name is not a string.
        """
        return type(self)(self.drop | _checked(names), self.select)

    def selecting(self, names: Iterable[object]) -> Self:
        """Return the projection that keeps only the members of these names, out of those it kept before.

        Raises:
            CalculationError: A name is not a string.
        """
        selected = _checked(names)
        return type(self)(self.drop, selected if self.select is None else selected & self.select)

    def keeps(self, name: str) -> bool:
        """Return whether members of a name stay."""
        return name not in self.drop and (self.select is None or name in self.select)

    def describe(self) -> str:
        """Return the projection as text, for the digest: equal projections have equal texts."""
        return f"drop {sorted(self.drop)}, select {None if self.select is None else sorted(self.select)}"

    def __bool__(self) -> bool:
        """Return whether any member may be removed."""
        return bool(self.drop) or self.select is not None


def _checked(names: Iterable[object]) -> frozenset[str]:
    found = []
    for name in names:
        if not isinstance(name, str):
            raise CalculationError(f"expected the names of members, got {type(name).__name__}: {name!r:.80}")
        found.append(name)
    return frozenset(found)
