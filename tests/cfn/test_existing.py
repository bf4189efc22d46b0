"""Stacks beside what somebody has already: each row of the table in docs/deployment.md, deployed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sysconfig
from typing import TYPE_CHECKING, Any

import pytest

from runner.settings import Settings
from tests.cfn.cloud import ADMIN
from tests.cfn.templates import KINDS
from tests.cfn.what_exists import make_what_exists
from tests.cfn.workers import deployment_of, end_all, without_own_account
from tests.conftest import ROOT
from tests.support.deployment import events_of, wait_for
from tests.support.example import lines, transformed
from tests.support.queues import arn_of, take_all

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cfn.cloud import Cloud
    from tests.cfn.stack import Stack
    from tests.cfn.what_exists import WhatExists

    Create = Callable[..., Stack]

pytestmark = pytest.mark.parametrize("kind", KINDS)

SQL = {"pCalculation": "a + 1 AS b", "pSchema": "a=Int64"}
BUCKET = {"pInputBucket": "<bucket>"}
TABLE: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "a VPC with two subnets, and nothing else": ({}, {"INPUT_PREFIX": "", "OUTPUT_PREFIX": "output/"}),
    "a bucket that objects arrive in": (BUCKET, {"S3_INPUT_BUCKET": "<bucket>"}),
    "two or three such buckets": (
        {"pInputBucket": "<bucket>,<another>,<third>"},
        {"S3_INPUT_BUCKET": "<bucket>,<another>,<third>"},
    ),
    "objects for others in the same bucket": (
        {**BUCKET, "pInputPrefix": "raw/,logs/", "pInputSuffix": ".jsonl,.json"},
        {"INPUT_PREFIX": "raw/,logs/", "INPUT_SUFFIX": ".jsonl,.json"},
    ),
    "a queue that gets the events of the bucket": (
        {**BUCKET, "pQueueArn": "<queue>"},
        {"SQS_BATCH_QUEUE": "<queue>", "S3_INPUT_BUCKET": "<bucket>"},
    ),
    "a dead-letter queue": ({"pDeadLetterQueueArn": "<dead-letters>"}, {"DEAD_LETTER_QUEUE": "<dead-letters>"}),
    "a bucket for outputs, which others use as well": (
        {"pOutputBucket": "<outputs>", "pOutputPrefix": "scores/"},
        {"S3_OUTPUT_BUCKET": "<outputs>", "OUTPUT_PREFIX": "scores/", "REJECTS_PREFIX": "rejects/<stack>/"},
    ),
    "one bucket for both": (
        {**BUCKET, "pInputPrefix": "raw/", "pOutputBucket": "<bucket>"},
        {"S3_INPUT_BUCKET": "<bucket>", "S3_OUTPUT_BUCKET": "<bucket>", "OUTPUT_PREFIX": "output/"},
    ),
    "programs that expect outputs under other names": (
        {"pOutputKey": "{dir}{stem}.scored.jsonl"},
        {"OUTPUT_KEY": "{dir}{stem}.scored.jsonl"},
    ),
    "no use for inputs once they are transformed": ({"pAfter": "delete"}, {"AFTER": "delete"}),
    "a KMS key": ({"pKmsKeyArn": "<key>"}, {}),
    "a permissions boundary for roles": ({"pPermissionsBoundaryArn": "<boundary>"}, {}),
    "rules for the names of buckets": ({"pBucketPrefix": "team-a"}, {}),
    "a topic for alarms, or for outcomes": (
        {"pAlarmTopicArn": "<topic>", "pOutcomeTopicArn": "<topic>"},
        {"OUTCOME_TOPIC": "<topic>"},
    ),
    "other settings than the defaults": (
        {"pSettings": '{"MAX_LINE_BYTES": "64MiB", "ON_ERROR": "fail"}'},
        {"SETTINGS": '{"MAX_LINE_BYTES": "64MiB", "ON_ERROR": "fail"}'},
    ),
    "subnets without public addresses": ({"pPublicIp": "DISABLED"}, {}),
}
"""Parameters by what somebody has, and what workers then have in their environment."""


@pytest.fixture
def exists(cloud: Cloud) -> WhatExists:
    """What there is before the stack."""
    return make_what_exists(cloud)


def table_of_the_page() -> dict[str, set[str]]:
    """Return the parameters in the table of docs/deployment.md by what somebody has."""
    page = (ROOT / "docs" / "deployment.md").read_text()
    rows = page.partition("| I have | set |")[2].partition("\n\n")[0].splitlines()[2:]
    cells = [row.strip("| ").split(" | ") for row in rows]
    return {have: set(re.findall(r"`(p[A-Z]\w+)", told)) for have, told in cells}


def test_every_row_of_the_page_is_here(kind: str) -> None:
    assert table_of_the_page() == {have: set(given) for have, (given, _) in TABLE.items()}, kind


@pytest.mark.parametrize("have", TABLE)
def test_row(create: Create, exists: WhatExists, kind: str, have: str) -> None:
    given, expected = TABLE[have]
    stack = create(kind, **{**SQL, **exists.fill_in(given)})
    assert stack.status == "CREATE_COMPLETE"
    told = {name: value.replace("<stack>", stack.name) for name, value in exists.fill_in(expected).items()}
    environment = stack.environment
    assert {name: environment[name] for name in told} == told
    if "," not in environment["S3_INPUT_BUCKET"] or "input_buckets" in Settings.model_fields:
        Settings.read(environment)


def test_key_and_names_are_used(cloud: Cloud, create: Create, exists: WhatExists, kind: str) -> None:
    names = {"pKmsKeyArn": "<key>", "pBucketPrefix": "team-a"}
    stack = create(kind, **exists.fill_in(names))
    for output, what in (("oInputBucket", "input"), ("oOutputBucket", "output")):
        assert re.fullmatch(rf"team-a-{what}-[0-9a-f-]{{36}}", stack.outputs[output])
    for queue in ("rSQSQueue", "rBackfillQueue", "rSQSDeadLetterQueue"):
        attributes = cloud.client("sqs").get_queue_attributes(
            QueueUrl=stack.resource(queue), AttributeNames=["KmsMasterKeyId"]
        )["Attributes"]
        assert attributes["KmsMasterKeyId"] == exists.names["key"]


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"pQueueArn": "<queue>"}, "With pQueueArn, pInputBucket is expected to be the bucket"),
        ({"pInputBucket": "a-1,b-2,c-3,d-4"}, "is expected to be up to 3 names of buckets"),
        ({"pInputBucket": "s3://bucket"}, "is expected to be up to 3 names of buckets"),
        ({"pInputPrefix": "a,b,c,d"}, "is expected to be up to 3 prefixes"),
        ({"pInputPrefix": "a*"}, "is expected to be up to 3 prefixes"),
        ({"pInputSuffix": '".jsonl"'}, "is expected to be without"),
        ({"pOutputPrefix": "/a"}, "is expected to have letters"),
        ({"pSettings": "MAX_LINE_BYTES=1"}, "is expected to be a JSON object"),
        ({"pBackfillShare": "0%"}, "is expected to be a share"),
        ({"pAfter": "move"}, "pAfter"),
        ({"pBucketPrefix": "Team"}, "is expected to be at most 19 lowercase letters"),
    ],
)
def test_wrong_parameters_are_refused(
    create: Create, exists: WhatExists, kind: str, given: dict[str, str], complaint: str
) -> None:
    with pytest.raises(Exception, match=complaint):
        create(kind, **exists.fill_in(given))


def run_command(cloud: Cloud, command: str) -> None:
    """Run a command of the AWS CLI, as somebody who copies it."""
    scripts = sysconfig.get_path("scripts")
    where = {"AWS_ENDPOINT_URL": cloud.endpoint, "AWS_CA_BUNDLE": str(cloud.authority), "AWS_CONFIG_FILE": os.devnull}
    env = {**ADMIN, **where, "PATH": f"{scripts}:{os.environ['PATH']}", "HOME": os.devnull}
    subprocess.run(["bash", "-euc", command], env=env, check=True, timeout=120)


def events_on(cloud: Cloud, stack: Stack, count: int) -> list[str]:
    """Return the keys of the events on the queue of a stack once so many are there, S3's test event aside."""
    keys: list[str] = []

    def have_come(wait_s: int = 0) -> bool:
        for raw in take_all(cloud.client("sqs"), stack.outputs["oQueueUrl"], wait_s):
            body = json.loads(raw["Body"])
            keys.extend([body["detail"]["object"]["key"]] if "detail" in body else [])
            keys.extend(record["s3"]["object"]["key"] for record in body.get("Records", []))
        return len(keys) >= count

    wait_for(have_come)
    have_come(wait_s=1)  # as may others, which should not
    return sorted(keys)


