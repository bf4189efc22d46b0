"""Crews of fakes for the tests of the worker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support.crew import Site

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def make_site() -> Iterator[Callable[..., Site]]:
    """Make crews by their number of processes and settings; all are closed at the end of the test."""
    made: list[Site] = []

    def make(workers: int = 2, **settings: Any) -> Site:
        made.append(Site(workers, **settings))
        return made[-1]

    yield make
    for site in made:
        site.close()
