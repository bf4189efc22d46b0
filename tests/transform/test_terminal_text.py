"""Nothing is left that a terminal does not show as it is, and what it shows stays."""

from __future__ import annotations

import json
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.terminal_texts import EVIL, NOT_SHOWN, not_shown, special_texts
from transform import printable, printable_json


def test_every_character_is_shown_or_escaped() -> None:
    kinds = [(one, unicodedata.category(one)) for one in map(chr, range(sys.maxunicode + 1))]
    hidden = "".join(one for one, kind in kinds if kind in NOT_SHOWN)
    made = printable(hidden)
    assert made.isascii()
    assert made.isprintable()
    assert made.count("\\") == len(hidden)
    shown = "".join(one for one, kind in kinds if kind not in NOT_SHOWN | {"Cn", "Co"})
    assert printable(shown) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("in/a b+c é 名 😀 \u3000\xa0\\x1b", "in/a b+c é 名 😀 \u3000\xa0\\x1b"),
        ("\x1b[2J\x07\x7f\x9b", r"\x1b[2J\x07\x7f\x9b"),
        ("a\r\n\tb\u2028", r"a\r\n\tb\u2028"),
        ("\u202e\u2066\U000e0041\ud800", r"\u202e\u2066\U000e0041\ud800"),
    ],
)
def test_escapes_are_those_of_python(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(special_texts())
def test_only_what_is_to_be_kept_is_left(text: str) -> None:
    assert not_shown(printable(text)) == set()
    assert "\n" not in printable(text)
    assert printable(text, keep="\n").split("\n") == [printable(line) for line in text.split("\n")]
    assert printable(printable(text)) == printable(text)


@given(st.dictionaries(special_texts(), special_texts() | st.sampled_from(["\ud800", EVIL])))
def test_json_means_the_same(plain: dict[str, str]) -> None:
    for text in (json.dumps(plain), json.dumps(plain, ensure_ascii=False), json.dumps(plain, indent=2)):
        made = printable_json(text)
        assert json.loads(made) == plain
        assert not_shown(made) == set()
        assert made.count("\n") == text.count("\n")
