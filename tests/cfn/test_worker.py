"""The worker at work in a stack: with the task definition's environment, and as the role of the task."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import pytest
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError

from tests.cfn.templates import KINDS
from tests.cfn.workers import workers_of
from tests.support.deployment import events_of
from tests.support.example import lines, transformed
from tests.support.queues import arn_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.cfn.cloud import Cloud
    from tests.cfn.stack import Stack
    from tests.support.deployment import Deployment

pytestmark = [pytest.mark.slow, pytest.mark.parametrize("kind", KINDS)]

LARGE = 3000, 8000
"""24 MB: two parts of an upload by the worker, five by whoever puts it there."""
DENIED = {"AccessDenied", "AccessDeniedException", "AuthorizationError", "UnauthorizedOperation"}
"""As services call it."""
SQL = {"pCalculation": "a + 1 AS b", "pSchema": "a=Int64"}


@pytest.fixture
def stack(create: Callable[..., Stack], kind: str) -> Stack:
    """A stack that computes what the examples do."""
    return create(kind, **SQL)


@pytest.fixture
def deployment(cloud: Cloud, stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    """Worker processes of that stack."""
    yield from workers_of(cloud, stack, tmp_path, monkeypatch)


def test_objects_become_outputs(deployment: Deployment, kind: str) -> None:
    deployment.put(f"a folder/{kind}.jsonl", lines(10), Tagging="team=a")
    in_parts = TransferConfig(multipart_threshold=5 << 20, multipart_chunksize=5 << 20, use_threads=False)
    deployment.s3.upload_fileobj(io.BytesIO(lines(*LARGE)), deployment.input, "large.jsonl", Config=in_parts)
    deployment.put("bad.jsonl", lines(2) + b"bad\n")
    deployment.send("this is no event")
    log = deployment.drain()
    assert deployment.output_of(f"a folder/{kind}.jsonl") == transformed(10)
    assert deployment.output_of("large.jsonl") == transformed(*LARGE)
    assert deployment.output_of("bad.jsonl") == transformed(2)
    assert len(deployment.stored_keys("rejects/")) == 2
    assert deployment.waiting() == (0, 0, 0)
    (dead,) = deployment.dead()
    assert dead["body"] == "this is no event"
    assert "reason" in dead
    assert events_of(log).count("done") == 3
    assert deployment.stored_keys("checkpoints/") == deployment.uploads() == []


def test_what_a_worker_never_survives_is_taken_away_by_the_queue(deployment: Deployment, kind: str) -> None:
    deployment.send("kills whoever takes it")
    sqs, received = deployment.sqs, []  # S3's test event among it
    while found := sqs.receive_message(QueueUrl=deployment.queue, WaitTimeSeconds=1).get("Messages"):
        received.append(found[0]["Body"])
        handle = found[0]["ReceiptHandle"]
        sqs.change_message_visibility(QueueUrl=deployment.queue, ReceiptHandle=handle, VisibilityTimeout=0)
    assert received.count("kills whoever takes it") == 10, kind
    assert "kills whoever takes it" in [dead["body"] for dead in deployment.dead()]


def test_only_the_input_bucket_sends_events(cloud: Cloud, stack: Stack, kind: str) -> None:
    s3, queue = cloud.client("s3"), arn_of(cloud.client("sqs"), stack.outputs["oQueueUrl"])
    s3.create_bucket(Bucket=f"stranger-{kind}")
    to_queue = {"QueueConfigurations": [{"QueueArn": queue, "Events": ["s3:ObjectCreated:*"]}]}

    def send_events_of(bucket: str) -> None:
        s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=to_queue)

    send_events_of(stack.outputs["oInputBucket"])
    for stranger in (f"stranger-{kind}", stack.outputs["oOutputBucket"]):
        with pytest.raises(ClientError, match="Unable to validate the following destination configurations"):
            send_events_of(stranger)


def test_nothing_goes_without_tls(cloud: Cloud, stack: Stack, deployment: Deployment, kind: str) -> None:
    def plainly(request: Any, **_: object) -> None:
        request.headers["X-Forwarded-Proto"] = "http"  # as a load balancer tells of a request that came without

    credentials = stack.task_credentials()
    s3, sqs = (cloud.client(service, credentials) for service in ("s3", "sqs"))
    ask: list[Callable[[], Any]] = [
        lambda: s3.list_objects_v2(Bucket=deployment.input),
        lambda: s3.put_object(Bucket=deployment.output, Key=f"output/{kind}"),
        lambda: sqs.get_queue_attributes(QueueUrl=deployment.queue, AttributeNames=["All"]),
        lambda: sqs.send_message(QueueUrl=deployment.dead_letters, MessageBody="x"),
    ]
    for request in ask:
        request()
    for client in (s3, sqs):
        client.meta.events.register("before-send", plainly)
    for request in ask:
        with pytest.raises(ClientError, match="AccessDenied"):
            request()


def test_everything_else_is_denied(
    cloud: Cloud, create: Callable[..., Stack], stack: Stack, deployment: Deployment, kind: str
) -> None:
    other = create(kind, "other")
    deployment.put("in.jsonl", lines(1))
    credentials = stack.task_credentials()
    s3, sqs, ecs, iam, logs, kms = (
        cloud.client(service, credentials) for service in ("s3", "sqs", "ecs", "iam", "logs", "kms")
    )
    more = {name: cloud.client(name, credentials) for name in ("cloudformation", "cloudwatch", "ec2", "sns", "sts")}
    received, sent, queue, dead = deployment.input, deployment.output, deployment.queue, deployment.dead_letters
    policy = json.dumps({"Version": "2012-10-17", "Statement": []})
    cluster, service, others = stack.outputs["oCluster"], stack.outputs["oService"], other.outputs
    attempts: dict[str, Callable[[], Any]] = {
        "s3:PutObject of an input": lambda: s3.put_object(Bucket=received, Key="new", Body=b""),
        "s3:DeleteObject of an input": lambda: s3.delete_object(Bucket=received, Key="in.jsonl"),
        "s3:PutObjectTagging of an input": lambda: s3.put_object_tagging(
            Bucket=received, Key="in.jsonl", Tagging={"TagSet": []}
        ),
        "s3:DeleteObject of an output": lambda: s3.delete_object(Bucket=sent, Key="output/in.jsonl"),
        "s3:PutObject beside the outputs": lambda: s3.put_object(Bucket=sent, Key="in.jsonl", Body=b""),
        "s3:GetObject beside the outputs": lambda: s3.get_object(Bucket=sent, Key="in.jsonl"),
        "s3:GetObject of another stack": lambda: s3.get_object(Bucket=others["oInputBucket"], Key="in.jsonl"),
        "s3:PutObject of another stack": lambda: s3.put_object(Bucket=others["oOutputBucket"], Key="x", Body=b""),
        "s3:ListBucket of another stack": lambda: s3.list_objects_v2(Bucket=others["oOutputBucket"]),
        "s3:PutBucketPolicy": lambda: s3.put_bucket_policy(Bucket=sent, Policy=policy),
        "s3:GetBucketPolicy": lambda: s3.get_bucket_policy(Bucket=sent),
        "s3:DeleteBucket": lambda: s3.delete_bucket(Bucket=sent),
        "s3:PutBucketVersioning": lambda: s3.put_bucket_versioning(
            Bucket=received, VersioningConfiguration={"Status": "Suspended"}
        ),
        "s3:ListAllMyBuckets": s3.list_buckets,
        "sqs:ReceiveMessage of dead letters": lambda: sqs.receive_message(QueueUrl=dead),
        "sqs:ReceiveMessage of another stack": lambda: sqs.receive_message(QueueUrl=others["oQueueUrl"]),
        "sqs:ReceiveMessage of another stack's backfills": lambda: sqs.receive_message(
            QueueUrl=others["oBackfillQueueUrl"]
        ),
        "sqs:SendMessage to another stack": lambda: sqs.send_message(QueueUrl=others["oQueueUrl"], MessageBody="x"),
        "sqs:PurgeQueue": lambda: sqs.purge_queue(QueueUrl=queue),
        "sqs:DeleteQueue": lambda: sqs.delete_queue(QueueUrl=queue),
        "sqs:SetQueueAttributes": lambda: sqs.set_queue_attributes(
            QueueUrl=queue, Attributes={"VisibilityTimeout": "1"}
        ),
        "sqs:CreateQueue": lambda: sqs.create_queue(QueueName="mine"),
        "sqs:ListQueues": sqs.list_queues,
        "ecs:UpdateService": lambda: ecs.update_service(cluster=cluster, service=service, desiredCount=9),
        "ecs:ListTasks": lambda: ecs.list_tasks(cluster=cluster),
        "ecs:RunTask": lambda: ecs.run_task(cluster=cluster, taskDefinition=stack.outputs["oTaskFamily"]),
        "iam:CreateUser": lambda: iam.create_user(UserName="me"),
        "iam:ListRoles": iam.list_roles,
        "logs:DescribeLogGroups": logs.describe_log_groups,
        "kms:CreateKey": kms.create_key,
        "cloudformation:DeleteStack": lambda: more["cloudformation"].delete_stack(StackName=stack.name),
        "cloudwatch:DeleteAlarms": lambda: more["cloudwatch"].delete_alarms(AlarmNames=["x"]),
        "ec2:DescribeInstances": more["ec2"].describe_instances,
        "sns:CreateTopic": lambda: more["sns"].create_topic(Name="x"),
        "sts:AssumeRole": lambda: more["sts"].assume_role(RoleArn=others["oTaskRoleArn"], RoleSessionName="me"),
    }
    assert len(attempts) >= 15
    assert [what for what, attempt in attempts.items() if not is_denied(attempt)] == []


def is_denied(attempt: Callable[[], Any]) -> bool:
    """Return whether an attempt fails, and for want of permission."""
    try:
        attempt()
    except ClientError as error:
        return error.response["Error"]["Code"] in DENIED
    return False
