"""The stacks beside that of the worker: its alarms, and what starts its first task at once.

Their parameters are outputs and parameters of the other stack. They hold no data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfn.errors import DeployError
from cfn.failures import Evidence
from cfn.stack import COMPLETE, NEVER_MADE, Stack, is_of
from cfn.template import read_template

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cfn.environment import Environment

MONITORING, WAKE = NAMES = "monitoring", "wake"
WAKE_AT_ONCE = "pWakeAtOnce"


def beside(stack: Stack, name: str) -> Stack:
    """Return a stack beside another one."""
    return Stack(stack.account, f"{stack.name}-{name}")


def all_beside(stack: Stack) -> list[Stack]:
    """Return all stacks that are beside another one; not those of something else that happen to have such a name."""
    known = [(name, beside(stack, name)) for name in (WAKE, MONITORING)]
    return [one for name, one in known if (found := one.found()) and is_of(found, read_template(name))]


def check_beside(stack: Stack) -> None:
    """Refuse to deploy beside a stack what would replace a stack of something else.

    Raises:
        DeployError: There is such a stack.
    """
    for name in NAMES:
        one = beside(stack, name)
        found = one.found()
        if found and not is_of(found, read_template(name)):
            raise DeployError(
                f"there is a stack {one.name} that was not made from {name}.yaml, and a deployment of {stack.name} "
                f"would replace what is in it: deploy under another name (STACK), or delete {one.name}"
            )


def wakes(stack: Stack, environment: Environment) -> bool:
    """Return whether the first task is to be started at once; without a file and a word about it, as it is now."""
    given = environment.options.get(WAKE_AT_ONCE)
    if given is None and not environment.name:
        return beside(stack, WAKE).found() is not None
    return given == "true"


def intention(stack: Stack, environment: Environment) -> str:
    """Return in words what becomes of the stack that starts the first task; "" if it is there or not, as it is now."""
    there, name = beside(stack, WAKE).found() is not None, beside(stack, WAKE).name
    wanted = wakes(stack, environment)
    if wanted == there:
        return ""
    return f"{name} {'is created: it looks at the queues each minute' if wanted else 'is deleted'} ({WAKE_AT_ONCE})"


def deploy_beside(stack: Stack, environment: Environment, parameters: Mapping[str, str]) -> None:
    """Deploy the stacks that are wanted beside another one, and delete the one that is not.

    Raises:
        DeployError: One of them was taken back.
    """
    _deploy(stack, MONITORING, environment, parameters)
    if wakes(stack, environment):
        _deploy(stack, WAKE, environment, parameters)
    elif beside(stack, WAKE).found():
        beside(stack, WAKE).delete()


def _deploy(stack: Stack, name: str, environment: Environment, parameters: Mapping[str, str]) -> None:
    template, one, outputs = read_template(name), beside(stack, name), stack.outputs()
    known = {**parameters, **{f"p{key[1:]}": value for key, value in outputs.items()}}
    given = {key: known[key] for key in template.parameters if key in known}
    found = one.found()
    creates = found is None or found["StackStatus"] in NEVER_MADE
    if creates and found:
        one.delete()
    change_set = one.propose(template, given, environment.tags, creates=creates)
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
