"""A template: its text, and its parameters with their defaults."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

KINDS = ("fargate", "ec2")
COMPANIONS = "monitoring", "wake"
"""The templates of the stacks beside that of the worker, whose names end so."""
DIRECTORY = Path(__file__).parent


class _Loader(yaml.SafeLoader):  # type: ignore[misc] # it ships without types
    """Reads the short forms of CloudFormation's functions as what they are applied to, which is all that is needed."""


def _short_form(loader: yaml.SafeLoader, _: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.ScalarNode):
        return loader.construct_scalar(node)
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    return loader.construct_sequence(node, deep=True)


_Loader.add_multi_constructor("!", _short_form)


@dataclass(frozen=True)
class Template:
    """A template.

    Attributes:
        path: Its file.
        text: Its text.
        parameters: What it says of each parameter.
    """

    path: Path
    text: str
    parameters: dict[str, dict[str, Any]]

    @property
    def mark(self) -> str:
        """A parameter that stacks of this template have had in every version, and others have not."""
        return next(name for name in ("pCalculation", "pQueueName") if name in self.parameters)

    @property
    def defaults(self) -> dict[str, str]:
        """The values of the parameters that have a default."""
        return {name: str(told["Default"]) for name, told in self.parameters.items() if "Default" in told}


def read_template(name: str) -> Template:
    """Return a template of this directory by its name without the ending, such as `ecs-fargate`."""
    path = DIRECTORY / f"{name}.yaml"
    text = path.read_text(encoding="utf-8")
    loaded = yaml.load(text, Loader=_Loader)  # noqa: S506 # a SafeLoader
    return Template(path, text, loaded["Parameters"])
