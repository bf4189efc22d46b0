"""The sample data are what their generator makes, and have the shape that the documentation and benchmark rely on."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

SAMPLE_DATA = Path(__file__).parents[1] / "sample_data"
SAMPLE = SAMPLE_DATA / "yelp_businesses.json"
MEMBER_TYPES: dict[str, tuple[type, ...]] = {
    "business_id": (str,),
    "name": (str,),
    "address": (str,),
    "city": (str,),
    "state": (str,),
    "postal_code": (str,),
    "latitude": (float,),
    "longitude": (float,),
    "stars": (float,),
    "review_count": (int,),
    "is_open": (int,),
    "categories": (str, type(None)),
}


def generate(*arguments: str | Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, SAMPLE_DATA / "generate.py", *arguments], capture_output=True, check=False, timeout=60
    )


def generated(*arguments: str | Path) -> bytes:
    result = generate(*arguments)
    assert (result.returncode, result.stderr) == (0, b"")
    return result.stdout


@pytest.fixture(scope="module")
def businesses() -> list[dict[str, Any]]:
    return [json.loads(line) for line in SAMPLE.read_bytes().splitlines()]


def test_generator_reproduces_the_committed_file(tmp_path: Path) -> None:
    expected = SAMPLE.read_bytes()
    assert expected.count(b"\n") == 200
    assert expected.endswith(b"}\n")
    assert generated() == expected
    assert generated("-") == expected
    assert generated(tmp_path / "out.json") == b""
    assert (tmp_path / "out.json").read_bytes() == expected


def test_each_line_has_the_members_in_order_and_of_their_types(businesses: list[dict[str, Any]]) -> None:
    for business in businesses:
        assert list(business) == list(MEMBER_TYPES)
        for member, types in MEMBER_TYPES.items():
            assert type(business[member]) in types, (member, business)


def test_values_are_in_range(businesses: list[dict[str, Any]]) -> None:
    for business in businesses:
        assert re.fullmatch(r"[A-Za-z0-9_-]{22}", business["business_id"])
        assert business["stars"] in {1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0}
        assert 5 <= business["review_count"] <= 9999
        assert business["is_open"] in {0, 1}
        assert -90 < business["latitude"] < 90
        assert -180 < business["longitude"] < 180


def test_values_vary(businesses: list[dict[str, Any]]) -> None:
    assert len({business["business_id"] for business in businesses}) == len(businesses)
    assert len({business["city"] for business in businesses}) >= 12
    assert len({business["stars"] for business in businesses}) == 9
    assert {business["is_open"] for business in businesses} == {0, 1}
    assert 0 < sum(business["categories"] is None for business in businesses) < 20
    names = "".join(business["name"] for business in businesses)
    assert {"é", "ü", "日"} <= set(names)
    assert any(ord(char) > 0xFFFF for char in names), "no emoji"
    assert '"' in names
    assert "\\" in names
    assert re.search(rb"\\u[0-9a-f]{4}", SAMPLE.read_bytes()), "no name written with escapes"


def test_lines_are_about_300_bytes() -> None:
    assert 280 < len(SAMPLE.read_bytes()) / 200 < 330


@pytest.fixture(scope="module")
def stream() -> bytes:
    return generated("--lines", "9000")


@pytest.mark.parametrize("lines", [0, 1, 3999, 4000, 4001])
def test_lines_option_is_exact(lines: int, stream: bytes) -> None:
    output = generated("--lines", str(lines))
    assert output.count(b"\n") == lines
    assert stream.count(b"\n") == 9000
    assert stream.startswith(output)


@pytest.mark.parametrize(
    ("option", "size"),
    [("0", 0), ("999", 999), ("5000B", 5000), ("20kB", 20_000), ("64KiB", 65_536), ("2.5MB", 2_500_000)],
)
def test_bytes_option_is_honoured_within_one_line(option: str, size: int, stream: bytes) -> None:
    output = generated("--bytes", option)
    assert stream.startswith(output)
    next_line = stream[len(output) : stream.index(b"\n", len(output)) + 1]
    assert len(output) <= size < len(output) + len(next_line)
    assert output[-1:] in {b"", b"\n"}


def test_ids_differ_and_values_change_from_block_to_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(SAMPLE_DATA.parent)
    from sample_data import generate as generator  # noqa: PLC0415 - importable once the path is set

    lines = b"".join(islice(generator.blocks(seed=1), 5)).splitlines()
    parsed = [json.loads(line) for line in lines]
    assert len(parsed) == 5 * generator.BLOCK_LINES
    assert len({business["business_id"] for business in parsed}) == len(parsed)
    first, second = parsed[: generator.BLOCK_LINES], parsed[generator.BLOCK_LINES : 2 * generator.BLOCK_LINES]
    assert [business["stars"] for business in first] != [business["stars"] for business in second]
    assert [business["review_count"] for business in first] != [business["review_count"] for business in second]


def test_seed_decides_the_bytes() -> None:
    assert generated("--seed", "7", "--lines", "50") == generated("--seed", "7", "--lines", "50")
    assert generated("--seed", "7", "--lines", "50") != generated("--seed", "8", "--lines", "50")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--bytes", "5XB"], b"'5XB' is not a size"),
        (["--bytes", "-1"], b"--bytes"),
        (["--lines", "many"], b"'many' is not a number of lines"),
        (["--lines", "-3"], b"'-3' is not a number of lines"),
        (["--seed", "x"], b"invalid int value: 'x'"),
        (["--lines", "3", "--bytes", "4"], b"not allowed with argument"),
        (["--bogus"], b"--bogus"),
    ],
)
def test_bad_option_exits_2_without_a_traceback(arguments: list[str], message: bytes) -> None:
    result = generate(*arguments)
    assert result.returncode == 2
    assert message in result.stderr
    assert b"Traceback" not in result.stderr
    assert result.stdout == b""


def test_unwritable_output_exits_1_without_a_traceback(tmp_path: Path) -> None:
    result = generate(tmp_path / "absent" / "out.json")
    assert result.returncode == 1
    assert b"cannot write" in result.stderr
    assert b"Traceback" not in result.stderr


def test_reader_that_has_enough_ends_it_quietly() -> None:
    with subprocess.Popen(
        [sys.executable, SAMPLE_DATA / "generate.py", "--bytes", "1GB"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith(b'{"business_id":"')
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=60) == 1


def test_help_names_the_options() -> None:
    text = generated("--help").decode()
    assert all(option in text for option in ("OUTPUT", "--lines", "--bytes", "--seed"))
