"""A job process is started so that it keeps the memory that a chunk took for the next one."""

from __future__ import annotations

import os
import subprocess
import sys

import psutil

from runner.worker.job_child import KEEP_FREED_MEMORY, JobChild

ROUNDS, ARRAYS, ARRAY_BYTES = 20, 8, 4 << 20
FAULTS = f"""
import resource
import numpy as np
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range({ROUNDS}):
    arrays = [np.ones({ARRAY_BYTES}, np.uint8) for _ in range({ARRAYS})]
    del arrays
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(**changes: str) -> int:
    """Return how often the kernel gave a process a page while it allocated the same arrays again and again."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    done = subprocess.run(
        [sys.executable, "-c", FAULTS], env={**environ, **changes}, capture_output=True, text=True, check=True
    )
    return int(done.stdout)


def test_memory_that_was_freed_is_used_again() -> None:
    once = ARRAYS * ARRAY_BYTES / os.sysconf("SC_PAGE_SIZE")
    assert page_faults(**KEEP_FREED_MEMORY) < 2 * once
    assert page_faults() > ROUNDS / 4 * once, "or there is nothing to see here"


def test_a_job_process_has_the_settings_of_malloc() -> None:
    child = JobChild.start({**os.environ, "MALLOC_TRIM_THRESHOLD_": "1"})
    try:
        found = psutil.Process(child._process.pid).environ()
        assert {name: found[name] for name in KEEP_FREED_MEMORY} == KEEP_FREED_MEMORY
    finally:
        child.kill()
