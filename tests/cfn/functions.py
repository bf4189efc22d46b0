"""CloudFormation's functions, as far as the templates use them in what a test asks for."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_VARIABLE = re.compile(r"\$\{([\w:.]+)\}")
_OF_ARGUMENTS: dict[str, Callable[..., Any]] = {
    "Fn::Join": lambda delimiter, parts: delimiter.join(parts),
    "Fn::Split": lambda delimiter, text: text.split(delimiter),
    "Fn::Select": lambda number, parts: parts[int(number)],
}
_NO_VALUE = {"Ref": "AWS::NoValue"}


def evaluate(value: Any, names: Mapping[str, str], conditions: Mapping[str, bool]) -> Any:
    """Return a value with all functions applied.

    Args:
        value: A part of a template.
        names: Parameters, pseudo parameters such as `AWS::Region`, and attributes such as `rQueue.Arn`, by their names.
        conditions: The conditions.

    Raises:
        KeyError: The value refers to another name or condition, or uses another function.
    """
    value = _chosen(value, conditions)
    if isinstance(value, list):
        parts = (_chosen(part, conditions) for part in value)
        return [evaluate(part, names, conditions) for part in parts if part != _NO_VALUE]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        ((function, argument),) = value.items()
        if function == "Ref":
            return names[argument]
        if function == "Fn::GetAtt":
            return names[".".join(argument)]
        if function == "Fn::Sub":
            text, own = (argument, {}) if isinstance(argument, str) else argument
            known = {**names, **evaluate(own, names, conditions)}
            return _VARIABLE.sub(lambda found: known[found[1]], text)
        if function.startswith("Fn::"):
            return _OF_ARGUMENTS[function](*evaluate(argument, names, conditions))
    chosen = {name: _chosen(part, conditions) for name, part in value.items()}
    return {name: evaluate(part, names, conditions) for name, part in chosen.items() if part != _NO_VALUE}


def conditions_of(template: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, bool]:
    """Return whether the conditions of a template are met.

    Args:
        template: The template.
        names: Its parameters.

    Raises:
        KeyError: A condition uses another function.
    """
    found: dict[str, bool] = {}

    def is_met(value: Mapping[str, Any]) -> bool:
        ((function, argument),) = value.items()
        if function == "Condition":
            return condition(argument)
        if function == "Fn::Equals":
            one, other = evaluate(argument, names, {})
            return bool(one == other)
        combine: Callable[..., bool] = {"Fn::And": all, "Fn::Or": any, "Fn::Not": lambda parts: not next(parts)}[
            function
        ]
        return combine(is_met(part) for part in argument)

    def condition(name: str) -> bool:
        if name not in found:
            found[name] = is_met(template["Conditions"][name])
        return found[name]

    return {name: condition(name) for name in template["Conditions"]}


def _chosen(value: Any, conditions: Mapping[str, bool]) -> Any:
    """Return what conditions make of a value."""
    while isinstance(value, dict) and value.keys() == {"Fn::If"}:
        condition, then, otherwise = value["Fn::If"]
        value = then if conditions[condition] else otherwise
    return value
