"""The options that several commands share, and the types of options and arguments.

`takes_calculation` adds the options that define a calculation to a command.
"""

import functools
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from transform.sizes import parse_size

if TYPE_CHECKING:
    from transform.calculation import Calculation
    from transform.decode.row_format import RowFormat


WORKER_LIMITS: dict[str, tuple[int, int | None]] = {
    "MAX_LINE_BYTES": (32 << 20, 1 << 30),
    "MAX_INFLATION": (500, None),
}
"""Settings of the worker that decide whether it takes an input, with their defaults and maxima; tests compare these."""


class Size(click.ParamType[int]):
    """A number of bytes, optionally with a unit."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number of bytes."""
        size = parse_size(str(value))
        if not size:
            self.fail(f"{value!r} is not a size such as 64MiB, 10MB or 5000", param, ctx)
        return size


class PathOrUri(click.ParamType[str]):
    """A path, a URI or `-`; shells complete it as they do files."""

    name = "place"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG002
        """Return the item that makes the shell complete the names of files."""
        return [CompletionItem(incomplete, type="file")]


class MaxRejects(click.ParamType[str]):
    """A number of lines, or a share of them."""

    name = "N|P%"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the text if it is valid."""
        text = str(value).strip()
        if not re.fullmatch(r"\d+|(100(\.0*)?|\d{1,2}(\.\d*)?)%", text):
            self.fail(f"{value!r} is not a number of lines such as 100 or a share such as 5%", param, ctx)
        return text


def takes_format(command: Callable[..., None]) -> Callable[..., None]:
    """Add the option that says how INPUT is read to a command, which receives it as `file_format`."""
    return click.option(
        "--format",
        "file_format",
        type=click.Choice(["lines", "json"]),
        help="What the rows of INPUT are: lines, or the objects of any JSON, also indented or in an array.  "
        "[default: lines]",
    )(command)


def takes_rows(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say what the rows of INPUT are to a command, which receives `change_rows`."""

    @takes_format
    @click.option(
        "--each",
        metavar="PATH",
        help="Make the elements of the array at this path in each line the rows, such as Records.",
    )
    @click.option(
        "--with",
        "beside",
        metavar="PATHS",
        multiple=True,
        help="Members of the line, outside that array, to add to each element.",
    )
    @functools.wraps(command)
    def wrapped(
        *args: object, file_format: str | None, each: str | None, beside: tuple[str, ...], **options: object
    ) -> None:
        from transform.decode.row_format import LINES
        from transform.errors import OptionError

        if beside and each is None:
            raise click.UsageError("--with needs --each")

        def change(rows: "RowFormat") -> "RowFormat":
            rows = rows if file_format is None else rows.with_format(file_format)
            return rows if each is None else rows.with_each(each, ",".join(beside))

        try:
            change(LINES)
        except OptionError as error:
            raise click.BadParameter(str(error), param_hint="--each or --with") from None
        command(*args, change_rows=change, **options)

    return wrapped


def worker_limits(environ: Mapping[str, str]) -> dict[str, int]:
    """Return the limits that the worker would set for an input, from the same variables and with the same defaults.

    Raises:
        BadParameter: A variable has no valid value.
    """
    limits = {}
    for name, (default, most) in WORKER_LIMITS.items():
        text = environ.get(name) or str(default)
        number = (
            parse_size(text) if name.endswith("BYTES") else int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None
        )
        if not number or (most is not None and number > most):
            raise click.BadParameter(f"{name}={text} is not a limit that the worker takes", param_hint="--worker")
        limits[name.lower()] = number
    return limits


def takes_calculation(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that define a calculation to a command, which receives the calculation as `what`."""

    @click.option("-e", "--expr", "exprs", metavar="SQL", multiple=True, help="What to compute, as `a * b AS c, ...`.")
    @click.option(
        "-w", "--where", "wheres", metavar="SQL", multiple=True, help="Keep only the lines for which this is true."
    )
    @click.option(
        "--reject",
        "rules",
        metavar="SQL[: REASON]",
        multiple=True,
        help="Reject the lines for which this is true, as `stars < 0: negative stars; ...`.",
    )
    @click.option("--drop", metavar="NAMES", multiple=True, help="Remove members from the lines, as `email, phone`.")
    @click.option("--select", metavar="NAMES", multiple=True, help="Keep only these members and the results.")
    @click.option(
        "-c",
        "--calculation",
        "references",
        type=PathOrUri(),
        multiple=True,
        metavar="REF",
        help="path/file.py:name or package.module:name.",
    )
    @click.option("--schema", metavar="NAME=TYPE", multiple=True, help="A column's type, as Float64 or List(String).")
    @takes_rows
    @functools.wraps(command)
    def wrapped(
        *args: object,
        exprs: tuple[str, ...],
        wheres: tuple[str, ...],
        rules: tuple[str, ...],
        drop: tuple[str, ...],
        select: tuple[str, ...],
        references: tuple[str, ...],
        schema: tuple[str, ...],
        change_rows: "Callable[[RowFormat], RowFormat]",
        **options: object,
    ) -> None:
        where = _only("--where", wheres, "; join the conditions with AND")
        reference = _only("--calculation", references)
        if reference and (exprs or where or rules or drop or select or schema):
            raise click.UsageError(
                "--calculation cannot be combined with --expr, --where, --reject, --drop, --select or --schema; "
                "put these in its file"
            )
        if not (reference or exprs or where or rules or drop or select):
            raise click.UsageError("nothing to do: give --expr, --where, --reject, --drop, --select or --calculation")
        from transform import load

        what = load(reference) if reference else _calculation(exprs, where, rules, drop, select, schema)
        command(*args, what=what.changing_rows(change_rows), **options)

    return wrapped


def _only(option: str, values: tuple[str, ...], hint: str = "") -> str | None:
    """Return the value of an option, None if it was not given; two would mean that one of them is ignored."""
    if len(values) > 1:
        shown = " and ".join(f"`{value}`" for value in values[:2])
        raise click.BadParameter(f"it can be given once, not as {shown}{hint}", param_hint=option)
    return values[0] if values else None


def _calculation(
    exprs: tuple[str, ...],
    where: str | None,
    rules: tuple[str, ...],
    drop: tuple[str, ...],
    select: tuple[str, ...],
    schema: tuple[str, ...],
) -> "Calculation":
    from transform import Calculation

    _check_rules(rules)
    what = Calculation.from_sql(exprs, where or "", rules).drop(*_names("--drop", drop))
    what = what.select(*_names("--select", select)) if select else what
    types = {}
    for declaration in schema:
        name, equals, text = declaration.rpartition("=")
        if not equals or not name:
            raise click.BadParameter(f"{declaration!r} is not NAME=TYPE, such as stars=Float64", param_hint="--schema")
        types[name] = text
    return what.with_schema(types)


def _check_rules(texts: tuple[str, ...]) -> None:
    from transform import parse_rules
    from transform.errors import OptionError

    try:
        for text in texts:
            parse_rules(text)
    except OptionError as error:
        raise click.BadParameter(str(error), param_hint="--reject") from None


def _names(option: str, lists: tuple[str, ...]) -> list[str]:
    """Return the names in the lists that an option was given."""
    from transform import parse_names
    from transform.errors import OptionError

    try:
        return [name for text in lists for name in parse_names(text)]
    except OptionError as error:
        raise click.BadParameter(str(error), param_hint=option) from None
