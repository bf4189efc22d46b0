"""Whatever names and values the input has, the command prints no control characters but its own line breaks."""

from __future__ import annotations

import contextlib
import io
import json
import re
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click
import polars as pl
import pytest
from click.testing import CliRunner
from hypothesis import example, given, settings

from tests.support.terminal_texts import EVIL, not_shown, special_texts
from transform import Calculation, TransformError
from transform.cli import cli
from transform.cli.commands import _print_error
from transform.cli.report import print_frame
from transform.cli.terminal import echo, show_traceback, show_usage_error
from transform.explore.describe import describe
from transform.explore.profile import STAGES, Profile

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Command

CALCULATION = """
import polars as pl
from transform import Calculation

NAME = {name}
calculation = Calculation(pl.col(NAME).alias(NAME + "2"), n2=pl.col("n") * 2).drop(NAME + "3")
typed = calculation.with_schema({{"n": pl.Int64, NAME: pl.String, NAME + "4": pl.String}})
absent = Calculation(x=pl.col(NAME + "5") + 1)
closed = Calculation(o=pl.concat_list(pl.col("o"), pl.col("o"))).with_schema({{"o": pl.Struct({{"a": pl.String}})}})
"""


def printed(*args: str) -> str:
    """Return what the command prints, on both streams."""
    result = CliRunner().invoke(cli, args)
    if isinstance(result.exception, TransformError):
        errors = io.StringIO()
        with contextlib.redirect_stderr(errors):
            _print_error(str(result.exception))
        assert errors.getvalue().count("\n") == 1
        return result.output + errors.getvalue()
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.output


@settings(max_examples=6, deadline=None)
@given(special_texts(min_size=1), special_texts())
@example(EVIL, EVIL)
@example("\x1b", "\\x1b")
def test_names_and_values_are_shown_without_control_characters(name: str, value: str) -> None:
    rows = [{"n": 1, name: value, "o": {name: value}}, {"n": value, name: 1, "o": {"a": value}}, {"n": 2, name: value}]
    with tempfile.TemporaryDirectory() as directory:
        source = Path(directory, "in\x1b[2J\u202e.jsonl")
        source.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows) + f"no {value}\n")
        module = Path(directory, "calc.py")
        module.write_text(CALCULATION.format(name=ascii(name)))
        output = str(Path(directory, "out.jsonl"))
        told = printed("schema", str(source))
        for which in ("calculation", "typed", "absent", "closed"):
            reference = f"{module}:{which}"
            told += printed("preview", str(source), "-c", reference)
            told += printed("check", reference, str(source))
            told += printed("check", reference, str(source), "--json")
            told += printed("run", str(source), output, "-c", reference)
        told += printed("preview", str(source), "--select", name)
        told += printed("preview", str(source), "--where", name)
        told += printed("new", str(Path(directory, "mine")), "--from", str(source))
        assert not_shown(Path(directory, "mine.py").read_text()) == set()
        assert not_shown(Path(directory, "test_mine.py").read_text()) == set()
    assert not_shown(told) == set()


