"""Creates a calculation to start from: its file, its test, and a sample of the data for both."""

import json
import keyword
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import msgspec
import polars as pl

from transform.decode.inference import Sample, infer_type
from transform.decode.line_errors import LineError
from transform.decode.members import read_members
from transform.decode.row_format import LINES, RowFormat
from transform.decode.schema import Read
from transform.errors import InputError, OptionError, OutputError, TransformError
from transform.explore.check import check
from transform.io.chunks import Chunk
from transform.io.conflicts import mode_at
from transform.io.outputs import to_output_error
from transform.io.sources import Source, open_source
from transform.loading import load
from transform.terminal_text import printable

SAMPLE_LINES = 100
_TAKEN = {*sys.stdlib_module_names, *keyword.kwlist, "polars", "transform", "pytest"}

_CALCULATION = '''\
"""What to compute: `transform run INPUT OUTPUT -c {name}.py` runs it.

Each result replaces the member of its name in a line, or is appended; nothing else in the line changes.
"""

import polars as pl

from transform import Calculation

calculation = Calculation(
    {named},
){rows}
# .filter(…) drops lines, .drop(…) and .select(…) members, and .with_schema({{…}}) declares types of columns, which are
# inferred from each input otherwise.
'''
_LINES = "expected(json.loads(line)) for line in before"
_ELEMENTS = "expected(row) for line in before for row in json.loads(line){path}"
_TEST = '''\
"""The calculation does to each line of the sample what it should."""

import json
from pathlib import Path

from transform import load

SAMPLE = Path(__file__).with_name("{name}.sample.jsonl")


def expected(line):
    return {{**line, {result}: {python}}}


def test_each_line_gets_its_result(tmp_path):
    summary = load(str(Path(__file__).with_name("{name}.py"))).run(SAMPLE, tmp_path / "out.jsonl")
    assert (summary.rejected, summary.nonfinite) == (0, {{}})
    before, after = (path.read_bytes().splitlines() for path in (SAMPLE, tmp_path / "out.jsonl"))
    assert [json.loads(line) for line in after] == [{rows}]
'''


@dataclass(frozen=True, slots=True)
class Scaffold:
    """The files that were created.

    Attributes:
        calculation: The file of the calculation.
        test: The file of its test.
        sample: The file of the lines that both are tried on.
        lines: How many lines the sample has, or elements of arrays if these are the rows.
        left_out: How many lines of the source, or elements, are not JSON objects, and were left out.
    """

    calculation: Path
    test: Path
    sample: Path
    lines: int
    left_out: int


@dataclass(frozen=True, slots=True)
class _Idea:
    """A possible result: its expression, and the same in Python for the test."""

    result: str
    expression: str
    python: str
    rank: int = 0

    @property
    def named(self) -> str:
        """The expression with its name, as an argument."""
        if self.result.isidentifier() and not keyword.iskeyword(self.result):
            return f"{self.result}={self.expression}"
        return f"({self.expression}).alias({_quoted(self.result)})"


def check_name(path: Path) -> str:
    """Return the name of the module that a calculation will be, without `.py`.

    Raises:
        OptionError: A Python module cannot have the name, or another one has it.
    """
    name = path.stem if path.suffix == ".py" else path.name
    if not name.isidentifier() or name in _TAKEN:
        is_name = name.isidentifier() and not keyword.iskeyword(name)
        why = "another module has that name" if is_name else "a Python module cannot have that name"
        raise OptionError(f"`{name}`: {why}; take one such as review_scores")
    return name


def scaffold(
    path: Path, source: Source | None = None, lines: int = SAMPLE_LINES, rows: RowFormat = LINES, each: str = ""
) -> Scaffold:
    """Create a calculation with its test and a sample.

    Args:
        path: The path of the calculation, with or without `.py`.
        source: The input that the sample is taken from; None for invented businesses.
        lines: How many of the first rows to take.
        rows: How the lines of the source are found.
        each: If the rows are the elements of an array in each line: the path of the array.

    Raises:
        OptionError: A Python module cannot have the name, or the path of the array is invalid.
        OutputError: One of the files exists, or cannot be written.
        InputError: The source cannot be read, or has no lines.
    """
    name = check_name(path)
    made = [path.with_name(f"{name}.py"), path.with_name(f"test_{name}.py"), path.with_name(f"{name}.sample.jsonl")]
    for file in made:
        if mode_at(file) is not None:
            raise OutputError(f"{file} already exists, and is not overwritten; take another name, or remove it")
    where = rows.with_each(each).each if each else None
    found, left_out = _lines_of(source, lines, rows) if where is None else ([], 0)
    content = b"".join(line + b"\n" for line in found)
    if where is not None:
        content, found, left_out = _elements_of(source, lines, rows, where)
    _write(made[2], content)
    steps = "" if rows.in_lines else f".with_format({_quoted(rows.format)})"
    steps += f".each({_quoted(each)})" if each else ""
    try:
        idea = _write_first_working(_ideas(found, source), name, made, steps)
    except BaseException:
        for file in made:
            file.unlink(missing_ok=True)
        raise
    of = _LINES if where is None else _ELEMENTS.format(path="".join(f"[{_quoted(step)}]" for step in where))
    _write(made[1], _TEST.format(name=name, result=_quoted(idea.result), python=idea.python, rows=of).encode())
    return Scaffold(made[0], made[1], made[2], len(found), left_out)


