"""Measures the worker from bucket to bucket, beside the command from file to file and polars from object to object."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from tests.benchmarks.cloud import INPUT, OUTPUT, QUEUE, cloud_in
from tests.benchmarks.data import SAMPLE, lines_in, output_in, scratch, touch_memory
from tests.benchmarks.latency import delayed
from tests.benchmarks.measure import UnexpectedExitError, Usage, measure, median_usage
from tests.benchmarks.pss import FamilyPeak
from tests.benchmarks.report import progress
from tests.benchmarks.ways import APPEND, RIVALS_FOLDER, our_run
from tests.support.proxy import proxy_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.benchmarks.cloud import Cloud

    Row = dict[str, Any]

KEY = "large.jsonl"
DELAY_S = 0.05
MORE_CPU_S_PER_BYTE = 1.6 / 512e6  # what reading from and writing to S3 may cost
MORE_WALL = 1.15
MEMORY_BOUND_BYTES = 512 * 2**20
SMALL_BYTES, SMALL_JOBS, COUNTED_JOBS = 100_000, 2000, 200
POLARS_SHARE = 0.25  # of it all, polars sends more parts at a time than this server answers before polars gives up
NEED_FACTOR = 6.5  # the input and an output, each as a file and as an object in the server's memory, and room to work


def queue_rows(size: int, runs: int) -> Iterator[Row]:
    """Yield what was measured: a large object in several ways, then many small ones."""
    with scratch(NEED_FACTOR * size) as folder, cloud_in(folder) as cloud:
        with lines_in(folder, size) as source:
            yield from _large(cloud, source, size, runs)
        yield _small(cloud, folder)
        yield _requests(cloud)


def _large(cloud: Cloud, source: Path, size: int, runs: int) -> Iterator[Row]:
    cloud.put(source, KEY)
    local, near, far = [], [], []
    peak = FamilyPeak()
    with delayed(cloud.endpoint, 0.0) as at_once, delayed(cloud.endpoint, DELAY_S) as late:
        for run in range(1, runs + 1):
            progress.print(f"queue: run {run} of {runs}")
            touch_memory(source.parent, int(1.2 * size))
            with output_in(source.parent) as target:
                local.append(measure(our_run(source, target, *APPEND)))
            near.append(_worked(cloud, size, endpoint=at_once))
            far.append(_worked(cloud, size, endpoint=late))
    progress.print("queue: polars, once, as it takes minutes")
    polars = _of_polars(cloud, source, int(POLARS_SHARE * size))
    progress.print("queue: memory")
    one = _worked(cloud, size, endpoint=cloud.endpoint, peak=peak, WORKERS="1")
    base, at_hand, away = median_usage(local), median_usage(near), median_usage(far)
    more = MORE_CPU_S_PER_BYTE * size
    yield _row("transform run, file to file", base)
    yield _row("worker, S3 to S3", at_hand, held_to=("CPU s", at_hand.cpu_s, base.cpu_s + more))
    slow = f"worker, {DELAY_S * 1000:.0f} ms more for each request"
    yield _row(slow, away, held_to=("wall s", away.wall_s, MORE_WALL * at_hand.wall_s))
    held = ("MiB of all processes", peak.peak_bytes / 2**20, MEMORY_BOUND_BYTES / 2**20)
    yield _row("worker, one process at work", one, held_to=held)
    yield _row(f"polars, scan to sink, S3 to S3, {POLARS_SHARE:.0%} of it", polars)


def _worked(cloud: Cloud, size: int, *, endpoint: str, peak: FamilyPeak | None = None, **settings: str) -> Usage:
    """Have a worker do the large object; return what it used."""
    cloud.empty_outputs()
    cloud.tell(KEY)
    usage = measure(_worker(cloud, endpoint, settings), watch=peak.sample if peak else None)
    if cloud.size_of_outputs() <= size:
        raise UnexpectedExitError("the worker has not published what it should have")
    return usage


def _of_polars(cloud: Cloud, source: Path, size: int) -> Usage:
    cloud.empty_outputs()
    part = source.with_name("part.jsonl")
    with source.open("rb") as whole:
        part.write_bytes(whole.read(size).rpartition(b"\n")[0] + b"\n")
    cloud.put(part, part.name)
    part.unlink()
    script = [sys.executable, str(RIVALS_FOLDER / "polars_s3.py")]
    return measure([*_env(cloud.environment), *script, f"s3://{INPUT}/{part.name}", f"s3://{OUTPUT}/output/{KEY}"])


def _small(cloud: Cloud, folder: Path) -> Row:
    progress.print(f"queue: {SMALL_JOBS} small objects")
    with _small_objects(cloud, folder) as keys:
        cloud.tell(*keys)
        usage = measure(_worker(cloud, cloud.endpoint, {}))
    what = f"{SMALL_JOBS:,} objects of {SMALL_BYTES / 1000:.0f} kB"
    return {**_row(what, usage), "jobs_per_s": SMALL_JOBS / usage.wall_s}


@contextmanager
def _small_objects(cloud: Cloud, folder: Path) -> Iterator[list[str]]:
    cloud.empty_outputs()
    keys = [f"small/{number}.jsonl" for number in range(SMALL_JOBS)]
    path = folder / "small.jsonl"
    path.write_bytes((SAMPLE.read_bytes() * 2)[:SMALL_BYTES].rpartition(b"\n")[0] + b"\n")
    for key in keys:
        cloud.put(path, key)
    yield keys


def _requests(cloud: Cloud) -> Row:
    """Count the requests that small objects take, by operation."""
    progress.print("queue: requests")
    cloud.empty_outputs()
    counts = []
    for jobs in (0, COUNTED_JOBS):  # what the start takes is not a job's
        cloud.tell(*(f"small/{number}.jsonl" for number in range(jobs)))
        with proxy_of(cloud.endpoint) as proxy:
            usage = measure(_worker(cloud, cloud.endpoint, {}, AWS_ENDPOINT_URL_S3=proxy.endpoint))
            operations = {request.operation for request in proxy.requests}
            counts.append({operation: proxy.count(operation) for operation in sorted(operations)})
    idle, busy = counts
    each = {name: (count - idle.get(name, 0)) / COUNTED_JOBS for name, count in busy.items()}
    return {
        **_row("S3 requests of a small object", usage),
        "requests_per_job": {name: count for name, count in each.items() if count},
    }


def _worker(cloud: Cloud, endpoint: str, settings: Mapping[str, str], **more: str) -> list[str]:
    environment = {
        **cloud.environment,
        "AWS_ENDPOINT_URL": endpoint,
        "s3InputBucket": INPUT,
        "s3OutputBucket": OUTPUT,
        "SQSBatchQueue": QUEUE,
        "CALCULATION": APPEND[1],
        "POLL_WAIT_S": "1",
        **settings,
        **more,
    }
    return [*_env(environment), sys.executable, "-m", "runner", "worker", "--drain"]


def _env(environment: Mapping[str, str]) -> list[str]:
    return ["/usr/bin/env", *(f"{name}={value}" for name, value in environment.items())]


def _row(what: str, usage: Usage, held_to: tuple[str, float, float] | None = None) -> Row:
    row: Row = {"what": what, **asdict(usage)}
    if held_to:
        measure_name, found, bound = held_to
        row |= {"held": measure_name, "found": found, "bound": bound, "within": found <= bound}
    return row
