"""Texts about settings, derived from their fields: the reference, and messages about wrong values."""

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any, get_args

from pydantic import AliasChoices
from pydantic.fields import FieldInfo

from transform import format_exact_size

Fields = Mapping[str, FieldInfo]
"""The fields of the settings, by their names."""

_SHOWN_CHARACTERS = 80
_NEAR = 0.85
"""Similarity of two names, from 0 to 1, from which on one is taken for a typing error: a letter of seven may differ."""


def describe(fields: Fields) -> list[tuple[str, str, str]]:
    """Return the name, the default and the meaning of each setting; the default is "" if it is empty or None."""
    rows = []
    for field in fields.values():
        name, *others = names_of(field)
        default = "required" if field.is_required() else _say(field, field.default)
        also = f" (also read: {', '.join(others)})" if others else ""
        rows.append((name, default, f"{field.description}: {_expected(field)}{also}"))
    return rows


def near_misses(fields: Fields, environ: Mapping[str, str]) -> list[str]:
    """Return a sentence for each variable whose name is similar to that of a setting; values are not shown."""
    known = [name for field in fields.values() for name in names_of(field)]
    plain = {_plain(name): name for name in reversed(known)}
    sentences = []
    for name in sorted(environ.keys() - set(known)):
        if not name.upper().startswith(("AWS_", "ECS_")):  # AWS has many variables, some with similar names
            sentences += [
                f"{name} is not a setting; did you mean {plain[near]}?"
                for near in difflib.get_close_matches(_plain(name), plain, n=1, cutoff=_NEAR)
            ]
    return sentences


def _plain(name: str) -> str:
    return name.upper().replace("_", "")


def names_of(field: FieldInfo) -> list[str]:
    """Return the variables that a setting is read from; the first one that is set is used."""
    alias = field.validation_alias
    return [str(name) for name in alias.choices] if isinstance(alias, AliasChoices) else [str(alias)]


def contradictions(fields: Fields, given: Mapping[str, str]) -> Iterator[str]:
    """Yield a line for each setting that is set under two names with different values."""
    for name, field in fields.items():
        values = {variable: given[variable] for variable in names_of(field) if variable in given}
        if len(set(values.values())) > 1 and name != "region":  # ECS and users may set different ones
            shown = ", ".join(f"{variable}={quote_value(value)}" for variable, value in values.items())
            yield f"{' and '.join(values)}: found {shown}, expected one of them or the same value twice"


def describe_error(fields: Fields, error: Any, given: Mapping[str, str]) -> str:
    """Return the line about a wrong setting: its name as it was set, what was found, what was expected."""
    place = str(error["loc"][0])
    field = next(f for key, f in fields.items() if place in (key, *names_of(f)))
    expected = str(error.get("ctx", {}).get("error", "")) or f"expected {_expected(field)}"
    name = next((name for name in names_of(field) if name in given), None)
    if name is None and field.is_required():
        return f"{names_of(field)[0]}: not set, {expected}"
    if name is None:
        return f"{names_of(field)[0]}: not set, {_say(field, field.default)} by default, {expected}"
    return f"{name}: found {quote_value(given[name])}, {expected}"


def quote_value(value: str) -> str:
    """Return a value as messages quote it: without passwords, and cut if it is long."""
    hidden = re.sub(r"//[^/@\s]*@", "//…@", value)  # the user and password of a URL
    return repr(hidden if len(hidden) <= _SHOWN_CHARACTERS else f"{hidden[:_SHOWN_CHARACTERS]}…")


def _expected(field: FieldInfo) -> str:
    """Return the words for the values of a setting: those of its type, and its limits."""
    limits = [
        f"{words} {_say(field, getattr(part, sign))}"
        for part in _metadata(field)
        for sign, words in (("gt", "above"), ("ge", "from"), ("le", "to"))
        if hasattr(part, sign)
    ]
    return " ".join([_kind(field), *limits])


def _say(field: FieldInfo, value: object) -> str:
    """Return a value as a user writes it; "" for an empty one."""
    if isinstance(value, int) and _kind(field).startswith("a size"):
        return format_exact_size(value)
    if isinstance(value, float):
        return f"{value:.10g}"
    return str(value) if value or isinstance(value, int) else ""


def _kind(field: FieldInfo) -> str:
    return next(part for part in _metadata(field) if isinstance(part, str))


def _metadata(field: FieldInfo) -> list[Any]:
    """Return the annotations of a field, including those at the other arm of a union with None."""
    arms = get_args(field.annotation)
    return [*field.metadata, *(part for arm in arms for part in getattr(arm, "__metadata__", ()))]
