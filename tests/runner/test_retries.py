"""What may succeed later is tried again, what cannot is a dead letter at once, and a bad deployment stops itself."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import environment_with
from tests.support.deployment import events_of, wait_for
from tests.support.example import lines, transformed
from tests.support.proxy import Hold, Refuse
from tests.support.watching import Holding, Watched

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.deployment import Deployment
    from tests.support.proxy import Proxy, Request

pytestmark = pytest.mark.slow

TRACE = "Root=1-5759e988-bd862e3fe1be46a994272793"
LARGE = lines(1500, 8000)  # 12 MB: three parts of 5 MiB


def send_with_trace(deployment: Deployment, key: str, content: bytes) -> None:
    """Put an object, whose event has a trace header."""
    deployment.put(key, content)
    *_, message = deployment.left()
    deployment.sqs.purge_queue(QueueUrl=deployment.queue)
    deployment.sqs.send_message(
        QueueUrl=deployment.queue,
        MessageBody=message["body"],
        MessageSystemAttributes={"AWSTraceHeader": {"DataType": "String", "StringValue": TRACE}},
    )


def health(deployment: Deployment) -> tuple[int, str]:
    """Return what the health check of the container says."""
    done = subprocess.run(
        [sys.executable, "-m", "runner", "health"],
        env=environment_with(deployment.env),
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


# What may succeed later


@pytest.mark.parametrize("operation", ["GetObject", "HeadObject", "PutObject"])
def test_an_object_is_done_once_s3_is_well_again(deployment: Deployment, proxy: Proxy, operation: str) -> None:
    well = threading.Event()
    proxy.rule = lambda request: (
        Refuse(500, "InternalError") if request.operation == operation and not well.is_set() else None
    )
    deployment.put("in", lines(10))
    deployment.s3.put_object(Bucket=deployment.output, Key="output/in", Body=b"to be looked at")
    worker = Watched(deployment, "--drain")
    retry = worker.logged("retry")
    well.set()
    assert worker.end() == 0
    assert (retry["attempts"], retry["level"]) == (0, "warning")
    assert re.search("Internal ?(Server )?Error", retry["reason"])
    assert worker.of("done")[0]["attempts"] >= 1
    assert deployment.output_of("in") == transformed(10)
    assert (deployment.waiting(), deployment.dead()) == ((0, 0, 0), [])


def test_it_is_given_up_after_so_many_attempts(deployment: Deployment, proxy: Proxy) -> None:
    proxy.rule = lambda request: Refuse(500, "InternalError") if request.operation == "GetObject" else None
    send_with_trace(deployment, "in", lines(10))
    log = deployment.drain(env={"MAX_ATTEMPTS": "2"})
    attempts = [line["attempts"] for line in log if line.get("event") in {"retry", "failed"}]
    assert (attempts, events_of(log).count("failed")) == ([0, 1], 1)
    (letter,) = deployment.dead()
    assert letter["reason"].startswith("gave up after 2 attempts, the last of which: get_object of s3://")
    assert (letter["attempts"], letter["trace"], len(letter["job"])) == ("1", TRACE, 32)
    assert deployment.stored_keys() == []


def test_attempts_before_a_hand_over_count(deployment: Deployment, proxy: Proxy) -> None:
    proxy.rule = lambda request: Refuse(500, "InternalError") if request.operation == "GetObject" else None
    deployment.put("in", lines(10))
    deployment.sqs.purge_queue(QueueUrl=deployment.queue)
    deployment.send_event("in", attempts="4")
    log = deployment.drain()
    assert [line["attempts"] for line in log if line.get("event") in {"retry", "failed"}] == [4]
    assert deployment.dead()[0]["reason"].startswith("gave up after 5 attempts")


# What cannot succeed


CALCULATIONS = """
from transform import Calculation, CalculationsByPrefix
calculation = CalculationsByPrefix({
    "lines/": Calculation.from_sql("a + 1 AS b"),
    "missing/": Calculation.from_sql("nope + 1 AS b"),
})
"""


def test_what_cannot_succeed_is_a_dead_letter_at_once(deployment: Deployment, tmp_path: Path) -> None:
    calculations = tmp_path / "calculations.py"
    calculations.write_text(CALCULATIONS)
    packed = gzip.compress(lines(10_000))
    reasons = {
        "missing/column": "(in the worker's settings: SCHEMA=nope=TYPE)",
        "lines/array": "JSON array",
        "lines/wide": "iconv -f UTF-16 -t UTF-8",
        "lines/all rejected": "rejected",
        "lines/corrupt.gz": "corrupt gzip",
        "lines/truncated.gz": "gzip",
        "lines/misnamed.gz": "named like gzip",
        "lines/encoded": "Content-Encoding is `br`",
        "lines/encoded twice": "Content-Encoding is `gzip, br`",
        "other/in": "no calculation for the key `other/in`",
        "lines/" + "x" * 1014: "the output's key would have 1027 bytes, and S3 takes 1024",
    }
    contents = {
        "lines/array": b"[\n" + lines(10) + b"]",
        "lines/wide": lines(10).decode().encode("utf-16"),
        "lines/all rejected": b"bad\n" * 10,
        "lines/corrupt.gz": packed[:100] + b"\xff" * 100 + packed[200:],
        "lines/truncated.gz": packed[: len(packed) // 2],
        "lines/misnamed.gz": b"PK\x03\x04" + lines(10),
        "lines/encoded": b"\x0b\x02\x80{}\x03",
        "lines/encoded twice": b"\x0b\x02\x80{}\x03",
    }
    for key in reasons:
        encoding = {"lines/encoded": "br", "lines/encoded twice": "gzip, br"}.get(key)
        options = {"ContentEncoding": encoding} if encoding else {}
        deployment.put(key, contents.get(key, lines(10)), **options)
    log = deployment.drain(env={"CALCULATION": str(calculations), "SCHEMA": None, "BREAKER_FAILURES": "100"})
    assert "retry" not in events_of(log)
    dead = {json.loads(letter["body"])["Records"][0]["s3"]["object"]["key"]: letter for letter in deployment.dead()}
    assert len(dead) == len(reasons)
    for key, reason in reasons.items():
        letter = dead[key.replace(" ", "+")]
        assert reason in letter["reason"], key
        assert letter["attempts"] == "0"
        assert bool(letter.get("job")) == (key not in {"other/in", "lines/" + "x" * 1014})
    assert deployment.waiting() == (0, 0, 0)
    assert {key.split("/")[0] for key in deployment.stored_keys()} == {"rejects"}
    rejects, index = rejects_of(deployment, "lines/all rejected")
    assert [line["raw"] for line in rejects] == ["bad"] * 10
    assert (index["outcome"], index["rejected"], index["lines"]) == ("failed", 10, 10)


def rejects_of(deployment: Deployment, key: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the rejected lines of an input, and their index."""
    *stored, index = sorted(deployment.stored_keys(f"rejects/{key}/"))
    assert index.endswith("/index.json")
    content = json.loads(deployment.content(index) or b"")
    assert content["objects"] == stored
    return [json.loads(line) for one in stored for line in (deployment.content(one) or b"").splitlines()], content


