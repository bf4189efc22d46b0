"""The roles of the templates may do what they need on the resources of their own stack, and nothing else."""

from __future__ import annotations

import re
from typing import Any

import pytest

from runner.permissions import Resources, policy
from runner.settings import Settings
from tests.cfn.functions import conditions_of, evaluate
from tests.cfn.templates import KINDS, container_of, defaults, load, of_type
from tests.support.iam import allows, grants
from transform.expressions.pseudonyms import KEY_VARIABLE

pytestmark = pytest.mark.parametrize("kind", KINDS)

KEY = "arn:aws:kms:us-east-1:111122223333:key/1"
TOPIC = "arn:aws:sns:us-east-1:111122223333:outcomes"
SQS = "sqs:us-east-1:111122223333:"
AFTER = {
    "keep": (),
    "tag": ("s3:PutObjectTagging", "s3:PutObjectVersionTagging"),
    "delete": ("s3:DeleteObject",),
}
"""What it takes to do with inputs what AFTER says."""
ECR = "111122223333.dkr.ecr.us-east-1.amazonaws.com"
PULL = ("ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer")
NAMES = {
    "AWS::Partition": "aws",
    "AWS::Region": "us-east-1",
    "AWS::AccountId": "111122223333",
    "AWS::StackName": "jobs",
    "rS3InputBucket": "in-bucket",
    "rS3InputBucket.Arn": "arn:aws:s3:::in-bucket",
    "rS3OutputBucket": "out-bucket",
    "rS3OutputBucket.Arn": "arn:aws:s3:::out-bucket",
    "rSQSQueue.Arn": "arn:aws:sqs:us-east-1:111122223333:jobs",
    "rSQSQueue.QueueName": "jobs",
    "rSQSDeadLetterQueue.Arn": "arn:aws:sqs:us-east-1:111122223333:dead",
    "rSQSDeadLetterQueue.QueueName": "dead",
    "rBackfillQueue.Arn": "arn:aws:sqs:us-east-1:111122223333:later",
    "rBackfillQueue.QueueName": "later",
    "rECSCluster": "cluster",
}


def evaluated(kind: str, part: Any, **given: str) -> Any:
    """Return a part of a template as the stack has it."""
    template = load(kind)
    names = {**defaults(template, **{"pDockerImage": f"{ECR}/transform:1.0", **given}), **NAMES}
    return evaluate(part, names, conditions_of(template, names))


def environment(kind: str, **given: str) -> dict[str, str]:
    """Return the environment of the container, but for what depends on the CPU."""
    variables = [told for told in container_of(load(kind))["Environment"] if told["Name"] != "WORKERS"]
    return {told["Name"]: told["Value"] for told in evaluated(kind, variables, **given)}


def worker_policy(kind: str, **given: str) -> dict[str, Any]:
    document = evaluated(kind, load(kind)["Resources"]["rECSTaskPolicy"]["Properties"]["PolicyDocument"], **given)
    return dict(document)


def start_policy(kind: str, **given: str) -> dict[str, Any]:
    (inline,) = load(kind)["Resources"]["rExecutionRole"]["Properties"]["Policies"]
    return dict(evaluated(kind, inline["PolicyDocument"], **given))


def listed(kind: str, **given: str) -> set[tuple[str, str]]:
    """Return what runner/permissions.py lists for the settings of the stack."""
    settings = environment(kind, **given)

    def arns(name: str, service: str) -> list[str]:
        texts = settings[name].split(",")
        return [text if text.startswith("arn:") else f"arn:aws:{service}{text}" for text in texts]

    (dead,) = arns("DEAD_LETTER_QUEUE", SQS)
    found: set[tuple[str, str]] = set()
    for bucket in arns("S3_INPUT_BUCKET", "s3:::"):
        for prefix in settings["INPUT_PREFIX"].split(","):
            for queue in (*arns("SQS_BATCH_QUEUE", SQS), *arns("BACKFILL_QUEUE", SQS)):
                resources = Resources(
                    input_bucket=bucket,
                    output_bucket=arns("S3_OUTPUT_BUCKET", "s3:::")[0],
                    queue=queue,
                    dead_letter_queue=dead,
                    keys=(given["pKmsKeyArn"],) if "pKmsKeyArn" in given else (),
                    tasks="arn:aws:ecs:us-east-1:111122223333:task/cluster/*",
                    outcome_topic=given.get("pOutcomeTopicArn"),
                    input_prefix=prefix,
                    output_prefix=settings["OUTPUT_PREFIX"],
                    rejects_prefix=settings["REJECTS_PREFIX"],
                    checkpoint_prefix=settings["CHECKPOINT_PREFIX"],
                )
                found |= grants(policy(resources))
            found |= {(action, f"{bucket}/{prefix}*") for action in AFTER[settings["AFTER"]]}
    return found


