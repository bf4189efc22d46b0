"""Writes to the terminal, with the control characters in keys, reasons and other data made visible.

Everything that the commands print goes through this file, apart from the help, titles of the demo, the progress of
`submit` on a terminal, and the log of the worker, which is JSON in ASCII.
"""

from __future__ import annotations

import json
import sys
import traceback
from typing import TYPE_CHECKING, Any

import click

from transform import fit_to_terminal, printable

if TYPE_CHECKING:
    from types import TracebackType


def echo(*lines: str, err: bool = False) -> None:
    """Print lines; a line break within one is shown as an escape."""
    click.echo("\n".join(printable(line) for line in lines), err=err)


def echo_error(message: str) -> None:
    """Print a line of an error on standard error, broken between words on a terminal."""
    click.echo(fit_to_terminal(printable(message)), err=True)


def echo_json(plain: dict[str, Any]) -> None:
    """Print plain data as JSON on one line."""
    click.echo(json.dumps(plain, default=str))  # in ASCII, without control characters


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
