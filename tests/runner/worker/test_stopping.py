"""A worker that is told to stop hands its jobs back, whatever they are at, and the next one goes on with them."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from tests.support.deployment import WORKER_TIMEOUT_S, events_of, wait_for
from tests.support.example import lines, transformed
from tests.support.watching import Holding, Watched

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.deployment import Deployment
    from tests.support.proxy import Proxy

pytestmark = pytest.mark.slow  # all together, which takes minutes

SMALL, SMALL_OUTPUT = lines(10), transformed(10)
LARGE, LARGE_OUTPUT = lines(3000, 8000), transformed(3000, 8000)  # 24 MB: two ranges that are read, five parts
SETTINGS = {"PART_BYTES": "5MiB", "RANGE_BYTES": "1MiB", "STOP_TIMEOUT_S": "1", "MAX_ATTEMPTS": "5"}
MOST_S = 20

BUSY = """
import time
import polars as pl
from transform import Calculation

BUSY_UNTIL = time.monotonic() + {seconds}

def slow(value):
    while time.monotonic() < BUSY_UNTIL:
        sum(range(5_000_000))  # which holds the interpreter
    return value + 1

calculation = (
    Calculation(b=pl.col("a").map_elements(slow, return_dtype=pl.Int64)).with_schema({{"a": pl.Int64}}).assume_pure()
)
"""


def stopped(worker: Watched, holding: Holding | None = None) -> None:
    """Stop a worker, which leaves nothing behind and takes no longer than ECS gives it."""
    family = worker.family()
    told = time.monotonic()
    assert worker.stop() == 0
    assert time.monotonic() - told < MOST_S
    if holding is not None:
        holding.released.set()
    assert psutil.wait_procs(family, timeout=WORKER_TIMEOUT_S)[1] == []


def endings(log: list[dict[str, Any]]) -> list[tuple[str, int]]:
    """Return how jobs ended, and how many times each had been tried before."""
    return [(line["event"], line["attempts"]) for line in log if "attempts" in line]


def check_published(deployment: Deployment, output: bytes) -> None:
    assert deployment.output_of("in") == output
    assert deployment.stored_keys() == ["output/in"]
    assert deployment.uploads() == []
    assert deployment.waiting() == (0, 0, 0)
    assert deployment.dead() == []


PHASES: dict[str, tuple[bytes, str, str, int, bool]] = {  # content; operation, key, which of them; passed on or not
    "before the first byte": (SMALL, "GetObject", "in", 1, False),
    "before the first byte of a large one": (LARGE, "GetObject", "in", 1, True),
    "in a later range": (LARGE, "GetObject", "in", 2, True),
    "before an upload is begun": (LARGE, "CreateMultipartUpload", "output/", 1, False),
    "after an upload was begun": (LARGE, "CreateMultipartUpload", "output/", 1, True),
    "before a part": (LARGE, "UploadPart", "output/", 3, False),
    "after a part": (LARGE, "UploadPart", "output/", 3, True),
    "before a checkpoint": (LARGE, "PutObject", "checkpoints/", 3, False),
    "after a checkpoint": (LARGE, "PutObject", "checkpoints/", 3, True),
    "before publishing": (LARGE, "CompleteMultipartUpload", "output/", 1, False),
    "after publishing": (LARGE, "CompleteMultipartUpload", "output/", 1, True),
    "before publishing a small one": (SMALL, "PutObject", "output/", 1, False),
    "after publishing a small one": (SMALL, "PutObject", "output/", 1, True),
    "before cleaning up": (LARGE, "DeleteObject", "checkpoints/", 1, False),
    "after cleaning up": (LARGE, "DeleteObject", "checkpoints/", 1, True),
}


@pytest.mark.parametrize("phase", PHASES)
def test_a_job_is_handed_back_whatever_it_is_at(deployment: Deployment, proxy: Proxy, phase: str) -> None:
    content, operation, key, first, passed_on = PHASES[phase]
    holding = Holding(operation, key, first, passed_on=passed_on)
    output = SMALL_OUTPUT if content is SMALL else LARGE_OUTPUT
    deployment.env.update(SETTINGS)
    proxy.rule = holding
    deployment.put("in", content)
    worker = Watched(deployment)
    holding.wait()
    published = deployment.output_of("in")
    assert published in {None, output}
    stopped(worker, holding)
    assert deployment.waiting() == (1, 0, 0)
    (ended,) = endings(deployment.drain())
    assert ended == ("done" if published is None else "duplicate", 0)
    if phase == "after an upload was begun":  # and before it was noted: nobody can know of it but by a list
        for upload in deployment.uploads():
            deployment.s3.abort_multipart_upload(Bucket=deployment.output, Key="output/in", UploadId=upload)
    check_published(deployment, output)


def test_what_was_done_is_not_done_again(deployment: Deployment, proxy: Proxy) -> None:
    deployment.env.update(SETTINGS)
    proxy.rule = holding = Holding("UploadPart", "output/", 4, passed_on=False)
    deployment.put("in", LARGE)
    worker = Watched(deployment)
    holding.wait()
    stopped(worker, holding)
    before = proxy.count("UploadPart")
    assert endings(deployment.drain()) == [("done", 0)]
    assert proxy.count("UploadPart") - before == 2
    assert proxy.count("CreateMultipartUpload") == 1
    check_published(deployment, LARGE_OUTPUT)


def test_a_job_that_can_stop_at_once_does(deployment: Deployment, proxy: Proxy) -> None:
    deployment.env.update(SETTINGS, STOP_TIMEOUT_S=str(WORKER_TIMEOUT_S))
    proxy.rule = holding = Holding("UploadPart", "output/", 3)
    deployment.put("in", LARGE)
    worker = Watched(deployment)
    holding.wait()
    worker.process.terminate()
    holding.released.set()
    assert worker.end() == 0
    assert endings(worker.log)[0] in {("stopped", 0), ("done", 0)}  # the signal may have come late
    deployment.drain()
    check_published(deployment, LARGE_OUTPUT)


def test_several_jobs_are_handed_back(deployment: Deployment, proxy: Proxy) -> None:
    proxy.rule = holding = Holding("GetObject")
    for number in range(5):
        deployment.put(f"in/{number}", lines(10 + number))
    worker = Watched(deployment, env={"WORKERS": "2", "STOP_TIMEOUT_S": "2"})
    wait_for(lambda: proxy.count("GetObject") >= 2)
    stopped(worker, holding)
    assert deployment.waiting() == (5, 0, 0)
    assert endings(deployment.drain()) == [("done", 0)] * 5
    for number in range(5):
        assert deployment.output_of(f"in/{number}") == transformed(10 + number)


def test_an_idle_worker_stops(deployment: Deployment) -> None:
    deployment.put("in", SMALL)
    worker = Watched(deployment)
    worker.logged("done")
    wait_for(lambda: deployment.waiting() == (0, 0, 0))
    stopped(worker)
    assert worker.log[-1]["event"] == "stopped"


def test_a_worker_stops_while_it_starts(deployment: Deployment, proxy: Proxy) -> None:
    proxy.rule = holding = Holding("HeadBucket", "")
    deployment.put("in", SMALL)
    worker = Watched(deployment)
    holding.wait()
    stopped(worker, holding)
    assert deployment.waiting() == (2, 0, 0)  # with the test event
    assert endings(deployment.drain()) == [("done", 0)]


def test_a_second_signal_ends_it_at_once(deployment: Deployment, proxy: Proxy) -> None:
    deployment.env.update(SETTINGS, VISIBILITY_TIMEOUT_S="5")
    proxy.rule = holding = Holding("UploadPart", "output/", 3)
    deployment.put("in", LARGE)
    worker = Watched(deployment, env={"STOP_TIMEOUT_S": "1000"})
    holding.wait()
    family = worker.family()

    def ended() -> bool:
        worker.process.send_signal(signal.SIGTERM)
        return worker.process.poll() is not None

    wait_for(ended)
    assert worker.end() == 128 + signal.SIGTERM
    holding.released.set()
    assert psutil.wait_procs(family, timeout=WORKER_TIMEOUT_S)[1] == []
    assert endings(deployment.drain()) == [("done", 1)]
    check_published(deployment, LARGE_OUTPUT)


def test_a_worker_that_is_killed_leaves_no_process_behind(deployment: Deployment, proxy: Proxy) -> None:
    deployment.env.update(SETTINGS, VISIBILITY_TIMEOUT_S="5")
    proxy.rule = holding = Holding("UploadPart", "output/", 3)
    deployment.put("in", LARGE)
    worker = Watched(deployment)
    holding.wait()
    family = worker.family()
    worker.process.kill()
    holding.released.set()
    assert psutil.wait_procs(family, timeout=WORKER_TIMEOUT_S)[1] == []
    assert endings(deployment.drain()) == [("done", 1)]
    check_published(deployment, LARGE_OUTPUT)


# Limits


def test_a_job_past_its_limit_is_handed_over_and_counts_unless_it_has_progressed(
    deployment: Deployment, proxy: Proxy
) -> None:
    deployment.env.update(SETTINGS)
    proxy.rule = holding = Holding("UploadPart", "output/", 3)
    deployment.put("in", LARGE)
    worker = Watched(deployment, env={"MAX_JOB_S": "10"})  # what is noted as it stops would be progress of the next
    worker.logged("stopped", 2)
    assert endings(worker.log)[:2] == [("stopped", 0), ("stopped", 0)]
    stopped(worker, holding)
    ((event, attempts),) = endings(deployment.drain())
    assert event == "done"
    assert attempts >= 1
    check_published(deployment, LARGE_OUTPUT)


def test_a_job_that_never_gets_anywhere_is_given_up(deployment: Deployment, proxy: Proxy) -> None:
    proxy.rule = holding = Holding("GetObject")
    deployment.put("in", SMALL)
    log = deployment.drain(env={"MAX_JOB_S": "0.5", "STOP_TIMEOUT_S": "0.5", "MAX_ATTEMPTS": "3"})
    holding.released.set()
    assert endings(log) == [("stopped", 0), ("stopped", 1), ("failed", 2)]
    (letter,) = deployment.dead()
    assert letter["reason"].startswith("gave up after 3 attempts")


def test_a_job_is_handed_over_before_its_lease_ends(deployment: Deployment, proxy: Proxy) -> None:
    deployment.env.update(SETTINGS)
    proxy.rule = holding = Holding("UploadPart", "output/", 3)
    deployment.put("in", LARGE)
    worker = Watched(deployment, env={"VISIBILITY_TIMEOUT_S": "5", "MAX_LEASE_S": "12"})
    worker.logged("stopped")
    assert worker.of("lease lost") == []
    stopped(worker, holding)
    assert endings(worker.log)[0] == ("stopped", 0)
    ((event, attempts),) = endings(deployment.drain())
    assert (event, attempts) == ("done", 0)
    check_published(deployment, LARGE_OUTPUT)


# The heartbeat


def busy_for(seconds: int, tmp_path: Path) -> str:
    file = tmp_path / "busy.py"
    file.write_text(BUSY.format(seconds=seconds))
    return str(file)


def test_a_long_job_keeps_its_message_though_it_holds_the_interpreter(deployment: Deployment, tmp_path: Path) -> None:
    calculation = busy_for(13, tmp_path)
    deployment.put("in", SMALL)
    settings = {"CALCULATION": calculation, "SCHEMA": None, "VISIBILITY_TIMEOUT_S": "5", "WORKERS": "2"}
    worker = Watched(deployment, "--drain", env=settings)
    worker.logged("begun")
    while not worker.of("done"):
        assert "Messages" not in deployment.sqs.receive_message(QueueUrl=deployment.queue, WaitTimeSeconds=1)
        assert worker.process.poll() is None
    assert worker.end() == 0
    assert endings(worker.log) == [("done", 0)]
    assert events_of(worker.log).count("begun") == 1
    assert worker.of("done")[0]["seconds"] > 6
    check_published(deployment, SMALL_OUTPUT)


def test_a_calculation_that_holds_the_interpreter_is_handed_back(deployment: Deployment, tmp_path: Path) -> None:
    deployment.put("in", SMALL)
    settings = {"CALCULATION": busy_for(1000, tmp_path), "SCHEMA": None, "STOP_TIMEOUT_S": "2"}
    worker = Watched(deployment, env=settings)
    wait_for(lambda: deployment.waiting() == (0, 1, 0))
    stopped(worker)
    assert endings(deployment.drain()) == [("done", 0)]
    check_published(deployment, SMALL_OUTPUT)
