"""The command, judged by its exit status, its streams and its files; some tests run it as a process of its own."""

from __future__ import annotations

import bz2
import errno
import gzip
import json
import lzma
import os
import platform
import pty
import re
import shlex
import subprocess
import sys
import threading
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import command_line, environment_with
from tests.support.trial import OLD, lines
from tests.support.typed import typed_sql

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.conftest import Command

ROOT = Path(__file__).parents[3]
SAMPLE = ROOT / "sample_data" / "yelp_businesses.json"
OK, FAILED, USAGE, WITH_REJECTS = 0, 1, 2, 3
TIMEOUT_S = 60
# Whoever runs the tests may have told programs to use colours, or how wide the terminal is.
PLAIN = dict.fromkeys(("COLUMNS", "LINES", "FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"))
GOOD = lines('{"a":1,"s":"x"}', '{"a":2,"s":null}')
BAD = lines('{"a":1}', "nope", "", '{"a":2}', "[1]", '{"a":"x"}')
INT = ("-e", "a AS b", "--schema", "a=Int64")


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """The current directory of the command, with input."""
    (tmp_path / "good.jsonl").write_bytes(GOOD)
    (tmp_path / "bad.jsonl").write_bytes(BAD)
    return tmp_path


@pytest.fixture
def run(here: Path, command: Command) -> Callable[..., subprocess.CompletedProcess[bytes]]:
    """Runs the command there, and never lets a traceback pass."""
    assert here.is_dir()

    def transform(*args: object, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        result = command(*args, stdin=stdin, env=PLAIN)
        assert b"Traceback" not in result.stderr, result.stderr.decode()
        return result

    return transform


Run = "Callable[..., subprocess.CompletedProcess[bytes]]"


# --- help ----------------------------------------------------------------------------------------------------------


def imported_by(*args: str) -> set[str]:
    """Return the packages that a run of the command imports."""
    _, *words = command_line(*args)
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *words], capture_output=True, env=environment_with(PLAIN), check=True
    )
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.decode().splitlines()}


@pytest.mark.parametrize("args", ["--help", "run --help", "preview -h", "schema -h", "--version"])
def test_help_answers_at_once(args: str) -> None:
    found = imported_by(*args.split())
    assert {"transform", "click"} <= found
    assert not {"polars", "numpy", "pyarrow", "msgspec", "s3fs", "botocore", "aiohttp", "rich"} & found


def test_help_shows_examples_and_exit_statuses(run: Any) -> None:
    result = run("--help")
    text = result.stdout.decode()
    assert (result.returncode, result.stderr) == (OK, b"")
    for part in (
        "transform run in.jsonl out.jsonl -e '",
        "transform preview ",
        "transform schema ",
        "s3://",
        "run - - ",
    ):
        assert part in text
    assert re.search(r"0 success, 1 failed .*2 wrong usage.*3 published.*130 interrupted", text, re.DOTALL)


def test_help_of_run_names_every_option(run: Any) -> None:
    text = run("run", "--help").stdout.decode()
    options = "-e --expr -w --where -c --calculation --schema --on-error --rejects --max-rejects --max-line-bytes"
    for option in (*options.split(), "--summary", "--quiet", "INPUT", "OUTPUT", "reject|fail", "OUTPUT.rejects.jsonl"):
        assert option in text


def test_examples_in_the_help_work(here: Path, run: Any) -> None:
    (here / "in.jsonl").write_bytes(SAMPLE.read_bytes())
    text = run("--help").stdout.decode()
    for command in ("run in.jsonl out.jsonl", "preview in.jsonl", "schema in.jsonl"):
        found = re.search(rf"^ *transform ({command}.*)$", text, re.MULTILINE)
        assert found, command
        assert run(*shlex.split(found[1])).returncode == OK
    assert (here / "out.jsonl").read_bytes().count(b'"review_score":') == 200


def test_version_comes_with_the_level_of_the_kernel(process: Command) -> None:
    lowest = "neon" if platform.machine() in {"aarch64", "arm64"} else "v1"
    for env, level in ((PLAIN, r"(v[134]|neon)"), (PLAIN | {"TRANSFORM_CPU": lowest}, lowest)):
        result = process("--version", env=env)
        expected = rf"transform {re.escape(version('jsonl-transform'))} \(kernel {level}\)\n"
        assert (result.returncode, result.stderr) == (OK, b"")
        assert re.fullmatch(expected, result.stdout.decode())


@pytest.mark.parametrize("args", [("--version",), ("preview", "good.jsonl", *INT), ("run", "good.jsonl", "-", *INT)])
def test_level_that_is_none_is_an_error_of_one_line(here: Path, process: Command, args: tuple[str, ...]) -> None:
    assert here.is_dir()
    result = process(*args, env=PLAIN | {"TRANSFORM_CPU": "nonsense"})
    assert (result.returncode, result.stdout) == (FAILED, b"")
    assert re.fullmatch(
        rb"transform: TRANSFORM_CPU=nonsense is no level of this processor; it has [v134, neo]+\n", result.stderr
    )


# --- a good run ----------------------------------------------------------------------------------------------------


