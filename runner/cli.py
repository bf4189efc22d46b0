"""The `runner` command: a thin layer over the worker.

Nothing heavy is imported before it is needed, so that the health check answers at once.
"""

from __future__ import annotations

import gc
import os
import sys
from typing import NoReturn

import click

from runner.ops.commands import COMMANDS
from runner.ops.terminal import echo, echo_error, show_traceback, show_usage_error

FAILED = 1  # wrong usage is 2, which click sets


class _WithSettings(click.Command):
    """A command whose help lists the settings."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of settings, with their meanings and defaults."""
        from runner.settings import describe

        with formatter.section("Settings, from the environment"):
            formatter.write_dl(
                [(name, f"{meaning}.{f'  [{default}]' * bool(default)}") for name, default, meaning in describe()]
            )
        super().format_epilog(ctx, formatter)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="jsonl-transform", prog_name="runner")
def cli() -> None:
    """Transform the objects that arrive in an S3 bucket and are announced on an SQS queue."""


@cli.command(cls=_WithSettings)
@click.option("--drain", is_flag=True, help="End when the queue is empty.")
def worker(*, drain: bool) -> None:
    """Receive messages from the queue and do their jobs, until SIGTERM."""
    gc.disable()  # until it has started: nothing that is imported becomes garbage, and collections take an eighth
    from runner.worker.start import start_worker

    if reason := start_worker(os.environ, drain=drain):  # the log has it as well, unless LOG_LEVEL keeps it out
        echo_error(f"runner: the worker has ended with status {FAILED}: {reason}")
        sys.exit(FAILED)


@cli.command(short_help="Check whether the worker is healthy.")
@click.option("--max-age", default=60.0, show_default=True, help="Maximum age of its last report in seconds.")
def health(max_age: float) -> None:
    """Check whether the worker in this container is healthy: the container's health check."""
    from runner.health import HEALTH_FILE, check

    reason = check(os.environ.get("HEALTH_FILE") or HEALTH_FILE, max_age)
    if reason is not None:
        echo(reason)
        sys.exit(FAILED)


@cli.command(short_help="Run the worker against a local AWS emulator.")
@click.argument("file", required=False, type=click.Path())
@click.option("--stay", is_flag=True, help="Keep the emulator running for other commands, until Ctrl-C.")
def demo(file: str | None, *, stay: bool) -> None:
    """Run the worker against a local AWS emulator, and show what it does.

    No AWS account is needed: the buckets and the queues exist in this process only, and are gone when it ends. FILE is
    a file of JSON lines, and the environment variable CALCULATION says what to compute, as for `runner worker`. Without
    them, a sample is used.
    """
    from runner.demo import run_demo

    sys.exit(run_demo(file, stay=stay))


for _command in COMMANDS:
    cli.add_command(_command)


def main() -> NoReturn:
    """Run the command and exit."""
    from runner.errors import RunnerError, SettingsError

    sys.excepthook = show_traceback
    try:
        cli(standalone_mode=False)
    except click.ClickException as error:
        show_usage_error(error)
        sys.exit(error.exit_code)
    except RunnerError as error:
        lines = str(error).split("\n") if isinstance(error, SettingsError) else [str(error)]  # a setting in each line
        for line in (f"runner: {lines[0]}", *lines[1:]):
            echo_error(line)
        sys.exit(FAILED)
    except (KeyboardInterrupt, click.Abort):
        sys.exit(130)
    sys.exit(0)
