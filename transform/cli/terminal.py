"""Writes to the terminal, with the control characters in names and values made visible.

Everything that the command prints goes through this file, apart from transformed lines, the help, and what `report`
puts on consoles of rich.
"""

import json
import sys
import traceback
from types import TracebackType
from typing import Any

import click

from transform.terminal_text import fit_to_terminal, printable, printable_json


def echo(*lines: str, err: bool = False) -> None:
    """Print lines; a line break within one is shown as an escape."""
    click.echo("\n".join(printable(line) for line in lines), err=err)


def echo_json(plain: dict[str, Any]) -> None:
    """Print plain data as JSON on standard output."""
    click.echo(to_json(plain))


def to_json(plain: dict[str, Any]) -> str:
    """Return plain data as JSON for people: indented, and not only ASCII."""
    return printable_json(json.dumps(plain, indent=2, ensure_ascii=False))


def show_usage_error(error: click.ClickException) -> None:
    """Print an error of click, which may quote arguments."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):  # the help, in lines of its own
        error.show()
        return
    begin = "Error: "  # as click writes it
    text = fit_to_terminal(begin + printable(error.format_message())).removeprefix(begin)
    shown = click.UsageError(text, error.ctx) if isinstance(error, click.UsageError) else click.ClickException(text)
    shown.show()


def show_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print the traceback of a bug, as `sys.excepthook`; its messages may quote data."""
    for text in traceback.format_exception(kind, error, trace):
        sys.stderr.write(printable(text, keep="\n"))
