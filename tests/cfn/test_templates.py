"""What the templates say, without deploying them."""

from __future__ import annotations

import re
from typing import Any

import pytest

from runner.cli import cli
from runner.settings import Settings
from tests.cfn.templates import KINDS, PATHS, container_of, everything_in, load, of_type
from tests.conftest import ROOT

BOTH = """rS3InputBucket rS3OutputBucket rSQSQueue rSQSDeadLetterQueue rSQSBatchQueuePolicy rECSCluster rTaskDefinition
    rExecutionRole rECSTaskRole rECSService rLogGroup"""
IDS = {
    "fargate": f"{BOTH} rAutoScalingRole rAutoScalingPolicy rAutoScalingTarget",
    "ec2": f"""{BOTH} rSQSCloudWatchAlarm rScaleUpPolicy rScaleDownPolicy rECSAutoScalingGroup rInstanceSecurityGroup
    rECSServiceRole rEC2Role""",
}
"""Of the AWS sample that these templates take the place of."""

MUST_BE_GIVEN = {
    *("pDockerImage", "pVPCId", "pSubnetIds", "pRouteTableIds"),
    *("pTaskFamily", "pCluster", "pService", "pQueueName", "pBackfillQueueName", "pDeadLetterQueueName", "pLogGroup"),
}
CONSTRAINTS = {"AllowedPattern", "AllowedValues", "MinValue", "MaxLength"}
ON_EVERYTHING = {
    "ecr:GetAuthorizationToken",
    "ecs:DiscoverPollEndpoint",
    "ssmmessages:CreateControlChannel",
    "ssmmessages:CreateDataChannel",
    "ssmmessages:OpenControlChannel",
    "ssmmessages:OpenDataChannel",
}
"""Actions that AWS defines no resources for."""


