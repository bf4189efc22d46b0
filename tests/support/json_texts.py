"""Strategies for JSON values as texts, spelled in every way that the grammar allows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import strategies as st

if TYPE_CHECKING:
    from hypothesis.strategies import DrawFn, SearchStrategy

NUMBERS = (
    *("0", "-0", "7", "1.50", "1E2", "-1e+05", "0.0e-0", "9007199254740993", "-9223372036854775809"),
    *("1" + "0" * 30, "12345678901234567890.12345678901234567890", "1e999", "-1E-999", "9" * 400),
)
STRINGS = (
    *('""', '"a"', '"é 名 \U0001f600"', '"{"', '"}]\\""', '"null"', r'"\u0041\/\n\u0000"', r'"\\ud800"'),
    *(r'"\ud83d"', r'"\udc00\uD83Dx"', r'"\ud83d\ude00"'),
)
SCALARS = (*NUMBERS, *STRINGS, "true", "false", "null")
NAMES = ("a", "b", "é", "", "x.y", r"\u0061", r"\"", r"\ud800", "same")
_spaces = st.sampled_from(["", "", "", " ", "\t ", " \r "])


@st.composite
def _array(draw: DrawFn, inner: SearchStrategy[str]) -> str:
    before, after = draw(_spaces), draw(_spaces)
    return f"[{before}" + f"{after},{before}".join(draw(st.lists(inner, max_size=3))) + f"{after}]"


@st.composite
def _object(draw: DrawFn, inner: SearchStrategy[str]) -> str:
    members = draw(st.lists(st.tuples(st.sampled_from(NAMES), inner), max_size=3))
    return object_of(members, draw(_spaces), draw(_spaces))


def object_of(members: list[tuple[str, str]], before: str = "", after: str = "") -> str:
    """Return an object, given the texts of names (without quotes) and of values, and the white space around these."""
    return "{" + ",".join(f'{before}"{name}"{after}:{before}{value}{after}' for name, value in members) + "}"


def values() -> SearchStrategy[str]:
    """Draw any value."""
    return st.recursive(st.sampled_from(SCALARS), lambda inner: _array(inner) | _object(inner), max_leaves=6)
