"""The worker does all it does with the permissions that are listed, and each of them is needed."""

from __future__ import annotations

import json
import re
import time
import uuid
from typing import TYPE_CHECKING, Any, Literal

import boto3
import pytest
from s3fs import S3FileSystem

from runner.aws.bucket import S3fsRequests, Store
from runner.errors import DeniedError
from runner.job.rejects import RejectObjects
from runner.permissions import ACTIONS, OPERATOR_ACTIONS, Resources, policy
from tests.conftest import ministack
from tests.runner.ops.test_status import put_dead
from tests.support.deployment import Deployment, deploy, wait_for
from tests.support.example import lines, transformed
from tests.support.fakes import FakeClock
from tests.support.operating import operate
from tests.support.proxy import Refuse, proxy_of
from tests.support.queues import arn_of
from tests.support.watching import Holding, Watched
from transform import Summary

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.support.proxy import Fault, Proxy, Request

pytestmark = pytest.mark.slow  # all together, which takes minutes

LARGE, LARGE_OUTPUT = lines(1500, 8000), transformed(1500, 8000)  # 12 MB: three parts
SETTINGS = {
    "PART_BYTES": "5MiB",
    "RANGE_BYTES": "1MiB",
    "MAX_REJECTS": "1",
    "MAX_ATTEMPTS": "2",
    "BREAKER_FAILURES": "100",
    "STOP_TIMEOUT_S": "1",
    "RETRY_MIN_S": "0",
    "RETRY_MAX_S": "1",
}
NOT_THERE = {"keys", "tasks", "outcome_topic", "outcome_bus", "tagged_inputs", "deleted_inputs"}
"""What ministack encrypts nothing for, and has no agent for; or what a worker goes on without, or is set to do."""

NOT_ENFORCED = {("outputs", "s3:PutObjectTagging")}
"""What ministack lets pass."""

DELETES_REJECTS = ("rejects", "s3:DeleteObject")
SELDOM = {DELETES_REJECTS, ("rejects", "s3:GetObject")}
"""What only an attempt asks for that is not the first one, or beside which another worker does the same job."""

BATCHED = ("sqs:SendMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility")
LISTED = [(kind, action) for kind, actions in ACTIONS.items() if kind not in NOT_THERE for action in actions]


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The endpoint of a server that enforces IAM."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUTH", "true")
        with ministack(tmp_path_factory.mktemp("strict") / "log") as endpoint:
            assert endpoint
            yield endpoint


@pytest.fixture
def guarded(
    aws: str,  # noqa: ARG001 # the credentials of who may do everything
    strict: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Deployment]:
    """A deployment on that server."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", strict)
    clients = [boto3.client(name, endpoint_url=strict) for name in ("s3", "sqs")]
    made = deploy(*clients, HEALTH_FILE=str(tmp_path / "health.json"))
    made.env |= SETTINGS
    yield made
    for process in made.started:
        process.kill()
        process.communicate()
    for client in clients:
        client.close()


@pytest.fixture
def gate(guarded: Deployment, strict: str) -> Iterator[Proxy]:
    """A proxy that the deployment's workers reach S3 through."""
    with proxy_of(strict) as made:
        guarded.env |= {"AWS_ENDPOINT_URL_S3": made.endpoint, "AWS_MAX_ATTEMPTS": "1"}
        yield made


def allow(
    deployment: Deployment,
    strict: str,
    without: tuple[str, str] | None = None,
    actions: Mapping[str, tuple[str, ...]] = ACTIONS,
    after: Literal["keep", "tag", "delete"] = "keep",
) -> None:
    """Have the deployment's workers, or its operator, be a user that has the permissions listed, but for one."""
    queue, dead = (arn_of(deployment.sqs, url) for url in (deployment.queue, deployment.dead_letters))
    buckets = (f"arn:aws:s3:::{deployment.input}", f"arn:aws:s3:::{deployment.output}")
    document = policy(Resources(*buckets, queue, dead, after=after), actions)
    kinds = Resources("i", "o", "q", "d", after=after).by_kind(actions)
    for kind, statement in zip(kinds, document["Statement"], strict=True):
        statement["Action"] = [action for action in statement["Action"] if (kind, action) != without]
        # Which are for batches, too; ministack has actions of their own.
        statement["Action"] += [f"{action}Batch" for action in BATCHED if action in statement["Action"]]
    document["Statement"] = [statement for statement in document["Statement"] if statement["Action"]]
    iam, user = boto3.client("iam", endpoint_url=strict), f"worker-{uuid.uuid4().hex}"
    iam.create_user(UserName=user)
    iam.put_user_policy(UserName=user, PolicyName="worker", PolicyDocument=json.dumps(document))
    key = iam.create_access_key(UserName=user)["AccessKey"]
    iam.close()
    deployment.env |= {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}


