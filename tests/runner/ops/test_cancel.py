"""A job that an operator has cancelled ends without an output; nothing else does."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from runner.job.cancellation import RESOLUTION_MS
from runner.job.protocol import JobResult
from runner.machine import SystemClock
from tests.runner.job.test_resume import example, rejects_of
from tests.support.deployment import events_of
from tests.support.example import lines, transformed
from tests.support.jobs import KEY, OUTPUT, Free, Killed
from tests.support.operating import asked, operate
from tests.support.proxy import Refuse
from tests.support.queues import take_all
from tests.support.watching import Holding, Watched

if TYPE_CHECKING:
    from tests.support.deployment import Deployment
    from tests.support.jobs import Jobs
    from tests.support.proxy import Proxy

pytestmark = pytest.mark.slow

WORKER = {"PART_BYTES": "5MiB", "RANGE_BYTES": "1MiB"}


def cancelled(deployment: Deployment, key: str = KEY) -> dict[str, Any]:
    (told,) = asked(deployment, "cancel", key)["cancelled"]
    assert told["etag"] is not None
    return dict(told)


def nothing_is_left(deployment: Deployment) -> None:
    """Check that there is no output, nothing unfinished, and no message."""
    stored = [key for key in deployment.stored_keys() if not key.startswith(("rejects/", "checkpoints/cancelled/"))]
    assert stored == deployment.uploads() == []
    assert (deployment.waiting(), deployment.dead()) == ((0, 0, 0), [])


def ended(said: list[dict[str, Any]]) -> list[str]:
    return [word for word in events_of(said) if word in {"done", "duplicate", "cancelled", "superseded", "failed"}]


# By a worker


def test_a_job_that_runs_stops_and_leaves_nothing(deployment: Deployment, proxy: Proxy) -> None:
    deployment.put(KEY, example().content)
    proxy.rule = holding = Holding("UploadPart", OUTPUT, 2)
    worker = Watched(deployment, "--drain", env=WORKER)
    holding.wait()
    assert cancelled(deployment)["running"] == 1
    holding.released.set()
    said = worker.logged("cancelled")
    assert said["reason"].startswith("cancelled by an operator at 20")
    assert worker.end() == 0
    assert proxy.count("CompleteMultipartUpload") == 0
    assert [line["Jobs"] for line in worker.log if line.get("Outcome") == "cancelled"] == [1]
    nothing_is_left(deployment)
    index = json.loads(deployment.content(deployment.stored_keys("rejects/")[-1]) or b"")
    assert index["outcome"] == "cancelled"


def test_a_job_without_a_checkpoint_stops_before_it_publishes(deployment: Deployment, proxy: Proxy) -> None:
    deployment.put(KEY, lines(10))
    proxy.rule = holding = Holding("GetObject", KEY)
    worker = Watched(deployment, "--drain")
    holding.wait()
    assert cancelled(deployment)["running"] == 0
    holding.released.set()
    assert worker.end() == 0
    assert ended(worker.log) == ["cancelled"]
    nothing_is_left(deployment)


def test_a_job_that_waits_never_begins(deployment: Deployment, proxy: Proxy) -> None:
    """However often it is on the queue; a copy that was handed over keeps the time that it was sent first."""
    deployment.put(KEY, lines(10))
    deployment.send_event(KEY)
    first = int(time.time() * 1000)
    cancelled(deployment)
    deployment.send_event(KEY, attempts="1", first_sent=str(first))
    assert ended(deployment.drain()) == ["cancelled"] * 3
    assert [request for request in proxy.requests if (request.operation, request.key) == ("GetObject", KEY)] == []
    nothing_is_left(deployment)


@pytest.mark.parametrize("content", [lines(10), lines(20)])
def test_what_is_uploaded_or_submitted_after_that_is_transformed(deployment: Deployment, content: bytes) -> None:
    """Even if it is the same again."""
    deployment.put(KEY, lines(10))
    cancelled(deployment)
    deployment.put(KEY, content)
    assert sorted(ended(deployment.drain())) == ["cancelled", "done"]
    assert deployment.output_of(KEY) == transformed(content.count(b"\n"))


def test_a_submission_after_that_is_done(deployment: Deployment) -> None:
    deployment.put(KEY, lines(10))
    for raw in take_all(deployment.sqs, deployment.queue):
        deployment.sqs.delete_message(QueueUrl=deployment.queue, ReceiptHandle=raw["ReceiptHandle"])
    cancelled(deployment)
    asked(deployment, "submit", f"s3://{deployment.input}/")
    assert ended(deployment.drain()) == ["done"]


def test_a_dead_letter_that_is_redriven_after_that_is_done(deployment: Deployment) -> None:
    deployment.put(KEY, lines(10) + b"bad\n")
    deployment.drain(env={"ON_ERROR": "fail"})
    cancelled(deployment)
    asked(deployment, "redrive", "--all")
    assert ended(deployment.drain()) == ["done"]


@pytest.mark.parametrize("others", [(), (f"{KEY} and more", KEY[:-1])])
def test_an_object_that_may_not_be_read_can_be_cancelled(
    deployment: Deployment, proxy: Proxy, others: tuple[str, ...]
) -> None:
    proxy.rule = lambda request: (
        Refuse(403, "AccessDenied") if request.key == KEY and request.operation in {"HeadObject", "GetObject"} else None
    )
    for key in (KEY, *others):
        deployment.put(key, lines(10))
    told = cancelled(deployment)
    assert told["etag"] == deployment.s3.head_object(Bucket=deployment.input, Key=KEY)["ETag"].strip('"')
    log = deployment.drain()
    assert [line["key"] for line in log if line.get("event") == "cancelled"] == [KEY]
    assert sorted(ended(log)) == ["cancelled", *["done"] * len(others)]
    assert (deployment.waiting(), deployment.dead()) == ((0, 0, 0), [])


def test_an_object_that_may_not_be_read_and_is_gone_is_told(deployment: Deployment, proxy: Proxy) -> None:
    proxy.rule = lambda request: Refuse(403, "AccessDenied") if request.operation == "HeadObject" else None
    deployment.put("a and more", b"{}")
    assert "/a: there is no such object" in operate(deployment, "cancel", "a", exit_status=1).stdout


def test_an_object_that_can_have_no_output_can_be_cancelled(deployment: Deployment) -> None:
    deployment.env["OUTPUT_PREFIX"] = ""
    deployment.put("checkpoints/claim", lines(3))
    assert (cancelled(deployment, "checkpoints/claim")["published"], deployment.dead()) == (False, [])
    assert asked(deployment, "status")


# By a job in this process


def test_another_goes_on_with_a_job_that_is_cancelled_and_clears_it_away(jobs: Jobs) -> None:
    """Its worker has died, and its message is visible again."""
    jobs.deployment.put(KEY, example().content)
    with pytest.raises(Killed):
        jobs.do(control=Free(lives=2))
    assert len(jobs.left()) == 2
    cancelled(jobs.deployment)
    outcome = jobs.do(again=True)
    assert (outcome.kind, outcome.job) == (JobResult.CANCELLED, jobs.origin().job)
    assert [key for key in jobs.left() if "cancelled/" not in key] == []
    assert jobs.output() is None


@pytest.mark.usefixtures("one_by_one")
def test_a_job_looks_now_and_then_while_it_runs(jobs: Jobs, proxy: Proxy) -> None:
    jobs.look_interval_s = 0.0
    jobs.deployment.put(KEY, example().content)
    noted: list[Any] = []

    def note() -> None:
        if proxy.count("UploadPart") == 1 and not noted:
            noted.append(cancelled(jobs.deployment))

    assert jobs.do(control=Free(check=note), RANGE_BYTES="1MiB").kind is JobResult.CANCELLED
    assert proxy.count("UploadPart") <= 2
    assert [key for key in jobs.left() if "cancelled/" not in key] == []


def test_an_output_that_stands_stays(jobs: Jobs) -> None:
    jobs.deployment.put(KEY, lines(10))
    assert jobs.do().kind is JobResult.DONE
    told = cancelled(jobs.deployment)
    assert told["published"]
    assert "An output was published before; it stays" in operate(jobs.deployment, "cancel", KEY).stdout
    assert jobs.do(again=True).kind is JobResult.DUPLICATE
    assert jobs.do(again=True, CALCULATION="a + 2 AS b").kind is JobResult.CANCELLED
    assert jobs.output() == transformed(10)


class Instant(SystemClock):
    """A clock by which every job takes no time, however busy the machine is."""

    def monotonic(self) -> float:
        return 0.0


def test_a_small_new_job_asks_for_nothing_more(jobs: Jobs, proxy: Proxy) -> None:
    jobs.clock = Instant()
    jobs.deployment.put(KEY, lines(10))
    later = int(time.time() * 1000) + 60_000
    for sent, asks in ((later - 60_000 - RESOLUTION_MS, True), (later, False)):
        since = len(proxy.requests)
        assert jobs.do(sent=sent, CALCULATION=f"a + {sent} AS b").kind is JobResult.DONE
        operations = [request.operation for request in proxy.requests[since:]]
        jobs.deployment.s3.delete_object(Bucket=jobs.deployment.output, Key=OUTPUT)
        # "GetBucket" is a listing.
        assert operations == ["HeadBucket"] * 2 + ["GetBucket"] * asks + ["GetObject", "PutObject"]


def test_jobs_of_a_backlog_share_a_look_at_the_notes(deployment: Deployment, proxy: Proxy) -> None:
    for number in range(20):
        deployment.put(f"in/{number}.jsonl", lines(10))
    time.sleep(RESOLUTION_MS / 1000)
    assert ended(deployment.drain()) == ["done"] * 20
    assert proxy.count("GetBucket") < 10
    assert proxy.count("HeadObject") == 0


@pytest.mark.usefixtures("one_by_one")
def test_rejects_up_to_there_are_kept(jobs: Jobs, proxy: Proxy) -> None:
    jobs.deployment.put(KEY, example().content)
    cancel: list[Any] = []

    def note() -> None:
        if proxy.count("UploadPart") == 2 and not cancel:
            cancel.append(cancelled(jobs.deployment))

    assert jobs.do(control=Free(check=note)).kind is JobResult.CANCELLED
    names = jobs.deployment.stored_keys("rejects/")
    index = json.loads(jobs.deployment.content(names[-1]) or b"")
    assert (index["outcome"], index["objects"]) == ("cancelled", names[:-1])
    assert jobs.do(sent=int(time.time() * 1000)).kind is JobResult.DONE
    assert rejects_of(jobs.deployment) == example().rejects


# What is told


def test_what_is_not_there_is_told(deployment: Deployment) -> None:
    deployment.put("a", b"{}")
    said = operate(deployment, "cancel", "a", "--dry-run").stdout
    assert f"s3://{deployment.input}/a: would be cancelled. No checkpoint: a running job" in said
    assert deployment.stored_keys() == []
    said = operate(deployment, "cancel", "a", f"s3://{deployment.input}/b", exit_status=1).stdout
    assert f"s3://{deployment.input}/a: cancelled. No checkpoint: a running job" in said
    assert f"s3://{deployment.input}/b: there is no such object" in said
    said = operate(deployment, "cancel", "s3://another/a", exit_status=1).stderr
    assert f"expected a key, or s3://{deployment.input}/KEY" in said