@pytest.mark.parametrize(
    ("settings", "done", "rejected"),
    [
        ({"MAX_REJECTS": "4"}, False, 5),
        ({"MAX_REJECTS": "5"}, True, 5),
        ({"MAX_REJECTS": "5%"}, True, 5),
        ({"MAX_REJECTS": "4%"}, False, 5),
        ({"ON_ERROR": "fail"}, False, 1),
        ({}, True, 5),
    ],
    ids=str,
)
def test_as_many_rejects_as_are_allowed(
    deployment: Deployment, settings: dict[str, str], done: bool, rejected: int
) -> None:
    deployment.put("in", lines(95) + b"bad\n" * 5)
    deployment.drain(env=settings)
    assert deployment.output_of("in") == (transformed(95) if done else None)
    assert len(deployment.dead()) == (not done)
    rejects, index = rejects_of(deployment, "in")
    assert [line["offset"] for line in rejects] == [len(lines(95)) + 4 * number for number in range(rejected)]
    assert (index["outcome"], index["rejected"]) == ("published" if done else "failed", rejected)


def test_a_failure_late_in_a_large_object_leaves_nothing_but_its_rejects(deployment: Deployment) -> None:
    deployment.put("in", LARGE + b"bad\n")
    deployment.drain(env={"ON_ERROR": "fail", "PART_BYTES": "5MiB", "RANGE_BYTES": "1MiB"})
    (letter,) = deployment.dead()
    assert f"offset {len(LARGE)}" in letter["reason"]
    assert [line["raw"] for line in rejects_of(deployment, "in")[0]] == ["bad"]
    assert {key.split("/")[0] for key in deployment.stored_keys()} == {"rejects"}
    assert deployment.uploads() == []


# The circuit breaker