def put_all_kinds(deployment: Deployment, *, versioned: bool = False) -> None:
    """Put what has a worker do all that it can do, into a bucket with or without versions."""
    if versioned:
        kept = {"Status": "Enabled"}
        deployment.s3.put_bucket_versioning(Bucket=deployment.input, VersioningConfiguration=kept)
    deployment.put("tagged", lines(10) + b"bad\n", Tagging="team=a&cost=b")
    deployment.put("large", LARGE)
    deployment.put("large and bad", LARGE + b"bad\n" * 2)
    deployment.put("flaky", lines(10))
    deployment.send("malformed")
    deployment.send(json.dumps({"Records": [record(deployment), record(deployment, "ObjectCreated:Put")] * 2}))


def record(deployment: Deployment, name: str = "ObjectRemoved:Delete") -> dict[str, Any]:
    told = {"bucket": {"name": deployment.input}, "object": {"key": "gone", "eTag": "0", "size": 1}}
    return {"eventVersion": "2.1", "eventSource": "aws:s3", "eventName": name, "s3": told}


def flaky(request: Request) -> Fault | None:
    return Refuse(500, "InternalError") if (request.operation, request.key) == ("GetObject", "flaky") else None


@pytest.mark.parametrize("versioned", [False, True])
def test_a_worker_does_everything_with_what_is_listed(
    guarded: Deployment, gate: Proxy, strict: str, versioned: bool
) -> None:
    allow(guarded, strict)
    gate.rule = flaky
    put_all_kinds(guarded, versioned=versioned)
    guarded.drain()
    assert guarded.output_of("tagged") == transformed(10)
    assert guarded.output_of("large") == LARGE_OUTPUT
    tags = guarded.s3.get_object_tagging(Bucket=guarded.output, Key="output/tagged")["TagSet"]
    assert {tag["Key"]: tag["Value"] for tag in tags} == {"team": "a", "cost": "b"}
    assert {key.split("/")[1] for key in guarded.stored_keys("rejects/")} == {"tagged", "large and bad"}
    assert len(guarded.dead()) == 3
    assert guarded.waiting() == (0, 0, 0)
    assert guarded.stored_keys("checkpoints/") == guarded.uploads() == []


def test_a_job_is_handed_over_and_gone_on_with(guarded: Deployment, gate: Proxy, strict: str) -> None:
    allow(guarded, strict)
    gate.rule = holding = Holding("UploadPart", "output/", 2, passed_on=False)
    guarded.put("large", LARGE)
    worker = Watched(guarded)
    holding.wait()
    assert worker.stop() == 0
    holding.released.set()
    assert guarded.waiting() == (1, 0, 0)
    guarded.drain()
    assert guarded.output_of("large") == LARGE_OUTPUT
    assert guarded.stored_keys() == ["output/large"]
    assert gate.count("CreateMultipartUpload") == 1


@pytest.mark.parametrize(("kind", "action"), LISTED)
def test_each_permission_is_needed(guarded: Deployment, gate: Proxy, strict: str, kind: str, action: str) -> None:
    allow(guarded, strict, without=(kind, action))
    gate.rule = flaky
    put_all_kinds(guarded, versioned=action == "s3:GetObjectVersionTagging")
    worker = Watched(guarded, "--drain")
    if (kind, action) in NOT_ENFORCED | SELDOM:
        assert worker.end() == 0
        return
    # A denial of input objects may be that of each of them, and is counted against its message.
    assert worker.end() == (0 if kind == "input_objects" else 1)
    told = [str(line.get("reason") or line.get("error")) for line in worker.log if line.get("level") == "error"]
    assert re.search("denied|not authorized|Forbidden", "\n".join([*told, *worker.errors]))
    wait_for(lambda: not worker.family())


