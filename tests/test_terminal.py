"""The commands look right on a terminal of 80 columns, with colours and without, and in a pipe; shells know them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pexpect
import pyte
import pytest

from tests.conftest import environment_with
from tests.support.terminal_texts import CLEAR, TITLE, not_shown
from tests.support.trial import lines

if TYPE_CHECKING:
    from collections.abc import Mapping

BIN = Path(sys.executable).parent
pytestmark = pytest.mark.slow  # all together

COLUMNS = 80
SCREEN_ROWS = 300
TIMEOUT_S = 100
PLAIN = dict.fromkeys(("COLUMNS", "LINES", "FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"))
ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
OWN = re.compile(r"\r|\x1b\[[0-9;?]*[A-Za-z]")
"""What the command itself writes: carriage returns, colours, and the cursor for bars of progress."""
COLOUR = re.compile(r"\x1b\[[0-9;]*(3[0-7]|9[0-7]|38;)")
HELP = [
    *(["transform", *command.split(), "--help"] for command in ("", "run", "preview", "schema", "check", "new")),
    *(["runner", *command.split(), "--help"] for command in ("", "worker", "health", "demo")),
]


def on_terminal(*args: str, cwd: Path, env: Mapping[str, str | None] | None = None) -> tuple[int, str]:
    """Run a command on a terminal; return its exit status, and what it writes there."""
    environment = environment_with({**PLAIN, "TERM": "xterm-256color", **(env or {})})
    child = pexpect.spawn(
        str(BIN / args[0]), [*args[1:]], cwd=str(cwd), env=environment, dimensions=(24, COLUMNS), encoding="utf-8",
        timeout=TIMEOUT_S,
    )  # fmt: skip
    child.expect(pexpect.EOF)
    child.close()
    return int(child.exitstatus), str(child.before)


def in_pipe(*args: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [BIN / args[0], *args[1:]], cwd=cwd, env=environment_with(PLAIN), capture_output=True, text=True,
        timeout=TIMEOUT_S, check=False,
    )  # fmt: skip


def rows(text: str) -> list[str]:
    """Return the rows that are left on a wider screen, so that one that is too long shows."""
    screen = pyte.Screen(2 * COLUMNS, SCREEN_ROWS)
    pyte.Stream(screen).feed(text)
    return "\n".join(row.rstrip() for row in screen.display).rstrip().split("\n")


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "in.jsonl").write_bytes(lines('{"stars":4,"state":"NV"}', "nope", '{"stars":"x"}'))
    (tmp_path / "calc.py").write_text(
        "import polars as pl\nfrom transform import Calculation\n"
        "calculation = Calculation(twice=pl.col('stars') * 2).with_schema({'stars': pl.Int64})\n"
    )
    return tmp_path


@pytest.mark.parametrize("args", HELP, ids=" ".join)
def test_help_fits(here: Path, args: list[str]) -> None:
    status, text = on_terminal(*args, cwd=here)
    assert status == 0
    assert max(len(row) for row in rows(text)) <= COLUMNS
    assert not ANSI.search(text)
    piped = in_pipe(*args, cwd=here)
    assert rows(text) == [row.rstrip() for row in piped.stdout.rstrip().split("\n")]
    assert "  []" not in text
    commands = text.partition("Commands:")[2].partition("\r\n\r\n")[0]
    assert "..." not in commands, "a command's short help is cut off"


RUN = ("transform", "run", "in.jsonl", "out.jsonl")
TYPO = (*RUN, "-e", "starz * 2 AS twice")


def test_error_breaks_between_words_on_a_terminal_only(here: Path) -> None:
    status, text = on_terminal(*TYPO, cwd=here)
    piped = in_pipe(*TYPO, cwd=here)
    assert status == piped.returncode == 1
    assert piped.stderr.count("\n") == 1
    assert not ANSI.search(piped.stderr)
    said = [row for row in rows(text) if row]
    assert len(said) > 1
    assert max(len(row) for row in said) <= COLUMNS
    assert " ".join(said) == piped.stderr.strip()


@pytest.mark.parametrize(
    "args",
    [
        (*RUN, "--max-rejects", "more than anybody would ever want to be rejected of a file"),
        ("transform", "check", "calc.py"),
        ("runner", "demo", "a file with a name of many words that is nowhere to be found in this directory.jsonl"),
        ("runner", "worker"),
        ("runner", "status", "--no-such-option-as-this-one", "and an argument that is long as well"),
    ],
    ids=" ".join,
)
def test_errors_fit(here: Path, args: tuple[str, ...]) -> None:
    status, text = on_terminal(*args, cwd=here)
    piped = in_pipe(*args, cwd=here)
    assert status == piped.returncode > 0
    assert max(len(row) for row in rows(text)) <= COLUMNS
    assert text.split() == piped.stderr.split()


def test_schema_shows_whole_names(here: Path) -> None:
    names = ["customer_identification_number", "a", "delivery_address_of_the_customer", "o"]
    values = [1, "x", {"street": "x", "number_and_addition": "1a", "postal_code": "1", "country_of_delivery": "x"}, 1.5]
    many = [
        dict(zip(names, values, strict=True)),
        dict.fromkeys(names),
        dict(zip(names, reversed(values), strict=True)),
    ]
    (here / "wide.jsonl").write_text("".join(json.dumps(line) + "\n" for line in many))
    status, text = on_terminal("transform", "schema", "wide.jsonl", cwd=here)
    assert status == 0
    assert max(len(row) for row in rows(text)) <= COLUMNS
    shown = ANSI.sub("", text)
    assert [name for name in names if re.search(rf"^{name} ", shown, re.MULTILINE)] == names
    assert "…" not in shown


@pytest.mark.parametrize("args", [TYPO, ("transform", "check", "calc.py", "in.jsonl"), (*RUN, "-c", "calc.py")])
def test_colours_are_for_terminals_that_want_them(here: Path, args: tuple[str, ...]) -> None:
    _, coloured = on_terminal(*args, cwd=here)
    _, plain = on_terminal(*args, cwd=here, env={"NO_COLOR": "1"})
    piped = in_pipe(*args, cwd=here)
    assert not COLOUR.search(plain)
    assert not ANSI.search(piped.stdout + piped.stderr)
    if args[1] == "check" or args is TYPO:
        assert COLOUR.search(coloured)
    assert max(len(row) for row in rows(coloured) + rows(plain)) <= COLUMNS


def test_summary_and_check_end_their_lines_with_no_blanks_in_a_pipe(here: Path) -> None:
    for args in ((*RUN, "-c", "calc.py"), ("transform", "check", "calc.py", "in.jsonl")):
        piped = in_pipe(*args, cwd=here)
        told = (piped.stderr or piped.stdout).splitlines()
        assert len(told) > 4
        until = next((number for number, line in enumerate(told) if line.startswith("result ")), len(told))
        assert told[:until] == [line.rstrip() for line in told[:until]]


def test_summary_fits_and_progress_is_gone(here: Path) -> None:
    status, text = on_terminal(*RUN, "-c", "calc.py", cwd=here)
    assert status == 3
    left = "\n".join(rows(text))
    for part in ("lines in", "lines out", "rejected", "kept in out.jsonl.rejects.jsonl", "columns read", "MB/s"):
        assert part in left
    assert "━" in text
    assert "━" not in left, "the bar is erased"
    status, text = on_terminal(*RUN, "-c", "calc.py", "-q", cwd=here)
    assert (status, text) == (3, "")


def test_names_and_values_do_not_control_the_terminal(here: Path) -> None:
    name, value = f"a{TITLE}{CLEAR}", f"b\x9d0;pwned\x9c{CLEAR}\u202e\nc"
    (here / f"{value}.jsonl").write_text(json.dumps({name: value, "n": 1}, ensure_ascii=False) + f"\nno{value}")
    (here / "calc.py").write_text(
        "import polars as pl\nfrom transform import Calculation\n"
        f"calculation = Calculation(x=pl.col({name!r}).str.to_uppercase()).drop({value!r})\n"
        f"absent = Calculation(x=pl.col({value!r}))\n"
    )
    source = f"{value}.jsonl"
    for args, last in (
        (["schema", source], " sampled"),
        (["preview", source, "-c", "calc.py"], "rejected line"),
        (["check", "calc.py", source], "problem: "),
        (["run", source, "out.jsonl", "-c", "calc.py:calculation"], "time"),
        (["run", source, "out.jsonl", "-c", "calc.py:absent"], ""),
        (["run", source, "out.jsonl", "--no\x1b[2J"], "Error: "),
    ):
        _, text = on_terminal("transform", *args, cwd=here)
        screen = pyte.Screen(COLUMNS, SCREEN_ROWS)
        screen.set_mode(pyte.modes.LNM)
        pyte.Stream(screen).feed(text)
        assert screen.title == "", args
        left = [row.rstrip() for row in screen.display]
        assert any(last in row for row in left), (args, left)
        assert "\\x1b" in "".join(left), args
        assert not_shown(OWN.sub("", text)) == set(), args


# --- completion ----------------------------------------------------------------------------------------------------


def completions(program: str, *words: str) -> list[str]:
    """Return what the program offers to bash for the last of the words."""
    environment = {"COMP_WORDS": " ".join([program, *words]), "COMP_CWORD": str(len(words))}
    environment[f"_{program.upper()}_COMPLETE"] = "bash_complete"
    result = subprocess.run(
        [BIN / program], env=environment_with({**PLAIN, **environment}), capture_output=True, text=True,
        timeout=TIMEOUT_S, check=False,
    )  # fmt: skip
    assert result.stderr == ""
    return result.stdout.splitlines()


RUNNER = ("cancel", "demo", "discard", "health", "letters", "redrive", "status", "submit", "sweep", "worker")


def test_commands_options_values_and_files_are_completed() -> None:
    assert completions("transform", "") == [f"plain,{name}" for name in ("check", "new", "preview", "run", "schema")]
    assert completions("transform", "pre") == ["plain,preview"]
    assert completions("runner", "") == [f"plain,{name}" for name in RUNNER]
    assert "plain,--max-rejects" in completions("transform", "run", "--")
    assert completions("transform", "run", "--on-error", "f") == ["plain,fail"]
    for words in (["run", "in"], ["run", "a", "in"], ["check", "in"], ["preview", "-c", "in"], ["new", "--from", "in"]):
        assert completions("transform", *words) == ["file,in"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize("program", ["transform", "runner"])
def test_each_shell_gets_its_script(tmp_path: Path, program: str, shell: str) -> None:
    environment = {f"_{program.upper()}_COMPLETE": f"{shell}_source"}
    result = subprocess.run(
        [BIN / program], env=environment_with(environment), capture_output=True, text=True, check=False, timeout=60
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert f"_{program.upper()}_COMPLETE={shell}_complete" in result.stdout
    if shutil.which(shell):
        (tmp_path / "script").write_text(result.stdout)
        subprocess.run([shutil.which(shell) or shell, "-n", tmp_path / "script"], check=True, timeout=60)


def test_bash_completes_when_the_tabulator_is_pressed(here: Path) -> None:
    environment = environment_with({**PLAIN, "TERM": "dumb", "PS1": "> ", "PATH": f"{BIN}:{os.environ['PATH']}"})
    child = pexpect.spawn(
        "bash", ["--norc", "--noprofile", "-i"], cwd=str(here), env=environment, encoding="utf-8", timeout=TIMEOUT_S
    )
    child.sendline('eval "$(_TRANSFORM_COMPLETE=bash_source transform)"; echo rea""dy')
    child.expect("ready\r\n")
    child.send("transform prev\t")
    child.expect("transform preview ")
    child.send("in\t")
    child.expect("in.jsonl ")
    child.sendline("-e 'stars AS st'")
    child.expect("shape: |transform: ")
    child.close(force=True)


def test_page_of_commands_says_how_to_turn_it_on() -> None:
    page = (Path(__file__).parents[1] / "docs" / "commands.md").read_text()
    assert 'eval "$(_TRANSFORM_COMPLETE=bash_source transform)"' in page
