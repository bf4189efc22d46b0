"""The commands of `transform`, with their options and exit statuses; each only calls the library.

Nothing heavy is imported before it is needed, so that `--help` answers at once.
"""

import contextlib
import gc
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from transform import _process
from transform.cli.options import (
    MaxRejects,
    PathOrUri,
    Size,
    takes_calculation,
    takes_format,
    takes_rows,
    worker_limits,
)
from transform.cli.terminal import echo, echo_json, show_traceback, show_usage_error
from transform.errors import OptionError, TransformError
from transform.terminal_text import fit_to_terminal, printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from transform.decode.row_format import RowFormat
    from transform.runnable import Runnable

FAILED, WITH_REJECTS, INTERRUPTED = 1, 3, 130  # wrong usage is 2, which click sets
_COLLECTED_OBJECTS = 50_000
"""New objects after which garbage is collected. With 700, the default, looking through all that is imported takes a
tenth of the start."""

_PYTHON_FILE = re.compile(r".*\.py(:\w+)?", re.DOTALL)

_EXAMPLES = """\b
Examples:
  transform run in.jsonl out.jsonl -e 'stars * review_count AS review_score'
  transform run in.jsonl.gz s3://bucket/out.jsonl.zst -c calculation.py
  zcat in.gz | transform run - - -e 'a + b AS c' -w 'a > 0' | head
  transform preview in.jsonl -e 'upper(city) AS city'
  transform schema in.jsonl
  transform new review_scores --from in.jsonl
  transform check review_scores.py in.jsonl

\b
Exit status: 0 success, 1 failed and nothing published, 2 wrong usage,
3 published but some lines were rejected, 130 interrupted.
"""


@click.group(epilog=_EXAMPLES, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=lambda context, _, given: _show_version(context) if given else None,
    help="Show the version, and which functions of the kernel are used, and exit.",
)
def cli() -> None:
    """Transform JSON lines with polars expressions, and leave every other byte unchanged."""


@cli.command()
@click.argument("source", type=PathOrUri(), metavar="INPUT")
@click.argument("target", type=PathOrUri(), metavar="OUTPUT")
@takes_calculation
@click.option(
    "--on-error",
    type=click.Choice(["reject", "fail"]),
    default="reject",
    show_default=True,
    help="What happens to an invalid line: reject it, or fail the run.",
)
@click.option(
    "--rejects", type=PathOrUri(), metavar="PATH", help="Where rejected lines go.  [default: OUTPUT.rejects.jsonl]"
)
@click.option("--max-rejects", type=MaxRejects(), help="Fail if more lines are rejected, or a larger share.")
@click.option("--max-line-bytes", type=Size(), default="256MiB", show_default=True, help="Reject longer lines.")
@click.option(
    "--max-inflation", type=click.IntRange(1), metavar="N", help="Fail if compressed input grows more than N times."
)
@click.option(
    "--workers",
    type=click.IntRange(1, 1024),
    metavar="N",
    help="Number of threads, or processes for Python functions.  [default: number of cores]",
)
@click.option("--summary", "summary_path", type=PathOrUri(), metavar="PATH", help="Write the summary as JSON, too.")
@click.option("-q", "--quiet", is_flag=True, help="No progress bar and no summary.")
def run(source: str, target: str, what: "Runnable", summary_path: str | None, *, quiet: bool, **options: Any) -> None:
    """Transform INPUT into OUTPUT.

    Each is a path, an s3://bucket/key URI, or - for standard input or output. Compressed input is detected by its
    content. Output is compressed according to its extension (.gz, .zst, .bz2, .xz). OUTPUT appears complete or not at
    all.
    """
    from transform.cli.summary_file import summary_file

    with contextlib.ExitStack() as stack:
        places = {"input": source, "output": target, "rejects": options["rejects"]}
        write_summary = stack.enter_context(summary_file(summary_path, places))
        summary = what.run(source, target, progress=not quiet, **options)
        write_summary(summary)
    if not quiet:
        from transform.cli import report

        report.print_summary(summary)
    if summary.rejected:
        sys.exit(WITH_REJECTS)


@cli.command(short_help="Show the results for the first lines of INPUT.")
@click.argument("source", type=PathOrUri(), metavar="INPUT")
@takes_calculation
@click.option(
    "-n", "--rows", type=click.IntRange(1), metavar="N", default=10, show_default=True, help="Number of lines."
)
def preview(source: str, what: "Runnable", rows: int) -> None:
    """Show the columns read and the results for the first lines of INPUT."""
    from transform.cli import report

    rejected: list[str] = []
    report.print_frame(what.preview(source, rows, rejected=rejected))
    report.print_rejected(rejected)


@cli.command("schema")
@click.argument("source", type=PathOrUri(), metavar="INPUT")
@takes_rows
def show_schema(source: str, change_rows: "Callable[[RowFormat], RowFormat]") -> None:
    """Show the columns of INPUT with the types that would be inferred.

    PRESENT counts the lines of the sample that have the member, and KINDS the values of each kind.
    """
    from transform.cli import report
    from transform.decode.row_format import LINES

    report.print_schema(source, change_rows(LINES))


