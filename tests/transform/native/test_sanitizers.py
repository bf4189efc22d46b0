"""The kernel under the sanitizers of gcc, and for ARM64 in an emulator."""

from __future__ import annotations

import importlib.util
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.support.hostile import Lines
from tests.support.kernels import SOURCES, compile_with_gcc, write_powers
from transform.native.binding import MISSING, Column, Kind, Status, emit, scan, strings
from transform.native.wanted import SLACK, Wanted, Way

if TYPE_CHECKING:
    import numpy.typing as npt

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
LINES = 10_000
SANITIZED = """
import sys
from pathlib import Path

from tests.support.hostile import Lines, run
from tests.support.kernel_judge import compare_edits
from tests.support.kernels import exact
from tests.support.row_fuzz import check_elements, check_rows
from transform.native.binding import load

kernel = load(Path(sys.argv[1]), "v1")
tally = run(int(sys.argv[2]), 77, [kernel], exact)
edits = 0
while edits < int(sys.argv[2]) // 4:
    lines = Lines(f"sanitized/{edits}")
    compare_edits(lines.lines(8), lines.random, [kernel], lines.random.choice((b"\\n", b"")))
    edits += 8
for _ in range(int(sys.argv[2]) // 4):
    check_rows(lines.random, kernel, exact)
    check_elements(lines.random, kernel, exact)
print(tally.lines, len(tally.wrong))
"""


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("defines", [[], ["-DBLOCK=8"], ["-DBLOCK=16"]])
def test_sanitizers_find_nothing(defines: list[str], tmp_path: Path) -> None:
    if not shutil.which("gcc"):
        pytest.skip("the sanitizers are those of gcc, which is not installed")
    asan = subprocess.run(
        ["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
    ).stdout.strip()
    if not Path(asan).is_absolute():
        pytest.skip("gcc has no libasan.so")
    library = tmp_path / "libkernel.so"
    checks = ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]
    compile_with_gcc(library, [*checks, *defines])
    environment = {
        **os.environ,
        "LD_PRELOAD": asan,
        "ASAN_OPTIONS": "detect_leaks=0",  # Python leaves memory behind when it ends
        "PYTHONMALLOC": "malloc",
    }
    command = [sys.executable, "-c", SANITIZED, str(library), str(LINES)]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    # Before the last line is the progress, if it takes long.
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, [f"{LINES} 0"]), done.stderr[-4000:]


WAYS = {("a",): Way.STRING, ("b",): Way.FLOAT64, ("é",): Way.INT64, ("n",): Way.BOOL, ("customer", "a"): Way.FLOAT64}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_kernel_for_arm64_finds_the_same(tmp_path: Path) -> None:
    """What it finds on this machine is compared with the reference by the other tests."""
    emulator = shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")
    if emulator is None:
        pytest.skip("ARM64 is emulated by qemu-user, which is not installed")
    if importlib.util.find_spec("ziglang") is None:
        pytest.skip("the compiler for ARM64 is that of the package ziglang, which is not installed")
    write_powers(tmp_path)
    program = tmp_path / "filter"
    compiler = [sys.executable, "-m", "ziglang", "cc", "-target", "aarch64-linux-musl", "-static", "-O2", "-std=c11"]
    options = ["-Wall", "-Wextra", "-Werror", "-DLEVEL=_neon", f"-I{SOURCES}", f"-I{tmp_path}"]
    subprocess.run([*compiler, *options, str(HERE / "filter.c"), "-o", str(program)], check=True)
    for wanted in (Wanted(WAYS, WAYS), Wanted(WAYS, WAYS, keeps=dict.fromkeys(("a", "", "x" * 70), False))):
        given, expected = [_wanted(wanted), _number(LINES // 50)], list[bytes]()
        for chunk in range(LINES // 50):
            lines = Lines(f"arm64/{chunk}")
            data = b"\n".join(lines.lines(50)) + lines.random.choice((b"\n", b"}"))
            count = data.count(b"\n") + (not data.endswith(b"\n"))
            bits = [lines.random.getrandbits(64) for _ in range(count)]
            numbers = np.array(bits, np.uint64).view(np.float64)
            given += [_number(len(data)), data, numbers.tobytes()]
            expected += _found(data, wanted, numbers)
        done = subprocess.run([emulator, str(program)], input=b"".join(given), capture_output=True, check=True)
        assert done.stdout == b"".join(expected)


def _number(value: int) -> bytes:
    return struct.pack("=q", value)


def _wanted(wanted: Wanted) -> bytes:
    """Return the members that are wanted as the program takes them."""
    first, following, parent, last, start, sizes, names, *more = (array.tobytes() for array in wanted._kept)
    numbers = [_number(value) for value in (wanted.count, len(first) // 4, wanted.cuts, wanted._longest)]
    parts = [
        *numbers,
        struct.pack("=Q", wanted._sizes),
        first,
        following,
        parent,
        last,
        start,
        sizes,
        _number(len(names)),
        names,
        *more,
    ]
    return b"".join([*parts, _number(wanted.words)])


def _found(data: bytes, wanted: Wanted, numbers: npt.NDArray[np.float64]) -> list[bytes]:
    """Return what the kernel of this machine finds, as the program does."""
    found = scan(memoryview(bytearray(data + b"0" * SLACK))[: len(data)], wanted)
    ok = found.status == Status.OK
    output = emit(found, np.flatnonzero(ok), [Column(Kind.FLOAT64, b'"pi":', numbers)])
    found.starts[:, ~ok] = MISSING
    text, offsets = strings(found.data, found.starts[1], found.ends[1])
    found.starts[0], found.ends[0] = 0, 0  # which nobody writes
    parts: list[npt.NDArray[Any]] = [found.bounds, found.stops, found.status, found.starts, found.ends]
    for node in sorted(found.values):
        parts += [found.values[node][ok], found.valid[node]]
    return [part.tobytes() for part in (*parts, offsets, text, output)]
