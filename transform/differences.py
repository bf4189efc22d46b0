"""How two JSON objects differ: member by member, telling missing from null, and integers from floats."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

ONLY_OURS = "only the expressions give it"
ONLY_THEIRS = "only the function gives it"
NULL_OURS = "null by the expressions"
NULL_THEIRS = "null by the function"
INTEGER_OR_FLOAT = "integer against float"
TYPE = "another type"
VALUE = "another value"
LENGTH = "another length"
ORDER = "another order of members"
DUPLICATES = "another number of members of that name"
DROPPED = "only one of them drops the line"
REJECTED = "only one of them rejects the line"
TOO_DEEP = "nested too deep to be compared"
_SHOWN_CHARACTERS = 60


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference between what the expressions and what the function make of a line.

    Attributes:
        member: Which, as `address.city` or `tags[]`; nothing for the line itself.
        kind: What differs.
        ours: What the expressions give there, as JSON; nothing where it is missing.
        theirs: What the function gives there.
        relative: Of two numbers, how far they are apart as a share of the larger; else None.
    """

    member: str
    kind: str
    ours: str = ""
    theirs: str = ""
    relative: float | None = None


class _Object(list[tuple[str, Any]]):
    """The members of an object, with duplicates and in order."""


def differences(ours: bytes, theirs: bytes, rel_tol: float = 0.0) -> list[Difference]:
    """Return how two JSON objects differ.

    Args:
        ours: The text of one.
        theirs: The text of the other.
        rel_tol: Floats that are no further apart than this share of the larger count as equal.
    """
    try:
        return list(_compare(_parse(ours), _parse(theirs), "", rel_tol))
    except RecursionError:
        return [] if ours == theirs else [Difference("", TOO_DEEP)]


def shorten(text: str) -> str:
    """Return the start of a text, as much as is good to look at."""
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"


def _parse(text: bytes) -> Any:
    return json.loads(text, object_pairs_hook=_Object, parse_int=_integer)


def _integer(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:  # Python takes no more than some thousand digits
        return float(text)


def _compare(ours: Any, theirs: Any, member: str, rel_tol: float) -> Iterator[Difference]:
    if isinstance(ours, _Object) and isinstance(theirs, _Object):
        yield from _compare_members(ours, theirs, member, rel_tol)
    elif type(ours) is list and type(theirs) is list:
        if len(ours) != len(theirs):
            yield Difference(member, LENGTH, _text(ours), _text(theirs))
        for one, other in zip(ours, theirs, strict=False):
            yield from _compare(one, other, f"{member}[]", rel_tol)
    elif (kind := _kind_of_difference(ours, theirs, rel_tol)) is not None:
        yield Difference(member, kind, _text(ours), _text(theirs), _relative(ours, theirs))


def _compare_members(ours: _Object, theirs: _Object, member: str, rel_tol: float) -> Iterator[Difference]:
    names, others = [name for name, _ in ours], [name for name, _ in theirs]
    values, wanted = dict(ours), dict(theirs)  # of duplicates, the last counts
    for name in dict.fromkeys([*names, *others]):
        path = f"{member}.{name}" if member else name
        if name not in values:
            yield Difference(path, ONLY_THEIRS, theirs=_text(wanted[name]))
        elif name not in wanted:
            yield Difference(path, ONLY_OURS, ours=_text(values[name]))
        else:
            if names.count(name) != others.count(name):
                yield Difference(path, DUPLICATES, str(names.count(name)), str(others.count(name)))
            yield from _compare(values[name], wanted[name], path, rel_tol)
    if [name for name in values if name in wanted] != [name for name in wanted if name in values]:
        yield Difference(member, ORDER, shorten(", ".join(names)), shorten(", ".join(others)))


def _kind_of_difference(ours: Any, theirs: Any, rel_tol: float) -> str | None:
    if ours is None or theirs is None:
        return None if ours is theirs else NULL_OURS if ours is None else NULL_THEIRS
    if type(ours) is type(theirs):
        close = type(ours) is float and math.isclose(ours, theirs, rel_tol=rel_tol)
        return None if close or ours == theirs else VALUE
    if {type(ours), type(theirs)} == {int, float}:
        return INTEGER_OR_FLOAT if ours == theirs or math.isclose(ours, theirs, rel_tol=rel_tol) else VALUE
    return TYPE


def _relative(ours: Any, theirs: Any) -> float | None:
    if not {type(ours), type(theirs)} <= {int, float}:
        return None
    try:
        larger = max(abs(ours), abs(theirs))
        return float(abs(ours - theirs) / larger) if larger and math.isfinite(larger) else None
    except OverflowError:  # an integer beyond what floats hold
        return None


def _text(value: Any) -> str:
    return shorten(json.dumps(_plain(value), ensure_ascii=False))


def _plain(value: Any) -> Any:
    if isinstance(value, _Object):
        return {name: _plain(of) for name, of in value}
    return [_plain(of) for of in value] if isinstance(value, list) else value
