"""Which members stay, after any sequence of `drop` and `select`."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from transform import CalculationError, parse_names
from transform.engine.projection import Projection
from transform.errors import OptionError

NAMES = "abc"
steps = st.lists(st.tuples(st.booleans(), st.sets(st.sampled_from(NAMES))), max_size=4)


def project(taken: list[tuple[bool, set[str]]]) -> Projection:
    projection = Projection()
    for selects, names in taken:
        projection = projection.selecting(names) if selects else projection.dropping(names)
    return projection


@given(taken=steps)
def test_a_member_stays_that_no_step_removes(taken: list[tuple[bool, set[str]]]) -> None:
    projection = project(taken)
    for name in NAMES:
        assert projection.keeps(name) == all((name in names) == selects for selects, names in taken)
    assert bool(projection) == any(selects or names for selects, names in taken)


@given(taken=steps, others=steps)
def test_equal_ones_and_only_those_have_the_same_text(
    taken: list[tuple[bool, set[str]]], others: list[tuple[bool, set[str]]]
) -> None:
    one, other = project(taken), project(others)
    assert (one.describe() == other.describe()) == (one == other)


def test_the_text_is_part_of_digests_and_stays_what_it_is() -> None:
    assert Projection().describe() == "drop [], select None"
    assert Projection().dropping(["b", "a"]).selecting(["c", "d"]).selecting(["d", "e"]).describe() == (
        "drop ['a', 'b'], select ['d']"
    )


def quoted(name: str) -> str:
    """Return a name in double quotes, as an identifier of SQL."""
    return '"' + name.replace('"', '""') + '"'


spaces = st.text(" \t\n\r\u2003", max_size=2)
odd_names = st.text(st.sampled_from("a ,\"\t'") | st.characters(codec="utf-8"), max_size=5)


@st.composite
def listed(draw: st.DrawFn) -> tuple[str, list[str]]:
    """Draw a list of names as users write it, and the names."""
    items, found = [], []
    for name in draw(st.lists(odd_names, min_size=1, max_size=5)):
        bare = name and name == name.strip() and not {",", '"'} & set(name)
        text = name if bare and draw(st.booleans()) else quoted(name)
        items += [""] * draw(st.integers(0, 1)) + [draw(spaces) + text + draw(spaces)]
        found.append(name)
    return ",".join(items) + draw(st.sampled_from(["", ",", " , "])), found


@given(given_list=listed())
@example(given_list=('"a""b", """" ,"""","",x y', ['a"b', '"', '"', "", "x y"]))
def test_a_list_of_any_names_is_read_as_it_was_written(given_list: tuple[str, list[str]]) -> None:
    text, expected = given_list
    assert parse_names(text) == expected


@given(text=st.text('a," ', max_size=12))
def test_a_list_is_refused_or_means_one_thing(text: str) -> None:
    try:
        names = parse_names(text)
    except OptionError:
        names = []
    if '"' not in text:
        assert names == [name.strip() for name in text.split(",") if name.strip()]
    if names:
        assert parse_names(",".join(map(quoted, names))) == names


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ('"a', "; the quote at character 1 does not fit"),
        ('a, "b', "; the quote at character 4 does not fit"),
        ('a"b', "; the quote at character 2 does not fit"),
        ('"a"b', "; the quote at character 1 does not fit"),
        ('"a" "b"', "; the quote at character 1 does not fit"),
        ("", ", and at least one"),
        (" , ,", ", and at least one"),
    ],
)
def test_what_is_no_list_of_names_is_refused_with_the_place(text: str, end: str) -> None:
    with pytest.raises(OptionError) as caught:
        parse_names(text)
    assert str(caught.value).endswith(end)


def test_a_long_list_that_is_wrong_at_its_end_is_refused_at_once() -> None:
    for text in (" " * 2_000_000 + '"', '"' * 200_001, '""' * 100_000 + "a", "a," * 100_000 + 'a"'):
        with pytest.raises(OptionError):
            parse_names(text)


def test_a_name_that_no_json_text_has_is_refused() -> None:
    with pytest.raises(CalculationError, match="which is not valid Unicode"):
        Projection().dropping(["a", "\udcff"])


@pytest.mark.parametrize("name", [1, None, b"a", ["a"]])
def test_a_name_is_a_text(name: Any) -> None:
    for project_to in (Projection().dropping, Projection().selecting):
        with pytest.raises(CalculationError, match="expected the names of members, got "):
            project_to(["a", name])
