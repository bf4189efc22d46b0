"""Which members of a line stay: dropping and selecting."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Projection:
    """Which members stay.

    Attributes:
        drop: The names of those that go.
        select: The names of the only ones that stay, None for all.
    """

    drop: frozenset[str] = frozenset()
    select: frozenset[str] | None = None

    def __bool__(self) -> bool:
        """Return whether any member may go."""
        return bool(self.drop) or self.select is not None

    def describe(self) -> str:
        """Return it as text, the same for the same."""
        return f"drop {sorted(self.drop)}, select {None if self.select is None else sorted(self.select)}"

    def keeps(self, name: str) -> bool:
        """Return whether members of a name stay."""
        return name not in self.drop and (self.select is None or name in self.select)
