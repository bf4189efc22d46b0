"""The kernel for every level of this machine, and with tiny blocks."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

import pytest

from tests.support.kernels import levels
from transform.native.binding import load
from transform.native.compiling import compile_library

if TYPE_CHECKING:
    from transform.native.binding import Kernel


@pytest.fixture(scope="session")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> list[Kernel]:
    """Give the kernel for every level, then with blocks of 8 bytes, so that whatever may be at an edge is."""
    found = levels()
    if importlib.util.find_spec("ziglang") is not None:  # the compiler
        library = tmp_path_factory.mktemp("kernels") / "block8.so"
        compile_library(library, defines=["BLOCK=8"], options=["-O1"])
        found.append(load(library, ""))
    return found
