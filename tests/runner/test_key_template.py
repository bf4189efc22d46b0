"""Templates of output keys: what their fields are for any key, and what is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.key_template import KeyTemplate, split_name

KEYS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40) | st.text("a./{}é\t0", min_size=1, max_size=20)
MOMENT = datetime(2026, 1, 31, 23, 59, 58, tzinfo=UTC)

PARTS = [
    ("raw/2026/day.jsonl", ("raw/2026/", "day.jsonl", "day", ".jsonl")),
    ("raw/day.jsonl.gz", ("raw/", "day.jsonl.gz", "day", ".jsonl.gz")),
    ("day.JSONL.GZ", ("", "day.JSONL.GZ", "day", ".JSONL.GZ")),
    ("day.2026.01.jsonl.zst", ("", "day.2026.01.jsonl.zst", "day.2026.01", ".jsonl.zst")),
    ("day.gz", ("", "day.gz", "day", ".gz")),
    ("day.gz.jsonl", ("", "day.gz.jsonl", "day.gz", ".jsonl")),
    ("a.b/day", ("a.b/", "day", "day", "")),
    ("/day.jsonl", ("/", "day.jsonl", "day", ".jsonl")),
    ("a/../day.jsonl", ("a/../", "day.jsonl", "day", ".jsonl")),
    ("..", ("", "..", "..", "")),
    ("a/..", ("a/", "..", "..", "")),
    (".hidden", ("", ".hidden", ".hidden", "")),
    (".hidden.jsonl", ("", ".hidden.jsonl", ".hidden", ".jsonl")),
    (".gz", ("", ".gz", ".gz", "")),
    ("day.", ("", "day.", "day.", "")),
    ("raw/", ("raw/", "", "", "")),
    ("größe/täg.jsonl", ("größe/", "täg.jsonl", "täg", ".jsonl")),
    ("{key}/{0}.jsonl", ("{key}/", "{0}.jsonl", "{0}", ".jsonl")),
]


def fill(template: str, key: str, bucket: str = "in", modified: datetime | None = None) -> str:
    return KeyTemplate.parse(template).fill(bucket, key, modified)


@pytest.mark.parametrize(("key", "parts"), PARTS)
def test_the_parts_of_a_key(key: str, parts: tuple[str, ...]) -> None:
    found = tuple(fill(f"{{{field}}}|{{key}}", key).split("|")[0] for field in ("dir", "name", "stem", "suffix"))
    assert found == parts


@given(KEYS)
def test_the_parts_make_up_any_key(key: str) -> None:
    assert fill("{key}", key) == fill("{dir}{name}", key) == fill("{dir}{stem}{suffix}", key) == key
    name = key.rpartition("/")[2]
    stem, suffix = split_name(name)
    assert stem + suffix == name
    assert bool(stem) == bool(name)
    assert suffix == "" or (suffix[0] == "." and len(suffix) > 1)


@given(KEYS, KEYS)
def test_keys_differ_if_all_of_the_key_is_in_them(one: str, two: str) -> None:
    for template in ("x-{bucket}/{key}.jsonl", "{dir}new-{name}", "{{{dir}}}{stem}{suffix}"):
        assert (fill(template, one) == fill(template, two)) == (one == two)


def test_texts_and_fields() -> None:
    assert fill("{dir}{stem}.scored.jsonl.zst", "raw/day.jsonl.gz") == "raw/day.scored.jsonl.zst"
    assert fill("{bucket}/{key}", "a/b", "ours") == "ours/a/b"
    assert fill("{{{name}}}", "a/b") == "{b}"


def test_a_date_is_in_utc() -> None:
    assert fill("{date:%Y/%m/%d}/{name}", "a/b", modified=MOMENT) == "2026/01/31/b"
    elsewhere = MOMENT.astimezone(timezone(timedelta(hours=9)))
    assert fill("{date:%Y%m%dT%H%M%S%%}{name}", "b", modified=elsewhere) == "20260131T235958%b"
    assert KeyTemplate.parse("{date:%Y}{key}").has_date
    assert not KeyTemplate.parse("{{date}}{key}").has_date
    with pytest.raises(ValueError, match="needs the time"):
        fill("{date:%Y}{key}", "a")


DATE = r"expected a date such as \{date:%Y/%m/%d\}"


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{keys}", r"expected only the fields \{bucket\}, .* not \{keys\}"),
        ("{}{key}", r"not \{\}"),
        ("{key[0]}", r"not \{key\[0\]\}"),
        ("{key.x}", r"not \{key.x\}"),
        ("{key", "expected braces in pairs"),
        ("key}", "expected braces in pairs"),
        ("{key!r}", r"expected \{key\} without !r"),
        ("{key:>9}", r"expected \{key\} without a format"),
        ("{date}/{key}", DATE),
        ("{date:x}/{key}", DATE),
        ("{date:%%}/{key}", DATE),
        ("{date:%}/{key}", DATE),
        ("{date:%A}/{key}", DATE),  # depends on the locale
        ("{date:%-d}/{key}", DATE),  # on the C library
        ("{date:%f}/{key}", DATE),  # S3 has whole seconds
        ("{date:%Y{key}}/{key}", DATE),
        ("out.jsonl", "expected one of"),
        ("{bucket}/{date:%Y}{suffix}", "expected one of"),
        ("/{key}", "expected no `/` at the start"),
        ("\udc80{key}", "expected text in UTF-8"),
    ],
)
def test_what_is_refused(template: str, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        KeyTemplate.parse(template)


@given(st.text("{}:%Ykeyname!/.d", max_size=20))
def test_any_text_is_a_template_or_refused(text: str) -> None:
    try:
        template = KeyTemplate.parse(text)
    except ValueError as error:
        told = str(error)
    else:
        told = "expected "
        assert template.fill("in", "a.b", MOMENT).startswith(template.start)
    assert told.startswith("expected ")