@pytest.mark.parametrize("without", [None, DELETES_REJECTS])
def test_rejects_of_an_earlier_attempt_are_deleted(
    guarded: Deployment, strict: str, without: tuple[str, str] | None
) -> None:
    guarded.s3.put_object(Bucket=guarded.output, Key="rejects/a/1/00000001.jsonl", Body=b"{}")
    allow(guarded, strict, without)
    user = {"key": guarded.env["AWS_ACCESS_KEY_ID"], "secret": guarded.env["AWS_SECRET_ACCESS_KEY"]}
    store = Store(guarded.output, S3fsRequests(S3FileSystem(**user, endpoint_url=strict, skip_instance_cache=True)))
    rejects = RejectObjects(store, "rejects/a/1/", "w", FakeClock(time.time() + 10), check=lambda: None)
    rejects.write(b"{}\n", Summary())
    about = {"job": "1", "outcome": "published"}
    if without is None:
        rejects.finish(Summary(rejected=1), about, tidy=True)
    else:
        with pytest.raises(DeniedError):
            rejects.finish(Summary(rejected=1), about, tidy=True)
    mine, earlier, index = (f"rejects/a/1/{name}" for name in ("00000001-w.jsonl", "00000001.jsonl", "index.json"))
    assert guarded.stored_keys("rejects/") == ([mine, index] if without is None else [mine, earlier, index])


COMMANDS = {
    "submit": ["submit", "s3://INPUT/"],
    "status": ["status"],
    "letters": ["letters"],
    "redrive": ["redrive", "--reason", "fixed"],
    "discard": ["discard", "--reason", "unwanted"],
    "cancel": ["cancel", "in/a"],
    "sweep": ["sweep", "--older-than", "0s"],
}
NEEDED_BY = {
    ("input_bucket", "s3:ListBucket"): "submit",
    ("input_bucket", "s3:GetBucketVersioning"): "submit",
    ("input_bucket", "s3:ListBucketVersions"): "submit",
    ("output_bucket", "s3:ListBucket"): "status",
    ("output_bucket", "s3:ListBucketMultipartUploads"): "sweep",
    ("outputs", "s3:AbortMultipartUpload"): "sweep",
    ("rejects", "s3:GetObject"): "sweep",
    ("rejects", "s3:DeleteObject"): "sweep",
    ("checkpoints", "s3:GetObject"): "status",
    ("checkpoints", "s3:PutObject"): "cancel",
    ("checkpoints", "s3:DeleteObject"): "sweep",
    ("queue", "sqs:GetQueueUrl"): "status",
    ("queue", "sqs:GetQueueAttributes"): "status",
    ("queue", "sqs:SendMessage"): "submit",
    ("dead_letter_queue", "sqs:GetQueueUrl"): "status",
    ("dead_letter_queue", "sqs:GetQueueAttributes"): "status",
    ("dead_letter_queue", "sqs:ReceiveMessage"): "status",
    ("dead_letter_queue", "sqs:ChangeMessageVisibility"): "status",
    ("dead_letter_queue", "sqs:DeleteMessage"): "redrive",
}
"""Every action that an operator has, but for those that ministack has nothing of, and a command that fails without."""
TOLD_BY = {("input_objects", "s3:GetObject"), ("outputs", "s3:GetObject")}
"""What `cancel` goes on without, though it then tells less."""


@pytest.fixture
def operated(guarded: Deployment) -> Deployment:
    """A deployment with something to do for each of the commands."""
    guarded.put("in/a", lines(10))
    guarded.s3.create_multipart_upload(Bucket=guarded.output, Key="output/a")
    guarded.s3.put_object(Bucket=guarded.output, Key="checkpoints/1.json", Body=b"{}")
    for name in ("00000001-v.jsonl", "00000001-w.jsonl", "index.json"):
        guarded.s3.put_object(Bucket=guarded.output, Key=f"rejects/in/a/2/{name}", Body=b"{}")
    time.sleep(1.1)  # S3 has whole seconds
    for reason in ("fixed", "not yet", "unwanted"):
        put_dead(guarded, "in/a", reason)
    return guarded


def let_leases_end(deployment: Deployment) -> None:
    """Wait until no job that runs can have written the rejected lines, so that they may be swept."""
    deployment.env |= {"VISIBILITY_TIMEOUT_S": "10", "MAX_LEASE_S": "10"}
    time.sleep(11.1)


