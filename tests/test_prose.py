"""Phrases that make readers stumble are found wherever people read, and nothing else is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conftest import ROOT
from tests.prose import FILES, check, find

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("Print it.\nTell it as JSON.", "Tell it as"),
        ("\nRun the worker on an AWS of its own.", "an AWS of"),
        ("\nLetters that nobody wants are removed.", "nobody"),
        ("\nWhoever parses the lines", "Whoever"),
        ("\nThe output that stands stays.", "stands"),
        ("\nThe key, None if there is none.", "is none"),
        ("\nThey are put aside.", "put aside"),
        ("\n# Each job goes on\n    # with its checkpoint.", "goes on # with"),
        ("\n// Each but\n// for the last.", "but // for"),
        ('\n    "Each is "\n    f"told {name}"', 'is " f"told'),
    ],
)
def test_phrase_is_found_with_its_line(text: str, phrase: str) -> None:
    assert [(line, found) for line, found, _ in find(text)] == [(2, phrase)]


@pytest.mark.parametrize(
    "text",
    [
        "if value is None and there are none of these",
        "Types are told apart by their names; `?` stands for one character.",
        "We recommend that nothing will do more than butter for stars.",
        "line by-stands: well-known",
    ],
)
def test_plain_text_is_left_alone(text: str) -> None:
    assert list(find(text)) == []


def test_files_are_named_with_what_to_write(tmp_path: Path) -> None:
    for name in ("README.md", "docs/a.md", "transform/io/b.py", "tests/c.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("# Plain.\n# Written anew.\n")
    assert list(check(tmp_path)) == [
        f"{name}:2: `anew`; write instead: again" for name in ("README.md", "docs/a.md", "transform/io/b.py")
    ]


@pytest.mark.parametrize("pattern", FILES)
def test_pattern_of_files_has_some(pattern: str) -> None:
    assert any(ROOT.glob(pattern))
