"""The page docs/parameters.md, made from the templates in cfn/: `python -m tests.parameters_page` writes it."""

from __future__ import annotations

from typing import Any

from tests.cfn.templates import load
from tests.conftest import ROOT

PAGE = ROOT / "docs" / "parameters.md"

_START = """# Parameters of the templates

Made from the templates in [cfn/](../cfn/ecs-fargate.yaml) by `python -m tests.parameters_page`; a test compares the
two.

Set them on the command line of make, such as `pMaxTasks=4`, or in the [file of an
environment](deployment.md#environments). A parameter without a default is required; `make` sets those itself.
[deployment.md](deployment.md#what-you-have-already) says which ones you need, and [settings.md](settings.md) has the
settings of the worker that `pSettings` takes.
"""


def page() -> str:
    """Return what the page is to hold."""
    fargate, ec2 = load("fargate"), load("ec2")
    parts = [_START]
    for group in ec2["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]:
        parts.append(f"\n## {group['Label']['default']}\n\n| parameter | default | meaning |\n|---|---|---|\n")
        for name in group["Parameters"]:
            both = [template["Parameters"].get(name) for template in (fargate, ec2)]
            cells = [f"`{name}`", _either(both, _default), _either(both, _meaning) + _allowed(both)]
            parts.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n")
    return "".join(parts)


def _either(both: list[dict[str, Any] | None], cell: Any) -> str:
    """Return what both templates say of a parameter, or what each says."""
    on_fargate, on_ec2 = (None if told is None else cell(told) for told in both)
    if on_fargate is None:
        return f"{on_ec2} (EC2 only)" if cell is _meaning else str(on_ec2)
    if on_fargate == on_ec2:
        return str(on_fargate)
    return f"On Fargate: {on_fargate}. On EC2: {on_ec2}"


def _default(told: dict[str, Any]) -> str:
    if "Default" not in told:
        return "required"
    return f"`{told['Default']}`" if told["Default"] != "" else ""


def _meaning(told: dict[str, Any]) -> str:
    return str(told["Description"])


def _allowed(both: list[dict[str, Any] | None]) -> str:
    """Return the values that a parameter may have, which are the same in both templates."""
    allowed = next(told for told in both if told).get("AllowedValues")
    return f" ({', '.join(f'`{value}`' for value in allowed)})" if allowed else ""


if __name__ == "__main__":
    PAGE.write_text(page())
