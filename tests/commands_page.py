"""The page docs/commands.md, made from the commands' help: `python -m tests.commands_page` writes it."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING

import click

from runner.cli import cli as runner
from tests.conftest import ROOT
from transform.cli import cli as transform

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = ROOT / "docs" / "commands.md"
GROUPS = {"transform": transform, "runner": runner}

_START = """# Commands

Made from the help of the commands by `python -m tests.commands_page`; a test compares the two. `transform run --help`
prints the same for one command, as does `--help` for each of the others.

To enable completion in bash, add `eval "$(_TRANSFORM_COMPLETE=bash_source transform)"` to `~/.bashrc`.
"""


def page() -> str:
    """Return what the page is to hold."""
    return "\n".join([_START, *(line for name, group in GROUPS.items() for line in _group(name, group))])


def _group(name: str, group: click.Group) -> Iterator[str]:
    yield f"## {name}\n"
    yield from _command(click.Context(group, info_name=name))
    for key in group.list_commands(click.Context(group)):
        yield f"### {name} {key}\n"
        yield from _command(click.Context(group.commands[key], info_name=f"{name} {key}"))


def _command(context: click.Context) -> Iterator[str]:
    """Yield what a command does, its arguments and its options."""
    command = context.command
    # The examples are those of the README; lines between two of them are not to be joined.
    ends = [part for part in _paragraphs(command.epilog) if not part.startswith("Examples:")]
    for paragraph in _paragraphs(command.help) + ends:
        yield f"{paragraph}\n"
    arguments = [parameter for parameter in command.params if isinstance(parameter, click.Argument)]
    if arguments:
        yield f"Arguments: {', '.join(f'`{argument.make_metavar(context)}`' for argument in arguments)}.\n"
    records = [parameter.get_help_record(context) for parameter in command.params if parameter not in arguments]
    if records:
        yield "| option | meaning |\n|---|---|"
        for option, meaning in filter(None, records):
            yield f"| `{_escaped(option)}` | {_meaning(meaning)} |"
        yield ""


def _paragraphs(text: str | None) -> list[str]:
    """Return the paragraphs of a help text, each in one line."""
    plain = inspect.cleandoc(text or "").replace("\b\n", "")
    return [re.sub(r"\s+", " ", part) for part in re.split(r"\n\s*\n", plain) if part.strip()]


def _meaning(text: str) -> str:
    """Return a meaning, with what click adds to it in parentheses; brackets would be a link."""
    return _escaped(re.sub(r"\[([^][]+)\]", r"(\1)", text).replace("<", "&lt;"))


def _escaped(text: str) -> str:
    return re.sub(r"\s\s+", " ", text).replace("|", r"\|")


if __name__ == "__main__":
    PAGE.write_text(page())
