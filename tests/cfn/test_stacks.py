"""The templates, deployed on an AWS of our own that enforces what they allow and deny."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from runner.permissions import Resources, policy
from runner.settings import Settings
from tests.cfn.cloud import UNKNOWN_TYPES, without_splits, without_what_is_unknown
from tests.cfn.templates import KINDS, load
from tests.support.iam import grants
from tests.support.queues import arn_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cfn.cloud import Cloud
    from tests.cfn.stack import Stack

    Create = Callable[..., Stack]

pytestmark = pytest.mark.parametrize("kind", KINDS)

NUMBERS = {"oMaxMessageAge", "oMaxBackfillAge"}
"""Outputs that name nothing."""


def policies_of(cloud: Cloud, stack: Stack, logical_id: str) -> list[dict[str, Any]]:
    """Return the policies of a role, all of which are its own."""
    iam, role = cloud.client("iam"), stack.resource(logical_id)
    assert iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"] == []
    names = iam.list_role_policies(RoleName=role)["PolicyNames"]
    return [iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"] for name in names]


def monitor(cloud: Cloud, stack: Stack) -> Stack:
    """Create the stack with its alarms and dashboard, with its outputs as parameters."""
    template = without_what_is_unknown(load("monitoring"))
    given = {f"p{name[1:]}": value for name, value in stack.outputs.items()}
    wanted = {name: value for name, value in given.items() if name in template["Parameters"]}
    return cloud.create(f"{stack.name}-monitoring", template, **wanted)


def test_what_is_taken_out_is_what_the_server_has_not(cloud: Cloud, kind: str) -> None:
    template = load(kind)
    used = {told["Type"] for told in template["Resources"].values()} & UNKNOWN_TYPES
    with pytest.raises(ClientError, match="Unrecognized resource types") as refused:
        cloud.create("whole", without_splits(template))
    listed = str(refused.value).rpartition("[")[2].rstrip("]").split(", ")
    assert set(listed) == used
    kept = without_what_is_unknown(load(kind))["Resources"]
    gone = {name: told for name, told in template["Resources"].items() if name not in kept}
    assert {told["Type"] for told in gone.values()} == used | {"AWS::CloudWatch::Alarm"}
    assert all(told["Type"] in UNKNOWN_TYPES or "Metrics" in told["Properties"] for told in gone.values())


def test_deployed_from_nothing(create: Create, kind: str) -> None:
    stack = create(kind)
    assert stack.status == "CREATE_COMPLETE"
    always = {name for name, told in load(kind)["Outputs"].items() if "Condition" not in told}
    assert stack.outputs.keys() == always
    assert all(stack.outputs.values())
    settings = Settings.read(stack.environment)
    assert settings.input_buckets == (stack.outputs["oInputBucket"],)
    assert settings.output_bucket == stack.outputs["oOutputBucket"]
    assert stack.outputs["oQueueUrl"].endswith(f"/{settings.queue}")
    assert (settings.calculation, settings.workers, settings.max_rejects) == ("/app/calculation.py", 2, None)


def test_monitoring_of_a_stack(cloud: Cloud, create: Create, kind: str) -> None:
    topic = cloud.client("sns").create_topic(Name=f"alarms-{kind}")["TopicArn"]
    stack = create(kind, pAlarmTopicArn=topic, pMaxMessageAge="7200")
    monitoring = monitor(cloud, stack)
    assert monitoring.status == "CREATE_COMPLETE"
    name = monitoring.outputs["oDashboard"]
    assert stack.outputs["oDashboardUrl"].endswith(f"#dashboards/dashboard/{name}")
    body = cloud.client("cloudwatch").get_dashboard(DashboardName=name)["DashboardBody"]
    assert "${" not in body.replace("${PROP('Dim.Outcome')}", "")
    assert json.loads(body)["widgets"]
    alarms = cloud.client("cloudwatch").describe_alarms(AlarmNamePrefix=f"{stack.name}-")["MetricAlarms"]
    assert len(alarms) == 8
    assert all(alarm["AlarmActions"] == [topic] for alarm in alarms)
    of_queues = {part["Value"] for alarm in alarms for part in alarm["Dimensions"] if part["Name"] == "QueueName"}
    urls = [stack.outputs[f"o{queue}Url"] for queue in ("Queue", "BackfillQueue", "DeadLetterQueue")]
    assert of_queues == {url.rpartition("/")[2] for url in urls}
    assert {alarm["Threshold"] for alarm in alarms} == {0.0, 7200.0, 864000.0}


def test_roles_may_do_what_is_listed_and_nothing_else(cloud: Cloud, create: Create, kind: str) -> None:
    sqs, key = cloud.client("sqs"), cloud.client("kms").create_key()["KeyMetadata"]["Arn"]
    topic = "arn:aws:sns:us-east-1:000000000000:outcomes"
    variants = {"plain": {}, "kms": {"pKmsKeyArn": key}, "outcomes": {"pOutcomeTopicArn": topic}}
    for name, given in variants.items():
        stack = create(kind, name, **given)
        outputs, settings = stack.outputs, Settings.read(stack.environment)
        resources = Resources(
            input_bucket=f"arn:aws:s3:::{outputs['oInputBucket']}",
            output_bucket=f"arn:aws:s3:::{outputs['oOutputBucket']}",
            queue=arn_of(sqs, outputs["oQueueUrl"]),
            dead_letter_queue=arn_of(sqs, outputs["oDeadLetterQueueUrl"]),
            keys=(key,) if name == "kms" else (),
            tasks=f"arn:aws:ecs:us-east-1:000000000000:task/{outputs['oCluster']}/*",
            outcome_topic=given.get("pOutcomeTopicArn"),
            output_prefix=settings.output_prefix,
            rejects_prefix=settings.rejects_prefix,
            checkpoint_prefix=settings.checkpoint_prefix,
        )
        assert settings.outcome_topic == given.get("pOutcomeTopicArn")
        backfills = replace(resources, queue=arn_of(sqs, outputs["oBackfillQueueUrl"]))
        (worker,) = policies_of(cloud, stack, "rECSTaskRole")
        assert grants(worker) == grants(policy(resources), policy(backfills))
        (start,) = policies_of(cloud, stack, "rExecutionRole")
        assert start["Statement"][1]["Resource"] == "arn:aws:ecr:*:*:repository/transform"
    if kind == "ec2":
        assert policies_of(cloud, stack, "rECSServiceRole") == []


def test_buckets_and_queues(cloud: Cloud, create: Create, kind: str) -> None:
    stack = create(kind)
    s3, sqs = cloud.client("s3"), cloud.client("sqs")
    for name in ("oInputBucket", "oOutputBucket"):
        bucket = stack.outputs[name]
        blocked = s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"]
        assert len(blocked) == 4
        assert all(blocked.values())
    assert s3.get_bucket_versioning(Bucket=stack.outputs["oInputBucket"])["Status"] == "Enabled"
    queue, dead = (
        sqs.get_queue_attributes(QueueUrl=stack.outputs[name], AttributeNames=["All"])["Attributes"]
        for name in ("oQueueUrl", "oDeadLetterQueueUrl")
    )
    for attributes in (queue, dead):
        assert attributes["MessageRetentionPeriod"] == "1209600"
        assert attributes["ReceiveMessageWaitTimeSeconds"] == "20"
        assert attributes["SqsManagedSseEnabled"] == "true"
    redrive = json.loads(queue["RedrivePolicy"])
    assert redrive["deadLetterTargetArn"] == dead["QueueArn"]
    # The worker gives up first, and says why.
    assert int(redrive["maxReceiveCount"]) > int(stack.environment["MAX_ATTEMPTS"])
    assert int(queue["VisibilityTimeout"]) == Settings.read(stack.environment).visibility_timeout_s


def test_every_option(cloud: Cloud, create: Create, kind: str) -> None:
    key = cloud.client("kms").create_key()["KeyMetadata"]["Arn"]
    topic = cloud.client("sns").create_topic(Name=f"alarms-{kind}")["TopicArn"]
    more = {"ec2": {"pInstanceType": "c7g.xlarge", "pMemory": "7000"}, "fargate": {"pMemory": "30720"}}
    stack = create(
        kind,
        pCalculation="a * b AS c",
        pWhere="a > 0",
        pSchema="a=Int64",
        pMaxRejects="5%",
        pPublicIp="DISABLED",
        pCpu="4096",
        pArchitecture="ARM64",
        pCapacity="SPOT",
        pInputPrefix="in/",
        pInputSuffix=".jsonl",
        pKmsKeyArn=key,
        pOutputEncryption="aws:kms",
        pAlarmTopicArn=topic,
        **more[kind],
    )
    assert stack.status == "CREATE_COMPLETE"
    settings = Settings.read(stack.environment)
    assert (settings.where, dict(settings.schema_), settings.max_rejects) == ("a > 0", {"a": "Int64"}, "5%")
    assert settings.workers == 4
    told = cloud.client("s3").get_bucket_notification_configuration(Bucket=settings.input_buckets[0])
    (to_queue,) = told["QueueConfigurations"]
    rules = {rule["Name"].lower(): rule["Value"] for rule in to_queue["Filter"]["Key"]["FilterRules"]}
    assert (to_queue["Events"], rules) == (["s3:ObjectCreated:*"], {"prefix": "in/", "suffix": ".jsonl"})
    assert stack.outputs["oAlarmTopicArn"] == topic


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"pCpu": "256", "pMemory": "4096"}, "With pCpu 256, pMemory is expected to be 1024 to 2048"),
        ({"pCpu": "4096", "pMemory": "31744"}, "With pCpu 4096, pMemory is expected to be 8192 to 30720"),
        ({"pDockerImage": "my image"}, "pDockerImage.*is expected to be the URI of an image"),
        ({"pMaxRejects": "many"}, "is expected to be a number such as 100 or a share such as 5%"),
        ({"pMinTasks": "-1"}, "pMinTasks"),
        ({"pCapacity": "CHEAP"}, "pCapacity"),
        ({"pKmsKeyArn": "alias/mine"}, "is expected to be the ARN of a key"),
        ({"pCalculation": " "}, "is expected to name a file in the image, or to be SQL"),
    ],
)
def test_wrong_parameters_are_refused_before_anything_is_made(
    create: Create, kind: str, given: dict[str, str], complaint: str
) -> None:
    if kind == "ec2" and "pCpu" in given:
        assert create(kind, **given).status == "CREATE_COMPLETE", "instances have any memory for any CPU"
        return
    with pytest.raises(ClientError, match=complaint):
        create(kind, **given)


def test_subnets_of_another_vpc_are_refused(cloud: Cloud, create: Create, kind: str) -> None:
    other = cloud.client("ec2").create_vpc(CidrBlock="10.1.0.0/16")["Vpc"]["VpcId"]
    with pytest.raises(ClientError, match="pSubnetIds is expected to be subnets of pVPCId"):
        create(kind, pVPCId=other)


def test_two_stacks_side_by_side(create: Create, kind: str) -> None:
    one, other = create(kind, "one"), create(kind, "other")
    assert one.status == other.status == "CREATE_COMPLETE"
    names = [{told for name, told in stack.outputs.items() if name not in NUMBERS} for stack in (one, other)]
    assert not names[0] & names[1]
    one.delete()
    assert other.status == "CREATE_COMPLETE"


def test_buckets_outlive_their_stack_which_can_be_made_again(cloud: Cloud, create: Create, kind: str) -> None:
    s3, names = cloud.client("s3"), ("oInputBucket", "oOutputBucket")
    first = create(kind)
    for name in names:
        s3.put_object(Bucket=first.outputs[name], Key="kept", Body=b"data")
    first.delete()
    for name in names:
        assert s3.get_object(Bucket=first.outputs[name], Key="kept")["Body"].read() == b"data"
    with pytest.raises(ClientError, match="NonExistentQueue"):
        cloud.client("sqs").get_queue_attributes(QueueUrl=first.outputs["oQueueUrl"])
    second = create(kind)
    assert second.status == "CREATE_COMPLETE"
    assert not {first.outputs[name] for name in names} & {second.outputs[name] for name in names}


def test_deployment_that_fails_leaves_nothing_in_the_way(cloud: Cloud, kind: str) -> None:
    before = {bucket["Name"] for bucket in cloud.client("s3").list_buckets()["Buckets"]}
    template = without_what_is_unknown(load(kind))
    math = load(kind)["Resources"]["rWakeAlarm"]  # which the server cannot make
    del math["Properties"]["AlarmActions"]
    name = f"fails-{kind}"
    failed = cloud.create(
        name, {**template, "Resources": {**template["Resources"], "rLast": {**math, "DependsOn": "rECSService"}}}
    )
    assert failed.status == "ROLLBACK_COMPLETE"
    assert {bucket["Name"] for bucket in cloud.client("s3").list_buckets()["Buckets"]} == before
    failed.delete()
    assert cloud.create(name, template).status == "CREATE_COMPLETE"
