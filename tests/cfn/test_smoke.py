"""What the test of a deployment uploads and expects."""

from __future__ import annotations

import pytest

from cfn.smoke import _new_key, _quoted
from transform import parse_names


@pytest.mark.parametrize("names", [["a"], ["a,b", "c"], ['say "hi"', " a "], [""], ["größe", "a.b"]])
def test_names_are_given_as_they_are(names: list[str]) -> None:
    assert parse_names(_quoted(names)) == names


@pytest.mark.parametrize(
    ("prefix", "suffix", "start", "end"),
    [
        ("", "", "smoke/", ".json"),
        ("raw/,landing/", ".jsonl,.gz", "raw/smoke/", ".jsonl"),
        ('"a,b/",c/', " .x ", "a,b/smoke/", ".x"),
    ],
)
def test_the_key_passes_the_filters_of_the_deployment(prefix: str, suffix: str, start: str, end: str) -> None:
    key = _new_key({"pInputPrefix": prefix, "pInputSuffix": suffix})
    assert key.startswith(start)
    assert key.endswith(end)
