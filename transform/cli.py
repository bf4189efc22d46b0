"""The `transform` command: a thin layer over the library.

Nothing heavy is imported before it is needed, so that `--help` answers at once.
"""

import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from transform.errors import TransformError

if TYPE_CHECKING:
    from transform.calculation import Calculation

FAILED, USAGE, WITH_REJECTS, INTERRUPTED = 1, 2, 3, 130

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmg]i?)?b?", re.IGNORECASE)

_EXAMPLES = """\b
Examples:
  transform run in.jsonl out.jsonl -e 'stars * review_count AS review_score'
  transform run in.jsonl.gz s3://bucket/out.jsonl.zst -c calculation.py
  zcat in.gz | transform run - - -e 'a + b AS c' -w 'a > 0' | head
  transform preview in.jsonl -e 'upper(city) AS city'
  transform schema in.jsonl

\b
Exit status: 0 all good, 1 failed and nothing published, 2 wrong usage,
3 published but some lines were rejected, 130 interrupted.
"""


class _Size(click.ParamType):
    """A number of bytes, with a unit if need be."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:  # noqa: ANN401 - as click
        """Return the number of bytes."""
        match = _SIZE.fullmatch(str(value).strip())
        if not match or not (size := int(float(match[1]) * _UNITS[(match[2] or "").lower()])):
            self.fail(f"{value!r} is not a size such as 64MiB, 10MB or 5000", param, ctx)
        return size


class _MaxRejects(click.ParamType):
    """A number of lines, or a share of them."""

    name = "N|P%"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:  # noqa: ANN401 - as click
        """Return the text if it is good."""
        text = str(value).strip()
        if not re.fullmatch(r"\d+|(100|\d{1,2})(\.\d*)?%", text):
            self.fail(f"{value!r} is not a number of lines such as 100 or a share such as 5%", param, ctx)
        return text


def _calculation_options(command: Callable[..., None]) -> Callable[..., None]:
    options = [
        click.option("-e", "--expr", "exprs", metavar="SQL", multiple=True, help="What to compute: `a * b AS c`, or several as in a SELECT list."),
        click.option("-w", "--where", metavar="SQL", help="Keep only the lines for which this is true."),
        click.option("-c", "--calculation", metavar="REF", help="A calculation: path/file.py:name or package.module:name."),
        click.option("--schema", "schema", metavar="NAME=TYPE", multiple=True, help="Declare a column's type, as Float64, Int64, String, Boolean, List(Int64)."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@click.group(epilog=_EXAMPLES, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="jsonl-transform", prog_name="transform")
def cli() -> None:
    """Transform JSON lines with polars expressions, without losing or bending a byte."""


@cli.command()
@click.argument("source", metavar="INPUT")
@click.argument("target", metavar="OUTPUT")
@_calculation_options
@click.option("--on-error", type=click.Choice(["reject", "fail"]), default="reject", show_default=True, help="Keep bad lines apart, or stop at the first.")
@click.option("--rejects", metavar="PATH", help="Where rejected lines go.  [default: OUTPUT.rejects.jsonl]")
@click.option("--max-rejects", type=_MaxRejects(), metavar="N|P%", help="Fail if more lines are rejected, or a larger share.")
@click.option("--max-line-bytes", type=_Size(), default="256MiB", show_default=True, help="Reject longer lines.")
@click.option("--summary", "summary_path", metavar="PATH", help="Write the summary as JSON, too.")
@click.option("-q", "--quiet", is_flag=True, help="No progress bar and no summary.")
def run(source: str, target: str, exprs: tuple[str, ...], where: str | None, calculation: str | None, schema: tuple[str, ...], **options: Any) -> None:  # noqa: ANN401, E501 - one for each option
    """Transform INPUT into OUTPUT.

    Each is a path, an s3://bucket/key URI, or - for standard input or output. gzip, zstd, bz2 and xz are read whatever
    they are called, and written where OUTPUT is named like them. OUTPUT appears whole or not at all.
    """
    what = _calculation(exprs, where, calculation, schema)
    from transform import report  # noqa: PLC0415 - see above

    quiet, summary_path = options.pop("quiet"), options.pop("summary_path")
    if summary_path:
        from transform.apart import check_apart  # noqa: PLC0415

        check_apart({"input": source, "output": target, "rejects": options["rejects"], "summary": summary_path})
    with report.progress(source, quiet=quiet) as show:
        summary = what.run(source, target, progress=show, **options)
    if not quiet:
        report.print_summary(summary)
    if summary_path:
        report.write_summary(summary, summary_path)
    if summary.rejected:
        sys.exit(WITH_REJECTS)


@cli.command()
@click.argument("source", metavar="INPUT")
@_calculation_options
@click.option("-n", "--rows", type=click.IntRange(1), default=10, show_default=True, help="How many lines.")
def preview(source: str, exprs: tuple[str, ...], where: str | None, calculation: str | None, schema: tuple[str, ...], rows: int) -> None:  # noqa: E501
    """Show the columns read and the results for the first lines of INPUT."""
    what = _calculation(exprs, where, calculation, schema)
    from transform import report  # noqa: PLC0415 - see above

    report.print_frame(what.preview(source, rows))


@cli.command("schema")
@click.argument("source", metavar="INPUT")
def show_schema(source: str) -> None:
    """Show the columns of INPUT with the types that would be inferred.

    PRESENT counts the lines of the sample in which a member is there, the others those in which it is of a kind.
    """
    from transform import report  # noqa: PLC0415 - see above

    report.print_schema(source)


def _calculation(
    exprs: tuple[str, ...], where: str | None, reference: str | None, schema: tuple[str, ...]
) -> "Calculation":
    if reference and (exprs or where):
        raise click.UsageError("give either --calculation, or --expr and --where")
    if not (reference or exprs or where):
        raise click.UsageError("nothing to compute: give --expr, --where or --calculation")
    from transform import Calculation, load  # noqa: PLC0415 - see above
    from transform.schema import parse_type  # noqa: PLC0415

    what = load(reference) if reference else Calculation.from_sql(", ".join(exprs), where or "")
    types = {}
    for declaration in schema:
        name, equals, text = declaration.rpartition("=")
        if not equals or not name:
            raise click.BadParameter(f"{declaration!r} is not NAME=TYPE, as stars=Float64", param_hint="--schema")
        types[name] = parse_type(name, text)
    return what.with_schema(types)


def main() -> NoReturn:
    """Run the command and exit."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        cli(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except TransformError as error:
        click.echo(f"transform: {error}", err=True)
        sys.exit(FAILED)
    except (KeyboardInterrupt, click.Abort):
        click.echo("transform: interrupted; nothing was published", err=True)
        sys.exit(INTERRUPTED)
    sys.exit(0)


def _interrupt(_number: int, _frame: object) -> NoReturn:
    """Take every request to stop as Ctrl-C is taken: the output is discarded on the way out."""
    raise KeyboardInterrupt
