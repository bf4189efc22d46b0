"""A job process keeps the memory that a chunk took for the next one, and keeps nobody waiting if it does not read."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import Any, cast

import psutil

from runner.aws.surroundings import REAL
from runner.job.protocol import LeaseExtension, Order, Stop
from runner.worker.job_child import KEEP_FREED_MEMORY, JobChild
from tests.support.example import wait_until
from tests.support.fakes import FakeChild, make_event

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
    child = JobChild.start(REAL.processes, {**os.environ, "MALLOC_TRIM_THRESHOLD_": "1"})
    try:
        process = psutil.Process(cast("Any", child._process)._process.pid)
        wait_until(lambda: bool(process.environ()))  # for a moment, a process that has just started shows none
        found = process.environ()
        assert {name: found[name] for name in KEEP_FREED_MEMORY} == KEEP_FREED_MEMORY
    finally:
        child.kill()


def test_a_process_that_does_not_read_keeps_nobody_waiting() -> None:
    """As while a calculation holds the interpreter lock: the heartbeat of all messages would end."""
    child = JobChild(*REAL.processes.start("import signal; signal.pause()", os.environ))

    def tell() -> None:
        for number in range(5000):
            child.extend(float(number))
        child.stop()
        child.order(Order(make_event(), 1, 1, tried_before=False, first_sent=1))

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    thread.join(20)
    was_held_up = thread.is_alive()
    child.kill()
    assert not was_held_up
    child.extend(1.0)
    assert child.exit_reason().startswith("a job process was killed by SIGKILL")


def test_a_process_that_reads_late_hears_that_it_has_to_stop_and_of_later_extensions() -> None:
    child = FakeChild()
    for number in range(5000):
        child.extend(float(number))
    child.stop()
    *extensions, last = child.told()
    assert (extensions[0], last) == (LeaseExtension(0.0), Stop())
    assert len(extensions) < 5000
    child.extend(9999.0)
    assert child.told() == [LeaseExtension(9999.0)]
    child.die()
    child.kill()


def test_a_process_that_closes_its_connection_and_does_not_end_keeps_nobody_waiting() -> None:
    waited: list[float] = []

    class Living:
        def wait(self, timeout_s: float) -> None:
            waited.append(timeout_s)

    child = JobChild(FakeChild().connection, cast("Any", Living()))
    assert child.exit_reason() == "a job process has closed its connection and not ended within 5 s"
    assert waited == [5.0]


def test_a_wait_for_a_process_ends_after_its_timeout() -> None:
    connection, process = REAL.processes.start("import signal; signal.pause()", os.environ)
    try:
        assert process.wait(0.01) is None
    finally:
        process.kill()
    assert process.wait(10) == -9
    connection.close()