def _write_first_working(ideas: Iterator[_Idea], name: str, made: list[Path], steps: str) -> _Idea:
    """Write the calculation with the first idea that works for all rows of the sample; return the idea."""
    for idea in ideas:
        made[0].unlink(missing_ok=True)
        _write(made[0], _CALCULATION.format(name=name, named=idea.named, rows=steps).encode())
        try:
            if not check(load(str(made[0])).spec_for(made[2]), made[2]).problems():
                return idea
        except TransformError:
            continue
    raise AssertionError("a constant works for all lines")


def _lines_of(source: Source | None, max_lines: int, rows: RowFormat) -> tuple[list[bytes], int]:
    """Return the first lines that are JSON objects, and how many other lines there are before the last of them."""
    if source is None:
        return resources.files("transform").joinpath("data/businesses.jsonl").read_bytes().splitlines()[:max_lines], 0
    found: list[bytes] = []
    left_out = 0
    with open_source(source) as reader:
        for chunk in rows.read(reader.read_into):
            for line in bytes(chunk.data).split(b"\n") if isinstance(chunk, Chunk) else [chunk.head]:
                if len(found) == max_lines:
                    return found, left_out
                try:
                    if line.strip(b" \t\r"):
                        read_members(line)
                        found.append(line.rstrip(b"\r"))
                except LineError:
                    left_out += 1
    if not found:
        raise InputError(f"{source}: there is no line that is a JSON object to draw a sample of")
    return found, left_out


def _elements_of(
    source: Source | None, max_rows: int, rows: RowFormat, where: tuple[str, ...]
) -> tuple[bytes, list[bytes], int]:
    """Return lines with no more than the first elements of their arrays; these elements; and how many were left out."""
    if source is None:
        raise OptionError("--each needs --from, as the invented businesses have no array")
    lines, taken, left_out = [], list[bytes](), 0
    for line in _lines_of(source, max_rows, rows)[0]:
        try:
            inside = [_OBJECT.decode(line)]  # the objects on the way to the array
            for step in where[:-1]:
                inside.append(_OBJECT.decode(inside[-1][step]))
            elements = _ARRAY.decode(inside[-1][where[-1]])
        except (KeyError, msgspec.DecodeError):  # there is no array, or a lone surrogate in the line
            continue
        objects = [text for text in map(bytes, elements) if text.startswith(b"{")]
        left_out += len(elements) - len(objects)
        objects = objects[: max_rows - len(taken)]
        taken += objects
        value = b"[%b]" % b",".join(objects)
        for step, members in zip(reversed(where), reversed(inside), strict=True):
            value = msgspec.json.encode({**members, step: msgspec.Raw(value)})
        lines.append(value + b"\n")
        if len(taken) == max_rows:
            break
    if not taken:
        raise InputError(f"{source}: no line has an array `{'.'.join(where)}` with an object in it")
    return b"".join(lines), taken, left_out


_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ARRAY = msgspec.json.Decoder(list[msgspec.Raw])


def _ideas(lines: list[bytes], source: Source | None) -> Iterator[_Idea]:
    """Yield ideas that suit the lines, the best first; the last one works with any lines."""
    if source is None:
        product = 'pl.col("stars") * pl.col("review_count")'
        yield _Idea("review_score", product, 'line["stars"] * line["review_count"]')
    sample = Sample(whole=True)
    for line in lines:
        sample.add(read_members(line).values)
    ideas = []
    for name, member in sample.members.items():
        try:
            dtype = infer_type(name, Read((name,)), sample)
        except TransformError:  # no single type holds its values
            continue
        missing = member.present - member.kinds["null"] < sample.lines
        ideas.append(_idea(name, dtype, sample, missing=missing))
    yield from sorted(ideas, key=lambda idea: idea.rank)
    yield _Idea(_free("checked", sample), "pl.lit(True)", "True")


def _idea(name: str, dtype: pl.DataType, sample: Sample, *, missing: bool) -> _Idea:
    column, value = f"pl.col({_quoted(name)})", f"line[{_quoted(name)}]"
    if dtype.is_numeric():
        result, expression, python, rank = f"{name}_doubled", f"{column} * 2", f"{value} * 2", 0
    elif isinstance(dtype, pl.String):
        result, expression, python, rank = f"{name}_length", f"{column}.str.len_chars()", f"len({value})", 1
    elif isinstance(dtype, pl.Boolean):
        result, expression, python, rank = f"not_{name}", f"~{column}", f"not {value}", 2
    elif isinstance(dtype, pl.List):
        result, expression, python, rank = f"{name}_count", f"{column}.list.len()", f"len({value})", 2
    else:
        python = f"line.get({_quoted(name)}) is not None"
        return _Idea(_free(f"has_{name}", sample), f"{column}.is_not_null()", python, 3)
    if missing:
        python = f"None if line.get({_quoted(name)}) is None else {python}"
    return _Idea(_free(result, sample), expression, python, rank + 4 * missing)


def _quoted(text: str) -> str:
    """Return a text as a literal of Python, in which nothing is invisible."""
    return printable(json.dumps(text, ensure_ascii=False))


def _free(result: str, sample: Sample) -> str:
    while result in sample.members:
        result += "_new"
    return result


def _write(path: Path, content: bytes) -> None:
    try:
        with path.open("xb") as file:
            file.write(content)
    except OSError as error:
        raise to_output_error(str(path), error) from None