def test_events_of_an_existing_bucket(cloud: Cloud, create: Create, exists: WhatExists, kind: str) -> None:
    s3, bucket = cloud.client("s3"), exists.names["bucket"]
    stack = create(kind, **exists.fill_in({"pInputBucket": "<bucket>,<another>", "pInputPrefix": "raw/,logs/"}))
    run_command(cloud, stack.outputs["oEventsCommand"])
    told: dict[str, Any] = s3.get_bucket_notification_configuration(Bucket=bucket)
    assert told["EventBridgeConfiguration"] == {}
    assert [queue["Id"] for queue in told["QueueConfigurations"]] == ["own"], "which was there before"
    for name in ("bucket", "another", "third"):
        for key in ("raw/a.jsonl", "logs/b", "other/c", "raw"):
            s3.put_object(Bucket=exists.names[name], Key=key, Body=b"{}")
    assert events_on(cloud, stack, 4) == ["logs/b", "logs/b", "raw/a.jsonl", "raw/a.jsonl"]
    assert len(take_all(cloud.client("sqs"), exists.url("queue"))) >= 4, "as before"


@pytest.mark.parametrize(
    ("given", "keys"),
    [
        ({"pInputPrefix": "raw/", "pInputSuffix": ".jsonl"}, ["raw/a.jsonl"]),
        ({"pInputPrefix": "raw/,logs/"}, ["logs/b.txt", "raw/a.jsonl", "raw/b.txt"]),
        ({"pInputSuffix": ".jsonl,.json"}, ["a.json", "raw/a.jsonl"]),
        ({"pInputPrefix": "raw/,logs/", "pInputSuffix": ".jsonl"}, ["logs/b.txt", "raw/a.jsonl", "raw/b.txt"]),
        ({}, ["a.json", "logs/b.txt", "raw/a.jsonl", "raw/b.txt"]),
    ],
)
def test_events_of_a_created_bucket(
    cloud: Cloud, create: Create, kind: str, given: dict[str, str], keys: list[str]
) -> None:
    # With prefixes and suffixes, of which one is a list, the worker ignores those with another end.
    stack = create(kind, **given)
    assert "oEventsCommand" not in stack.outputs
    for key in ("raw/a.jsonl", "raw/b.txt", "logs/b.txt", "a.json"):
        cloud.client("s3").put_object(Bucket=stack.outputs["oInputBucket"], Key=key, Body=b"{}")
    assert events_on(cloud, stack, len(keys)) == keys


