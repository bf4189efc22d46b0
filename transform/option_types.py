"""What options and arguments of the command can be."""

import re
from typing import Any

import click
from click.shell_completion import CompletionItem

from transform.sizes import parse_size


class Size(click.ParamType[int]):
    """A number of bytes, with a unit if need be."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number of bytes."""
        size = parse_size(str(value))
        if size is None:
            self.fail(f"{value!r} is not a size such as 64MiB, 10MB or 5000", param, ctx)
        return size


class PathOrUri(click.ParamType[str]):
    """A path, a URI or `-`; shells complete it as they do files."""

    name = "place"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG002
        """Return what tells the shell to look at its files."""
        return [CompletionItem(incomplete, type="file")]


class MaxRejects(click.ParamType[str]):
    """A number of lines, or a share of them."""

    name = "N|P%"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the text if it is good."""
        text = str(value).strip()
        if not re.fullmatch(r"\d+|(100(\.0*)?|\d{1,2}(\.\d*)?)%", text):
            self.fail(f"{value!r} is not a number of lines such as 100 or a share such as 5%", param, ctx)
        return text