def test_sample_file_gets_what_a_loop_over_its_lines_gives(here: Path, process: Command) -> None:
    result = process("run", SAMPLE, "out.jsonl", "-e", "stars * review_count AS review_score", "-w", "is_open = 1")
    assert (result.returncode, result.stdout) == (OK, b"")
    expected = []
    for line in SAMPLE.read_bytes().splitlines():
        business = json.loads(line)
        if business["is_open"] == 1:
            business["review_score"] = float(business["stars"]) * float(business["review_count"])
            expected.append(business)
    assert 0 < len(expected) < 200
    output = (here / "out.jsonl").read_bytes()
    assert [json.loads(line) for line in output.splitlines()] == expected
    assert [list(json.loads(line)) for line in output.splitlines()] == [list(business) for business in expected]
    assert sorted(path.name for path in here.iterdir()) == ["bad.jsonl", "good.jsonl", "out.jsonl"]


def test_expressions_of_several_options_and_within_one_add_up(here: Path, run: Any) -> None:
    assert run("run", "good.jsonl", "out.jsonl", "-e", "a AS x, a + 1 AS y", "-e", "upper(s) AS s").returncode == OK
    assert (here / "out.jsonl").read_bytes() == lines('{"a":1,"s":"X","x":1,"y":2}', '{"a":2,"s":null,"x":2,"y":3}')


def test_condition_alone_is_enough(here: Path, run: Any) -> None:
    assert run("run", "good.jsonl", "out.jsonl", "-w", "a > 1").returncode == OK
    assert (here / "out.jsonl").read_bytes() == GOOD.splitlines(keepends=True)[1]


def test_calculation_comes_from_a_file(here: Path, run: Any) -> None:
    (here / "calc.py").write_text(
        "import polars as pl\n"
        "from transform import Calculation\n"
        "calculation = Calculation(x=pl.col('a') * 2)\n"
        "other = Calculation(y=pl.col('a')).filter(pl.col('a') > 1).with_schema({'a': pl.Int8})\n"
    )
    result = run("run", "good.jsonl", "-", "-q", "-c", "calc.py")
    assert (result.returncode, result.stdout) == (OK, lines('{"a":1,"s":"x","x":2}', '{"a":2,"s":null,"x":4}'))
    result = run("run", "bad.jsonl", "-", "-q", "-c", "calc:other")
    assert (result.returncode, result.stdout) == (WITH_REJECTS, b'{"a":2,"y":2}\n')


def test_standard_streams_are_read_and_written(run: Any) -> None:
    result = run("run", "-", "-", "-q", "-e", "a * 2 AS b", stdin=GOOD)
    assert (result.returncode, result.stderr) == (OK, b"")
    assert result.stdout == lines('{"a":1,"s":"x","b":2}', '{"a":2,"s":null,"b":4}')


PACK: dict[str, tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]] = {
    "gz": (gzip.compress, gzip.decompress),
    "zst": (zstd.compress, zstd.decompress),
    "bz2": (bz2.compress, bz2.decompress),
    "xz": (lzma.compress, lzma.decompress),
}


@pytest.mark.parametrize(("one", "other"), [("gz", "zst"), ("zst", "bz2"), ("bz2", "xz"), ("xz", "gz")])
def test_compression_goes_by_suffix(here: Path, run: Any, one: str, other: str) -> None:
    (here / f"in.jsonl.{one}").write_bytes(PACK[one][0](BAD))
    result = run("run", f"in.jsonl.{one}", f"out.jsonl.{other}", "--rejects", f"kept.{one}", *INT)
    assert result.returncode == WITH_REJECTS
    packed = (here / f"out.jsonl.{other}").read_bytes()
    assert PACK[other][1](packed) == lines('{"a":1,"b":1}', '{"a":2,"b":2}')
    assert PACK[one][1]((here / f"kept.{one}").read_bytes()).count(b"\n") == 3


def test_compressed_input_is_known_by_its_content(here: Path, run: Any) -> None:
    (here / "unnamed").write_bytes(zstd.compress(GOOD))
    assert run("run", "unnamed", "-", "-q", *INT).stdout == lines('{"a":1,"s":"x","b":1}', '{"a":2,"s":null,"b":2}')


# --- rejects and the summary ---------------------------------------------------------------------------------------


def table(stderr: bytes) -> dict[str, str]:
    """Return the rows of the summary by name, their white space made one space."""
    rows = (re.match(r"((?:\w+ ?)+) {2,}(.*)", line) for line in stderr.decode().splitlines())
    return {row[1].strip(): " ".join(row[2].split()) for row in rows if row}


def test_rejects_lie_beside_the_output_and_the_exit_status_says_so(here: Path, run: Any) -> None:
    result = run("run", "bad.jsonl", "out.jsonl", *INT)
    assert (result.returncode, result.stdout) == (WITH_REJECTS, b"")
    assert (here / "out.jsonl").read_bytes() == lines('{"a":1,"b":1}', '{"a":2,"b":2}')
    kept = [json.loads(line) for line in (here / "out.jsonl.rejects.jsonl").read_bytes().splitlines()]
    assert [(reject["line"], reject["offset"], reject["raw"]) for reject in kept] == [
        (2, BAD.index(b"nope"), "nope"),
        (5, BAD.index(b"[1]"), "[1]"),
        (6, BAD.index(b'{"a":"x"'), '{"a":"x"}'),
    ]
    rows = table(result.stderr)
    assert rows["lines in"] == f"6 {len(BAD)} bytes"
    assert rows["lines out"] == "2 28 bytes"
    assert rows["blank"] == "1"
    assert rows["rejected"] == "3 kept in out.jsonl.rejects.jsonl"
    assert rows["columns read"] == "a Int64 (declared)"
    assert re.fullmatch(r"\d+\.\d\d s \d+\.\d MB/s", rows["time"])
    text = " ".join(result.stderr.decode().split())
    assert f"1 not valid JSON (first at offset {BAD.index(b'nope')})" in text
    assert f"1 not a JSON object (first at offset {BAD.index(b'[1]')})" in text
    assert "1 column `a`: expected an integer, found a string (first at offset" in text


