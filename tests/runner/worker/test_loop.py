"""Objects that arrive become outputs, and messages are gone only after that."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from runner.health import check
from tests.support.deployment import events_of, wait_for
from tests.support.example import lines, transformed
from tests.support.watching import Watched

if TYPE_CHECKING:
    from tests.support.deployment import Deployment


def test_an_object_becomes_its_output(deployment: Deployment) -> None:
    deployment.put("in/a b+c.jsonl", lines(100))
    deployment.drain_apart()
    assert deployment.output_of("in/a b+c.jsonl") == transformed(100)
    assert deployment.stored_keys() == ["output/in/a b+c.jsonl"]
    assert deployment.waiting() == (0, 0, 0)
    assert deployment.dead() == []


def test_workers_share_a_backlog(deployment: Deployment) -> None:
    for number in range(40):
        deployment.put(f"in/{number}", lines(10 + number))
    workers = [Watched(deployment, "--drain") for _ in range(2)]
    assert [worker.end() for worker in workers] == [0, 0]
    done = [line["key"] for worker in workers for line in worker.of("done")]
    assert sorted(done) == sorted(f"in/{number}" for number in range(40))
    for number in range(40):
        assert deployment.output_of(f"in/{number}") == transformed(10 + number)


def test_an_event_that_comes_twice_is_a_duplicate(deployment: Deployment) -> None:
    deployment.put("in", lines(10))
    *_, message = deployment.left()
    deployment.sqs.purge_queue(QueueUrl=deployment.queue)
    for _ in range(2):
        deployment.send(message["body"])
    log = deployment.drain(env={"WORKERS": "1"})
    assert [name for name in events_of(log) if name in {"done", "duplicate"}] == ["done", "duplicate"]
    assert deployment.output_of("in") == transformed(10)
    assert (deployment.waiting(), deployment.dead()) == ((0, 0, 0), [])


def test_an_input_that_is_no_longer_what_it_was_is_superseded(deployment: Deployment) -> None:
    deployment.put("gone", lines(10))
    deployment.s3.delete_object(Bucket=deployment.input, Key="gone")
    deployment.put("overwritten", lines(10))
    deployment.put("overwritten", lines(20))
    log = deployment.drain()
    assert sorted(line["key"] for line in log if line.get("event") == "superseded") == ["gone", "overwritten"]
    assert deployment.output_of("overwritten") == transformed(20)
    assert deployment.stored_keys() == ["output/overwritten"]
    assert (deployment.waiting(), deployment.dead()) == ((0, 0, 0), [])


def test_it_is_well_while_it_works(deployment: Deployment) -> None:
    worker = Watched(deployment)
    worker.logged("started")
    wait_for(lambda: check(deployment.env["HEALTH_FILE"]) is None)
    assert worker.stop() == 0


@pytest.mark.parametrize(
    ("setting", "value", "found"),
    [
        ("CALCULATION", "a +", "a +"),
        ("CALCULATION", "/nowhere.py", "/nowhere.py"),
        ("s3InputBucket", "test-nowhere", "there is no bucket test-nowhere"),
        ("s3OutputBucket", "test-nowhere", "there is no bucket test-nowhere"),
        ("SQSBatchQueue", "test-nowhere", "there is no queue test-nowhere"),
    ],
)
def test_what_it_cannot_work_with_ends_it_before_it_takes_a_message(
    deployment: Deployment, setting: str, value: str, found: str
) -> None:
    deployment.put("in", lines(10))
    assert found in deployment.refusal({"SCHEMA": None, setting: value})
    assert deployment.waiting() == (2, 0, 0)  # with the test event
