"""The command line: `python -m cfn COMMAND [NAME=value …]`. `make help` says what each command does."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click
from botocore.exceptions import BotoCoreError, ClientError

from cfn import changes, deployment, image, smoke
from cfn.account import Account, connect
from cfn.companion_stacks import deploy_companions, describe_change
from cfn.environment import Environment, read_environment
from cfn.failures import with_advice
from cfn.messages import DeployError, print_result, say
from cfn.plan import make_plan
from cfn.stack import Stack, refusal
from cfn.template import KINDS, read_template

if TYPE_CHECKING:
    from cfn.plan import Plan
    from cfn.stack import ChangeSet

_REFUSED = 2


def _environment(arguments: tuple[str, ...]) -> Environment:
    names = {name for kind in KINDS for name in read_template(f"ecs-{kind}").parameters}
    return read_environment(arguments, names)


def _connect(environment: Environment) -> Account:
    return connect(environment, os.environ)


class _Commands(click.Group):
    """Turns an error into a message and an exit status."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except DeployError as error:
            say(str(with_advice(error)))
        except ClientError as error:
            say(str(with_advice(DeployError(refusal(error)))))
        except BotoCoreError as error:
            say(f"AWS cannot be reached: {error}")
        sys.exit(_REFUSED)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Build, deploy and look at the worker. NAME=value are parameters, settings and variables: docs/deployment.md."""


_values = click.argument("values", nargs=-1, metavar="[NAME=value]...")


@cli.command("image")
@_values
def build_image(values: tuple[str, ...]) -> None:
    """Build the worker's image."""
    image.build(_environment(values))


@cli.command()
@_values
def push(values: tuple[str, ...]) -> None:
    """Build the image and push it to ECR."""
    environment = _environment(values)
    image.push(_connect(environment), environment)


@cli.command()
@click.argument("kind", type=click.Choice(KINDS))
@_values
def deploy(kind: str, values: tuple[str, ...]) -> None:
    """Deploy or update the worker, after showing what would change."""
    environment = _environment(values)
    _need_an_answer(environment)
    plan = make_plan(_connect(environment), environment, kind)
    change_set = plan.stack.propose(plan.template, plan.parameters, environment.tags)
    if change_set or describe_change(plan.stack, environment):
        _confirm(plan, change_set)
    else:
        say(f"{plan.stack.name} is up to date: nothing changes.")
    if change_set:
        deployment.carry_out(plan, change_set)
    deploy_companions(plan.stack, environment, plan.parameters)
    print_result(deployment.describe(plan.stack))


@cli.command("status")
@_values
def show_status(values: tuple[str, ...]) -> None:
    """Show a deployment: its buckets, tasks and queues."""
    environment = _environment(values)
    print_result(deployment.describe(Stack(_connect(environment), environment.stack)))


@cli.command("smoke")
@_values
def run_smoke(values: tuple[str, ...]) -> None:
    """Upload the sample, wait for the output and compare it with what should be deployed."""
    environment = _environment(values)
    print_result(smoke.smoke(_connect(environment), environment))


@cli.command()
@_values
def destroy(values: tuple[str, ...]) -> None:
    """Delete a deployment except for its buckets."""
    environment = _environment(values)
    name = environment.stack
    confirmed = environment.options.get("CONFIRM")
    if confirmed is None and not sys.stdin.isatty():
        raise DeployError(
            f"make destroy asks for the name of the stack, and this is not a terminal: give CONFIRM={name}"
        )
    if confirmed not in {None, name}:
        raise DeployError(f"CONFIRM is {confirmed}, and the stack is {name}: nothing was deleted")
    stack = Stack(_connect(environment), name)
    say(deployment.describe_deletion(stack))
    if not _typed(name, environment):
        raise DeployError("Nothing was deleted.")
    print_result(deployment.destroy(stack))


def _need_an_answer(environment: Environment) -> None:
    """Refuse to start if the question cannot be asked later: without a terminal, and without YES or CONFIRM."""
    if not environment.options.get("YES") and not environment.options.get("CONFIRM") and not sys.stdin.isatty():
        raise DeployError(
            "make asks before it changes anything, and this is not a terminal: give YES=1 to deploy without a question"
        )


def _confirm(plan: Plan, change_set: ChangeSet | None) -> None:
    """Show what would change, and ask about it.

    Raises:
        DeployError: The answer is no.
    """
    loses_data = changes.show(plan, change_set)
    try:
        agreed = _agreed(plan.stack.name, plan.environment, loses_data=loses_data)
    except click.Abort:  # Ctrl+C, which is a no
        agreed = False
    if not agreed:
        if change_set:
            plan.stack.discard(change_set)
        raise DeployError("Nothing was changed.")


def _agreed(name: str, environment: Environment, *, loses_data: bool) -> bool:
    """Return whether the user agrees; a change that loses data needs the name of the stack, as its deletion does."""
    if loses_data:
        if environment.options.get("CONFIRM") is None and not sys.stdin.isatty():
            say(f"YES=1 is not enough for a change that loses data: CONFIRM={name}")
            return False
        return _typed(name, environment)
    if environment.options.get("YES") or environment.options.get("CONFIRM") == name:
        return True
    return sys.stdin.isatty() and click.confirm(f"Deploy this to {name}?", err=True)


def _typed(name: str, environment: Environment) -> bool:
    confirmed = environment.options.get("CONFIRM")
    if confirmed is not None:
        return confirmed == name
    return bool(click.prompt(f"To go on, type the name of the stack ({name})", err=True) == name)


if __name__ == "__main__":
    cli(prog_name="python -m cfn")