@pytest.mark.parametrize("workers", [1, 4])
def test_a_bad_deployment_spares_the_backlog(deployment: Deployment, proxy: Proxy, workers: int) -> None:
    together = threading.Event()

    def gathered() -> bool:
        if sum(one.operation == "GetObject" and one.key.startswith("in/") for one in proxy.requests) >= workers:
            together.set()
        return together.is_set()

    def reads_an_input(request: Request) -> bool:
        return request.operation == "GetObject" and request.key.startswith("in/")

    proxy.rule = lambda request: (  # so many jobs fail in the same moment
        Hold(threading.Event(), together) if reads_an_input(request) and not gathered() else None
    )
    for number in range(20):
        deployment.put(f"in/{number}", lines(10 + number))
    bad = Watched(deployment, env={"CALCULATION": "nope + 1 AS b", "SCHEMA": None, "WORKERS": str(workers)})
    status, reason = wait_for(lambda: found if (found := health(deployment))[0] and "failing" in found[1] else None)
    assert (status, "failing: jobs on 3 objects have failed for one cause: " in reason) == (1, True)
    assert "nope" in reason
    wait_for(lambda: deployment.waiting()[1:] == (0, 0))
    assert deployment.waiting() == (17, 0, 0)
    log = list(bad.log)
    assert bad.process.poll() is None
    assert bad.stop() == 1
    assert [line for line in bad.log[len(log) :] if line.get("event") == "begun"] == []
    dead = deployment.dead()
    assert len(dead) == 3
    for letter in dead:
        deployment.send(**letter)

    good = deployment.drain()
    assert [line["attempts"] for line in good if line.get("event") == "done"] == [0] * 20
    for number in range(20):
        assert deployment.output_of(f"in/{number}") == transformed(10 + number)
    assert deployment.dead() == []


@pytest.mark.parametrize("operation", ["PutObject", "HeadObject"])
def test_a_denial_opens_the_breaker_at_once(deployment: Deployment, proxy: Proxy, operation: str) -> None:
    proxy.rule = lambda request: Refuse(403, "AccessDenied") if request.operation == operation else None
    for number in range(5):
        deployment.put(f"in/{number}", lines(10))
        deployment.s3.put_object(Bucket=deployment.output, Key=f"output/in/{number}", Body=b"to be looked at")
    log = deployment.drain(exit_status=1, env={"WORKERS": "1"})
    assert events_of(log).count("denied") == 1
    status, reason = health(deployment)
    assert (status, reason[:24]) == (1, "failing: access denied: ")
    assert sum(deployment.waiting()) == 5
    assert deployment.dead() == []

    proxy.rule = lambda _request: None
    good = deployment.drain()
    assert [line["attempts"] for line in good if line.get("event") == "done"] == [0] * 5
    assert len(deployment.stored_keys("output/")) == 5


def test_a_denial_of_all_inputs_opens_the_breaker_and_costs_no_dead_letter(
    deployment: Deployment, proxy: Proxy
) -> None:
    """It may be that of each object, so that it takes several of them and counts as an attempt."""
    proxy.rule = lambda request: Refuse(403, "AccessDenied") if request.operation == "GetObject" else None
    for number in range(6):
        deployment.put(f"in/{number}", lines(10))
    log = deployment.drain(exit_status=1, env={"WORKERS": "1"})
    assert 1 <= events_of(log).count("denied") <= 3
    assert deployment.dead() == []

    proxy.rule = lambda _request: None
    good = deployment.drain()
    attempts = [line["attempts"] for line in good if line.get("event") == "done"]
    assert (len(attempts), sum(attempts) <= 3) == (6, True)


def test_one_object_that_is_denied_stops_nobody(deployment: Deployment, proxy: Proxy) -> None:
    proxy.rule = lambda request: Refuse(403, "AccessDenied") if request.key == "in/foreign" else None
    deployment.put("in/foreign", lines(10))
    for number in range(5):
        deployment.put(f"in/{number}", lines(10))
    worker = Watched(deployment, env={"WORKERS": "1", "MAX_ATTEMPTS": "2", "RETRY_MIN_S": "0.1", "RETRY_MAX_S": "0.2"})
    wait_for(lambda: deployment.waiting() == (0, 0, 0))
    assert worker.stop() == 0
    (letter,) = deployment.dead()
    assert letter["reason"].startswith("gave up after 2 attempts, the last of which: ")
    assert len(worker.of("done")) == 5