def test_summary_tells_of_filtered_lines_and_numbers_that_are_not_finite(run: Any) -> None:
    rows = table(run("run", "good.jsonl", "out.jsonl", "-e", "a / 0 AS b", "-w", "a > 1").stderr)
    assert rows["filtered"] == "1"
    assert rows["not finite"] == "1 in b, written as null"
    assert "rejected" not in rows


def test_rejects_of_an_earlier_run_go_with_a_run_that_has_none(here: Path, run: Any) -> None:
    (here / "out.jsonl.rejects.jsonl").write_bytes(OLD)
    assert run("run", "good.jsonl", "out.jsonl", *INT).returncode == OK
    assert not (here / "out.jsonl.rejects.jsonl").exists()


def test_rejects_go_where_they_are_told_to(here: Path, run: Any) -> None:
    (here / "out.jsonl.rejects.jsonl").write_bytes(OLD)
    result = run("run", "bad.jsonl", "out.jsonl", "--rejects", "kept.jsonl", *INT)
    assert table(result.stderr)["rejected"] == "3 kept in kept.jsonl"
    assert (here / "kept.jsonl").read_bytes().count(b"\n") == 3


def test_output_to_a_pipe_is_clean_and_the_first_rejects_are_shown(here: Path, run: Any) -> None:
    data = b'{"a":1}\n' + b"".join(b"nope %d\n" % number for number in range(5))
    before = set(here.iterdir())
    result = run("run", "-", "-", *INT, stdin=data)
    assert (result.returncode, result.stdout) == (WITH_REJECTS, b'{"a":1,"b":1}\n')
    assert table(result.stderr)["rejected"] == "5 not kept"
    shown = re.findall(r"^rejected line (\d) \(offset (\d+)\): not valid JSON", result.stderr.decode(), re.MULTILINE)
    assert shown == [(str(number + 2), str(8 + 7 * number)) for number in range(3)]
    assert set(here.iterdir()) == before


def test_first_three_rejects_are_shown_with_their_lines(here: Path, run: Any) -> None:
    (here / "bad.jsonl").write_bytes(b'{"a":1}\nnope\n{"a":"x"}\n[]\nno\n')
    result = run("run", "bad.jsonl", "out.jsonl", *INT)
    assert table(result.stderr)["rejected"] == "4 kept in out.jsonl.rejects.jsonl"
    shown = re.findall(r"^rejected line (\d) \(offset (\d+)\): (.*)$", result.stderr.decode(), re.MULTILINE)
    assert [(line, offset) for line, offset, _ in shown] == [("2", "8"), ("3", "13"), ("4", "23")]
    assert all(reason for *_, reason in shown)


def test_rejects_of_a_pipe_are_kept_where_a_place_is_given(here: Path, run: Any) -> None:
    result = run("run", "bad.jsonl", "-", "--rejects", "kept.jsonl", *INT)
    assert (result.returncode, result.stdout.count(b"\n")) == (WITH_REJECTS, 2)
    assert (here / "kept.jsonl").read_bytes().count(b"\n") == 3


def test_quiet_says_nothing(here: Path, run: Any) -> None:
    for target in ("out.jsonl", "-"):
        result = run("run", "bad.jsonl", target, "--quiet", *INT)
        assert (result.returncode, result.stderr) == (WITH_REJECTS, b"")
    assert (here / "out.jsonl").exists()


def test_summary_is_written_as_json(here: Path, run: Any) -> None:
    what = ("-e", "1 / (a - 1) AS b", "--schema", "a=Int64")
    result = run("run", "bad.jsonl", "out.jsonl", "-q", "--summary", "summary.json", *what)
    assert result.returncode == WITH_REJECTS
    summary = json.loads((here / "summary.json").read_bytes())
    assert 0 < summary.pop("seconds") < TIMEOUT_S
    assert summary.pop("mb_per_s") > 0
    assert len(summary.pop("first_rejects")) == 3
    expected = {
        "source": "bad.jsonl",
        "target": "out.jsonl",
        "lines_in": 6,
        "lines_out": 2,
        "filtered": 0,
        "rejected": 3,
        "blank": 1,
        "bytes_in": len(BAD),
        "bytes_out": (here / "out.jsonl").stat().st_size,
        "reject_reasons": {
            "not valid JSON": {"count": 1, "first_offset": BAD.index(b"nope")},
            "not a JSON object": {"count": 1, "first_offset": BAD.index(b"[1]")},
            "column `a`: expected an integer, found a string": {"count": 1, "first_offset": BAD.index(b'{"a":"x"')},
        },
        "nonfinite": {"b": 1},
        "schema": {"a": {"type": "Int64", "from": "declared"}},
        "rejects": "out.jsonl.rejects.jsonl",
    }
    assert {name: summary[name] for name in expected} == expected