def exports_of(stack: Stack) -> list[str]:
    (told,) = stack.cloud.client("cloudformation").describe_stacks(StackName=stack.id)["Stacks"]
    return [output["ExportName"] for output in told["Outputs"] if "ExportName" in output]


def test_stacks_with_the_same_outputs_have_the_same_export(create: Create, exists: WhatExists, kind: str) -> None:
    # CloudFormation refuses the second one, which the emulator does not.
    shared = exists.fill_in({"pOutputBucket": "<outputs>"})
    first = create(kind, "1")
    (own,) = exports_of(first)
    (same,) = exports_of(create(kind, "2", pOutputBucket=first.outputs["oOutputBucket"]))
    assert own == same
    assert re.fullmatch(r"[A-Za-z0-9:-]{1,255}", own)
    prefixes = ["output/", "", "a/", "a.b/", "a_b/", "a-b/", "a/b/", "ab/"]
    names = [exports_of(create(kind, str(i), pOutputPrefix=p, **shared)) for i, p in enumerate(prefixes, start=3)]
    assert len({name for (name,) in names} | {own}) == len(prefixes) + 1
    assert all(re.fullmatch(r"[A-Za-z0-9:-]{1,255}", name) for (name,) in names)


@pytest.mark.slow
def test_worker_beside_what_exists(
    cloud: Cloud, create: Create, exists: WhatExists, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_own_account(monkeypatch)
    own = {"pQueueArn": "<queue>", "pDeadLetterQueueArn": "<dead-letters>"}
    shared = {**BUCKET, "pOutputBucket": "<outputs>"}
    one = create(kind, "1", **SQL, **exists.fill_in({**shared, **own, "pOutputPrefix": "one/"}))
    other = create(kind, "2", **SQL, **exists.fill_in({**shared, "pInputPrefix": "raw/", "pOutputPrefix": "two/"}))
    run_command(cloud, other.outputs["oEventsCommand"])
    deployments = [deployment_of(cloud, stack, tmp_path / stack.name) for stack in (one, other)]
    deployments[0].put("raw/a.jsonl", lines(10))
    deployments[0].put("raw/bad.jsonl", lines(2) + b"bad\n")
    deployments[0].send("this is no event")
    try:
        logs = [deployment.drain() for deployment in deployments]
    finally:
        end_all(*deployments)
    for prefix, stack, log in (("one/", one, logs[0]), ("two/", other, logs[1])):
        assert events_of(log).count("done") == 2, prefix
        assert deployments[0].content(f"{prefix}raw/a.jsonl") == transformed(10)
        assert deployments[0].content(f"{prefix}raw/bad.jsonl") == transformed(2)
        assert len(deployments[0].stored_keys(f"rejects/{stack.name}/")) == 2
    assert [dead["body"] for dead in deployments[0].dead()] == ["this is no event"]
    assert deployments[1].dead() == []
    assert arn_of(cloud.client("sqs"), exists.url("queue")) == one.environment["SQS_BATCH_QUEUE"]
