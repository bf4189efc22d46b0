"""The compiled kernel for every level of this machine, and buffers that show what it reads."""

from __future__ import annotations

import ctypes
import itertools
import mmap
import os
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from transform.errors import TransformError
from transform.native import binding, powers
from transform.native.binding import Kernel, load
from transform.native.wanted import SLACK

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

SOURCES = Path(binding.__file__).parent
LEVELS = ("v4", "v3", "v1", "neon")
GARBAGE = b'"\\\n0123456789eE.+-,:{}[] \t\rtruefalsn\xc3\xa9\xed\xf0\xff\x00'


def levels(library: Path | None = None) -> list[Kernel]:
    """Return the functions of a library for each level that this machine has."""
    found = []
    for level in LEVELS:
        try:
            found.append(load(level=level) if library is None else load(library, level))
        except TransformError:
            continue
    return found


def write_powers(directory: Path) -> None:
    """Write the header that the kernel includes."""
    (directory / "powers.h").write_text(powers.header())


def compile_with_gcc(output: Path, options: Sequence[str] = (), level: str = "v1") -> None:
    """Compile a library that has the kernel for one level."""
    with tempfile.TemporaryDirectory() as directory:
        write_powers(Path(directory))
        sources = [str(SOURCES / name) for name in ("kernel.c", "cpu.c")]
        command = ["gcc", "-std=c11", "-Wall", "-Wextra", "-Werror", "-Wno-psabi", "-fPIC", "-shared", *options]
        command += [f"-I{directory}", f"-DLEVEL=_{level}", *sources, "-o", str(output)]
        subprocess.run(command, check=True)


class Guarded:
    """A buffer that ends where the memory of the process ends: to read one byte more than the slack is a crash.

    Args:
        size: How much data it has room for.
    """

    def __init__(self, size: int) -> None:
        pages = -(-(size + SLACK) // mmap.PAGESIZE)
        self._end = pages * mmap.PAGESIZE
        self._memory = mmap.mmap(-1, self._end + mmap.PAGESIZE)
        address = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mprotect(ctypes.c_void_p(address + self._end), ctypes.c_size_t(mmap.PAGESIZE), 0):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    def put(self, data: bytes, behind: bytes) -> memoryview:
        """Return a view of the data, with other bytes, repeated, in the slack behind it."""
        start = self._end - SLACK - len(data)
        if start < 0:
            raise ValueError(f"no room for {len(data)} bytes")
        self._memory[start : self._end] = data + bytes(itertools.islice(itertools.cycle(behind), SLACK))
        return memoryview(self._memory)[start : start + len(data)]


def garbage(rng: random.Random) -> bytes:
    """Return bytes to put behind data: such as would change the result if they were taken for data."""
    if rng.random() < 0.5:
        return bytes([rng.choice(GARBAGE)])
    return bytes(rng.choices(GARBAGE, k=SLACK))


def exact(data: bytes, behind: bytes) -> memoryview:
    """Return a view of the data in memory of its own that has the slack behind it and no more, for ASan to watch."""
    memory = np.empty(len(data) + SLACK, np.uint8)
    memory[: len(data)] = np.frombuffer(data, np.uint8)
    memory[len(data) :] = np.resize(np.frombuffer(behind, np.uint8), SLACK)
    return memoryview(memory)[: len(data)]  # type: ignore[arg-type]