def test_line_break_in_a_name_makes_no_line(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text(json.dumps({"a\nno problems": 1, "b\u2028": 2, "c\x85": 3}))
    told = printed("schema", str(source)).split("\n")
    assert [line.split("  ")[0] for line in told[1:4]] == [r"a\nno problems", r"b\u2028", r"c\x85"]
    assert told[4:] == ["", "1 line sampled (the whole input)", ""]


def test_json_for_programs_keeps_its_meaning(tmp_path: Path) -> None:
    source, summary = tmp_path / "in.jsonl", tmp_path / "summary.json"
    source.write_text(json.dumps({EVIL: "é", "n": 2}))
    (tmp_path / "calc.py").write_text(CALCULATION.format(name=ascii(EVIL)))
    result = CliRunner().invoke(cli, ["check", f"{tmp_path / 'calc.py'}:typed", str(source), "--json"])
    assert f"{EVIL}2" in json.loads(result.stdout)["results"]
    args = ["run", str(source), str(tmp_path / "out.jsonl"), "-c", f"{tmp_path / 'calc.py'}:typed", "-q"]
    CliRunner().invoke(cli, [*args, "--summary", str(summary)])
    assert EVIL in json.loads(summary.read_text())["schema"]
    assert not_shown(summary.read_text()) == set()


def test_output_is_not_changed(tmp_path: Path, command: Command) -> None:
    line = json.dumps({"a": EVIL, "n": 1}, ensure_ascii=False).encode() + b"\n"
    result = command("run", "-", "-", "-w", "n = 1", stdin=line)
    assert (result.stdout, result.returncode) == (line, 0)
    assert tmp_path.is_dir()


def test_table_of_a_frame_stays_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    print_frame(pl.DataFrame({EVIL[:8]: [EVIL[:8], None, "x\ny"], "n": [[EVIL], [], None]}))
    told = capsys.readouterr().out
    assert not_shown(told) == set()
    assert r"x\ny" in told
    # Names that become the same are still two columns.
    print_frame(pl.DataFrame({"\x1b": ["\x1b"], "\\x1b": ["\\x1b"]}))
    told = capsys.readouterr().out
    assert not_shown(told) == set()
    assert told.count(r"\x1b") == 4


def test_markup_of_rich_in_names_is_text(tmp_path: Path) -> None:
    source = tmp_path / "[red]in[x].jsonl"
    source.write_text('{"[bold]a[/]":1}')
    result = CliRunner().invoke(cli, ["schema", str(source)])
    assert "[bold]a[/]" in result.output
    terminal = {"TTY_COMPATIBLE": "1", "TERM": "xterm"}  # on which there is a bar of progress
    args = ["run", str(source), str(tmp_path / "out.jsonl"), "--drop", "x"]
    result = CliRunner().invoke(cli, args, env=terminal, catch_exceptions=False)
    assert result.exit_code == 0
    assert "[red]in[x].jsonl" in result.stderr


def usage_error() -> None:
    show_usage_error(click.BadParameter(EVIL, param_hint="--drop"))


def file_error() -> None:
    show_usage_error(click.FileError(EVIL, EVIL))


def bug() -> None:
    try:
        raise ValueError(EVIL)
    except ValueError:
        show_traceback(*sys.exc_info())


def failed() -> None:
    _print_error(EVIL)


@pytest.mark.parametrize(("show", "lines"), [(usage_error, 1), (file_error, 1), (failed, 1), (bug, 5)])
def test_errors_are_shown_without_control_characters(
    capsys: pytest.CaptureFixture[str], show: Callable[[], None], lines: int
) -> None:
    show()
    told = capsys.readouterr().err
    assert r"\x1b]0;pwned\x07" in told
    assert not_shown(told) == set()
    assert told.count("\n") == lines


def test_help_that_click_shows_as_an_error_keeps_its_lines(command: Command) -> None:
    for args, expected in (([], "Usage: "), (["--\x1b[2J"], r"--\x1b[2J"), (["\x1b"], r"\x1b")):
        result = command(*args)
        told = (result.stdout + result.stderr).decode()
        assert result.returncode == 2
        assert expected in told
        assert not_shown(told) == set()
        assert "Usage: " in told
        assert "\n" in told.strip()


def test_echo_separates_lines_itself(capsys: pytest.CaptureFixture[str]) -> None:
    echo("a\nb", "", "c")
    assert capsys.readouterr().out == "a\\nb\n\nc\n"


def test_descriptions_are_shown_without_control_characters() -> None:
    calculation = Calculation(pl.col(EVIL).alias(f"{EVIL}2")).filter(pl.col(EVIL) > EVIL).drop(EVIL)
    source = io.BytesIO(json.dumps({EVIL: EVIL, "n": 1}, ensure_ascii=False).encode())
    compared = Calculation().drop(EVIL).compare(lambda json_obj: json_obj, source)
    profile = Profile(EVIL, 10, 10, 1, True, 0.1, dict.fromkeys(STAGES, 0.1), False)
    spec = calculation.with_schema({EVIL: pl.String}).spec_for("in.jsonl")
    for text in (describe(spec), repr(compared), repr(profile)):
        assert r"\x1b]0;pwned" in text
        assert not_shown(text) == set()
    for shown in (calculation, compared, profile):
        made = shown._repr_html_()
        assert not_shown(made) == set()
        assert re.search(r"\\x1b]0;pwned", made)
