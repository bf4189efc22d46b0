"""The command line: `python -m cfn COMMAND [NAME=value …]`. `make help` says what each command does."""

from __future__ import annotations

import sys

import click
from botocore.exceptions import BotoCoreError, ClientError

from cfn import deployment, image, smoke, status
from cfn.account import connect
from cfn.beside import deploy_beside, intention
from cfn.environment import Environment, read_environment
from cfn.errors import DeployError
from cfn.said import say
from cfn.stack import Stack, refusal
from cfn.template import KINDS, read_template

_TEMPLATES = [*(f"ecs-{kind}" for kind in KINDS)]
_REFUSED = 2


def _environment(arguments: tuple[str, ...]) -> Environment:
    names = {name for template in _TEMPLATES for name in read_template(template).parameters}
    return read_environment(arguments, names)


class _Commands(click.Group):
    """Turns what was found wrong into a message, and an exit status."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except DeployError as error:
            say(str(deployment.refused(error)))
        except ClientError as error:
            say(str(deployment.refused(DeployError(refusal(error)))))
        except BotoCoreError as error:
            say(f"AWS cannot be asked: {error}")
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
    image.push(connect(environment), environment)


@cli.command()
@click.argument("kind", type=click.Choice(KINDS))
@_values
def deploy(kind: str, values: tuple[str, ...]) -> None:
    """Deploy or update the worker, after showing what would change."""
    environment = _environment(values)
    _need_an_answer(environment)
    plan = deployment.make_plan(connect(environment), environment, kind)
    change_set = deployment.propose(plan)
    if change_set or intention(plan.stack, environment):
        loses_data = deployment.show(plan, change_set)
        try:
            agreed = _agreed(plan.stack.name, environment, loses_data=loses_data)
        except click.Abort:  # Ctrl+C, which is a no
            agreed = False
        if not agreed:
            if change_set:
                plan.stack.discard(change_set)
            raise DeployError("Nothing was changed.")
    else:
        say(f"{plan.stack.name} is already what is meant: nothing changes.")
    if change_set:
        deployment.carry_out(plan, change_set)
    deploy_beside(plan.stack, environment, plan.parameters)
    click.echo(status.describe(plan.stack))


@cli.command("status")
@_values
def show_status(values: tuple[str, ...]) -> None:
    """Show a deployment: its buckets, tasks and queues."""
    environment = _environment(values)
    click.echo(status.describe(Stack(connect(environment), environment.stack)))


@cli.command("smoke")
@_values
def run_smoke(values: tuple[str, ...]) -> None:
    """Upload the sample, wait for the output and compare it with what should be deployed."""
    environment = _environment(values)
    click.echo(smoke.smoke(connect(environment), environment))


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
    stack = Stack(connect(environment), name)
    say(status.what_goes(stack))
    if not _typed(name, environment):
        raise DeployError("Nothing was deleted.")
    click.echo(status.destroy(stack))


def _need_an_answer(environment: Environment) -> None:
    """Refuse at once what could not be asked about later."""
    if not environment.options.get("YES") and not environment.options.get("CONFIRM") and not sys.stdin.isatty():
        raise DeployError(
            "make asks before it changes anything, and this is not a terminal: give YES=1 to deploy without a question"
        )


def _agreed(name: str, environment: Environment, *, loses_data: bool) -> bool:
    """Return whether the change is wanted; what loses data takes the name of the stack, as its deletion does."""
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