def documents(template: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the statements of all roles."""
    found = [part for part in everything_in(template["Resources"]) if isinstance(part, dict) and "Effect" in part]
    assert len(found) > 10
    return [statement for statement in found if "Principal" not in statement]


@pytest.mark.parametrize("kind", KINDS)
def test_known_ids(kind: str) -> None:
    assert set(IDS[kind].split()) <= load(kind)["Resources"].keys()


@pytest.mark.parametrize("kind", PATHS)
def test_every_parameter_is_explained(kind: str) -> None:
    template = load(kind)
    parameters = template["Parameters"]
    shown = template["Metadata"]["AWS::CloudFormation::Interface"]
    grouped = [name for group in shown["ParameterGroups"] for name in group["Parameters"]]
    assert sorted(grouped) == sorted(parameters)
    assert {name for name, told in parameters.items() if "Default" not in told} <= MUST_BE_GIVEN
    for name, told in parameters.items():
        assert told["Description"], name
        assert told["Type"].startswith(("AWS::", "List<AWS::")) or CONSTRAINTS & told.keys(), name
        if "AllowedPattern" in told:
            assert told["ConstraintDescription"].startswith(("is expected", "are expected")), name
            assert "Default" not in told or re.fullmatch(told["AllowedPattern"], told["Default"]), name


@pytest.mark.parametrize("kind", KINDS)
def test_every_output_is_explained(kind: str) -> None:
    assert all(told["Description"] for told in load(kind)["Outputs"].values())


@pytest.mark.parametrize("kind", KINDS)
def test_the_container_is_what_the_worker_expects(kind: str) -> None:
    template = load(kind)
    container, settings = container_of(template), Settings.model_fields
    assert [*container["EntryPoint"], *container["Command"]] == ["runner", "worker"]
    assert container["HealthCheck"]["Command"] == ["CMD", "runner", "health"]
    assert {"worker", "health"} <= cli.commands.keys()
    assert container["StopTimeout"] >= 2 * settings["stop_timeout_s"].default
    assert container["ReadonlyRootFilesystem"]
    assert int(container["User"].partition(":")[0]) > 0
    (mount,) = container["MountPoints"]
    assert settings["health_file"].default.is_relative_to(mount["ContainerPath"])
    assert mount["SourceVolume"] in {
        volume["Name"] for volume in template["Resources"]["rTaskDefinition"]["Properties"]["Volumes"]
    }
    cores = template["Parameters"]["pCpu"]["AllowedValues"]
    processes = {cpu: int(told["Processes"]) for cpu, told in template["Mappings"]["mProcesses"].items()}
    assert processes == {cpu: max(1, int(cpu) // 1024) for cpu in cores}


@pytest.mark.parametrize("kind", KINDS)
def test_lifecycle(kind: str) -> None:
    buckets = of_type(load(kind), "AWS::S3::Bucket")
    received = {rule["Id"]: rule for rule in buckets["rS3InputBucket"]["LifecycleConfiguration"]["Rules"]}
    sent = {rule["Id"]: rule for rule in buckets["rS3OutputBucket"]["LifecycleConfiguration"]["Rules"]}
    assert received["OldVersions"]["NoncurrentVersionExpiration"] == {"NoncurrentDays": {"Ref": "pOldVersionDays"}}
    assert "AbortIncompleteMultipartUpload" in received["UploadsThatWereLeft"]
    assert all("ExpirationInDays" not in rule for rule in received.values()), "inputs stay"
    assert sent["Checkpoints"]["Prefix"] == Settings.model_fields["checkpoint_prefix"].default
    assert sent["Rejects"]["Prefix"] == Settings.model_fields["rejects_prefix"].default
    queue = of_type(load(kind), "AWS::SQS::Queue")["rSQSQueue"]
    lives_days = queue["MessageRetentionPeriod"] / 86400
    for days in (
        sent["Checkpoints"]["ExpirationInDays"],
        sent["UploadsThatWereLeft"]["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"],
    ):
        assert days > lives_days, "or a job that goes on is deprived of what it has done"


@pytest.mark.parametrize("kind", KINDS)
def test_buckets_are_encrypted_and_kept(kind: str) -> None:
    template = load(kind)
    for name, properties in of_type(template, "AWS::S3::Bucket").items():
        (rule,) = properties["BucketEncryption"]["ServerSideEncryptionConfiguration"]
        condition, with_kms, without = rule["Fn::If"]
        assert without == {"ServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
        assert with_kms["BucketKeyEnabled"], "or each checkpoint is a request to KMS"
        key: dict[str, Any] = {"Ref": "pKmsKeyArn"}
        if name == "rS3OutputBucket":  # with AWS's key, if there is no other
            assert template["Conditions"][condition] == {
                "Fn::Or": [{"Condition": "cKms"}, {"Fn::Equals": [{"Ref": "pOutputEncryption"}, "aws:kms"]}]
            }
            key = {"Fn::If": ["cKms", key, {"Ref": "AWS::NoValue"}]}
        else:
            assert condition == "cKms"
        assert with_kms["ServerSideEncryptionByDefault"] == {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key}
        told = template["Resources"][name]
        assert (told["DeletionPolicy"], told["UpdateReplacePolicy"]) == ("RetainExceptOnCreate", "Retain")


@pytest.mark.parametrize("kind", KINDS)
def test_roles_name_what_they_are_for(kind: str) -> None:
    for statement in documents(load(kind)):
        actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        assert not any("*" in action for action in actions)
        if statement["Resource"] == "*" and "Condition" not in statement:
            assert set(actions) <= ON_EVERYTHING


@pytest.mark.parametrize("kind", KINDS)
def test_outputs_are_encrypted_as_before_unless_asked_for(kind: str) -> None:
    told = load(kind)["Parameters"]["pOutputEncryption"]
    assert (told["Default"], told["AllowedValues"]) == ("AES256", ["AES256", "aws:kms"])


@pytest.mark.parametrize("kind", KINDS)
def test_nobody_gets_in(kind: str) -> None:
    groups = of_type(load(kind), "AWS::EC2::SecurityGroup")
    assert not any("SecurityGroupIngress" in properties for properties in groups.values())
    (group,) = groups.values()
    assert {rule["FromPort"] for rule in group["SecurityGroupEgress"]} == {443}
    assert "KeyName" not in PATHS[kind].read_text(), "no SSH"


@pytest.mark.parametrize("kind", PATHS)
def test_a_template_fits_into_a_request(kind: str) -> None:
    # Above that the AWS CLI asks for a bucket to put it into first.
    assert len(PATHS[kind].read_bytes()) <= 51_200


@pytest.mark.parametrize("kind", KINDS)
def test_scaling_looks_at_the_backlog_and_never_at_the_cpu(kind: str) -> None:
    template = load(kind)
    types = "AWS::CloudWatch::Alarm", "AWS::ApplicationAutoScaling::ScalingPolicy"
    parts = [part for name in types for part in everything_in(of_type(template, name)) if isinstance(part, dict)]
    names = {part["MetricName"] for part in parts if "MetricName" in part}
    assert {"ApproximateNumberOfMessagesVisible", "ApproximateNumberOfMessagesNotVisible", "DesiredTaskCount"} <= names
    assert not any("CPU" in name or "Memory" in name for name in names)
    assert not any("PredefinedMetricSpecification" in part for part in parts)
    assert {"Name": "containerInsights", "Value": "enabled"} in template["Resources"]["rECSCluster"]["Properties"][
        "ClusterSettings"
    ], "or there is no DesiredTaskCount"
    # A number in the template would set back what scaling has decided, at each update.
    assert "DesiredCount" not in template["Resources"]["rECSService"]["Properties"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_bad_deployment_is_taken_back(kind: str) -> None:
    service = load(kind)["Resources"]["rECSService"]["Properties"]
    assert service["DeploymentConfiguration"]["DeploymentCircuitBreaker"] == {"Enable": True, "Rollback": True}
    assert "rECSTaskPolicy" in load(kind)["Resources"]["rECSService"]["DependsOn"]


def test_instances() -> None:
    template = load("ec2")
    data = of_type(template, "AWS::EC2::LaunchTemplate")["rLaunchTemplate"]["LaunchTemplateData"]
    assert data["MetadataOptions"] == {"HttpTokens": "required", "HttpPutResponseHopLimit": 1}
    assert "resolve:ssm:/aws/service/ecs/optimized-ami/amazon-linux-2023/" in data["ImageId"]["Fn::Sub"][0]
    provider = of_type(template, "AWS::ECS::CapacityProvider")["rCapacityProvider"]["AutoScalingGroupProvider"]
    assert provider["ManagedScaling"]["Status"] == "ENABLED"
    assert provider["ManagedTerminationProtection"] == provider["ManagedDraining"] == "ENABLED"
    group = of_type(template, "AWS::AutoScaling::AutoScalingGroup")["rECSAutoScalingGroup"]
    assert group["NewInstancesProtectedFromScaleIn"], "which managed termination protection needs"
    assert group["MinSize"] == "0"
    (volumes,) = data["TagSpecifications"]
    for tags in (volumes["Tags"], group["Tags"]):
        assert {"Key": "Name", "Value": {"Ref": "AWS::StackName"}}.items() <= tags[0].items()


@pytest.mark.parametrize("kind", KINDS)
def test_tasks_have_the_tags_of_the_stack(kind: str) -> None:
    service = load(kind)["Resources"]["rECSService"]["Properties"]
    assert (service["PropagateTags"], service["EnableECSManagedTags"]) == ("SERVICE", True)


@pytest.mark.parametrize("kind", KINDS)
def test_every_exception_for_checkov_has_its_reason(kind: str) -> None:
    skipped = [
        skip
        for told in load(kind)["Resources"].values()
        for skip in told.get("Metadata", {}).get("checkov", {}).get("skip", [])
    ]
    assert skipped
    assert all(len(skip["comment"]) > 15 for skip in skipped)
    assert not (ROOT / ".checkov.yaml").exists()
    assert "checkov:skip" not in PATHS[kind].read_text()
