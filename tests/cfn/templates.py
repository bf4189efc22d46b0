"""The templates in cfn/, as plain data."""

from __future__ import annotations

import functools
import json
import re
from typing import TYPE_CHECKING, Any

from tests.conftest import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

KINDS = ("fargate", "ec2")
PATHS = {
    **{kind: ROOT / "cfn" / f"ecs-{kind}.yaml" for kind in KINDS},
    "monitoring": ROOT / "cfn" / "monitoring.yaml",
    "wake": ROOT / "cfn" / "wake.yaml",
    "endpoints": ROOT / "cfn" / "vpc-endpoints.yaml",
}

_VARIABLE = re.compile(r"\$\{(\w+)\}")


def load(kind: str) -> dict[str, Any]:
    """Return a template, short forms of functions spelled out; it is the caller's own, to be changed."""
    loaded: dict[str, Any] = json.loads(_as_json(kind))
    return loaded


@functools.cache
def _as_json(kind: str) -> str:
    from cfnlint.decode import cfn_yaml  # noqa: PLC0415 # takes a second to import, also for workers that need it not

    return json.dumps(cfn_yaml.load(str(PATHS[kind])))


def defaults(template: Mapping[str, Any], **given: str) -> dict[str, str]:
    """Return the parameters that have a default, and those that are given."""
    known = {name: str(told["Default"]) for name, told in template["Parameters"].items() if "Default" in told}
    return {**known, **given}


def resolved(value: Any, parameters: Mapping[str, str]) -> Any:
    """Return a value with the parameters put in; what refers to anything else stays as it is."""
    if isinstance(value, list):
        return [resolved(item, parameters) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"Ref"} and value["Ref"] in parameters:
        return parameters[value["Ref"]]
    if value.keys() == {"Fn::Sub"} and isinstance(value["Fn::Sub"], str):
        text = _VARIABLE.sub(lambda found: parameters.get(found[1], found[0]), value["Fn::Sub"])
        return {"Fn::Sub": text} if "${" in text else text
    return {name: resolved(item, parameters) for name, item in value.items()}


def of_type(template: Mapping[str, Any], kind: str) -> dict[str, dict[str, Any]]:
    """Return the properties of the resources of a type such as `AWS::SQS::Queue`, by their ids."""
    found = template["Resources"].items()
    return {name: told.get("Properties", {}) for name, told in found if told["Type"] == kind}


def everything_in(value: Any) -> Iterator[Any]:
    """Yield a value and all that it holds."""
    yield value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from everything_in(item)


def container_of(template: Mapping[str, Any]) -> dict[str, Any]:
    """Return the definition of the one container."""
    (container,) = template["Resources"]["rTaskDefinition"]["Properties"]["ContainerDefinitions"]
    return dict(container)