EXISTING = {
    "pInputBucket": "mine,theirs,ours",
    "pInputPrefix": "raw/,logs/2026/",
    "pOutputBucket": "shared",
    "pOutputPrefix": "scores/",
    "pQueueArn": f"arn:aws:{SQS}events",
    "pDeadLetterQueueArn": f"arn:aws:{SQS}dead-letters",
}


@pytest.mark.parametrize(
    "given",
    [
        *({}, {"pKmsKeyArn": KEY}, {"pOutcomeTopicArn": TOPIC}, EXISTING),
        *(
            {"pInputPrefix": "a/"},
            {"pInputPrefix": "a/,b/,c"},
            {"pInputBucket": "mine"},
            {"pInputBucket": "mine,theirs"},
        ),
        *({"pOutputPrefix": ""}, {"pOutputBucket": "shared"}, {"pAfter": "tag"}),
        *(
            {"pAfter": "delete", "pInputPrefix": "raw/"},
            {"pAfter": "tag", **EXISTING},
            {"pAfter": "delete", **EXISTING},
        ),
    ],
)
def test_the_worker_has_the_permissions_that_are_listed(kind: str, given: dict[str, str]) -> None:
    assert grants(worker_policy(kind, **given)) == listed(kind, **given)


def test_only_what_is_asked_for_is_read_or_deleted(kind: str) -> None:
    document = worker_policy(kind, pAfter="delete", **EXISTING)
    for bucket in ("mine", "theirs", "ours"):
        assert allows(document, "s3:DeleteObject", f"arn:aws:s3:::{bucket}/raw/a")
        assert allows(document, "s3:GetObject", f"arn:aws:s3:::{bucket}/logs/2026/a")
        for key in ("a", "raw", "logs/2025/a", "x/raw/a"):
            for action in ("s3:GetObject", "s3:DeleteObject"):
                assert not allows(document, action, f"arn:aws:s3:::{bucket}/{key}")
        assert not allows(document, "s3:PutObjectTagging", f"arn:aws:s3:::{bucket}/raw/a")
    assert not allows(document, "s3:DeleteObject", "arn:aws:s3:::shared/scores/a")
    assert not allows(document, "s3:DeleteObject", "arn:aws:s3:::shared/rejects/a"), "of another stack"
    assert allows(document, "s3:DeleteObject", "arn:aws:s3:::shared/rejects/jobs/a")


def test_settings_of_a_shared_output_bucket_are_accepted(kind: str) -> None:
    given = environment(kind, **{**EXISTING, "pInputBucket": "mine"})
    settings = Settings.read(given)
    assert settings.queue == EXISTING["pQueueArn"]
    assert settings.dead_letter_queue == EXISTING["pDeadLetterQueueArn"]
    assert (settings.output_bucket, settings.output_prefix) == ("shared", "scores/")
    assert (settings.rejects_prefix, settings.checkpoint_prefix) == ("rejects/jobs/", "checkpoints/jobs/")


def test_every_role_has_the_boundary(kind: str) -> None:
    boundary = "arn:aws:iam::111122223333:policy/Boundary"
    roles = of_type(load(kind), "AWS::IAM::Role")
    assert len(roles) >= 3
    for role in roles.values():
        bound = {"PermissionsBoundary": role["PermissionsBoundary"]}
        assert evaluated(kind, bound, pPermissionsBoundaryArn=boundary) == {"PermissionsBoundary": boundary}
        assert evaluated(kind, bound) == {}


