"""Names and values that are not shown as they are, or change what a terminal shows."""

from __future__ import annotations

import unicodedata

from hypothesis import strategies as st

TITLE = "\x1b]0;pwned\x07"
CLEAR = "\x1b[2J\x1b[H"
SPECIAL = (
    *("\x00", "\x07", "\b", "\t", "\n", "\v", "\f", "\r", "\x1b", "\x1c", "\x7f", "\x80", "\x85", "\x9b", "\x9d"),
    *("\u00ad", "\u061c", "\u200b", "\u200d", "\u200e", "\u2028", "\u2029", "\u202a", "\u202e", "\u2066", "\u2069"),
    *("\ufeff", "\ufff9", "\U000e0041", TITLE, CLEAR, "\r\n", "\ntransform: ", "[red]", "[/x]", "\\", '"', "é", "名"),
)
EVIL = f"a{TITLE}{CLEAR}\x9b2J\x7f\u202e\u2066\u2028\x85\r\nb[/x]"
NOT_SHOWN = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def special_texts(min_size: int = 0) -> st.SearchStrategy[str]:
    """Draw texts of such characters among ordinary ones; with no surrogates, which UTF-8 has not."""
    pieces = st.one_of(st.sampled_from(SPECIAL), st.text(max_size=3))
    return st.lists(pieces, min_size=min_size, max_size=5).map("".join)


def not_shown(text: str) -> set[str]:
    """Return the characters of an output that are not shown, apart from line breaks."""
    return {one for one in text if unicodedata.category(one) in NOT_SHOWN} - {"\n"}
