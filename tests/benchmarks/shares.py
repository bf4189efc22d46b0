"""Runs the engine in this process, and writes the times of a chunk, by kind of work, to a file as JSON.

    python -m tests.benchmarks.shares INPUT OUTPUT REPORT THREADS [--clocks]

Clocks are put around the functions that work outside the interpreter lock: those of the kernel, `collect` and `cast` of
polars, reading and writing. All other CPU time of a thread counts as under the lock. That includes what numpy does
without it, so the share of the lock is rather too large than too small. With clocks there is one thread beside the main
thread, and chunks are as large as they are with THREADS threads. Times are of `CHUNK_BYTES` of input.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import threading
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import polars as pl

from transform import Calculation, _process
from transform.engine import parallel
from transform.engine.threads import Threads
from transform.io.chunks import CHUNK_BYTES
from transform.native import binding

if TYPE_CHECKING:
    from collections.abc import Callable

    from transform.engine.threads import Results

EXPRESSION = "stars * review_count AS review_score"
OUTSIDE, WRITING = "outside", "writing"
SKIPPED_CHUNKS = 8  # meanwhile types are inferred, and buffers are made


class Clocks:
    """CPU seconds of functions, by thread and kind of work."""

    def __init__(self) -> None:
        self.seconds = defaultdict[tuple[int, str], float](float)

    def wrap(self, kind: str, owner: Any, *names: str) -> None:
        """Put clocks around functions of a module or a class."""
        for name in names:
            setattr(owner, name, self.timed(kind, getattr(owner, name)))

    def timed(self, kind: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that does the same, with a clock."""

        def call(*arguments: Any, **options: Any) -> Any:
            start = time.thread_time()
            try:
                return function(*arguments, **options)
            finally:
                self.seconds[threading.get_ident(), kind] += time.thread_time() - start

        return call

    def wrap_all(self) -> None:
        """Put clocks around all functions that release the interpreter lock for long."""
        kernel = binding.load()
        names = ("count_lines", "scan", "strings", "texts", "emit", "find_faults")
        functions: dict[str, Any] = {name: self.timed(OUTSIDE, getattr(kernel, name)) for name in names}
        timed = replace(kernel, **functions)
        patch.object(binding, "default_kernel", lambda: timed).start()  # raises if there is no such function
        self.wrap(OUTSIDE, type(pl.LazyFrame()._ldf), "collect")
        self.wrap(OUTSIDE, type(pl.Series()._s), "cast")
        self.wrap(OUTSIDE, os, "preadv")
        self.wrap(WRITING, os, "write", "pwrite")


class OneThread(Threads):
    """One thread, where the engine wants several."""

    def __init__(self, transform: Results, _count: int, chunk_bytes: int, max_line_bytes: int) -> None:
        super().__init__(transform, 1, chunk_bytes, max_line_bytes)


def times(clocks: Clocks) -> dict[str, float]:
    """Return the seconds until now, by kind of work."""
    main, found = threading.get_ident(), defaultdict[str, float](float)
    found |= {"wall": time.perf_counter(), "main_lock": time.thread_time()}
    for thread in threading.enumerate():
        if thread.name.startswith("transform") and thread.ident is not None:
            found["threads_lock"] += time.clock_gettime(time.pthread_getcpuclockid(thread.ident))
    for (thread_id, kind), seconds in clocks.seconds.copy().items():
        found[kind] += seconds
        found["main_lock" if thread_id == main else "threads_lock"] -= seconds
    return found


def main(source: str, target: str, report: str, threads: str, *flags: str) -> None:
    """Run, and write the times of a chunk."""
    gc.set_threshold(50_000)  # as the command does
    _process.keep_freed_memory()
    clocks = Clocks()
    if flags:
        clocks.wrap_all()
        patch.object(parallel, "Threads", OneThread).start()
    seen: list[tuple[int, dict[str, float]]] = []

    def note(done: int, _size: int | None) -> None:
        seen.append((done, times(clocks)))

    Calculation.from_sql(EXPRESSION).run(source, target, workers=int(threads), progress=note)
    (first, before), (last, after) = seen[SKIPPED_CHUNKS], seen[-1]
    chunks = (last - first) / CHUNK_BYTES
    Path(report).write_text(json.dumps({kind: (after[kind] - before[kind]) / chunks for kind in after}))


if __name__ == "__main__":
    main(*sys.argv[1:])