def test_summary_of_a_failed_run_is_not_written(here: Path, run: Any) -> None:
    (here / "summary.json").write_bytes(OLD)
    result = run("run", "bad.jsonl", "out.jsonl", "--summary", "summary.json", "--on-error", "fail", *INT)
    assert result.returncode == FAILED
    assert (here / "summary.json").read_bytes() == OLD
    assert not (here / "out.jsonl").exists()


@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        (
            ["--on-error", "fail"],
            FAILED,
            "line 2 (offset 8) was rejected, and the first one fails the run",
        ),
        (["--max-rejects", "1"], FAILED, "line 5 (offset 22) was rejected, and more than 1 line fails the run"),
        (["--max-rejects", "2"], FAILED, "line 6 (offset 26) was rejected, and more than 2 lines fail the run"),
        (["--max-rejects", "3"], WITH_REJECTS, ""),
        (["--max-rejects", "59.9%"], FAILED, "3 of 5 lines were rejected, more than "),
        (["--max-rejects", "60%"], WITH_REJECTS, ""),
        (["--max-rejects", "0"], FAILED, "the first one fails the run"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_too_many_rejects_fail_the_run_and_are_kept(
    here: Path, run: Any, options: list[str], status: int, said: str
) -> None:
    (here / "out.jsonl").write_bytes(OLD)
    result = run("run", "bad.jsonl", "out.jsonl", *options, *INT)
    assert result.returncode == status
    assert said in result.stderr.decode()
    assert ((here / "out.jsonl").read_bytes() == OLD) == (status == FAILED)
    kept = (here / "out.jsonl.rejects.jsonl").read_bytes().splitlines()
    assert json.loads(kept[0])["raw"] == "nope"
    assert ("The rejected lines are in out.jsonl.rejects.jsonl" in result.stderr.decode()) == (status == FAILED)


@pytest.mark.parametrize(("size", "limit"), [("1kB", 1000), ("1 KiB", 1024), ("0.5k", 500), ("700", 700)])
def test_line_limit_takes_units(run: Any, size: str, limit: int) -> None:
    at, past = ('{{"a":1,"p":"{}"}}'.format("x" * (length - 14)) for length in (limit, limit + 1))
    result = run("run", "-", "-", "--max-line-bytes", size, *INT, stdin=lines(at, past))
    assert len(at) == limit
    assert (result.returncode, result.stdout) == (WITH_REJECTS, lines(at.removesuffix("}") + ',"b":1}'))
    assert f"longer than {limit} bytes: {limit + 1} bytes" in result.stderr.decode()


# --- what a user gets wrong ----------------------------------------------------------------------------------------


FILES: dict[str, bytes] = {
    "in.jsonl": lines('{"stars":4.5,"state":"x","review_count":3}'),
    "array.json": b' \n[{"a":1},\n{"a":2}]\n',
    "mixed.jsonl": lines('{"a":1}', '{"a":"x"}', '{"a":2}'),
    "nested.jsonl": lines('{"o":{"p":{"zip":"1"}}}'),
    "raises.py": b"\n\nx = 1 / 0\n",
}
MISTAKES: dict[str, tuple[Sequence[str], str]] = {
    "missing file": (["absent.jsonl", "-e", "a AS b"], "absent.jsonl: no such file or directory"),
    "directory": ([".", "-e", "a AS b"], ".: is a directory"),
    "array": (["array.json", "-e", "a AS b"], "the input starts with `[`: that is a JSON array, not JSON lines"),
    "absent column": (
        ["in.jsonl", "-e", "starz AS b"],
        "there is no column `starz` in the input (1 line). Did you mean `stars`",
    ),
    "mixed column": (
        ["mixed.jsonl", "-e", "a + 1 AS b"],
        "column `a` is of mixed kinds in the input (3 lines): 2 integers and 1 string",
    ),
    "aggregate": (["in.jsonl", "-e", "sum(stars) AS b"], "is not row-wise"),
    "no name": (["in.jsonl", "-e", "stars * 2"], "needs a name for its result: write it with AS in SQL"),
    "bad SQL": (["in.jsonl", "-e", "stars *"], "polars does not understand the SQL `stars *`"),
    "condition that is none": (["in.jsonl", "-w", "stars"], "gives Float64, not true or false"),
    "wrong type for an operator": (
        ["in.jsonl", "-e", "state * 2 AS b"],
        "`state * 2 AS b` is refused: `state` is text",
    ),
    "output with a name that is too long": (["in.jsonl", "-e", "stars AS b", "--rejects", "r" * 300], "name too long"),
    "input with a name that is too long": (["i" * 300, "-e", "stars AS b"], "name too long"),
    "missing calculation": (["in.jsonl", "-c", "absent.py"], "absent.py: no such file"),
    "calculation that raises": (
        ["in.jsonl", "-c", "raises.py"],
        "raises.py does not load: ZeroDivisionError: division by zero (line 3)",
    ),
    "incomplete URI": (["s3://", "-e", "a AS b"], "s3://: expected s3://BUCKET/KEY"),
    "absent member of an object": (
        ["nested.jsonl", "-e", "o.p.zipp AS b"],
        "there is no member `zipp` in `o.p` in the input (1 line). Did you mean `zip`? It has: `zip`. "
        "If it comes later, declare its type: --schema o.p.zipp=TYPE, or .with_schema({'o.p.zipp': pl.TYPE})",
    ),
    "text in double quotes": (
        ["in.jsonl", "-w", 'state = "paid"'],
        "there is no column `paid` in the input (1 line). If you mean a text, write 'paid' in SQL, and pl.lit('paid')",
    ),
    "date without a format": (
        ["in.jsonl", "-e", "CAST(state AS DATE) AS b"],
        "Read it with its format: DATE(state, '%Y-%m-%d') in SQL, .str.to_date('%Y-%m-%d') in Python",
    ),
    "input for a calculation": (
        ["in.jsonl", "-c", "in.jsonl"],
        "in.jsonl is not a Python file; a calculation is in one, path/file.py",
    ),
    "wrong type for a function": (
        ["in.jsonl", "-e", "upper(stars) AS b"],
        "`upper(stars) AS b` is refused: `stars` is",
    ),
    "comparison of text and number": (["in.jsonl", "-w", "state > 3"], "`state > 3` is refused: `state` is text"),
}


def test_a_process_answers_as_well(here: Path, process: Command) -> None:
    for args, status in ((["good.jsonl", "-", "-q", *INT], OK), (["bad.jsonl", "-", "-q", *INT], WITH_REJECTS)):
        result = process("run", *args)
        assert (result.returncode, result.stderr) == (status, b"")
        assert result.stdout.count(b"\n") == 2
    for args, status in ((["absent.jsonl", "out.jsonl", *INT], FAILED), (["good.jsonl"], USAGE)):
        result = process("run", *args)
        assert (result.returncode, result.stdout) == (status, b"")
        assert b"Traceback" not in result.stderr
    assert sorted(path.name for path in here.iterdir()) == ["bad.jsonl", "good.jsonl"]


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake_is_answered_in_a_line_and_changes_nothing(here: Path, run: Any, name: str) -> None:
    args, said = MISTAKES[name]
    for file, content in FILES.items():
        (here / file).write_bytes(content)
    (here / "out.jsonl").write_bytes(OLD)
    before = {path: path.read_bytes() for path in here.iterdir()}
    result = run("run", args[0], "out.jsonl", *args[1:])
    assert (result.returncode, result.stdout) == (FAILED, b"")
    text = result.stderr.decode()
    assert text.startswith("transform: ")
    assert text.count("\n") == 1, "an answer fits on a line"
    assert said in text
    assert {path: path.read_bytes() for path in here.iterdir() if path.is_file()} == before


@pytest.mark.parametrize("subcommand", ["preview", "schema"])
@pytest.mark.parametrize("name", ["missing file", "array"])
def test_other_commands_answer_as_run_does(here: Path, run: Any, subcommand: str, name: str) -> None:
    for file, content in FILES.items():
        (here / file).write_bytes(content)
    args, said = MISTAKES[name]
    result = run(subcommand, *(args if subcommand == "preview" else args[:1]))
    assert (result.returncode, result.stdout) == (FAILED, b"")
    assert said in result.stderr.decode()
    assert result.stderr.count(b"\n") == 1


RUN = ["run", "good.jsonl", "out.jsonl"]
WRONG_USAGE: dict[str, tuple[Sequence[str], str]] = {
    "no output": (["run", "good.jsonl"], "Missing argument 'OUTPUT'"),
    "no such command": (["transfrom"], "No such command 'transfrom'"),
    "no such option": ([*RUN, "--bogus"], "No such option '--bogus'"),
    "near option": ([*RUN, "--sumary", "x"], "'--summary'"),
    "too many arguments": ([*RUN, "more", *INT], "unexpected extra argument"),
    "nothing to do": (RUN, ": give --expr, --where"),
    "expression with a file": ([*RUN, "-e", "a AS b", "-c", "x.py"], "--calculation"),
    "rule with a file": ([*RUN, "--reject", "a > 1", "-c", "x.py"], "--calculation"),
    "condition with a file": ([*RUN, "-w", "a > 1", "-c", "x.py"], "--calculation"),
    "on-error": ([*RUN, *INT, "--on-error", "stop"], "'stop' is not one of 'reject', 'fail'"),
    "schema without type": ([*RUN, "-e", "a AS b", "--schema", "a"], "'a' is not NAME=TYPE, such as stars=Float64"),
    "schema without name": ([*RUN, "-e", "a AS b", "--schema", "=Int8"], "'=Int8' is not NAME=TYPE"),
    "preview of nothing": (["preview", "good.jsonl", "-e", "a AS b", "-n", "0"], "0 is not in the range x>=1"),
    **{
        f"size {text}": ([*RUN, *INT, f"--max-line-bytes={text}"], f"{text!r} is not a size such as 64MiB")
        for text in ("", "0", "0.1", "-5", "12XB", "1e3", "1 2")
    },
    **{
        f"max rejects {text}": ([*RUN, *INT, f"--max-rejects={text}"], f"{text!r} is not a number of lines such as 100")
        for text in ("", "x", "-1", "101%", "100.5%", "1.5", "5 %%")
    },
}


@pytest.mark.parametrize("name", WRONG_USAGE)
def test_wrong_usage_is_answered_with_a_status_of_its_own(here: Path, run: Any, name: str) -> None:
    args, said = WRONG_USAGE[name]
    before = {path: path.read_bytes() for path in here.iterdir()}
    result = run(*args)
    assert (result.returncode, result.stdout) == (USAGE, b"")
    answer = [line for line in result.stderr.decode().splitlines() if line.startswith("Error: ")]
    assert len(answer) == 1
    assert said in result.stderr.decode().partition("Error: ")[2]
    assert "Usage: " in result.stderr.decode()
    assert {path: path.read_bytes() for path in here.iterdir()} == before


def test_type_that_is_none_is_answered(here: Path, run: Any) -> None:
    result = run("run", "good.jsonl", "out.jsonl", "-e", "a AS b", "--schema", "a=Flaot64")
    assert result.returncode in {FAILED, USAGE}
    assert "`Flaot64` is not a type. Did you mean Float64?" in result.stderr.decode()
    assert not (here / "out.jsonl").exists()


def test_name_in_a_declaration_may_hold_an_equals_sign(run: Any) -> None:
    result = run("run", "-", "-", "-q", "-e", '"x=y" AS b', "--schema", "x=y=Int8", stdin=b'{"x=y":1}\n')
    assert (result.returncode, result.stdout) == (OK, b'{"x=y":1,"b":1}\n')


def test_command_without_arguments_shows_the_help(run: Any) -> None:
    result = run()
    assert result.returncode == USAGE
    assert b"Examples:" in result.stdout + result.stderr


# --- nothing is overwritten that is read ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("good.jsonl", "good.jsonl"),
        ("good.jsonl", "./good.jsonl"),
        ("good.jsonl", "symlink.jsonl"),
        ("symlink.jsonl", "good.jsonl"),
        ("good.jsonl", "hardlink.jsonl"),
    ],
)
def test_output_that_is_the_input_is_refused(here: Path, run: Any, source: str, target: str) -> None:
    (here / "symlink.jsonl").symlink_to("good.jsonl")
    (here / "hardlink.jsonl").hardlink_to(here / "good.jsonl")
    result = run("run", source, target, *INT)
    assert (result.returncode, result.stdout) == (FAILED, b"")
    assert result.stderr.startswith(b"transform: the output is the input: ")
    assert result.stderr.count(b"\n") == 1
    assert (here / "good.jsonl").read_bytes() == GOOD
    assert (here / "symlink.jsonl").is_symlink()
    assert (here / "hardlink.jsonl").samefile(here / "good.jsonl")