def test_a_bucket_that_is_denied_stops_the_worker_before_it_takes_a_message(
    deployment: Deployment, proxy: Proxy
) -> None:
    proxy.rule = lambda request: Refuse(403, "AccessDenied") if request.operation == "HeadBucket" else None
    deployment.put("in", lines(10))
    worker = Watched(deployment, "--drain")
    assert worker.end() == 1
    assert worker.errors[-1].startswith("runner: head_bucket of s3://")
    assert deployment.waiting() == (2, 0, 0)  # with the test event
    assert [message.keys() for message in deployment.left()] == [{"body"}] * 2


# Processes that die


def test_a_job_whose_process_is_killed_is_tried_once_more(deployment: Deployment, proxy: Proxy) -> None:
    proxy.rule = holding = Holding("GetObject")
    deployment.put("in", lines(10))
    worker = Watched(deployment, "--drain", env={"WORKERS": "1"})
    holding.wait()
    worker.children()[0].kill()
    holding.wait()
    proxy.rule = lambda _request: None
    holding.released.set()
    assert worker.end() == 0
    (died,) = worker.of("a job process has died")
    assert "killed by SIGKILL, most likely because memory ran out" in died["reason"]
    assert died["key"] == "in"
    assert [(line["event"], line["attempts"]) for line in worker.log if "attempts" in line] == [("done", 0)]
    assert deployment.output_of("in") == transformed(10)


def test_a_job_whose_process_is_killed_twice_is_tried_later(deployment: Deployment, proxy: Proxy) -> None:
    proxy.rule = holding = Holding("GetObject")
    deployment.put("in", lines(10))
    worker = Watched(deployment, "--drain", env={"WORKERS": "1"})
    for _ in range(2):
        holding.wait()
        worker.children()[0].kill()
    proxy.rule = lambda _request: None
    holding.released.set()
    assert worker.end() == 0
    assert [(line["event"], line["attempts"]) for line in worker.log if "attempts" in line] == [
        ("retry", 0),
        ("done", 1),
    ]
    assert deployment.output_of("in") == transformed(10)


def test_a_large_job_one_of_whose_processes_is_killed_is_done(
    deployment: Deployment, proxy: Proxy, tmp_path: Path
) -> None:
    """Only Python functions run in processes of their own."""
    calculation = tmp_path / "calc.py"
    calculation.write_text("def calculation(line):\n    return {**line, 'b': line['a'] + 1}\n")
    proxy.rule = holding = Holding("UploadPart", "output/in")
    deployment.put("in", LARGE)
    settings = {"PART_BYTES": "5MiB", "RANGE_BYTES": "1MiB", "CALCULATION": f"{calculation}:calculation", "SCHEMA": ""}
    worker = Watched(deployment, "--drain", env=settings)
    holding.wait()
    worker.children("transform.engine.processes")[0].kill()
    proxy.rule = lambda _request: None
    holding.released.set()
    assert worker.end() == 0
    assert [(line["event"], line["attempts"]) for line in worker.log if "attempts" in line] == [("done", 0)]
    assert deployment.output_of("in") == transformed(1500, 8000)
    assert deployment.uploads() == []
    assert deployment.stored_keys("checkpoints/") == []


def test_processes_that_do_not_start_any_more_stop_the_worker(deployment: Deployment, proxy: Proxy) -> None:
    worker = Watched(deployment, env={"WORKERS": "1"})
    deployment.put("in", lines(10))
    worker.logged("done")
    proxy.rule = lambda request: Refuse(403, "AccessDenied") if request.operation == "HeadBucket" else None
    worker.children()[0].kill()
    worker.logged("a job process has died")
    deployment.put("again", lines(10))
    worker.logged("a job process cannot work", 5)
    wait_for(lambda: "failing: job processes do not start" in health(deployment)[1])
    assert worker.stop() == 1
    assert sum(deployment.waiting()) == 1
    proxy.rule = lambda _request: None
    (done,) = [line for line in deployment.drain() if line.get("event") == "done"]
    assert (done["key"], done["attempts"]) == ("again", 0)


def test_a_process_that_dies_while_it_has_no_job_is_replaced(deployment: Deployment) -> None:
    worker = Watched(deployment, env={"WORKERS": "1"})
    deployment.put("in", lines(10))
    worker.logged("done")
    worker.children()[0].kill()
    worker.logged("a job process has died")
    deployment.put("again", lines(10))
    worker.logged("done", 2)
    assert worker.stop() == 0
    assert deployment.output_of("again") == transformed(10)
