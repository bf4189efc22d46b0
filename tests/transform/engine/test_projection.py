"""Which members stay, after any sequence of `drop` and `select`."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transform import CalculationError
from transform.engine.projection import Projection

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


@pytest.mark.parametrize("name", [1, None, b"a", ["a"]])
def test_a_name_is_a_text(name: Any) -> None:
    for project_to in (Projection().dropping, Projection().selecting):
        with pytest.raises(CalculationError, match="expected the names of members, got "):
            project_to(["a", name])