def keep_versions(deployment: Deployment) -> None:
    deployment.s3.put_bucket_versioning(Bucket=deployment.input, VersioningConfiguration={"Status": "Enabled"})


def command(deployment: Deployment, name: str) -> list[str]:
    return [word.replace("INPUT", deployment.input) for word in COMMANDS[name]]


def test_an_operator_does_everything_with_what_is_listed(operated: Deployment, strict: str) -> None:
    allow(operated, strict, actions=OPERATOR_ACTIONS)
    let_leases_end(operated)
    for name in COMMANDS:
        operate(operated, *command(operated, name))
    keep_versions(operated)
    operate(operated, *command(operated, "submit"))
    assert [letter["reason"] for letter in operated.dead()] == ["not yet"]
    cancelled, index = operated.stored_keys()
    assert index == "rejects/in/a/2/index.json"
    assert (cancelled.startswith("checkpoints/cancelled/"), operated.uploads()) == (True, [])


def test_each_action_of_an_operator_is_there_for_something() -> None:
    listed = {(kind, action) for kind, actions in OPERATOR_ACTIONS.items() for action in actions}
    assert {one for one in listed if one[0] not in {"keys", "metrics"}} == NEEDED_BY.keys() | TOLD_BY


@pytest.mark.parametrize(("kind", "action"), NEEDED_BY)
def test_each_permission_of_an_operator_is_needed(operated: Deployment, strict: str, kind: str, action: str) -> None:
    allow(operated, strict, without=(kind, action), actions=OPERATOR_ACTIONS)
    if action == "s3:ListBucketVersions":
        keep_versions(operated)
    if kind == "rejects":
        let_leases_end(operated)
    said = operate(operated, *command(operated, NEEDED_BY[kind, action]), exit_status=1).stderr
    assert re.search("denied|not authorized|Forbidden|no permission to see", said), said


@pytest.mark.parametrize("after", ["tag", "delete"])
def test_a_worker_finishes_its_inputs_with_what_is_listed(
    guarded: Deployment, strict: str, after: Literal["tag", "delete"]
) -> None:
    keep_versions(guarded)
    allow(guarded, strict, after=after)
    guarded.put("a", lines(3))
    logged = guarded.drain(env={"AFTER": after})
    found = [line["input"] for line in logged if line.get("event") == "done"]
    assert found == [{"tag": "tagged", "delete": "deleted"}[after]]
    assert guarded.output_of("a") == transformed(3)
    assert is_there(guarded, "a") is (after == "tag")


@pytest.mark.parametrize("after", ["keep", "delete"])
def test_an_input_is_not_deleted_without_the_permission(
    guarded: Deployment, strict: str, after: Literal["keep", "delete"]
) -> None:
    """Given a policy for AFTER=keep, or without the action."""
    allow(guarded, strict, ("deleted_inputs", "s3:DeleteObject"), after=after)
    guarded.put("a", lines(3))
    guarded.put("b", lines(3))
    logged = guarded.drain(env={"AFTER": "delete"})
    assert [line["event"] for line in logged if line.get("level") == "error"] == ["input not finished"] * 2
    assert [line["input"] for line in logged if line.get("event") == "done"] == ["failed"] * 2
    assert (guarded.output_of("a"), is_there(guarded, "a"), guarded.dead()) == (transformed(3), True, [])


def is_there(deployment: Deployment, key: str) -> bool:
    return "Contents" in deployment.s3.list_objects_v2(Bucket=deployment.input, Prefix=key)


def test_what_there_is_none_of_is_left_out() -> None:
    least = policy(Resources("i", "o", "q", "d"))
    most = policy(Resources("i", "o", "q", "d", keys=("k1", "k2"), tasks="t", outcome_topic="s", outcome_bus="b"))
    assert most["Statement"][: len(least["Statement"])] == least["Statement"]
    assert [statement["Resource"] for statement in most["Statement"][-4:]] == [["k1", "k2"], ["t"], ["s"], ["b"]]
    assert len(most["Statement"]) == len(ACTIONS) - len({"tagged_inputs", "deleted_inputs"})
    for after in ("tag", "delete"):
        more = policy(Resources("i", "o", "q", "d", after=after))
        assert len(more["Statement"]) == len(least["Statement"]) + 1
    assert all(statement["Resource"] and statement["Action"] for statement in most["Statement"])
