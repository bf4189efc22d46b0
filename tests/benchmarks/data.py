"""Makes the inputs of the benchmark, in a folder that is removed afterwards."""

from __future__ import annotations

import itertools
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import msgspec
import psutil

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "sample_data" / "yelp_businesses.json"
RAM_DISK = Path("/dev/shm")
SPARE_MEMORY_BYTES = 2 * 10**9  # a RAM disk must leave the processes room to run
DAMAGED_EVERY_BYTES = 4 * 2**20  # as much as ours reads at a time
ELEMENTS = 50  # of each array
NEIGHBOUR_BYTES = 64_000_000  # so that a long line comes in the middle of ordinary work


class NoRoomError(Exception):
    """Neither the RAM disk nor the temporary folder has room for the data."""


@contextmanager
def scratch(need_bytes: float) -> Iterator[Path]:
    """Yield a folder with so much room, on the RAM disk where it has it; removed afterwards, come what may."""
    parent = RAM_DISK if ram_disk_room() >= need_bytes else Path(tempfile.gettempdir())
    free = shutil.disk_usage(parent).free
    if free < need_bytes:
        has = f"{RAM_DISK} has less, and {parent} has {free / 1e9:.1f} GB"
        raise NoRoomError(f"needs {need_bytes / 1e9:.1f} GB; {has}: ask for smaller inputs, see --help")
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


def touch_memory(folder: Path, size: int) -> None:
    """Have so much memory ready for who comes next: a virtual machine gets it page by page when it is first written to.

    That takes longer than what is to be measured, and hits at random.
    """
    if folder.is_relative_to(RAM_DISK):
        path = folder / "touched"
        block = bytes(16 << 20)
        with path.open("wb") as file:
            for _ in range(size // len(block)):
                file.write(block)
        path.unlink()


@contextmanager
def lines_in(folder: Path, size: int) -> Iterator[Path]:
    """Yield a file of so many bytes of lines."""
    path = folder / f"{size}.jsonl"
    subprocess.run([sys.executable, ROOT / "sample_data" / "generate.py", path, "--bytes", str(size)], check=True)
    yield path
    path.unlink()


@contextmanager
def copy_of(source: Path, form: str) -> Iterator[Path]:
    """Yield a copy of lines in another form; see `FORMS`."""
    path = source.with_name(f"{form}.jsonl")
    with source.open("rb") as lines, path.open("wb") as copy:
        FORMS[form](lines, copy)
    yield path
    path.unlink()


def _damage(lines: BinaryIO, copy: BinaryIO) -> None:
    while block := lines.read(DAMAGED_EVERY_BYTES):
        half = len(block) // 2  # not at the edge, where the line might belong to the chunk before
        copy.writelines((block[:half], block[half:].replace(b',"city":', b' "city":', 1)))


def _indent(lines: BinaryIO, copy: BinaryIO) -> None:
    copy.writelines(msgspec.json.format(line, indent=2) + b"\n" for line in lines)


def _collect(lines: BinaryIO, copy: BinaryIO) -> None:
    while some := [line.rstrip(b"\n") for line in itertools.islice(lines, ELEMENTS)]:
        copy.writelines((b'{"Records":[', b",".join(some), b"]}\n"))


FORMS: dict[str, Callable[[BinaryIO, BinaryIO], None]] = {"damaged": _damage, "indented": _indent, "records": _collect}
"""What writes copies of lines by their form.

`damaged`: a comma is missing in one line of every 4 MiB; the line still starts with a brace and ends with one, so that
only who reads its members finds out. `indented`: each line is indented by two. `records`: each line has many of them,
in an array as CloudTrail writes it.
"""


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
