"""Makes the inputs of the benchmark, in a folder that is removed afterwards."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "sample_data" / "yelp_businesses.json"
RAM_DISK = Path("/dev/shm")
SPARE_MEMORY_BYTES = 2 * 10**9  # a RAM disk must leave the processes room to run
NEIGHBOUR_BYTES = 64_000_000  # so that a long line comes in the middle of ordinary work


class NoRoomError(Exception):
    """Neither the RAM disk nor the temporary folder has room for the data."""


@contextmanager
def scratch(need_bytes: int) -> Iterator[Path]:
    """Yield a folder with so much room, on the RAM disk where it has it; removed afterwards, come what may."""
    parent = RAM_DISK if ram_disk_room() >= need_bytes else Path(tempfile.gettempdir())
    free = shutil.disk_usage(parent).free
    if free < need_bytes:
        raise NoRoomError(f"needs {need_bytes / 1e9:.1f} GB; {RAM_DISK} has less, and {parent} has {free / 1e9:.1f} GB")
    with tempfile.TemporaryDirectory(prefix="transform-bench-", dir=parent) as folder:
        yield Path(folder)


def ram_disk_room() -> int:
    """Return how many bytes may be put on the RAM disk."""
    if not RAM_DISK.is_dir():
        return 0
    return min(shutil.disk_usage(RAM_DISK).free, int(psutil.virtual_memory().available) - SPARE_MEMORY_BYTES)


@contextmanager
def output_in(folder: Path) -> Iterator[Path]:
    """Yield the path of an output; whatever a run leaves beside it goes too, before the next one needs the room."""
    with tempfile.TemporaryDirectory(prefix="output-", dir=folder) as output:
        yield Path(output, "out.jsonl")


@contextmanager
def lines_in(folder: Path, size: int) -> Iterator[Path]:
    """Yield a file of so many bytes of lines."""
    path = folder / f"{size}.jsonl"
    subprocess.run([sys.executable, ROOT / "sample_data" / "generate.py", path, "--bytes", str(size)], check=True)
    yield path
    path.unlink()


@contextmanager
def long_line_in(folder: Path, size: int) -> Iterator[Path]:
    """Yield a file with one line of so many bytes between ordinary ones."""
    path = folder / "long.jsonl"
    with lines_in(folder, NEIGHBOUR_BYTES) as neighbours, path.open("wb") as file:
        ordinary = neighbours.read_bytes()
        head, tail = b'{"business_id":"long","name":"', b'","stars":4.0,"review_count":10}\n'
        file.writelines((ordinary, head, b"x" * (size - len(head) - len(tail)), tail, ordinary))
    yield path
    path.unlink()
