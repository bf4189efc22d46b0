"""What a deployment would change, as it is shown before it is asked about."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cfn.said import table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cfn.stack import ChangeSet

_HOLDS = {
    "AWS::S3::Bucket": ("the stack would use another, empty bucket; this one stays, with its objects", False),
    "AWS::SQS::Queue": ("the messages in it are lost: `runner submit` queues the objects again", True),
    "AWS::Logs::LogGroup": ("the logs in it are lost", True),
}
"""What becomes of what a resource holds if it is replaced or removed, and whether that is lost."""
_REPLACED = {"True": "yes", "Conditional": "perhaps", "False": "no"}
_SHOWN_CHARACTERS = 60


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
    """Return a sentence for each resource with data that goes or may go, and whether something would be lost."""
    found = []
    for change in change_set.changes:
        told = _HOLDS.get(change["ResourceType"])
        replaced = change.get("Replacement", "False")
        if told is None or not (change["Action"] == "Remove" or replaced in {"True", "Conditional"}):
            continue
        what, lost = told
        if str(change.get("PolicyAction", "")).endswith("Retain"):
            what, lost = "the stack would not use it any more; it stays, with what it holds", False
        verb = (
            "is removed" if change["Action"] == "Remove" else "is replaced" if replaced == "True" else "may be replaced"
        )
        found.append((f"{change['LogicalResourceId']} ({change.get('PhysicalResourceId')}) {verb}: {what}", lost))
    return found


def table_of_parameters(now: Mapping[str, str], then: Mapping[str, str], places: Mapping[str, str]) -> str:
    """Return the parameters that differ as a table; "" if there are none.

    Args:
        now: Their values, or the defaults.
        then: What they will be.
        places: Where values were found, by the names of parameters.
    """
    rows = [
        (name, _short(now[name]) if name in now else "(none)", _short(then[name]), places.get(name, ""))
        for name in sorted(then)
        if now.get(name) != then[name]
    ]
    return table([("parameter", "now", "then", "from"), *rows]) if rows else ""


def _short(text: str) -> str:
    line = " ".join(text.split()) or "(empty)"
    return line if len(line) <= _SHOWN_CHARACTERS else f"{line[: _SHOWN_CHARACTERS - 1]}…"