@pytest.mark.parametrize("way", ["stdin", "stdout", "both"])
def test_streams_that_are_the_same_file_are_refused(here: Path, way: str) -> None:
    args = {"stdin": ("-", "good.jsonl"), "stdout": ("good.jsonl", "-"), "both": ("-", "-")}[way]
    with (here / "good.jsonl").open("rb") as source, (here / "good.jsonl").open("ab") as target:
        result = subprocess.run(
            command_line("run", *args, *INT),
            stdin=source,
            stdout=target if way != "stdin" else subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=here,
            env=environment_with(PLAIN),
            timeout=TIMEOUT_S,
            check=False,
        )
    assert result.returncode == FAILED
    assert result.stderr.startswith(b"transform: the output is the input: ")
    assert (here / "good.jsonl").read_bytes() == GOOD


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--rejects", "out.jsonl"], "the rejects is the output"),
        (["--rejects", "./out.jsonl"], "the rejects is the output"),
        (["--rejects", "bad.jsonl"], "the rejects is the input"),
        (["--summary", "out.jsonl"], "the summary is the output"),
        (["--summary", "bad.jsonl"], "the summary is the input"),
        (["--rejects", "x", "--summary", "x"], "the summary is the rejects"),
        (["--summary", "out.jsonl.rejects.jsonl"], "the summary is the rejects"),
    ],
    ids=str,
)
def test_outputs_have_to_be_apart(here: Path, run: Any, options: list[str], said: str) -> None:
    before = {path: path.read_bytes() for path in here.iterdir()}
    result = run("run", "bad.jsonl", "out.jsonl", *options, *INT)
    assert result.returncode == FAILED
    assert said in result.stderr.decode()
    assert {path: path.read_bytes() for path in here.iterdir()} == before


