"""`transform new` makes files that work as they are, of whatever data, and overwrites nothing."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import environment_with
from tests.support.trial import lines
from transform.cli.scaffold import scaffold

if TYPE_CHECKING:
    from tests.conftest import Command

ROOT = Path(__file__).parents[3]
OK, FAILED, USAGE = 0, 1, 2


def passes(directory: Path) -> str:
    """Run the tests that were made, and return how they fare."""
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", directory],
        cwd=directory, env=environment_with({}), capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip
    assert result.returncode == OK, result.stdout
    return result.stdout


def made(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir() if path.is_file())


def test_it_works_without_any_data(tmp_path: Path, command: Command) -> None:
    result = command("new", "reviews")
    assert (result.returncode, result.stderr) == (OK, b"")
    assert made(tmp_path) == ["reviews.py", "reviews.sample.jsonl", "test_reviews.py"]
    assert "1 passed" in passes(tmp_path)
    # What it says comes next does.
    follow = result.stdout.decode().splitlines()[-1].removeprefix("Next: transform ").split()
    assert b"review_score" in command(*follow).stdout
    assert command("check", "reviews.py", "reviews.sample.jsonl").returncode == OK


def test_its_test_fails_for_another_calculation(tmp_path: Path, command: Command) -> None:
    command("new", "reviews")
    text = (tmp_path / "reviews.py").read_text()
    (tmp_path / "reviews.py").write_text(text.replace("*", "+"))
    with pytest.raises(AssertionError, match="1 failed"):
        passes(tmp_path)


def test_invented_sample_is_the_start_of_ours() -> None:
    ours = (ROOT / "sample_data" / "yelp_businesses.json").read_bytes().splitlines()
    assert (ROOT / "transform" / "data" / "businesses.jsonl").read_bytes().splitlines() == ours[:20]


DATA = {
    "numbers": lines('{"id":"x","n":1}', '{"id":"y","n":2.5}'),
    "gaps": lines('{"n":1}', '{"n":null}', "{}"),
    "texts": lines('{"t":"é"}', '{"t":""}'),
    "flags": lines('{"f":true}', '{"f":false}'),
    "lists": lines('{"l":[1]}', '{"l":[]}'),
    "objects": lines('{"o":{"x":1}}', '{"p":2,"o":null}'),
    "mixed": lines('{"m":1}', '{"m":"x"}'),
    "nulls": lines('{"m":null}'),
    "empty": lines("{}"),
    "names": lines('{"a \\"b\\\\":1}', '{"class":2,"a \\"b\\\\":2}'),
    "taken": lines('{"n":1,"n_doubled":2,"n_doubled_new":3}'),
    "surrogates": lines('{"s":"\\ud83d"}'),
}


def test_it_works_with_any_data(tmp_path: Path) -> None:
    for name, content in DATA.items():
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data" / f"{name}.jsonl").write_bytes(content)
        scaffold(tmp_path / f"made_{name}", tmp_path / "data" / f"{name}.jsonl")
        assert (tmp_path / f"made_{name}.sample.jsonl").read_bytes() == content
    assert f"{len(DATA)} passed" in passes(tmp_path)


def test_first_lines_are_drawn_and_bad_ones_left_out(tmp_path: Path, command: Command) -> None:
    content = lines("nope", '{"a":1}', "", "[1]", '{"a":2}\r', *(json.dumps({"a": n}) for n in range(3, 300)))
    (tmp_path / "in.jsonl.gz").write_bytes(gzip.compress(content))
    result = command("new", "drawn", "--from", "in.jsonl.gz", "--lines", "5")
    assert b"has 5 lines to try it on; 2 that are no JSON objects were left out\n" in result.stdout
    drawn = (tmp_path / "drawn.sample.jsonl").read_bytes().splitlines()
    assert [json.loads(line)["a"] for line in drawn] == [1, 2, 3, 4, 5]
    command("new", "more.py", "--from", "in.jsonl.gz")
    assert (tmp_path / "more.sample.jsonl").read_bytes().count(b"\n") == 100
    passes(tmp_path)


@pytest.mark.parametrize("there", ["a.py", "test_a.py", "a.sample.jsonl"])
def test_nothing_is_overwritten(tmp_path: Path, command: Command, there: str) -> None:
    (tmp_path / there).write_text("mine")
    result = command("new", "a")
    assert (result.returncode, result.stdout) == (FAILED, b"")
    assert result.stderr.decode().startswith(f"transform: {there} already exists, and is not overwritten")
    assert (made(tmp_path), (tmp_path / there).read_text()) == ([there], "mine")


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["json"], USAGE, "`json`: another module has that name; take one such as review_scores"),
        (["class"], USAGE, "`class`: a Python module cannot have that name"),
        (["a-b"], USAGE, "Invalid value for NAME: `a-b`: a Python module cannot have that name"),
        (["a", "--from", "none.jsonl"], FAILED, "none.jsonl: no such file"),
        (["a", "--from", "bad.jsonl"], FAILED, "bad.jsonl: there is no line that is a JSON object"),
        (["nowhere/a"], FAILED, "nowhere/a.sample.jsonl: there is no directory nowhere"),
    ],
)
def test_what_cannot_be_made_is_told(
    tmp_path: Path, command: Command, arguments: list[str], status: int, message: str
) -> None:
    (tmp_path / "bad.jsonl").write_bytes(b"nope\n")
    result = command("new", *arguments)
    assert (result.returncode, message in result.stderr.decode()) == (status, True), result.stderr
    assert made(tmp_path) == ["bad.jsonl"]


@pytest.mark.parametrize(
    ("content", "options", "array"),
    [
        ('{"R":[{"a":"x","n":1.50},3,{"a":"yy"}],"id":1}\n{"R":null}\n{"R":[{"a":"z"}]}\n', "", "R"),
        ('{\n "h": {"i": [\n  {"a": "x"},\n  {"a": "yy"}]}}\n{"h":{"i":[{"a":"z"}]}}', "--format json", "h.i"),
    ],
)
def test_elements_of_an_array_are_the_rows(
    tmp_path: Path, command: Command, content: str, options: str, array: str
) -> None:
    (tmp_path / "in.json").write_text(content)
    result = command("new", "trail", "--from", "in.json", "--each", array, *options.split())
    assert (result.returncode, result.stderr) == (OK, b"")
    assert b"has 3 rows to try it on" in result.stdout
    assert f'.each("{array}")' in (tmp_path / "trail.py").read_text()
    assert "1 passed" in passes(tmp_path)
    assert command("check", "trail.py", "trail.sample.jsonl").returncode == OK


def test_sample_has_no_more_elements_than_asked_for(tmp_path: Path, command: Command) -> None:
    (tmp_path / "in.json").write_bytes(lines('{"id":1.0,"Records":[{"a":1},{"a":2}]}', '{"Records":[{"a":3},{"a":4}]}'))
    assert command("new", "trail", "--from", "in.json", "--each", "Records", "-n", "3").returncode == OK
    sample = (tmp_path / "trail.sample.jsonl").read_bytes()
    assert sample == lines('{"id":1.0,"Records":[{"a":1},{"a":2}]}', '{"Records":[{"a":3}]}')


def test_lines_with_lone_surrogates_are_not_in_the_sample_of_elements(tmp_path: Path, command: Command) -> None:
    (tmp_path / "in.json").write_bytes(lines(r'{"x":"\ud83d","Records":[{"a":1}]}', '{"Records":[{"a":3}]}'))
    result = command("new", "trail", "--from", "in.json", "--each", "Records")
    assert (result.returncode, b"has 1 row to try it on" in result.stdout) == (OK, True)
    assert (tmp_path / "trail.sample.jsonl").read_bytes() == lines('{"Records":[{"a":3}]}')


def test_array_that_no_line_has_is_an_error(tmp_path: Path, command: Command) -> None:
    (tmp_path / "in.json").write_bytes(lines('{"Records":[1]}', '{"Records":{"a":1}}', '{"b":1}'))
    result = command("new", "trail", "--from", "in.json", "--each", "Records")
    assert (result.returncode, made(tmp_path)) == (FAILED, ["in.json"])
    assert result.stderr == b"transform: in.json: no line has an array `Records` with an object in it\n"
    assert b"for --from or --each: --each needs --from" in command("new", "trail", "--each", "Records").stderr
