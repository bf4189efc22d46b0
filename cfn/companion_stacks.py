"""The companions of the worker's stack: a stack of alarms, and one that starts the first task at once.

Their parameters are outputs and parameters of the worker's stack. They hold no data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfn.failures import Evidence
from cfn.messages import DeployError
from cfn.stack import COMPLETE, Stack, is_of
from cfn.template import COMPANIONS, read_template

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cfn.environment import Environment

MONITORING, WAKE = COMPANIONS
WAKE_AT_ONCE = "pWakeAtOnce"


def companion(stack: Stack, name: str) -> Stack:
    """Return a companion of a stack, which may not exist yet."""
    return Stack(stack.account, f"{stack.name}-{name}")


def companions(stack: Stack) -> list[Stack]:
    """Return all companions of a stack that exist; other stacks with such a name are left out."""
    known = [(name, companion(stack, name)) for name in (WAKE, MONITORING)]
    return [one for name, one in known if (found := one.found()) and is_of(found, read_template(name))]


def check_companions(stack: Stack) -> None:
    """Refuse to deploy if a companion would replace a stack that was not made from its template.

    Raises:
        DeployError: There is such a stack.
    """
    for name in COMPANIONS:
        one = companion(stack, name)
        found = one.found()
        if found and not is_of(found, read_template(name)):
            raise DeployError(
                f"there is a stack {one.name} that was not made from {name}.yaml, and a deployment of {stack.name} "
                f"would replace what is in it: deploy under another name (STACK), or delete {one.name}"
            )


def wakes(stack: Stack, environment: Environment) -> bool:
    """Return whether the first task is to be started at once; if not given, and without a file, as the stack has it."""
    given = environment.options.get(WAKE_AT_ONCE)
    if given is None and not environment.name:
        return companion(stack, WAKE).found() is not None
    return given == "true"


def describe_change(stack: Stack, environment: Environment) -> str:
    """Return as text that the stack that starts the first task is created or deleted; "" if neither."""
    wake, wanted = companion(stack, WAKE), wakes(stack, environment)
    if wanted == (wake.found() is not None):
        return ""
    what = "is created: it looks at the queues each minute" if wanted else "is deleted"
    return f"{wake.name} {what} ({WAKE_AT_ONCE})"


def deploy_companions(stack: Stack, environment: Environment, parameters: Mapping[str, str]) -> None:
    """Deploy the companions of a stack that are wanted, and delete the one that is not.

    Raises:
        DeployError: One of them was rolled back.
    """
    _deploy(stack, MONITORING, environment, parameters)
    if wakes(stack, environment):
        _deploy(stack, WAKE, environment, parameters)
    elif companion(stack, WAKE).found():
        companion(stack, WAKE).delete()


def _deploy(stack: Stack, name: str, environment: Environment, parameters: Mapping[str, str]) -> None:
    template, one, outputs = read_template(name), companion(stack, name), stack.outputs()
    known = {**parameters, **{f"p{key[1:]}": value for key, value in outputs.items()}}
    given = {key: known[key] for key in template.parameters if key in known}
    change_set = one.propose(template, given, environment.tags)
    if change_set is None:
        return
    evidence = Evidence(one, change_set.made)
    one.execute(change_set)
    status = one.wait(evidence.look)
    if status not in COMPLETE:
        advice = "".join(f"\nWhat to do: {text}." for text in evidence.advice())
        raise DeployError(
            f"\n{stack.name} is deployed, but {one.name} is not ({status}); what is above says why. Then deploy again."
            f"{advice}"
        )
