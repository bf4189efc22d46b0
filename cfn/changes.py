"""Shows what a deployment would change, before the user confirms it."""

from __future__ import annotations

import ast
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from cfn.companion_stacks import describe_change
from cfn.image import DEFAULT_ARCHITECTURE, IN_THE_IMAGE, ROOT, local_tag
from cfn.messages import say, table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cfn.plan import Plan
    from cfn.stack import ChangeSet

_HOLDS = {
    "AWS::S3::Bucket": ("the stack would use another, empty bucket; this one stays, with its objects", False),
    "AWS::SQS::Queue": ("the messages in it are lost: `runner submit` queues the objects again", True),
    "AWS::Logs::LogGroup": ("the logs in it are lost", True),
}
"""What happens to the data in a resource that is replaced or removed, and whether they are lost."""
_REPLACED = {"True": "yes", "Conditional": "perhaps", "False": "no"}
_PERHAPS = "may be replaced"
_SHOWN_CHARACTERS = 60
_SHOWN_LINES = 12  # of a calculation


def show(plan: Plan, change_set: ChangeSet | None) -> bool:
    """Print what would be deployed and changed; return whether data would be lost."""
    account, name = plan.stack.account, plan.environment.name
    say()
    say(f"account      {account.id} ({account.caller})")
    say(f"region       {account.region}")
    say(f"stack        {plan.stack.name}, {'new' if plan.creates else 'an update'}, from {plan.template.path.name}")
    if name:
        say(f"environment  {name}")
    say(f"image        {plan.parameters['pDockerImage']}")
    say(f"calculation  {_calculation(plan)}")
    if plan.environment.tags is not None:
        say(f"tags         {' '.join(f'{key}={value}' for key, value in plan.environment.tags.items())}")
    before = plan.template.defaults if plan.creates else plan.now
    changed = table_of_parameters(before, plan.parameters, plan.environment.places)
    what = "Parameters that are not the default" if plan.creates else "Parameters that change"
    say(f"\n{what}:\n{changed}" if changed else "\nNo parameter changes.")
    say(f"\nChanges:\n{table_of_changes(change_set)}" if change_set else "\nNothing else changes in this stack.")
    say(f"{describe_change(plan.stack, plan.environment)}\n")
    warnings = warnings_about(change_set) if change_set else []
    for text, _ in warnings:
        say(f"WARNING: {text}")
    return any(lost for _, lost in warnings)


def _calculation(plan: Plan) -> str:
    text = plan.parameters["pCalculation"]
    if not text.startswith(IN_THE_IMAGE):
        where = plan.parameters.get("pWhere")
        return f"{text}{f'   where {where}' if where else ''}"
    path = ROOT / "docker" / (text.partition(".py")[0] + ".py").removeprefix(IN_THE_IMAGE)
    if not path.is_file() or not plan.parameters["pDockerImage"].endswith(f":{_tag(plan)}"):
        return f"{text} in that image, which was not built from this clone"
    lines = _code(path.read_text(encoding="utf-8"))
    shown = "\n".join(f"    {line}" for line in lines[:_SHOWN_LINES])
    more = len(lines) - _SHOWN_LINES
    return f"docker/{path.name}\n{shown}" + (f"\n    … ({more} more lines)" if more > 0 else "")


def _code(text: str) -> list[str]:
    """Return the lines of a module without its docstring and imports, from the first that computes something."""
    with suppress(SyntaxError):
        for statement in ast.parse(text).body:
            constant = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
            if not (constant or isinstance(statement, ast.Import | ast.ImportFrom)):
                return text.splitlines()[statement.lineno - 1 :]
    return text.splitlines()


def _tag(plan: Plan) -> str:
    return local_tag(plan.environment, plan.parameters.get("pArchitecture", DEFAULT_ARCHITECTURE))


def table_of_changes(change_set: ChangeSet) -> str:
    """Return the changes of resources as a table; of a new stack only how many there are of each type."""
    if change_set.creates:
        types = [str(change["ResourceType"]) for change in change_set.changes]
        return table((f"{types.count(name):3}", name) for name in dict.fromkeys(types))
    rows = [("action", "resource", "type", "replaced")]
    rows += [
        (change["Action"], change["LogicalResourceId"], change["ResourceType"], _replaced(change))
        for change in change_set.changes
    ]
    return table(rows)


def _replaced(change: Mapping[str, Any]) -> str:
    return _REPLACED.get(str(change.get("Replacement", "")), "")


def warnings_about(change_set: ChangeSet) -> list[tuple[str, bool]]:
    """Return a sentence for each resource with data that goes or may go, and whether something is lost for certain."""
    found = []
    for change in change_set.changes:
        fate = _fate(change)
        if change["ResourceType"] in _HOLDS and fate:
            what, lost = _HOLDS[change["ResourceType"]]
            if str(change.get("PolicyAction", "")).endswith("Retain"):
                what, lost = "the stack would not use it any more; it stays, with what it holds", False
            name = f"{change['LogicalResourceId']} ({change.get('PhysicalResourceId')})"
            found.append((f"{name} {fate}: {what}", lost and fate != _PERHAPS))
    return found


def _fate(change: Mapping[str, Any]) -> str:
    """Return in words that a resource goes, or may go; "" if it stays."""
    if change["Action"] == "Remove":
        return "is removed"
    if str(change.get("Replacement")) == "True":
        return "is replaced"
    reasons = [told.get("Target", {}).get("RequiresRecreation") for told in change.get("Details", [])]
    may_stay = bool(reasons) and all(reason == "Never" for reason in reasons)
    return _PERHAPS if str(change.get("Replacement")) == "Conditional" and not may_stay else ""


def table_of_parameters(now: Mapping[str, str], then: Mapping[str, str], places: Mapping[str, str]) -> str:
    """Return the parameters that differ as a table; "" if none differs.

    Args:
        now: Their values, or the defaults.
        then: What they will be.
        places: Where values were found, by the names of parameters.
    """
    rows = [
        (
            name,
            *(_short_pair(now[name], then[name]) if name in now else ("(none)", _short(then[name]))),
            places.get(name, ""),
        )
        for name in sorted(then)
        if now.get(name) != then[name]
    ]
    return table([("parameter", "now", "then", "from"), *rows]) if rows else ""


def _short_pair(now: str, then: str) -> tuple[str, str]:
    """Return two values that differ as they are shown: if their beginnings are the same, from just before they differ.

    The two texts always differ, so that each change can be seen before it is confirmed.
    """
    if _short(now) != _short(then):
        return _short(now), _short(then)
    same = next((at for at, pair in enumerate(zip(now, then, strict=False)) if pair[0] != pair[1]), -1)
    start = max(0, (min(len(now), len(then)) if same < 0 else same) - _SHOWN_CHARACTERS // 4)
    return _cut(repr(now[start:])), _cut(repr(then[start:]))


def _short(text: str) -> str:
    return _cut(" ".join(text.split()) or "(empty)")


def _cut(line: str) -> str:
    return line if len(line) <= _SHOWN_CHARACTERS else f"{line[: _SHOWN_CHARACTERS - 1]}…"
