"""A worker in a container: read-only, with half a GiB, and as process 1."""

from __future__ import annotations

import json
import time
import uuid
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import pytest

from sample_data.generate import DEFAULT_SEED, blocks, cut_to_bytes
from tests.docker.engine import MEMORY_MIB
from tests.support.deployment import deploy, logged, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.docker.engine import Container, Engine
    from tests.support.deployment import Deployment

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

INPUT_BYTES = 100_000_000  # several ranges for each process, and several parts
KEY = "raw/some businesses.json"
STOP_S = 20
LIMIT = "cat /sys/fs/cgroup/memory.max 2>/dev/null || cat /sys/fs/cgroup/memory/memory.limit_in_bytes"
PEAK = "cat /sys/fs/cgroup/memory.peak 2>/dev/null || cat /sys/fs/cgroup/memory/memory.max_usage_in_bytes"


@pytest.fixture
def deployment(s3: Any, sqs: Any) -> Deployment:
    made = deploy(s3, sqs)
    for name in ("CALCULATION", "SCHEMA"):  # which the image has
        del made.env[name]
    return made


@pytest.fixture
def worker(engine: Engine, aws: str, deployment: Deployment) -> Iterator[Container]:
    credentials = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1"}
    env = {**deployment.env, **credentials, "AWS_ENDPOINT_URL": aws}
    container = engine.start(f"transform-{uuid.uuid4().hex[:12]}", env)
    yield container
    container.remove()


def test_a_job_is_done_within_the_memory_and_the_worker_stops_in_time(
    worker: Container, deployment: Deployment, record_property: Any
) -> None:
    content = b"".join(cut_to_bytes(blocks(DEFAULT_SEED), INPUT_BYTES))
    worker.wait_until_healthy()
    assert int(worker.ask("sh", "-c", LIMIT).stdout) == MEMORY_MIB << 20
    deployment.put(KEY, content)
    output = wait_for(lambda: deployment.output_of(KEY), 300)
    record_property("peak_bytes", int(worker.ask("sh", "-c", PEAK).stdout))
    wait_for(lambda: deployment.waiting() == (0, 0, 0))
    worker.wait_until_healthy()
    before = time.monotonic()
    worker.terminate()
    stdout, stderr = worker.end()
    assert time.monotonic() - before < STOP_S
    assert worker.process.returncode == 0, stderr
    assert _strange_lines(content, output) == []
    events = [line.get("event") for line in logged(stdout)]
    assert events.count("done") == 1, events
    assert not [line for line in logged(stdout) if line.get("level") in ("error", "critical")]


def _strange_lines(content: bytes, output: bytes) -> list[Any]:
    """Return the first lines that are not the input's with the score at their end, with their numbers."""
    strange = []
    for number, (line, found) in enumerate(zip_longest(content.split(b"\n"), output.split(b"\n")), 1):
        if line == found == b"":
            continue
        business = json.loads(line)
        score = business["stars"] * business["review_count"]
        start = line[:-1] + b',"review_score":'
        if not found or not found.startswith(start) or float(found[len(start) : -1]) != score:
            strange.append((number, line, found))
    return strange[:3]
