"""Who goes on with a job, where several messages about one object are delivered at the same time."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

import pytest

from runner.job.context import JobContext
from runner.job.process import do
from runner.job.protocol import JobResult, Order, Outcome
from tests.support.deployment import wait_for
from tests.support.example import lines, transformed
from tests.support.jobs import KEY, OUTPUT, SENT, Free, Killed
from tests.support.proxy import Hold
from tests.support.queues import take_all
from tests.support.watching import Holding, Watched

if TYPE_CHECKING:
    from tests.support.deployment import Deployment
    from tests.support.jobs import Jobs
    from tests.support.proxy import Fault, Proxy, Request

pytestmark = pytest.mark.slow

LINES, OUT = lines(2500, 8000), transformed(2500, 8000)  # 20 MB: four parts
LEASE_S = 5
WORKER = {
    "PART_BYTES": "5MiB",
    "RANGE_BYTES": "1MiB",
    "VISIBILITY_TIMEOUT_S": str(LEASE_S),
    "WORKERS": "1",
    "RETRY_MAX_S": "1",
}


@pytest.fixture
def given(jobs: Jobs) -> Jobs:
    """A job of several parts, whose messages are left alone for five seconds at most."""
    jobs.deployment.put(KEY, LINES)
    jobs.changes |= WORKER
    return jobs


def do_for(jobs: Jobs, owner: str, control: Free | None = None) -> Outcome:
    """Do the job for a message, which was tried before."""
    context = JobContext.open(jobs.settings(), os.environ)
    return do(context, Order(jobs.event(), SENT, 1, tried_before=True, first_sent=SENT, owner=owner), control or Free())


def test_a_fresh_checkpoint_of_another_message_is_left_alone(given: Jobs, proxy: Proxy) -> None:
    with pytest.raises(Killed):
        do_for(given, "one", Free(lives=2))
    left = given.left()
    assert do_for(given, "another").kind is JobResult.BUSY
    assert given.left() == left
    assert given.output() is None
    assert do_for(given, "one").kind is JobResult.DONE, "the same message, or its copy, goes on at once"
    assert do_for(given, "another").kind is JobResult.DUPLICATE
    assert given.output() == OUT
    assert given.left() == []
    assert proxy.count("CreateMultipartUpload") == 1


def test_a_stale_checkpoint_is_anybodys(given: Jobs, proxy: Proxy) -> None:
    with pytest.raises(Killed):
        do_for(given, "one", Free(lives=2))
    parts = proxy.count("UploadPart")
    time.sleep(LEASE_S + 1)  # S3 tells times in whole seconds
    control = Free()
    assert do_for(given, "another", control).kind is JobResult.DONE
    assert control.offsets[0] > 0
    assert parts + len(control.offsets) - 1 <= proxy.count("UploadPart") <= parts + len(control.offsets)
    assert given.output() == OUT
    assert do_for(given, "one").kind is JobResult.DUPLICATE


def test_a_checkpoint_stays_fresh_however_long_a_part_takes(given: Jobs, proxy: Proxy) -> None:
    proxy.rule = holding = Holding("UploadPart", OUTPUT, 2)
    outcomes: list[Outcome] = []
    first = threading.Thread(target=lambda: outcomes.append(do_for(given, "one")))
    first.start()
    holding.wait()
    time.sleep(LEASE_S + 2)
    assert do_for(given, "another").kind is JobResult.BUSY
    holding.released.set()
    first.join()
    assert [outcome.kind for outcome in outcomes] == [JobResult.DONE]
    assert given.output() == OUT
    assert given.left() == []


def test_a_part_that_takes_longer_than_the_lease_is_not_kept_fresh(given: Jobs, proxy: Proxy) -> None:
    """Who may have lost its message says nothing more of the job."""
    lost = threading.Event()

    def check_lease() -> None:
        if lost.is_set():
            raise Killed

    with pytest.raises(Killed):
        do_for(given, "one", Free(lives=2, check_lease=check_lease))
    lost.set()
    before = proxy.count("PutObject")
    time.sleep(LEASE_S)
    assert proxy.count("PutObject") == before


def test_two_messages_about_one_object_do_not_take_the_job_from_each_other(
    deployment: Deployment, proxy: Proxy
) -> None:
    """A part takes longer than a message may be left alone, so there are many chances to."""

    def slow(request: Request) -> Fault | None:
        if request.operation != "UploadPart":
            return None
        until = threading.Event()
        timer = threading.Timer(LEASE_S / 2 + 1, until.set)
        timer.daemon = True
        timer.start()
        return Hold(threading.Event(), until)

    proxy.rule = slow
    deployment.env |= WORKER
    deployment.put(KEY, LINES)
    *_, event = take_all(deployment.sqs, deployment.queue)  # what comes first is S3's test event
    deployment.sqs.purge_queue(QueueUrl=deployment.queue)
    deployment.send(event["Body"])
    deployment.send(event["Body"])
    workers = [Watched(deployment) for _ in range(2)]
    wait_for(lambda: deployment.waiting() == (0, 0, 0), 80)
    assert [worker.stop() for worker in workers] == [0, 0]
    ends = [line for worker in workers for line in worker.log if "event" in line and "attempts" in line]
    kinds = [line["event"] for line in ends]
    assert sorted(kind for kind in kinds if kind not in ("busy", "fenced")) == ["done", "duplicate"]
    assert kinds.count("fenced") <= 1, "both may have begun before there was a checkpoint"
    assert kinds.count("busy") >= 6, "more often than the queue would bear a message to be received"
    assert {line["attempts"] for line in ends} == {0}
    assert deployment.dead() == []
    assert deployment.output_of(KEY) == OUT
    assert deployment.stored_keys("checkpoints/") == deployment.uploads() == []
    assert proxy.count("CompleteMultipartUpload") == 1
    assert len([request for request in proxy.requests if request.operation == "UploadPart"]) <= 4 + 1