@pytest.mark.parametrize(
    "args",
    [
        ["good.jsonl", "absent/out.jsonl"],
        ["good.jsonl", "out.jsonl", "--summary", "absent/s.json"],
        ["good.jsonl", "out.jsonl", "--rejects", "absent/r"],
    ],
    ids=str,
)
def test_output_in_a_directory_that_is_not_there_fails_before_anything_is_published(
    here: Path, run: Any, args: list[str]
) -> None:
    result = run("run", *args, *INT)
    assert result.returncode == FAILED
    assert re.fullmatch(r"transform: absent/\S+: there is no directory absent\n", result.stderr.decode())
    assert sorted(path.name for path in here.iterdir()) == ["bad.jsonl", "good.jsonl"]


# --- the progress bar ----------------------------------------------------------------------------------------------


def on_terminal(here: Path, *args: object) -> tuple[int, bytes, str]:
    """Run with a pseudo-terminal as standard error; return status, standard output, and what the terminal got."""
    master, slave = pty.openpty()
    got = bytearray()

    def drain() -> None:
        try:
            while piece := os.read(master, 4096):
                got.extend(piece)
        except OSError as error:  # how Linux says that nobody has the other end open any more
            if error.errno != errno.EIO:
                raise

    reader = threading.Thread(target=drain)
    with subprocess.Popen(
        command_line(*args),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=slave,
        cwd=here,
        env=environment_with({**PLAIN, "TERM": "xterm", "COLUMNS": "120"}),
    ) as process:
        os.close(slave)
        reader.start()
        stdout, _ = process.communicate(timeout=TIMEOUT_S)
    reader.join()
    os.close(master)
    return process.returncode, stdout, got.decode()


