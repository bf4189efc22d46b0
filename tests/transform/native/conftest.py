"""The kernel for every level of this machine, and with tiny blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.kernels import compile_with_gcc, levels
from transform.native.binding import load

if TYPE_CHECKING:
    from transform.native.binding import Kernel


@pytest.fixture(scope="session")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> list[Kernel]:
    """Give the kernel for every level, then with blocks of 8 and 16 bytes."""
    directory = tmp_path_factory.mktemp("kernels")
    found = levels()
    for block in (8, 16):
        library = directory / f"block{block}.so"
        compile_with_gcc(library, ["-O1", f"-DBLOCK={block}"])
        found.append(load(library, "v1"))
    return found
