"""A worker does one job after the other for weeks, so that none may leave anything behind in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psutil
import pytest

from tests.support.deployment import wait_for
from tests.support.example import lines, transformed
from tests.support.watching import Watched

if TYPE_CHECKING:
    from tests.support.deployment import Deployment

pytestmark = pytest.mark.slow

FEW, MANY = 100, 500
GROWTH_BYTES = 16 << 20  # 40 kB a job, which is more than an allocator moves about


@pytest.mark.timeout(500)
def test_memory_does_not_grow_with_the_number_of_jobs(deployment: Deployment) -> None:
    deployment.env |= {"WORKERS": "1"}
    worker = Watched(deployment)
    sizes = []
    for first, last in ((0, FEW), (FEW, MANY)):
        for number in range(first, last):
            deployment.put(f"in/{number}", lines(200) + b"bad\n" * (number % 2))
        wait_for(lambda last=last: len(worker.of("done")) == last, 200)
        sizes.append(
            sum(process.memory_full_info().pss for process in (*worker.family(), psutil.Process(worker.process.pid)))
        )
    assert len(worker.children()) == 1, "one process has done them all"
    assert worker.stop() == 0
    print([size >> 20 for size in sizes])
    assert sizes[1] < sizes[0] + GROWTH_BYTES
    assert deployment.output_of(f"in/{MANY - 1}") == transformed(200)
    assert len(deployment.stored_keys("output/")) == MANY
