"""The ends of rows, and the elements of arrays, for every level of this machine and with tiny blocks."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from tests.support.kernels import exact
from tests.support.row_fuzz import check_elements, check_rows

if TYPE_CHECKING:
    from transform.native.binding import Kernel

TEXTS = 400


def test_rows_are_those_of_the_reference(kernels: list[Kernel]) -> None:
    for kernel in kernels:
        rng = random.Random(1)
        for _ in range(TEXTS):
            check_rows(rng, kernel, exact)


def test_elements_are_those_that_were_joined(kernels: list[Kernel]) -> None:
    for kernel in kernels:
        rng = random.Random(2)
        for _ in range(TEXTS):
            check_elements(rng, kernel, exact)