@pytest.fixture
def large(here: Path) -> Path:
    """Large enough for several steps of the bar."""
    path = here / "large.jsonl"
    path.write_bytes(SAMPLE.read_bytes() * 800)
    return path


def test_progress_bar_on_a_terminal_shows_bytes_speed_and_time_left_and_goes_away(here: Path, large: Path) -> None:
    status, stdout, text = on_terminal(here, "run", large.name, "out.jsonl", "-e", "stars * 2 AS double")
    assert (status, stdout) == (OK, b"")
    bar, _, after = text.rpartition("\x1b[2K")
    steps = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", step) for step in bar.split("\r")]
    total = f"{large.stat().st_size / 1e6:.1f}"
    shown = [step for step in steps if "large.jsonl" in step]
    assert any(re.search(rf"\d/{total} MB +[\d.]+ MB/s +\d:\d\d:\d\d", step) for step in shown), shown
    assert "large.jsonl" not in after, "the bar is erased"
    assert table(after.encode())["lines in"].startswith("160,000 ")


def test_progress_bar_leaves_a_piped_output_clean(here: Path) -> None:
    status, stdout, text = on_terminal(here, "run", "good.jsonl", "-", *INT)
    assert (status, stdout) == (OK, lines('{"a":1,"s":"x","b":1}', '{"a":2,"s":null,"b":2}'))
    assert "good.jsonl" in text
    assert "\x1b[" in text


def test_no_progress_bar_on_a_terminal_where_quiet_is_asked_for(here: Path) -> None:
    assert on_terminal(here, "run", "good.jsonl", "out.jsonl", "-q", *INT) == (OK, b"", "")


def test_progress_bar_is_erased_before_an_error_is_told(here: Path) -> None:
    status, _, text = on_terminal(here, "run", "good.jsonl", "out.jsonl", "-e", "c AS b")
    assert status == FAILED
    said = re.sub(r"\x1b\[[0-9;]*m", "", text.rpartition("\x1b[2K")[2])
    assert said.startswith("transform: there is no column `c`")


def test_no_progress_bar_in_a_pipe(run: Any, large: Path) -> None:
    result = run("run", large.name, "out.jsonl", "-e", "stars * 2 AS double")
    assert result.returncode == OK
    assert b"\x1b" not in result.stderr
    assert b"\r" not in result.stderr
    assert table(result.stderr).keys() == {"lines in", "lines out", "columns read", "time"}
    assert len(result.stderr.splitlines()) == 4


# --- preview and schema --------------------------------------------------------------------------------------------


def cells(stdout: bytes) -> list[list[str]]:
    """Return the rows of a frame as polars draws it: names, types, then values."""
    drawn = [line for line in stdout.decode().splitlines() if line.startswith("│")]
    rows = [[cell.strip() for cell in re.split("[│┆]", line)[1:-1]] for line in drawn]
    return [row for row in rows if set(row) != {"---"}]


def test_preview_prints_the_frame(run: Any) -> None:
    result = run("preview", "bad.jsonl", "-e", "a * 2 AS double, 'x' AS s", "-w", "a > 0", "--schema", "a=Int64")
    assert result.returncode == OK
    assert result.stdout.startswith(b"shape: (2, 3)\n")
    assert cells(result.stdout) == [["a", "double", "s"], ["i128", "i128", "str"], ["1", "2", "x"], ["2", "4", "x"]]


def test_preview_prints_all_the_rows_asked_for_and_all_columns(here: Path, run: Any) -> None:
    names = [f"column_{number}" for number in range(12)]
    (here / "wide.jsonl").write_bytes(lines(*(json.dumps(dict.fromkeys(names, row)) for row in range(30))))
    result = run("preview", "wide.jsonl", "-n", "25", *(part for name in names for part in ("-e", name)))
    rows = cells(result.stdout)
    assert rows[0] == names
    assert rows[2:] == [[str(row)] * 12 for row in range(25)]
    assert len(cells(run("preview", "wide.jsonl", "-e", names[0]).stdout)) == 2 + 10


def test_preview_reads_a_pipe(run: Any) -> None:
    result = run("preview", "-", "-e", "upper(s) AS s", stdin=GOOD)
    assert cells(result.stdout) == [["s"], ["str"], ["X"], ["null"]]


def test_preview_tells_of_rejected_lines(here: Path, run: Any) -> None:
    (here / "in.jsonl").write_bytes(lines('{"a":1}', "", "nope", '{"a":"x"}', '{"a":2}'))
    result = run("preview", "in.jsonl", "-e", "a * 2 AS b", "--schema", "a=Int64")
    assert result.returncode == OK
    assert cells(result.stdout)[2:] == [["1", "2"], ["2", "4"]]
    assert result.stderr.decode().splitlines() == [
        "rejected line 3 (offset 9): not valid JSON: invalid character (byte 4)",
        'rejected line 4 (offset 14): column `a`: expected an integer, found a string: "x"',
    ]


