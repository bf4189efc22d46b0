"""Reckons the speed-up on more cores than there are, from what no two threads can do at once.

`shares` measures the CPU time of a chunk, which other processes on the machine hardly change, with one thread beside
the main thread: under the interpreter lock, outside it, and writing. Chunks are as large as they would be with as many
threads as there are cores. From `total`, of which `lock` is under the lock, n threads that ask for the lock at random
moments make a chunk in every 1 / rate(n) seconds. By mean value analysis of this closed queue, for k = 1 … n:

    wait(k) = lock · (1 + queue(k - 1)),  rate(k) = k / (total - lock + wait(k)),  queue(k) = rate(k) · wait(k)

The speed-up is rate(n) · the time of a chunk in one thread: `total`, or what a run of one worker takes if that is less.
It is below n, and below total / lock, which no schedule exceeds.

A local file is a second limit: Linux locks it during a write (`inode_lock`, on tmpfs, ext4 and XFS alike), so that more
than one thread would write no faster. The speed-up into one file waits for that lock in the same way as for the first.
Several files, and parts of objects, have no such limit. Start-up is not in any of these numbers.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from tests.benchmarks.data import lines_in, output_in, scratch, touch_memory
from tests.benchmarks.measure import measure
from tests.benchmarks.report import progress

if TYPE_CHECKING:
    from collections.abc import Sequence

BYTES = 10**9
CORES = (2, 4, 8, 16)
MEASURED_CORES = 2  # with so many threads a run is measured, to compare
HELD_CORES, HELD_SHARE = 8, 0.9
NEED_FACTOR = 2.3
S_PER_RUN = 5

Times = dict[str, float]


def scaling_rows(runs: int) -> list[dict[str, Any]]:
    """Return what is measured and reckoned, by the number of cores; times are of 4 MiB of input."""
    with scratch(NEED_FACTOR * BYTES) as folder, lines_in(folder, BYTES) as source:
        rounds = [measured_round(source, run, runs) for run in range(1, runs + 1)]
    times = {key: {kind: median(one[key][kind] for one in rounds) for kind in rounds[0][key]} for key in rounds[0]}
    alone = times["1"]
    rows = [scaling_row(cores, times[f"{cores} --clocks"], alone["main_lock"]) for cores in CORES]
    rows[CORES.index(MEASURED_CORES)]["measured"] = alone["wall"] / times[str(MEASURED_CORES)]["wall"]
    return rows


def measured_round(source: Path, run: int, runs: int) -> dict[str, Times]:
    """Measure each run once."""
    kinds = ["1", str(MEASURED_CORES), *(f"{cores} --clocks" for cores in CORES)]
    progress.print(f"scaling: run {run} of {runs}, with {', '.join(kinds)}")
    return {kind: measured(source, *kind.split()) for kind in kinds}


def measured(source: Path, *arguments: str) -> Times:
    """Return the times of one run of `shares`."""
    touch_memory(source.parent, source.stat().st_size)
    with output_in(source.parent) as target, tempfile.NamedTemporaryFile() as report:
        settings = ["/usr/bin/env", "POLARS_MAX_THREADS=1", "OPENBLAS_NUM_THREADS=1"]  # as the command has them
        module = [sys.executable, "-m", "tests.benchmarks.shares"]
        measure([*settings, *module, str(source), str(target), report.name, *arguments])
        times: Times = json.loads(Path(report.name).read_bytes())
    return times


def scaling_row(cores: int, times: Times, alone: float) -> dict[str, Any]:
    """Return the shares of a chunk, and the speed-ups that follow."""
    lock, writing = times["main_lock"] + times["threads_lock"], times["writing"]
    total = lock + writing + times["outside"]
    once = min(alone, total)
    speedup = once * rate(cores, total, [lock])
    row = {"cores": cores, "total_s": total, "main_lock_s": times["main_lock"], "lock_s": lock, "writing_s": writing}
    row |= {"bound": once / max(total / cores, lock), "speedup": speedup}
    row["one_file"] = once * rate(cores, total, [lock, writing])
    if cores == HELD_CORES:
        row["within"] = speedup >= HELD_SHARE * cores
    return row


def rate(threads: int, total: float, shared: Sequence[float]) -> float:
    """Return how many chunks are made in a second, where only one thread at a time can do each of the shared parts."""
    found, queues = 0.0, [0.0] * len(shared)
    for count in range(1, threads + 1):
        waits = [part * (1 + queue) for part, queue in zip(shared, queues, strict=True)]
        found = count / (total - sum(shared) + sum(waits))
        queues = [found * wait for wait in waits]
    return found
