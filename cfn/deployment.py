"""A deployment: what is meant, what it would change, and the change with all that may go wrong with it."""

from __future__ import annotations

import ast
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from cfn.advice import advice_about
from cfn.beside import check_beside, intention
from cfn.changes import table_of_changes, table_of_parameters, warnings_about
from cfn.environment import worker_settings
from cfn.errors import DeployError
from cfn.failures import Evidence
from cfn.image import DEFAULT_ARCHITECTURE, ROOT, local_tag, pushed_image, repository_of
from cfn.network import network_of
from cfn.said import say, show_command
from cfn.stack import COMPLETE, NEVER_MADE, Stack
from cfn.template import read_template

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cfn.account import Account
    from cfn.environment import Environment
    from cfn.stack import ChangeSet
    from cfn.template import Template

IN_THE_IMAGE = "/app/"
CALCULATION_LINES = 12
_INSTANCE_TYPE = "pInstanceType"
"""A parameter that only the template for EC2 has."""
_SERVICE_TYPES = {"AWS::ECS::Service", "AWS::ECS::TaskDefinition"}


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
    """Return what a deployment would make, a file and the command line being the whole truth where there is a file.

    Without a file, parameters that are not given stay as they are.

    Raises:
        DeployError: Something is missing, or contradicts what is there.
    """
    stack, template = Stack(account, environment.stack), read_template(f"ecs-{kind}")
    environment.parameters_for(template)
    found = stack.found()
    status = found["StackStatus"] if found else None
    stack.check_own(found, template)
    check_beside(stack)
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
            f"the stack {stack.name} could not be taken back ({status}): correct what its events name, then `aws "
            f"cloudformation continue-update-rollback --stack-name {stack.name}`"
        )
    if status == "DELETE_FAILED":
        raise DeployError(f"the stack {stack.name} could not be deleted ({status}): make destroy tries again")


def _check_kind(stack: Stack, now: Mapping[str, str], kind: str) -> None:
    there = "ec2" if _INSTANCE_TYPE in now else "fargate"
    if there != kind:
        raise DeployError(
            f"the stack {stack.name} is one of make deploy-{there}: deploy that, or name another stack by ENV or STACK"
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


def propose(plan: Plan) -> ChangeSet | None:
    """Return the change set of a plan, None if nothing would change."""
    if plan.creates and plan.stack.found():
        say(f"The stack {plan.stack.name} was never complete and holds nothing, so it is deleted first.")
        plan.stack.delete()
    return plan.stack.propose(plan.template, dict(plan.parameters), plan.environment.tags, creates=plan.creates)


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
    say(f"{intention(plan.stack, plan.environment)}\n")
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
        return f"{text} of that image, which is not of this clone"
    lines = _code(path.read_text(encoding="utf-8"))
    shown = "\n".join(f"    {line}" for line in lines[:CALCULATION_LINES])
    more = len(lines) - CALCULATION_LINES
    return f"docker/{path.name}\n{shown}" + (f"\n    … ({more} more lines)" if more > 0 else "")


def _code(text: str) -> list[str]:
    """Return the lines of a module without its docstring and imports, from the first that says what is computed."""
    with suppress(SyntaxError):
        for statement in ast.parse(text).body:
            constant = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
            if not (constant or isinstance(statement, ast.Import | ast.ImportFrom)):
                return text.splitlines()[statement.lineno - 1 :]
    return text.splitlines()


def _tag(plan: Plan) -> str:
    return local_tag(plan.environment, plan.parameters.get("pArchitecture", DEFAULT_ARCHITECTURE))


def carry_out(plan: Plan, change_set: ChangeSet) -> None:
    """Make the change, and check that it is there.

    Raises:
        DeployError: It was taken back; the message says what to do.
    """
    evidence = Evidence(plan.stack, datetime.now(UTC))
    if not plan.creates and any(change["ResourceType"] in _SERVICE_TYPES for change in change_set.changes):
        _have_a_task(plan.stack)
    plan.stack.execute(change_set)
    say("This takes some minutes; an update waits for the jobs at work.")
    try:
        status = plan.stack.wait(evidence.look)
    except KeyboardInterrupt:
        raise DeployError(
            f"\nThe deployment of {plan.stack.name} goes on: make status shows it. To take it back: aws cloudformation "
            f"cancel-update-stack --stack-name {plan.stack.name}"
        ) from None
    if status not in COMPLETE:
        raise DeployError(_failure(plan, status, evidence))
    if not _runs_what_is_meant(plan.stack):
        raise DeployError(_failure(plan, "taken back by ECS", evidence))


def _have_a_task(stack: Stack) -> None:
    """Have a task run during the update, so that it shows whether the new version starts; scaling ends it later.

    A new service begins with one, too. With none, ECS has nothing to start, and takes any version for a good one.
    """
    cluster, service = stack.resource("rECSCluster"), stack.resource("rECSService")
    if not (cluster and service):
        return
    ecs = stack.account.client("ecs")
    with suppress(ClientError):
        (told,) = ecs.describe_services(cluster=cluster, services=[service])["services"]
        if told["desiredCount"] == 0:
            show_command(
                *("aws", "ecs", "update-service", "--cluster", cluster, "--service", service, "--desired-count", "1")
            )
            ecs.update_service(cluster=cluster, service=service, desiredCount=1)


def _runs_what_is_meant(stack: Stack) -> bool:
    """Return whether the service has the task definition of the stack, which ECS may have taken back by itself.

    CloudFormation has called such an update complete: https://github.com/aws/containers-roadmap/issues/1205.
    """
    cluster, service, meant = (stack.resource(name) for name in ("rECSCluster", "rECSService", "rTaskDefinition"))
    if not (cluster and service and meant):
        return True
    (told,) = stack.account.client("ecs").describe_services(cluster=cluster, services=[service])["services"]
    return str(told["taskDefinition"]) == meant


def _failure(plan: Plan, status: str, evidence: Evidence) -> str:
    """Return the message about a deployment that was taken back."""
    name = plan.stack.name
    lines = [f"\nThe deployment of {name} has failed ({status})."]
    if plan.creates:
        lines.append("Nothing of it is left but the stack's name, which the next deployment takes over.")
    elif status == "UPDATE_ROLLBACK_FAILED":
        lines.append("Taking it back has failed as well: see its events.")
    else:
        lines.append("The version before is deployed, as it was.")
    found = evidence.advice()
    lines += [f"What to do: {text}." for text in found]
    if not found:
        lines.append(f"What to do: read the events: aws cloudformation describe-stack-events --stack-name {name}")
    return "\n".join(lines)


def refused(error: DeployError) -> DeployError:
    """Return an error with what to do about it, if that is known and not in it already."""
    return DeployError("\n".join([str(error), *(f"What to do: {text}." for text in advice_about([str(error)]))]))
