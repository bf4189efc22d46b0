"""Sizes and durations mean the same in every command and setting, and each shows them in its own style."""

from __future__ import annotations

import re
from datetime import timedelta
from fractions import Fraction

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.errors import SettingsError
from runner.ops import options
from runner.setting_types import read_size
from runner.settings import Settings
from transform.sizes import (
    format_duration,
    format_estimate,
    format_exact_size,
    format_size,
    parse_duration,
    parse_size,
)

FACTORS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}

# Some of the digits, letters and spaces are not ASCII; the long s, the dotless i and the Kelvin sign match in any case.
numbers = st.one_of(
    st.integers(0, 10**17).map(str),
    st.decimals(0, 10**6, places=3).map(str),
    st.from_regex(r"[0-9]{13,17}(\.[0-9]{7,11})?", fullmatch=True),
    st.sampled_from(["", "-1", "1.", ".5", "1e3", "٣", "1.٣", "0", "0.0001", "1,000"]),
)
spaces = st.sampled_from(["", " ", "  ", "\t", "\u00a0", "\n"])
units = st.sampled_from(
    [*FACTORS, "K", "Ki", "kI", "MI", "GiB", "tb", "b", "B", "p", "i", "kk", "\u212a", "k\u0131", "k\u0130"]
)
texts = st.one_of(st.builds("".join, st.tuples(spaces, numbers, spaces, units, spaces)), st.text(max_size=6))


def expected_size(text: str, number: str, letters: str) -> int | None:
    """Return what a text means by the rules that the documentation has had from the beginning."""
    found = re.fullmatch(rf"({number})\s*([{letters}]i?)?b?", text.strip(), re.IGNORECASE)
    if found is None or (found[2] or "").lower() not in FACTORS:
        return None
    return int(Fraction(found[1]) * FACTORS[(found[2] or "").lower()])


@given(texts)
def test_any_text_is_a_size_of_the_command_or_refused(text: str) -> None:
    assert parse_size(text) == expected_size(text, r"\d+(?:\.\d+)?", "kmgt")


@given(texts)
def test_any_text_is_a_size_of_the_settings_or_refused(text: str) -> None:
    expected = expected_size(text, r"[0-9]{1,15}(?:\.[0-9]{1,9})?", "kmg")
    try:
        found = read_size(text)
    except ValueError:
        assert expected is None
        with pytest.raises(click.BadParameter):
            options.size(text)
    else:
        assert found == options.size(text) == expected


@pytest.mark.parametrize(
    "text", ["1t", "0.001TiB", "1234567890123456", "1.0123456789", "٣", "1k\u0131", "", "-1", "1 kk"]
)
def test_settings_refuse_what_the_command_may_accept(text: str) -> None:
    env = {
        "s3InputBucket": "incoming",
        "S3_OUTPUT_BUCKET": "outgoing",
        "SQSBatchQueue": "queue",
        "CALCULATION": "a AS b",
    }
    assert Settings.read({**env, "RANGE_BYTES": "0.0001 gb"}).range_bytes == 100_000
    if text:
        with pytest.raises(SettingsError, match=r"^RANGE_BYTES: found .*, expected a size such as 64KiB, 10MB or 5000"):
            Settings.read({**env, "RANGE_BYTES": text})
    with pytest.raises(ValueError, match=r"^$"):
        read_size(text)


@pytest.mark.parametrize(
    ("text", "size"), [("5000", 5000), ("64MiB", 64 << 20), ("1.5 GB", 1_500_000_000), ("2tb", 2 * 10**12)]
)
def test_sizes_are_read(text: str, size: int) -> None:
    assert parse_size(text) == size
    assert parse_size(format_size(size)) == pytest.approx(size, rel=0.05)


@pytest.mark.parametrize("text", ["9007199254740993", "0.29 GB", "4.35mb"])
def test_sizes_are_exact(text: str) -> None:
    assert parse_size(text) == expected_size(text, r"\d+(?:\.\d+)?", "kmgt")


@given(st.integers(0, 2**63))
def test_an_exact_size_is_read_back_and_in_the_largest_unit(size: int) -> None:
    for scaled in (size, size << 10, size << 20, size << 30):
        text = format_exact_size(scaled)
        assert parse_size(text) == scaled
    assert format_exact_size(3 << 31) == "6GiB"


@given(st.integers(0, 2**53) | st.integers(0, 10**7) | st.integers(0, 10**4).map(lambda tenths: tenths * 50_000))
def test_a_size_of_a_list_has_one_decimal(size: int) -> None:
    number, names = float(size), ["B", "kB", "MB", "GB", "TB"]
    while number >= 1000 and len(names) > 1:
        number, names = number / 1000, names[1:]
    assert format_size(size, fixed=True) == (f"{size} B" if names[0] == "B" else f"{number:.1f} {names[0]}")


@pytest.mark.parametrize(
    ("size", "text"),
    [
        *((0, "0 bytes"), (999, "999 bytes"), (1000, "1 kB"), (12_345_678, "12.3 MB"), (20_000_000, "20 MB")),
        *((999_999, "1e+03 kB"), (2_500_000_000, "2.5 GB"), (10**12, "1 TB"), (123.4, "123 bytes")),
    ],
)
def test_a_size_of_a_sentence_has_three_digits(size: float, text: str) -> None:
    assert format_size(size) == text


duration_texts = st.one_of(
    st.builds(
        "".join,
        st.tuples(
            spaces, st.integers(0, 10**6).map(str), spaces, st.sampled_from([*"smhdwSMHDWx", "", "\u017f", "min"])
        ),
    ),
    st.text(max_size=5),
)


@given(duration_texts)
def test_any_text_is_a_duration_or_refused(text: str) -> None:
    names = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
    found = re.fullmatch(r"([0-9]{1,5})\s*([smhdwSMHDW])", text.strip())
    if found is None:
        assert parse_duration(text) is None
        with pytest.raises(click.BadParameter, match="is not an age such as 90s, 30m, 12h, 2d or 1w"):
            options.age(text)
    else:
        assert options.age(text) == timedelta(**{names[found[2].lower()]: int(found[1])})


@given(st.floats(0, 10**9))
def test_a_duration_has_its_two_largest_units(seconds: float) -> None:
    text = format_duration(seconds)
    parts = re.findall(r"(\d+) (d|h|min|s)", text)
    size = {"d": 86400, "h": 3600, "min": 60, "s": 1}
    assert text == " ".join(f"{count} {unit}" for count, unit in parts)
    assert 1 <= len(parts) <= 2
    shown = sum(int(count) * size[unit] for count, unit in parts)
    left_out = round(seconds) - shown
    largest = parts[0][1]
    next_smaller = {"d": "h", "h": "min", "min": "s", "s": "s"}[largest]
    assert 0 <= left_out < size[next_smaller] or (left_out, next_smaller) == (0, "s")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *((0, "0 s"), (0.4, "0 s"), (59.6, "1 min"), (61, "1 min 1 s"), (3600, "1 h"), (3605, "1 h")),
        *((4000, "1 h 6 min"), (86400, "1 d"), (90_000, "1 d 1 h"), (200_000, "2 d 7 h")),
    ],
)
def test_durations_are_shown(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_estimates_are_shown() -> None:
    assert [format_estimate(s) for s in (0.123, 3, 59.7, 150, 7260, 360_000)] == [
        *("0.12 s", "3 s", "60 s", "2 min", "2 h 1 min", "100 h 0 min")
    ]
