"""Rules: conditions for which a calculation rejects a line, each with a reason; and rules as text.

This file imports no polars, so that settings can be read without waiting for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from transform.errors import CalculationError, OptionError
from transform.expressions.sql_tokens import tokens
from transform.terminal_text import has_lone_surrogate

if TYPE_CHECKING:
    import polars as pl

_SHOWN_CHARACTERS = 300
_EXPECTED = "expected rules separated by `;`, each a condition and after a colon its reason, as `stars < 0: negative"


@dataclass(frozen=True, slots=True)
class Rule:
    """A condition for which a line is rejected.

    Attributes:
        predicate: A line is rejected where it is true.
        reason: The reason that the rejected line has.
        sql: The SQL that it was made from, if any.
    """

    predicate: pl.Expr
    reason: str
    sql: str = ""

    @property
    def text(self) -> str:
        """The condition as messages show it."""
        from transform.expressions.pseudonyms import as_text  # noqa: PLC0415 - it imports polars

        return self.sql or as_text(self.predicate)


def checked_reason(reason: object, condition: str) -> str:
    """Return the reason of a rule; one that is made of the condition if it is None.

    Raises:
        CalculationError: It is no text, or empty.
    """
    if reason is None:
        cut = len(condition) > _SHOWN_CHARACTERS
        return f"rejected by the rule `{condition[: _SHOWN_CHARACTERS - 1] + '…' if cut else condition}`"
    if not isinstance(reason, str) or not reason.strip() or has_lone_surrogate(reason):
        raise CalculationError(f"the reason of a rule is text, as 'negative stars', not {reason!r:.80}")
    return reason


def parse_rules(text: str) -> list[tuple[str, str | None]]:
    """Return the conditions in a list of rules, each with its reason, as options and settings have it.

    Rules are separated by `;`. The reason follows a colon; it is None if there is no colon. Colons and semicolons in
    quotes, brackets and comments of the condition, and `::`, are part of it. A reason ends at the next `;`.

    Raises:
        OptionError: A condition or a reason is missing, or there is no rule.

    Example:
        >>> parse_rules("stars < 0: negative stars; name = 'a:b'")
        [('stars < 0', 'negative stars'), ("name = 'a:b'", None)]
    """
    rules: list[tuple[str, str | None]] = []
    rest = text
    while rest.strip():
        at, mark = len(rest), ""
        place = 0
        for token in tokens(rest):
            if token.is_op(":", ";") and token.depth <= 0:
                at, mark = place, token.text
                break
            place += len(token.text)
        condition, reason, rest = rest[:at].strip(), None, rest[at + 1 :]
        if mark == ":":
            found, _, rest = rest.partition(";")
            reason = found.strip()
        if not condition and reason is None:  # nothing between two semicolons
            continue
        if not condition or reason == "":
            raise OptionError(
                f"{_EXPECTED} stars`; there is no {'reason after' if condition else 'condition before'} a colon"
            )
        rules.append((condition, reason))
    if not rules:
        raise OptionError(f"{_EXPECTED} stars`, and at least one")
    return rules
