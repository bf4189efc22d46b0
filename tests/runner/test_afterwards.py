"""Inputs that a worker tags or deletes, from the event to the message that is deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.example import lines, transformed
from tests.support.proxy import Refuse

if TYPE_CHECKING:
    from tests.support.deployment import Deployment
    from tests.support.proxy import Proxy


def keys_of(deployment: Deployment) -> list[str]:
    found = deployment.s3.list_objects_v2(Bucket=deployment.input)
    return [one["Key"] for one in found.get("Contents", ())]


@pytest.mark.parametrize("versioned", [False, True])
def test_a_worker_deletes_its_inputs(deployment: Deployment, versioned: bool) -> None:
    if versioned:
        deployment.s3.put_bucket_versioning(Bucket=deployment.input, VersioningConfiguration={"Status": "Enabled"})
    deployment.put("a", lines(3))
    deployment.put("bad", b"bad\n")
    logged = deployment.drain(env={"AFTER": "delete"})
    assert [line["input"] for line in logged if line.get("event") == "done"] == ["deleted"]
    assert (keys_of(deployment), deployment.output_of("a")) == (["bad"], transformed(3))
    assert len(deployment.dead()) == 1
    # Late messages about it, one of them about a version before it, change nothing.
    deployment.put("a", lines(1))
    deployment.send_event("a", "0001")
    deployment.s3.delete_object(Bucket=deployment.input, Key="a")
    deployment.drain(env={"AFTER": "delete"})
    assert (deployment.output_of("a"), deployment.waiting()) == (transformed(3), (0, 0, 0))


def test_an_input_that_was_not_deleted_is_deleted_later(deployment: Deployment, proxy: Proxy) -> None:
    left = [1]

    def rule(request: object) -> Refuse | None:
        if getattr(request, "operation", "") == "DeleteObject" and getattr(request, "key", "") == "a" and left:
            return Refuse(503, "SlowDown") if left.pop() else None
        return None

    proxy.rule = rule
    deployment.put("a", lines(3))
    logged = deployment.drain(env={"AFTER": "delete", "RETRY_MIN_S": "0", "RETRY_MAX_S": "1"})
    outcomes = [(line["event"], line["input"]) for line in logged if "input" in line]
    assert outcomes[-1][1] == "deleted"
    assert {event for event, _ in outcomes} <= {"done", "duplicate"}
    assert (keys_of(deployment), deployment.dead()) == ([], [])


def test_submit_finishes_inputs_whose_outputs_exist(deployment: Deployment) -> None:
    """Given a deployment that kept its inputs, and then is to delete them."""
    deployment.put("a", lines(3))
    deployment.drain()
    assert keys_of(deployment) == ["a"]
    deployment.send_event("a")
    logged = deployment.drain(env={"AFTER": "delete"})
    # Whether it is made again depends on the sequencer of the server.
    assert [line["input"] for line in logged if line.get("event") in ("done", "duplicate")] == ["deleted"]
    assert keys_of(deployment) == []