def test_preview_counts_rejected_lines_where_they_are_many(here: Path, run: Any) -> None:
    (here / "in.jsonl").write_bytes(lines('{"a":1}', *["nope"] * 9))
    for args in (["-e", "a AS b"], ["-c", "calc.py"]):
        (here / "calc.py").write_text("def calculation(json_obj):\n    return json_obj\n")
        said = run("preview", "in.jsonl", *args).stderr.decode().splitlines()
        assert len(said) == 4
        assert said[-1] == "rejected lines: 9 of the 10 that were read, in all"


@pytest.mark.parametrize("subcommand", ["preview", "schema", "run"])
def test_an_indented_file_is_no_json_lines(here: Path, run: Any, subcommand: str) -> None:
    (here / "in.json").write_text('{\n "a": 1,\n "b": 2\n}\n')
    args = {"preview": ["-e", "a AS c"], "schema": [], "run": ["out.jsonl", "-e", "a AS c"]}[subcommand]
    result = run(subcommand, "in.json", *args)
    assert (result.returncode, result.stdout) == (FAILED, b"")
    assert result.stderr.count(b"\n") == 1
    assert b"ndented JSON is read with --format json" in result.stderr


def schema_table(stdout: bytes) -> dict[str, dict[str, str]]:
    """Return the rows of a schema by column, with the number of values of each kind."""
    header, *rows = stdout.decode().partition("\n\n")[0].splitlines()
    assert header.split() == ["column", "type", "present", "kinds"]
    found = {}
    for row in rows:
        name, dtype, present, kinds = re.split(r" {2,}", row.strip())
        counts = (part.split(" ") for part in kinds.split(", "))
        found[name] = {"type": dtype, "present": present, **{kind: count for count, kind in counts}}
    return found


def test_schema_counts_presence_nulls_and_kinds(here: Path, run: Any) -> None:
    (here / "in.jsonl").write_bytes(
        lines(
            '{"n":1,"f":1,"s":"x","b":true,"l":[1],"o":{"x":1},"mix":1,"none":null}',
            '{"n":2,"f":2.5,"s":null,"b":false,"l":[2.5,null],"o":{"y":"z"},"mix":"x"}',
            '{"n":null,"f":1E2,"s":"y","s":"z","l":[],"o":{}}',
            "nope",
            "",
            '{"n":3,"\\u0073":"","nest":[1,"x"]}',
        )
    )
    result = run("schema", "in.jsonl")
    assert (result.returncode, result.stderr) == (OK, b"")
    assert schema_table(result.stdout) == {
        "n": {"type": "Int128", "present": "4", "integer": "3", "null": "1"},
        "f": {"type": "Float64", "present": "3", "integer": "1", "float": "2"},
        "s": {"type": "String", "present": "4", "string": "3", "null": "1"},
        "b": {"type": "Boolean", "present": "2", "boolean": "2"},
        "l": {"type": "List(Float64)", "present": "3", "array": "3"},
        "o": {"type": "Struct({'x': Int128, 'y': String})", "present": "3", "object": "3"},
        "mix": {"type": "mixed", "present": "2", "integer": "1", "string": "1"},
        "none": {"type": "only null", "present": "1", "null": "1"},
        "nest": {"type": "mixed", "present": "1", "array": "1"},
    }
    assert "4 lines sampled (the whole input)" in result.stdout.decode()


def test_schema_shows_the_types_that_a_run_infers(here: Path, run: Any) -> None:
    shown = schema_table(run("schema", SAMPLE).stdout)
    assert len(shown) == 12
    expressions = (part for name in shown for part in ("-e", f"{typed_sql(name)} AS {name}"))
    assert run("run", SAMPLE, "out.jsonl", "-q", "--summary", "s.json", *expressions).returncode == OK
    inferred = json.loads((here / "s.json").read_bytes())["schema"]
    assert {name: row["type"] for name, row in shown.items()} == {name: row["type"] for name, row in inferred.items()}


def test_schema_of_one_line_says_which_array_can_be_the_rows(here: Path, run: Any) -> None:
    (here / "in.json").write_bytes(lines('{"Records":[{"a":1}],"tags":["b"],"odd-name":[{"c":1}]}'))
    said = run("schema", "in.json").stdout.decode().splitlines()
    assert said[-2:] == [
        "1 line sampled (the whole input)",
        "--each Records makes the elements of `Records` the rows",
    ]
    assert "--each" not in run("schema", "in.json", "--each", "Records").stdout.decode()


def test_schema_looks_at_the_first_thousand_lines(run: Any) -> None:
    result = run("schema", "-", stdin=b'{"a":1}\n' * 1000 + b'{"a":"x","b":1}\n')
    assert schema_table(result.stdout) == {"a": {"type": "Int128", "present": "1,000", "integer": "1,000"}}
    assert "1,000 lines sampled (the first 1,000)" in result.stdout.decode()


@pytest.mark.parametrize("data", [b"", b"\n\n"], ids=repr)
def test_schema_of_nothing_has_no_rows(run: Any, data: bytes) -> None:
    result = run("schema", "-", stdin=data)
    assert (result.returncode, schema_table(result.stdout)) == (OK, {})
    assert "0 lines sampled (the whole input)" in result.stdout.decode()
