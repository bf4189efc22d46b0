"""What the command shows: summaries, frames and schemas."""

import sys
from collections.abc import Iterable

import polars as pl
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from transform.cli.terminal import echo
from transform.decode.inference import PLAIN_PATH, SAMPLE_LINES, Sample, infer_type, take_sample
from transform.decode.row_format import LINES, RowFormat
from transform.decode.schema import Read
from transform.engine.summary import Summary
from transform.errors import SchemaError
from transform.explore.check import Check
from transform.io.sources import open_source
from transform.terminal_text import printable

_WIDE = 200
_MAX_NAME_WIDTH = 40  # a longer name goes on in the next row, if the terminal is too narrow


def print_summary(summary: Summary) -> None:
    """Print a summary on standard error."""
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:  # lines are not wrapped where a program may read them
        console = Console(stderr=True, highlight=False, width=_WIDE)
    _print_grid(console, summary.rows())
    for text in summary.first_rejects:
        console.print(_text(f"rejected {text}", style="yellow"))


def _print_grid(console: Console, rows: Iterable[tuple[str, str, str]]) -> None:
    """Print rows as a table without trailing spaces."""
    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column(justify="right")
    table.add_column()
    for name, number, note in rows:
        table.add_row(name, number, _text(note))
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        console.print(_text(line.rstrip()))


def print_check(check: Check, problems: list[str]) -> None:
    """Print the results of a check on standard output."""
    console = Console(width=_width(), highlight=False)
    summary = check.summary
    which = "all" if check.whole else "the first"
    console.print(_text(f"{which} {summary.lines_in:,} lines of {summary.source}: {summary.lines_out:,} in the output"))
    rows = [
        (name, number, note if name != "rejected" else "")
        for name, number, note in summary.rows()
        if note not in problems
    ]
    _print_grid(console, (row for row in rows if row[0] not in ("lines in", "lines out", "time")))
    for text in summary.first_rejects:
        console.print(_text(f"rejected {text}", style="yellow"))
    if check.types:
        table = Table("result", "type", "null", "not finite", box=None, pad_edge=False, header_style="bold")
        for column in table.columns[2:]:
            column.justify = "right"
        for name, dtype in check.types.items():
            nonfinite = summary.nonfinite.get(name, 0)
            table.add_row(_text(name), _text(dtype), f"{check.nulls[name]:,}", f"{nonfinite:,}")
        console.print(table)
    for problem in problems:
        console.print(_text(f"problem: {problem}", style="bold red"))
    if not problems:
        console.print(_text("no problems", style="green"))


def print_frame(frame: pl.DataFrame) -> None:
    """Print a whole frame on standard output."""
    with pl.Config(tbl_cols=-1, tbl_rows=-1, fmt_str_lengths=40, tbl_width_chars=_width()):
        echo(*str(_printable_frame(frame)).split("\n"))


def _printable_frame(frame: pl.DataFrame) -> pl.DataFrame:
    """Return a frame with the texts made printable, so that its cells still align; those in lists are left."""
    texts = {name: map(_printable_or_null, frame[name]) for name, dtype in frame.schema.items() if dtype == pl.String}
    frame = frame.with_columns(pl.Series(name, [*column], pl.String) for name, column in texts.items())
    names = [printable(name) for name in frame.columns]
    return frame.rename(dict(zip(frame.columns, names, strict=True))) if len({*names}) == len(names) else frame


def _printable_or_null(text: str | None) -> str | None:
    return None if text is None else printable(text)


def print_rejected(rejected: Iterable[str]) -> None:
    """Print messages about rejected lines on standard error."""
    console = Console(stderr=True, highlight=False, soft_wrap=not sys.stderr.isatty())
    for text in rejected:
        console.print(_text(f"rejected {text}", style="yellow"))


def print_schema(source: str, rows: RowFormat = LINES) -> None:
    """Print the columns of an input with such rows, with the types that a sample of it shows."""
    with open_source(source) as reader:
        sample, _ = take_sample(rows.read(reader.read_into), rows=rows)
    sample.check_holds_lines()
    table = Table(box=None, pad_edge=False, header_style="bold")
    longest = max((cell_len(printable(name)) for name in sample.members), default=0)
    table.add_column("column", overflow="fold", min_width=min(longest, _MAX_NAME_WIDTH))
    table.add_column("type", overflow="fold")
    table.add_column("present", justify="right")
    table.add_column("kinds", overflow="fold")
    for name, member in sample.members.items():
        try:
            dtype = str(infer_type(name, Read((name,)), sample))
        except SchemaError:
            dtype = "only null" if set(member.kinds) == {"null"} else "too deep" if member.too_deep else "mixed"
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in member.kinds.most_common())
        table.add_row(_text(name), _text(dtype), f"{member.present:,}", kinds)
    console = Console(width=_width(), highlight=False)
    console.print(table)
    what = "the whole input" if sample.whole else f"the first {SAMPLE_LINES:,}"
    left_out = f"; {sample.other_lines:,} without a JSON object left out ({sample.first_error})"
    console.print()
    lines = f"{sample.lines:,} line{'s' if sample.lines != 1 else ''} sampled ({what})"
    console.print(_text(f"{lines}{left_out if sample.other_lines else ''}"))
    if sample.whole and sample.lines == 1 and rows.each is None:
        for name in _arrays_of_objects(sample):
            console.print(_text(f"--each {name} makes the elements of `{name}` the rows"))


def _arrays_of_objects(sample: Sample) -> list[str]:
    """Return the names of arrays of objects that `--each` takes as they are."""
    types = {name: member.dtype for name, member in sample.members.items() if PLAIN_PATH.fullmatch(name)}
    return [name for name, dtype in types.items() if isinstance(dtype, pl.List) and isinstance(dtype.inner, pl.Struct)]


def _text(text: str, style: str = "") -> Text:
    """Return a text for a console as it is: without markup, and with control characters made visible."""
    return Text(printable(text), style)


def _width() -> int:
    return Console().width if sys.stdout.isatty() else _WIDE