def test_outputs_are_not_deleted(kind: str) -> None:
    document = worker_policy(kind)
    assert allows(document, "s3:PutObject", "arn:aws:s3:::out-bucket/output/a")
    assert allows(document, "s3:DeleteObject", "arn:aws:s3:::out-bucket/checkpoints/a.json")
    assert allows(document, "s3:DeleteObject", "arn:aws:s3:::out-bucket/rejects/a")
    for key in ("output/a", "a", "rejects", "other/checkpoints/a"):
        assert not allows(document, "s3:DeleteObject", f"arn:aws:s3:::out-bucket/{key}")
    assert not allows(document, "s3:PutObject", "arn:aws:s3:::out-bucket/a")


@pytest.mark.parametrize(
    ("image", "repository"),
    [
        (f"{ECR}/transform:1.0", "transform"),
        (f"{ECR}/team/transform:1.0", "team/transform"),
        (f"{ECR}/team/transform", "team/transform"),
        (f"{ECR}/transform@sha256:0123", "transform"),
        (f"{ECR}/transform:1.0@sha256:0123", "transform"),
    ],
)
def test_only_the_repository_of_the_image_is_read(kind: str, image: str, repository: str) -> None:
    document = start_policy(kind, pDockerImage=image)
    for action in PULL:
        assert allows(document, action, f"arn:aws:ecr:us-east-1:111122223333:repository/{repository}")
        for other in ("other", f"{repository}-2", f"other/{repository}", f"{repository}/other"):
            assert not allows(document, action, f"arn:aws:ecr:us-east-1:111122223333:repository/{other}")


@pytest.mark.parametrize(
    "image",
    [
        "ghcr.io/team/transform:1.0",
        "transform",
        "111122223333.dkr.ecr.cn-north-1.amazonaws.com.cn/transform:1.0",
        "111122223333.dkr-ecr.us-east-1.on.aws/transform:1.0",
    ],
)
def test_of_another_registry_any_repository_is_read(kind: str, image: str) -> None:
    # The name is found by the end of the registry's. If that is not found, the task has to start all the same.
    document = start_policy(kind, pDockerImage=image)
    assert all(allows(document, action, "arn:aws:ecr:us-east-1:111122223333:repository/any") for action in PULL)


@pytest.mark.parametrize(
    "arn",
    [
        "arn:aws:secretsmanager:us-east-1:111122223333:secret:team/hmac-AbCdEf",
        "arn:aws:ssm:us-east-1:111122223333:parameter/team/hmac",
    ],
)
def test_the_key_of_pseudonyms_is_read_by_ecs_and_only_if_it_is_given(kind: str, arn: str) -> None:
    pattern = load(kind)["Parameters"]["pHmacKeyArn"]["AllowedPattern"]
    assert all(re.fullmatch(pattern, given) for given in ("", arn))
    for wrong in ("hmac", f"{arn}*", f"{arn}:key::", arn.replace("us-east-1", "*:*"), TOPIC):
        assert not re.fullmatch(pattern, wrong)
    secrets, actions = container_of(load(kind))["Secrets"], ("secretsmanager:GetSecretValue", "ssm:GetParameters")
    assert evaluated(kind, [secrets], pHmacKeyArn=arn) == [[{"Name": KEY_VARIABLE, "ValueFrom": arn}]]
    assert evaluated(kind, [secrets]) == []
    document = start_policy(kind, pHmacKeyArn=arn)
    for action in actions:
        assert allows(document, action, arn)
        assert not allows(document, action, f"{arn}2")
        assert not allows(start_policy(kind), action, arn)
        assert not allows(worker_policy(kind, pHmacKeyArn=arn), action, arn)


def test_logs_are_written_to_the_log_group_of_the_stack(kind: str) -> None:
    document, start = start_policy(kind), "arn:aws:logs:us-east-1:111122223333:log-group:/ecs/"
    for action in ("logs:CreateLogStream", "logs:PutLogEvents"):
        assert allows(document, action, f"{start}jobs:log-stream:worker/1")
        assert not allows(document, action, f"{start}jobs-2:log-stream:worker/1")
    assert not allows(document, "logs:CreateLogGroup", f"{start}jobs")
