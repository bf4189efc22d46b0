"""The elements of lines are transformed in parts of any size, and nothing but the memory shows it."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.stops import numbers_of, stopped
from tests.support.tuned import Tuned
from transform import Calculation, LineFunction, RejectedError

if TYPE_CHECKING:
    from pathlib import Path

CALCULATION = Calculation.from_sql("a * 2 AS d", "a <> 3").with_schema({"a": "Int64"}).each("r", "m")
MEMBER = '"é' + "m" * 30 + '"'


def doubled(row: dict[str, Any]) -> dict[str, Any] | None:
    return None if row["a"] == 3 else {**row, "d": int.__mul__(row["a"], 2)}  # no text twice


@dataclass
class Expected:
    """What has to become of an input; made line by line, as the input is.

    Attributes:
        rejects: The offset, line, element and content of each row that is rejected.
        counts: The numbers of the summary.
    """

    content: bytes = b""
    output: bytes = b""
    rejects: list[tuple[int, int, int | None, str]] = field(default_factory=list)
    counts: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(
            ("lines_read", "lines_in", "lines_out", "filtered", "rejected", "blank", "bytes_in", "bytes_out"), 0
        )
    )

    def add_line(self, line: str) -> None:
        """Add a line without elements: a blank one, or one that is rejected."""
        offset = len(self.content)
        self.content += f"{line}\n".encode()
        self._count("lines_read", "blank" if line.isspace() else "rejected")
        if not line.isspace():
            self.rejects.append((offset, self.counts["lines_read"], None, line))

    def add(self, elements: list[str]) -> None:
        """Add a line with elements: the values of `a`, or what is no object."""
        self.counts["lines_read"] += 1
        line = f'{{"m":{MEMBER}, "r":['.encode()
        for number, value in enumerate(elements, 1):
            row = f'{{"m":{MEMBER},"a":{value}}}' if value not in ("[]", "7.5") else value
            if value == "3":
                self._count("filtered")
            elif value.isdigit():
                self._count("lines_out")
                self.output += f'{{"m":{MEMBER},"a":{value},"d":{2 * int(value)}}}\n'.encode()
            else:
                self._count("rejected")
                self.rejects.append((len(self.content) + len(line), self.counts["lines_read"], number, row))
            line += (f'{{"a":{value}}}' if row != value else value).encode() + b", " * (number < len(elements))
        self.content += line + b"]}\n"

    def _count(self, *names: str) -> None:
        for name in names:
            self.counts[name] += 1
        self.counts["lines_in"] += 1

    def whole(self) -> Expected:
        self.counts |= {"bytes_in": len(self.content), "bytes_out": len(self.output)}
        return self


@st.composite
def inputs(draw: st.DrawFn) -> Expected:
    made = Expected()
    made.add(["1"])  # so that not all lines are rejected
    for _ in range(draw(st.integers(0, 6))):
        if draw(st.integers(0, 3)):
            made.add(draw(st.lists(st.sampled_from(["1", "3", "5", "40", '"x"', "[]", "7.5"]), max_size=12)))
        else:
            made.add_line(draw(st.sampled_from([" ", "\t \r", "nope", '{"r":{}}', "[]"])))
    return made.whole()


def check(expected: Expected, calculation: Any, path: Path, **options: Any) -> None:
    source, target, rejects = path / "in", path / "out", path / "rejects"
    source.write_bytes(expected.content)
    summary = calculation.run(source, target, rejects=rejects, **options)
    assert target.read_bytes() == expected.output
    kept = [json.loads(line) for line in rejects.read_bytes().splitlines()] if rejects.exists() else []
    assert [(one["offset"], one["line"], one.get("element"), one["raw"]) for one in kept] == expected.rejects
    assert {name: getattr(summary, name) for name in expected.counts} == expected.counts


@given(expected=inputs(), part_bytes=st.integers(1, 200), workers=st.integers(1, 3))
def test_parts_of_any_size_give_what_the_rows_give(
    expected: Expected, part_bytes: int, workers: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("parts")
    check(expected, CALCULATION, path, chunk_bytes=part_bytes, range_bytes=part_bytes, workers=workers)


def long_line(count: int) -> Expected:
    made = Expected()
    made.add_line("nope")
    made.add(["1", "[]", "3", '"x"', "5"] * count)
    made.add_line(" ")
    made.add(["8"] * count)
    return made.whole()


@pytest.mark.parametrize("part_bytes", [1, 50, 1000, 1 << 20])
def test_processes_return_parts_one_after_the_other(part_bytes: int, tmp_path: Path) -> None:
    for calculation in (CALCULATION, LineFunction(doubled).each("r", "m")):
        tuned = Tuned(calculation, only_processes=True)
        check(long_line(40), tuned, tmp_path, chunk_bytes=part_bytes, workers=2)


def test_no_process_waits_for_its_turn_while_a_thread_waits_for_a_process(tmp_path: Path) -> None:
    """Of each line comes more than may wait, and each range has several chunks."""
    member, count = "m" * 10_000, 5000
    line = json.dumps({"m": member, "r": [{"a": 1}] * count}, separators=(",", ":")).encode() + b"\n"
    (tmp_path / "in").write_bytes(line * 8)
    calculation = Tuned(LineFunction(doubled).each("r", "m"), only_processes=True)
    options: Any = {"workers": 2, "chunk_bytes": len(line), "range_bytes": 2 * len(line)}
    summary = calculation.run(tmp_path / "in", tmp_path / "out", **options)
    assert summary.lines_out == 8 * count
    (tmp_path / "out").unlink()


@given(st.lists(st.lists(st.integers(0, 9), max_size=9), min_size=1, max_size=5), st.integers(1, 90))
def test_parts_of_any_size_of_json_texts(texts: list[list[int]], part_bytes: int) -> None:
    content = ",\n".join(json.dumps({"m": 1, "r": [{"a": one} for one in rows]}, indent=1) for rows in texts)
    calculation = CALCULATION.with_format("json")
    found = []
    for size in (part_bytes, 1 << 20):
        with calculation.stream(io.BytesIO(f"[{content}]".encode()), chunk_bytes=size, workers=1) as stream:
            output = b"".join(data for part in stream for data in part.output)
        found.append((output, numbers_of(stream.summary)))
    assert found[0] == found[1]
    wanted = [f'{{"m":1,"a": {one},"d":{2 * one}}}'.encode() for rows in texts for one in rows if one != 3]
    assert found[0][0].splitlines() == wanted


@given(
    expected=inputs(),
    part_bytes=st.integers(1, 200),
    stops=st.lists(st.integers(0, 9), max_size=3),
    workers=st.integers(1, 2),
)
def test_a_run_can_be_stopped_between_lines_whatever_the_parts(
    expected: Expected, part_bytes: int, stops: list[int], workers: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    source = tmp_path_factory.mktemp("stops") / "in"
    source.write_bytes(expected.content)
    sizes = {"chunk_bytes": part_bytes, "range_bytes": part_bytes}
    outcome = stopped(CALCULATION, source, stops, workers=workers, **sizes)
    assert outcome.output == expected.output
    assert outcome.numbers is not None
    assert {name: outcome.numbers[name] for name in expected.counts} == expected.counts
    places = [(one["line"], one.get("element")) for one in map(json.loads, outcome.rejects.splitlines())]
    assert places == [place[1:3] for place in expected.rejects]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_state_is_that_before_the_line_whose_parts_are_used(workers: int, tmp_path: Path) -> None:
    expected = long_line(20)
    ends = {0, *(at + 1 for at, byte in enumerate(expected.content) if byte == ord("\n"))}
    (tmp_path / "in").write_bytes(expected.content)
    resumable, within = 0, 0
    with CALCULATION.stream(tmp_path / "in", chunk_bytes=100, range_bytes=100, workers=workers) as stream:
        state = stream.state
        for part in stream:
            assert stream.state.summary.bytes_in in ends
            assert stream.state.summary.lines_in in (0, 1, 101, 102, 122)
            assert part.resumable or stream.state is state, "it does not change within a line"
            assert stream.summary.bytes_in >= stream.state.summary.bytes_in
            within += stream.summary.bytes_in > stream.state.summary.bytes_in
            resumable, state = resumable + part.resumable, stream.state
    assert resumable in (4, 3)
    assert within > 20, "what was read of a line is told"
    assert stream.state.summary.bytes_in == len(expected.content)


def test_a_column_may_widen_within_a_line(tmp_path: Path) -> None:
    rows = ",".join(f'{{"a":{number if number < 3000 else 0.5}}}' for number in range(3001))
    (tmp_path / "in").write_text(f'{{"r":[{rows}]}}\n')
    calculation = Calculation.from_sql("a * 2 AS d").each("r")
    calculation.run(tmp_path / "in", tmp_path / "out", chunk_bytes=1000, workers=2)
    assert (tmp_path / "out").read_bytes().splitlines()[1::2999] == [b'{"a":1,"d":2.0}', b'{"a":0.5,"d":1.0}']


@pytest.mark.parametrize("options", [{"on_error": "fail"}, {"max_rejects": 25}])
def test_too_many_rejects_within_a_line_fail_a_run_at_the_same_element(options: Any, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(long_line(20).content)
    messages = set()
    for size in (50, 1 << 20):
        with pytest.raises(RejectedError) as caught:
            CALCULATION.run(tmp_path / "in", tmp_path / "out", chunk_bytes=size, **options)
        messages.add((str(caught.value), (tmp_path / "out.rejects.jsonl").read_bytes()))
    assert len(messages) == 1
