"""The members that stay in a line: `drop` and `select` of a calculation, combined.

This file imports neither numpy nor pyarrow, so that a calculation can be defined without waiting for them. `splice`
finds the bytes to cut out.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from transform.errors import CalculationError, OptionError
from transform.terminal_text import has_lone_surrogate


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

    @property
    def names(self) -> tuple[str, ...]:
        """All names to drop or select, each once, in order."""
        return tuple(sorted(self.drop | (self.select or frozenset())))

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
            raise CalculationError(
                f"expected the names of members, got {type(name).__name__}: {name!r:.80}; write them one by one, as in "
                '.drop("a", "b")'
            )
        if has_lone_surrogate(name):
            raise CalculationError(f"expected the names of members, got {name!r:.80}, which is not valid Unicode")
        found.append(name)
    return frozenset(found)


def parse_names(text: str) -> list[str]:
    """Return the names in a list of names of members, as options and settings have it.

    Names are separated by commas; white space around a name is ignored, and so is nothing between two commas. A name
    that contains a comma or a double quote, that starts or ends with white space, or that is empty, is given in double
    quotes, as identifiers are in SQL: `""` within them is one quote.

    Raises:
        OptionError: The text is not such a list, or has no name.

    Example:
        >>> parse_names('email, phone, "a,b", "say ""hi"" twice"')
        ['email', 'phone', 'a,b', 'say "hi" twice']
    """
    names, position = [], 0
    while position <= len(text):
        item = _ITEM.match(text, position)
        if item is None:
            quote = text.index('"', position)  # without one before the next comma, it is a name
            raise OptionError(f"{_EXPECTED}; the quote at character {quote + 1} does not fit")
        if item["quoted"] is not None:
            names.append(item["quoted"].replace('""', '"'))
        elif plain := item["plain"].strip():
            names.append(plain)
        position = item.end() + 1
    if not names:
        raise OptionError(f"{_EXPECTED}, and at least one")
    return names


_ITEM = re.compile(r"""\s*+(?:"(?P<quoted>(?:[^"]|"")*+)"\s*+|(?P<plain>[^,"]*+))(?=,|\Z)""")
_EXPECTED = 'expected names separated by commas, a name with a comma or a quote in double quotes, as "a,b"'
