"""The options that say what to compute mean what they say, or are refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Command

PERSON = b'{"id":1,"email":"a@example.org","phone":"5","v":2}\n'
NOTE = "no line that was kept has a member `{}` to {}."


def run(command: Command, directory: Path, content: bytes, *options: str) -> tuple[int, bytes | None, list[str], str]:
    """Run the command; return its exit status, the output, the notes, and what it printed."""
    (directory / "in.jsonl").write_bytes(content)
    result = command("run", "in.jsonl", "out.jsonl", *options, "--summary", "summary.json")
    output, summary = directory / "out.jsonl", directory / "summary.json"
    notes = json.loads(summary.read_bytes())["notes"] if summary.exists() else []
    return result.returncode, output.read_bytes() if output.exists() else None, notes, result.stderr.decode()


@pytest.mark.parametrize(
    ("options", "output", "notes"),
    [
        (["--drop", "email,phone"], b'{"id":1,"v":2}\n', []),
        (["--drop", " email , phone "], b'{"id":1,"v":2}\n', []),
        (["--drop", "email", "--drop", "phone,"], b'{"id":1,"v":2}\n', []),
        (["--drop", '"email"'], b'{"id":1,"phone":"5","v":2}\n', []),
        (["--drop", "Email"], PERSON, [NOTE.format("Email", "drop") + " Did you mean `email`?"]),
        (["--drop", '"""email"""'], PERSON, [NOTE.format('"email"', "drop") + " Did you mean `email`?"]),
        (
            ["--drop", '"email,phone"'],
            PERSON,
            [NOTE.format("email,phone", "drop") + " Did you mean `phone` or `email`?"],
        ),
        (["--select", "id,v"], b'{"id":1,"v":2}\n', []),
        (["--select", "id", "--select", "v"], b'{"id":1,"v":2}\n', []),
        (["--select", "ID"], b"{}\n", [NOTE.format("ID", "select") + " Did you mean `id`?"]),
        (["--select", "id,z", "-w", "v > 1"], b'{"id":1}\n', [NOTE.format("z", "select")]),
    ],
)
def test_names_are_lists_and_what_no_line_has_is_reported(
    tmp_path: Path, command: Command, options: list[str], output: bytes, notes: list[str]
) -> None:
    status, found, told, text = run(command, tmp_path, PERSON, *options)
    assert (status, found, told) == (0, output, notes)
    assert [line.removeprefix("note").strip() for line in text.splitlines() if line.startswith("note")] == notes


@pytest.mark.parametrize("option", ["--drop", "--select"])
@pytest.mark.parametrize("names", ['"email', 'e"mail', "", " , "])
def test_what_is_no_list_of_names_is_wrong_usage(tmp_path: Path, command: Command, option: str, names: str) -> None:
    status, output, _, text = run(command, tmp_path, PERSON, option, names)
    assert (status, output) == (2, None)
    assert f"Invalid value for {option}: expected names separated by commas" in text


def test_lines_that_rules_reject_are_kept_with_the_reason(tmp_path: Path, command: Command) -> None:
    content = b'{"v":-1}\n{"v":2}\n{"v":9}\n{"v":null}\n'
    status, output, _, text = run(
        command, tmp_path, content, "--reject", "v < 0: it's negative; v > 8", "--reject", "v=7"
    )
    assert (status, output) == (3, b'{"v":2}\n{"v":null}\n')
    records = map(json.loads, (tmp_path / "out.jsonl.rejects.jsonl").read_text().splitlines())
    reasons = ["it's negative", "rejected by the rule `v > 8`"]
    assert [(record["line"], record["reason"]) for record in records] == [*zip([1, 3], reasons, strict=True)]
    assert all(reason in text for reason in reasons)


@pytest.mark.parametrize("rules", ["", " ; ", "v < 0:", ": negative"])
def test_what_is_no_list_of_rules_is_wrong_usage(tmp_path: Path, command: Command, rules: str) -> None:
    status, output, _, text = run(command, tmp_path, PERSON, "--reject", rules)
    assert (status, output) == (2, None)
    assert "Invalid value for --reject: expected rules separated by `;`" in text


def test_a_comment_ends_with_its_expression(tmp_path: Path, command: Command) -> None:
    status, output, *_ = run(command, tmp_path, b'{"a":1,"c":2}\n', "-e", "a AS b --note", "-e", "c AS d")
    assert (status, output) == (0, b'{"a":1,"c":2,"b":1,"d":2}\n')


def test_what_is_not_closed_is_refused_with_the_expression(tmp_path: Path, command: Command) -> None:
    status, output, _, text = run(command, tmp_path, b'{"a":1}\n', "-e", "a AS b", "-e", "a AS c /* note")
    assert (status, output) == (1, None)
    assert text.startswith("transform: expression 2 of 2: ")
    assert "the comment that starts with `/* note` is not closed" in text


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["-e", "v AS w", "-w", "v > 1", "-w", "v < 3"], "--where: it can be given once, not as `v > 1` and `v < 3`"),
        (["-e", "v AS w", "-w", "v > 1", "--where", ""], "join the conditions with AND"),
        (["-c", "a.py", "-c", "b.py:other"], "--calculation: it can be given once, not as `a.py` and `b.py:other`"),
    ],
)
def test_an_option_that_can_be_given_once_is_refused_twice(
    command: Command, tmp_path: Path, options: list[str], said: str
) -> None:
    (tmp_path / "in.jsonl").write_bytes(b'{"v":2}\n')
    result = command("run", "in.jsonl", "out.jsonl", *options)
    assert (result.returncode, result.stdout) == (2, b"")
    assert said in " ".join(result.stderr.decode().split())
    assert not (tmp_path / "out.jsonl").exists()


def test_a_type_that_nothing_reads_is_a_note(command: Command, tmp_path: Path) -> None:
    options = ["-e", "stars AS b", "--schema", "stars=Int8", "--schema", "starz=Int8"]
    status, output, notes, printed = run(command, tmp_path, b'{"stars":1}\n', *options)
    said = "the schema declares `starz`, but no expression or filter reads it. Did you mean `stars`?"
    assert (status, output, notes) == (0, b'{"stars":1,"b":1}\n', [said])
    assert said in printed
    (tmp_path / "c.py").write_text(
        "from transform import Calculation\n"
        "calculation = Calculation.from_sql('stars AS b').with_schema({'starz': 'Int8'})\n"
    )
    result = command("check", "c.py", "in.jsonl")
    assert (result.returncode, f"problem: {said}" in result.stdout.decode()) == (3, True)


@pytest.mark.parametrize(
    ("option", "name"),
    [("output", "o" * 300), ("output", "d/" * 2500 + "o"), ("output", "o" * 246), ("--summary", "s" * 300)],
)
def test_a_name_that_the_file_system_does_not_take_is_refused_before_anything_is_read(
    command: Command, tmp_path: Path, option: str, name: str
) -> None:
    places = ["out.jsonl", option, name] if option != "output" else [name]
    result = command("run", "-", *places, "-e", "v AS w", stdin=b'{"v":2}\nno\n')
    if len(name) < 255:  # the name of its rejects would be too long, and is shortened
        assert (result.returncode, (tmp_path / name).exists()) == (3, True)
        return
    assert result.returncode == 1
    assert result.stderr.decode() == f"transform: {name}: file name too long\n"
    assert [*tmp_path.iterdir()] == []
