"""The plan of a deployment: a template with all its parameters, checked before CloudFormation gets them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cfn.account import network_of
from cfn.companion_stacks import check_companions
from cfn.environment import worker_settings
from cfn.image import DEFAULT_ARCHITECTURE, IN_THE_IMAGE, ROOT, local_tag, pushed_image, repository_of
from cfn.messages import DeployError
from cfn.stack import NEVER_MADE, Stack
from cfn.template import read_template

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cfn.account import Account
    from cfn.environment import Environment
    from cfn.template import Template

_INSTANCE_TYPE = "pInstanceType"
"""A parameter that only the template for EC2 has."""


@dataclass(frozen=True)
class Plan:
    """What is meant to be deployed.

    Attributes:
        stack: The stack.
        template: Its template.
        parameters: All parameters, as they will be.
        now: All parameters, as they are; none of a new stack.
        environment: Where they come from.
    """

    stack: Stack
    template: Template
    parameters: dict[str, str]
    now: dict[str, str]
    environment: Environment

    @property
    def creates(self) -> bool:
        """Whether the stack is new."""
        return not self.now


def make_plan(account: Account, environment: Environment, kind: str) -> Plan:
    """Return the plan of a deployment.

    With the file of an environment, parameters that are not given get their defaults; without, they stay as they are.

    Raises:
        DeployError: Something is missing, or contradicts the stack.
    """
    stack, template = Stack(account, environment.stack), read_template(f"ecs-{kind}")
    environment.parameters_for(template)
    found = stack.found()
    status = found["StackStatus"] if found else None
    stack.check_own(found, template)
    check_companions(stack)
    _check_status(stack, status)
    now = {}
    if found and status not in NEVER_MADE:
        now = {told["ParameterKey"]: told["ParameterValue"] for told in found.get("Parameters", [])}
        _check_kind(stack, now, kind)
    kept = {} if environment.name else {name: now[name] for name in template.parameters if name in now}
    given = environment.parameters_for(template, kept)
    parameters = {**template.defaults, **kept, **given}
    parameters |= network_of(account, given, now)
    architecture = parameters.get("pArchitecture", DEFAULT_ARCHITECTURE)
    if given.get("pDockerImage") == "":
        raise DeployError(f"IMAGE ({environment.places['pDockerImage']}) is empty: expected the URI of an image")
    if "pDockerImage" not in given:
        parameters["pDockerImage"] = _image(account, environment, architecture)
    _check_calculation(parameters, environment, own_image="pDockerImage" in given)
    return Plan(stack, template, parameters, now, environment)


def _check_status(stack: Stack, status: str | None) -> None:
    if status is None or status in NEVER_MADE:
        return
    if status.endswith("_IN_PROGRESS"):
        raise DeployError(f"the stack {stack.name} is being changed already ({status}): wait until that is over")
    if status == "UPDATE_ROLLBACK_FAILED":
        raise DeployError(
            f"the stack {stack.name} could not be rolled back ({status}): correct what its events name, then `aws "
            f"cloudformation continue-update-rollback --stack-name {stack.name}`"
        )
    if status == "DELETE_FAILED":
        raise DeployError(f"the stack {stack.name} could not be deleted ({status}): make destroy tries again")


def _check_kind(stack: Stack, now: Mapping[str, str], kind: str) -> None:
    there = "ec2" if _INSTANCE_TYPE in now else "fargate"
    if there != kind:
        raise DeployError(
            f"the stack {stack.name} was made by make deploy-{there}: use that, or name another stack with ENV or STACK"
        )


def _image(account: Account, environment: Environment, architecture: str) -> str:
    image = pushed_image(account, environment, architecture)
    if image is None:
        raise DeployError(
            f"there is no image {repository_of(environment)}:{local_tag(environment, architecture)} in the ECR of "
            f"{account.region} in {account.id}: make push first, with the same ENV, ARCHITECTURE and BASE; or give the "
            "URI of another one as IMAGE"
        )
    return image


def _check_calculation(parameters: Mapping[str, str], environment: Environment, *, own_image: bool) -> None:
    """Refuse a calculation that is not in the image, and settings with which the worker would not start."""
    worker_settings(parameters)
    text, place = parameters["pCalculation"], environment.places.get("pCalculation", "the stack")
    path = text.partition(".py")[0] + ".py" if ".py" in text and " " not in text else ""
    if path and not path.startswith("/"):
        raise DeployError(
            f"pCalculation ({place}) is {text}, which is not in the image: put the file into docker/, and give "
            f"{IN_THE_IMAGE}{path.rpartition('/')[2]}"
        )
    file = ROOT / "docker" / path.removeprefix(IN_THE_IMAGE)
    if path.startswith(IN_THE_IMAGE) and not own_image and not file.is_file():
        raise DeployError(f"pCalculation ({place}) is {text}, and there is no docker/{path.removeprefix(IN_THE_IMAGE)}")
