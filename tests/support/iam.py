"""IAM's decision about a request, for policies that only allow, without conditions other than on texts.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_SPECIAL = re.compile(r"\$\{([*?$])\}|(\*)|(\?)")
"""A character that stands for itself, any number of characters, and one character."""


def allows(document: Mapping[str, Any], action: str, resource: str, **context: str) -> bool:
    """Return whether a policy allows an action on a resource.

    Args:
        document: The policy.
        action: The action, such as `s3:GetObject`.
        resource: The ARN of the resource.
        context: Values of condition keys of the request, with `_` in place of `:`.

    Raises:
        ValueError: The policy has something that this does not know.
    """
    return any(_applies(statement, action, resource, context) for statement in document["Statement"])


def grants(*documents: Mapping[str, Any]) -> set[tuple[str, str]]:
    """Return the actions that policies allow, each with a resource, however their statements are divided.

    Actions on objects are left out for buckets, and the other way round: S3 does not look at them.
    """
    found = set()
    for statement in (statement for document in documents for statement in document["Statement"]):
        if statement["Effect"] != "Allow" or statement.keys() - {"Sid", "Effect", "Action", "Resource"}:
            raise ValueError(f"unknown in a statement: {statement}")
        found |= {(action, arn) for action in _listed(statement["Action"]) for arn in _listed(statement["Resource"])}
    return {
        (action, arn)
        for action, arn in found
        if not action.startswith("s3:") or (action == "s3:ListBucket") == ("/" not in arn)
    }


def _applies(statement: Mapping[str, Any], action: str, resource: str, context: Mapping[str, str]) -> bool:
    if statement["Effect"] != "Allow" or statement.keys() - {"Sid", "Effect", "Action", "Resource", "Condition"}:
        raise ValueError(f"unknown in a statement: {statement}")
    return (
        any(matches(pattern.lower(), action.lower()) for pattern in _listed(statement["Action"]))
        and any(matches(pattern, resource) for pattern in _listed(statement["Resource"]))
        and all(_is_met(name, wanted, context) for name, wanted in statement.get("Condition", {}).items())
    )


def _is_met(operator: str, wanted: Mapping[str, Any], context: Mapping[str, str]) -> bool:
    """Return whether a condition is met; of a key that the request does not have, only one with `IfExists` is."""
    if operator.removesuffix("IfExists") != "StringLike":
        raise ValueError(f"unknown in a condition: {operator}")
    for key, patterns in wanted.items():
        found = context.get(key.replace(":", "_"))
        if found is None:
            if not operator.endswith("IfExists"):
                return False
        elif not any(matches(pattern, found) for pattern in _listed(patterns)):
            return False
    return True


def matches(pattern: str, text: str) -> bool:
    """Return whether a text is one that a pattern with `*`, `?` and `${*}` stands for."""
    found, end = "", 0
    for special in _SPECIAL.finditer(pattern):
        found += re.escape(pattern[end : special.start()])
        found += re.escape(special[1]) if special[1] else ".*" if special[2] else "."
        end = special.end()
    return re.fullmatch(found + re.escape(pattern[end:]), text, re.DOTALL) is not None


def _listed(value: Any) -> list[str]:
    return value if isinstance(value, list) else [value]