@cli.command(short_help="Report problems of the calculation REF on INPUT.")
@click.argument("reference", type=PathOrUri(), metavar="REF")
@click.argument("source", type=PathOrUri(), metavar="INPUT")
@click.option("-n", "--lines", type=click.IntRange(1), metavar="N", help="Take the first N lines only.")
@click.option(
    "--max-rejects",
    type=MaxRejects(),
    default="0",
    show_default=True,
    help="Maximum number or share of rejected lines.",
)
@click.option(
    "--max-nulls",
    type=MaxRejects(),
    help="Maximum number or share of lines where a result is null.  [default: all but one]",
)
@click.option(
    "--worker", is_flag=True, help="Apply the worker's MAX_LINE_BYTES and MAX_INFLATION, as set or by default."
)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@takes_rows
def check(
    reference: str,
    source: str,
    lines: int | None,
    max_rejects: str,
    max_nulls: str | None,
    change_rows: "Callable[[RowFormat], RowFormat]",
    *,
    worker: bool,
    as_json: bool,
) -> None:
    """Run the calculation REF on INPUT without an output, and report problems.

    REF is path/file.py:name or package.module:name. Problems are rejected lines, results that are not finite or are
    null in every line, filters that drop every line, and names to drop or select that no line has. If there are any,
    the exit status is 3.
    """
    if _PYTHON_FILE.fullmatch(source) and not _PYTHON_FILE.fullmatch(reference):
        raise click.UsageError(f"the calculation comes first: transform check {source} {reference}")
    from transform import load
    from transform.cli import report
    from transform.explore.check import check as check_spec

    try:
        limits = worker_limits(os.environ) if worker else {}
        spec = load(reference).changing_rows(change_rows).spec_for(source)
        found = check_spec(spec, source, lines, **limits)
    except TransformError as error:
        if as_json:
            echo_json({"ok": False, "error": str(error)})
        raise
    problems = found.problems(max_rejects, max_nulls)
    if as_json:
        echo_json(found.to_dict(problems))
    else:
        report.print_check(found, problems)
    if problems:
        sys.exit(WITH_REJECTS)


@cli.command(short_help="Create a calculation to start from, with a test.")
@click.argument("name", type=PathOrUri(), metavar="NAME")
@click.option(
    "--from",
    "source",
    type=PathOrUri(),
    metavar="INPUT",
    help="Input that the sample is taken from.  [default: invented businesses]",
)
@click.option(
    "-n",
    "--lines",
    type=click.IntRange(1),
    metavar="N",
    default=100,
    show_default=True,
    help="Number of lines in the sample.",
)
@takes_format
@click.option(
    "--each", metavar="PATH", default="", help="Make the elements of the array at this path in each line the rows."
)
def new(name: str, source: str | None, lines: int, file_format: str | None, each: str) -> None:
    """Create a calculation to start from, with its test and a sample.

    The files are NAME.py, test_NAME.py and NAME.sample.jsonl. Existing files are not overwritten.
    """
    from transform.cli.scaffold import check_name, scaffold
    from transform.decode.row_format import LINES

    rows, option = LINES.with_format(file_format or "lines"), "NAME"
    try:
        check_name(Path(name))
        option = "--from or --each"
        made = scaffold(Path(name), source, lines, rows, each)
    except OptionError as error:
        raise click.BadParameter(str(error), param_hint=option) from None
    echo(f"{made.calculation}  says what to compute")
    echo(f"{made.test}  tests it: pytest {made.test}")
    left_out = f"; {made.left_out:,} that are no JSON objects were left out" if made.left_out else ""
    unit = ("row" if each else "line") + "s" * (made.lines != 1)
    echo(f"{made.sample}  has {made.lines:,} {unit} to try it on{left_out}")
    echo("", f"Next: transform preview {made.sample} -c {made.calculation}")


def _show_version(context: click.Context) -> None:
    """Print the version of the package, and for which processors the functions are that the kernel uses here."""
    from importlib.metadata import version

    from transform.native.library import load_library

    _, level = load_library()
    echo(f"transform {version('jsonl-transform')} (kernel {level})")
    context.exit()


def _print_error(message: str) -> None:
    """Print an error: wrapped between words on a terminal, unchanged elsewhere."""
    name = "transform:"
    text = fit_to_terminal(f"{name} {printable(message)}")
    if sys.stderr.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb":
        text = text.replace(name, click.style(name, fg="red", bold=True), 1)
    click.echo(text, err=True)


def main() -> NoReturn:
    """Run the command and exit."""
    sys.excepthook = show_traceback
    gc.set_threshold(_COLLECTED_OBJECTS)
    _process.install_interrupts()
    _process.keep_freed_memory()
    # Threads or processes share the work already: more threads of these libraries would compete with them.
    for name in ("POLARS_MAX_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    try:
        cli(standalone_mode=False)
    except click.ClickException as error:
        show_usage_error(error)
        sys.exit(error.exit_code)
    except TransformError as error:
        _print_error(str(error))
        sys.exit(FAILED)
    except (KeyboardInterrupt, click.Abort):
        _print_error("interrupted; nothing was published")
        sys.exit(INTERRUPTED)
    finally:
        gc.freeze()  # or the interpreter looks for garbage once more while it ends, which takes 0.2 s
    sys.exit(0)
