"""Says beforehand about how long a benchmark takes, from what it took on two quiet cores."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.benchmarks import scaling
from tests.benchmarks.memory import BOUND_BYTES, PLAN

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.benchmarks.operations import Operation

MAKING_S_PER_GB = 2  # the input
CHECKING_S = 0.7  # each way on a small file, and start-up wherever it counts
LONG_LINE_S = 5
STARTUP_S = 5
QUEUE_S_PER_GB = 45  # of each run: five ways, the server beside them
SMALL_OBJECTS_S = 180  # twice, once from farther away


def timing_s(operations: Iterable[Operation], size: int, runs: int) -> float:
    """Return about how long the operations take."""
    total = 0.0
    for operation in operations:
        gigabytes = size * operation.share / 1e9
        total += gigabytes * MAKING_S_PER_GB
        total += sum(CHECKING_S + runs * (CHECKING_S + gigabytes * way.s_per_gb) for way in operation.ways)
    return total


def memory_s(largest: int) -> float:
    """Return about how long the memory part takes."""
    total = 0.0
    for part, scenarios in PLAN:
        each = (len(BOUND_BYTES) * (CHECKING_S + largest * part / 1e9 * scenario.s_per_gb) for scenario in scenarios)
        total += largest * part / 1e9 * MAKING_S_PER_GB + sum(each)
    return total + LONG_LINE_S


def scaling_s(runs: int) -> float:
    """Return about how long the shares take."""
    each = 2 + len(scaling.CORES)
    return scaling.BYTES / 1e9 * MAKING_S_PER_GB + runs * each * scaling.S_PER_RUN


def queue_s(size: int, runs: int) -> float:
    """Return about how long the worker's part takes."""
    return size / 1e9 * (MAKING_S_PER_GB + QUEUE_S_PER_GB * (runs + 1)) + SMALL_OBJECTS_S
