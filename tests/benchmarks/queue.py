"""Measures the worker from bucket to bucket, beside the command from file to file and polars from object to object."""

from __future__ import annotations

import shlex
import sys
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.benchmarks.cloud import DELAY_S, INPUT, OUTPUT, QUEUE, cloud_in
from tests.benchmarks.data import SAMPLE, lines_in, output_in, scratch, touch_memory
from tests.benchmarks.latency import delayed
from tests.benchmarks.measure import UnexpectedExitError, Usage, measure, median_usage
from tests.benchmarks.pss import FamilyPeak
from tests.benchmarks.report import progress
from tests.benchmarks.ways import APPEND, RIVALS_FOLDER, our_run

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.benchmarks.cloud import Cloud

    Row = dict[str, Any]

KEY = "large.jsonl"
CPU_FACTOR, MORE_CPU_S_PER_GB = 1.6, 1.2  # beside the command from file to file, what S3 to S3 may cost
MORE_WALL = 1.1
MEMORY_BOUND_BYTES = 512 * 2**20
SMALL_BYTES, SMALL_JOBS, LATE_JOBS, COUNTED_JOBS = 100_000, 2000, 500, 200
NEED_FACTOR = 6.5  # the input, three outputs in the server's memory or as files, and room to work


def queue_rows(size: int, runs: int) -> Iterator[Row]:
    """Yield what was measured: a large object in several ways, then many small ones."""
    with scratch(NEED_FACTOR * size) as folder, cloud_in(folder) as cloud:
        with lines_in(folder, size) as source:
            yield from _large(cloud, source, size, runs)
        yield from _small(cloud, folder)
        yield _requests(cloud)


def _large(cloud: Cloud, source: Path, size: int, runs: int) -> Iterator[Row]:
    cloud.put(source, KEY)
    ways: dict[str, list[Usage]] = {name: [] for name in ("local", "near", "far", "polars", "copied")}
    with delayed(cloud.sqs, DELAY_S) as late_sqs:
        for run in range(1, runs + 1):
            progress.print(f"queue: run {run} of {runs}")
            touch_memory(source.parent, int(1.2 * size))
            with output_in(source.parent) as target:
                ways["local"].append(measure(our_run(source, target, *APPEND)))
            ways["near"].append(_worked(cloud, size))
            ways["far"].append(_worked(cloud, size, AWS_ENDPOINT_URL=late_sqs, AWS_ENDPOINT_URL_S3=cloud.late_s3))
            ways["polars"].append(_polars(cloud))
            ways["copied"].append(_copied(cloud, source.parent))
    progress.print("queue: memory")
    peak = FamilyPeak()
    one = _worked(cloud, size, peak=peak, WORKERS="1")
    base, near, far, polars, copied = map(median_usage, ways.values())
    bound = CPU_FACTOR * base.cpu_s + MORE_CPU_S_PER_GB * size / 1e9
    yield _row("transform run, file to file", base, size)
    yield _row("worker, S3 to S3", near, size, held_to=("CPU s", near.cpu_s, bound))
    slow = f"worker, {DELAY_S * 1000:.0f} ms more for each request"
    yield _row(slow, far, size, held_to=("wall s", far.wall_s, MORE_WALL * near.wall_s))
    held = ("MiB of all processes", peak.peak_bytes / 2**20, MEMORY_BOUND_BYTES / 2**20)
    yield _row("worker, one process at work", one, size, held_to=held)
    yield _row("polars, scan to sink, S3 to S3", polars, size)
    yield _row("aws s3 cp, transform run, aws s3 cp", copied, size)


def _worked(cloud: Cloud, size: int, *, peak: FamilyPeak | None = None, **more: str) -> Usage:
    """Have a worker do the large object; return what it used."""
    cloud.empty_outputs()
    cloud.tell(KEY)
    usage = measure(_worker(cloud, **more), watch=peak.sample if peak else None)
    if cloud.size_of_outputs() <= size:
        raise UnexpectedExitError("the worker has not published what it should have")
    return usage


def _polars(cloud: Cloud) -> Usage:
    cloud.empty_outputs()
    script = [sys.executable, str(RIVALS_FOLDER / "polars_s3.py")]
    return measure([*_env(cloud.environment), *script, f"s3://{INPUT}/{KEY}", f"s3://{OUTPUT}/output/{KEY}"])


def _copied(cloud: Cloud, folder: Path) -> Usage:
    """Copy the object here, transform the file, and copy the result back."""
    cloud.empty_outputs()
    with output_in(folder) as target:
        source = target.with_name("in.jsonl")
        aws = [str(Path(sys.executable).with_name("aws")), "s3", "cp", "--no-progress"]
        down, up = [*aws, f"s3://{INPUT}/{KEY}", str(source)], [*aws, str(target), f"s3://{OUTPUT}/output/{KEY}"]
        commands = " && ".join(map(shlex.join, (down, our_run(source, target, *APPEND), up)))
        return measure([*_env(cloud.environment), "/bin/sh", "-c", commands])


def _small(cloud: Cloud, folder: Path) -> Iterator[Row]:
    with delayed(cloud.sqs, DELAY_S) as late_sqs:
        late = {"AWS_ENDPOINT_URL": late_sqs, "AWS_ENDPOINT_URL_S3": cloud.late_s3}
        delay = f", {DELAY_S * 1000:.0f} ms more for each request"
        for jobs, suffix, endpoints in ((SMALL_JOBS, "", {}), (LATE_JOBS, delay, late)):
            name = f"{jobs:,} objects of {SMALL_BYTES / 1000:.0f} kB{suffix}"
            progress.print(f"queue: {name}")
            with _small_objects(cloud, folder, jobs) as keys:
                cloud.tell(*keys)
                usage = measure(_worker(cloud, **endpoints))
            yield {**_row(name, usage, jobs * SMALL_BYTES), "jobs_per_s": jobs / usage.wall_s}


@contextmanager
def _small_objects(cloud: Cloud, folder: Path, jobs: int) -> Iterator[list[str]]:
    cloud.empty_outputs()
    keys = [f"small/{number}.jsonl" for number in range(jobs)]
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
        cloud.take_counts()
        usage = measure(_worker(cloud))
        counts.append(cloud.take_counts())
    idle, busy = counts
    each = {name: (count - idle.get(name, 0)) / COUNTED_JOBS for name, count in sorted(busy.items())}
    return {
        **_row("S3 requests of a small object", usage),
        "requests_per_job": {name: count for name, count in each.items() if count},
    }


def _worker(cloud: Cloud, **more: str) -> list[str]:
    environment = {
        **cloud.environment,
        "s3InputBucket": INPUT,
        "s3OutputBucket": OUTPUT,
        "SQSBatchQueue": QUEUE,
        "CALCULATION": APPEND[1],
        "POLL_WAIT_S": "1",
        **more,
    }
    return [*_env(environment), sys.executable, "-m", "runner", "worker", "--drain"]


def _env(environment: Mapping[str, str]) -> list[str]:
    return ["/usr/bin/env", *(f"{name}={value}" for name, value in environment.items())]


def _row(what: str, usage: Usage, size: int = 0, held_to: tuple[str, float, float] | None = None) -> Row:
    row: Row = {"what": what, **asdict(usage)}
    if size:
        row |= {"cpu_s_per_gb": usage.cpu_s / size * 1e9, "mb_per_s": size / 1e6 / usage.wall_s}
    if held_to:
        measure_name, found, bound = held_to
        row |= {"held": measure_name, "found": found, "bound": bound, "within": found <= bound}
    return row
