"""A deployment that goes wrong ends with what to do, and the version before stays.

The emulator really rolls the stack back, because of a resource that it cannot make. What ECS and CloudFormation
say of an image that does not start comes from a proxy, in their words; what the worker says comes from a worker.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from cfn.failures import advice_about
from tests.cfn.cloud import without_what_is_unknown
from tests.cfn.stack import Stack
from tests.cfn.templates import load
from tests.support.account import REGION, account_in
from tests.support.aws_proxy import aws_proxy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.account import Account
    from tests.support.aws_proxy import Script

STACK = "jsonl-transform"
GOOD = "stars * 2 AS twice"
CIRCUIT_BREAKER = (
    "Resource handler returned message: &quot;Error occurred during operation &apos;ECS Deployment Circuit Breaker was "
    "triggered&apos;.&quot; (RequestToken: 121161f9-1c97-e3d5-b4d3-8328bb2b676c, HandlerErrorCode: "
    "GeneralServiceException)"
)
"""As CloudFormation says it: https://github.com/aws/copilot-cli/issues/5586."""
NO_IMAGE = (
    "CannotPullContainerError: pull image manifest has been retried 1 time(s): failed to resolve ref "
    "111122223333.dkr.ecr.eu-central-1.amazonaws.com/jsonl-transform:1: "
    "111122223333.dkr.ecr.eu-central-1.amazonaws.com/jsonl-transform:1: not found"
)
NO_ROUTE = (
    "ResourceInitializationError: unable to pull secrets or registry auth: execution resource retrieval failed: unable "
    "to retrieve ecr registry auth: service call has been retried 3 time(s): RequestError: send request failed caused "
    'by: Post "https://api.ecr.eu-central-1.amazonaws.com/": dial tcp 3.120.1.1:443: i/o timeout'
)
"""https://docs.aws.amazon.com/AmazonECS/latest/developerguide/stopped-task-error-codes.html."""


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    """An account with a stack in it."""
    with account_in(tmp_path_factory.mktemp("account")) as account:
        account.environment["AWS_REGION"] = REGION
        account.run("make push")
        account.run(f"make deploy-fargate VPC=default YES=1 CALCULATION='{GOOD}'")
        account.learn()
        yield account


@pytest.fixture
def script(account: Account) -> Iterator[Script]:
    """What the proxy says, through which the commands go then."""
    before = account.environment["AWS_ENDPOINT_URL"]
    with aws_proxy(account.cloud) as (address, script):
        account.environment["AWS_ENDPOINT_URL"] = address
        yield script
    account.environment["AWS_ENDPOINT_URL"] = before


@pytest.fixture
def broken(account: Account, script: Script) -> Iterator[None]:
    """A template whose deployment is rolled back, after the service."""
    path = account.clone / "cfn" / "ecs-fargate.yaml"
    good = path.read_text()
    template = without_what_is_unknown(load("fargate"))
    template["Resources"]["rLast"] = {**load("monitoring")["Resources"]["rStalledAlarm"], "DependsOn": "rECSService"}
    references = json.dumps(template["Resources"]["rLast"])
    for name in ("pQueueName", "pBackfillQueueName", "pDeadLetterQueueName"):
        references = references.replace(f'{{"Ref": "{name}"}}', '"x"')
    template["Resources"]["rLast"] = json.loads(re.sub(r"\$\{\w+\}", "x", references))
    path.write_text(json.dumps(template, separators=(",", ":")))
    script.replaced = {"rLast": "rECSService"}
    yield
    path.write_text(good)


def ended(reason: str, code: str, exit_status: int | None = None) -> dict[str, Any]:
    """Return a task that has ended."""
    task = uuid.uuid4().hex
    container = {
        "name": "worker",
        "lastStatus": "STOPPED",
        **({} if exit_status is None else {"exitCode": exit_status}),
    }
    return {
        "taskArn": f"arn:aws:ecs:{REGION}:000000000000:task/cluster/{task}",
        "stopCode": code,
        "stoppedReason": reason,
        "containers": [container],
    }


def log(account: Account, task: dict[str, Any], text: str) -> None:
    """Write what a worker has said into its log, as ECS would."""
    logs, stream = account.client("logs"), f"worker/worker/{task['taskArn'].rpartition('/')[2]}"
    where = {"logGroupName": f"/ecs/{STACK}", "logStreamName": stream}
    logs.create_log_stream(**where)
    now_ms = int(1000 * time.time())
    logs.put_log_events(**where, logEvents=[{"timestamp": now_ms, "message": line} for line in text.splitlines()])


def worker(account: Account, **changed: str) -> subprocess.CompletedProcess[str]:
    """Run a worker that does not start, with the environment of the task."""
    definition = account.client("ecs").describe_task_definition(taskDefinition=account.told["oTaskFamily"])
    (container,) = definition["taskDefinition"]["containerDefinitions"]
    told = {variable["name"]: variable["value"] for variable in container["environment"]}
    env = {**account.environment, "AWS_ENDPOINT_URL": account.cloud.endpoint, **told, **changed}
    return subprocess.run(
        [sys.executable, "-m", "runner", "worker"],
        env={**env, "HEALTH_FILE": str(account.clone / "health.json"), "AWS_REGION": REGION},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


def fails(account: Account, line: str) -> str:
    """Return what a deployment that fails says, after looking at what is deployed then."""
    ecs = account.client("ecs")
    where = {"cluster": account.told["oCluster"], "services": [account.told["oService"]]}
    before = ecs.describe_services(**where)["services"][0]["taskDefinition"]
    status, said = account.attempt(line)
    assert status == 2, said
    assert f"The deployment of {STACK} has failed (UPDATE_ROLLBACK_COMPLETE)" in said
    assert "The previous version keeps running." in said
    (service,) = ecs.describe_services(**where)["services"]
    (old,) = ecs.describe_task_definition(taskDefinition=before)["taskDefinition"]["containerDefinitions"]
    (new,) = ecs.describe_task_definition(taskDefinition=service["taskDefinition"])["taskDefinition"][
        "containerDefinitions"
    ]
    assert new == old
    assert service["status"] == "ACTIVE"
    return said


@pytest.mark.usefixtures("broken")
def test_image_that_is_not_there(account: Account, script: Script) -> None:
    script.tasks = [ended(NO_IMAGE, "TaskFailedToStart")]
    script.replaced |= {"Metrics": CIRCUIT_BREAKER}
    image = "111122223333.dkr.ecr.eu-central-1.amazonaws.com/jsonl-transform:1"
    said = fails(account, f"make deploy-fargate YES=1 IMAGE={image}")
    assert NO_IMAGE in said
    assert "there is no such image: make push first" in said


@pytest.mark.usefixtures("broken")
def test_calculation_that_does_not_load(account: Account, script: Script) -> None:
    done = worker(account, CALCULATION="stars +* 2 AS twice")
    assert done.returncode == 1, done.stderr
    script.tasks = [ended("Essential container in task exited", "EssentialContainerExited", done.returncode)]
    log(account, script.tasks[0], done.stderr)
    said = fails(account, "make deploy-fargate YES=1 CALCULATION='stars +* 2 AS twice'")
    assert "polars does not understand the SQL" in said
    assert "worker: exit status 1" in said
    assert "the worker does not start, and the last lines of its log say why" in said


@pytest.mark.usefixtures("broken")
def test_role_without_a_permission(account: Account, script: Script) -> None:
    role = account.told["oTaskRoleArn"].rpartition("/")[2]
    iam = account.client("iam")
    (policy,) = iam.list_role_policies(RoleName=role)["PolicyNames"]
    document = iam.get_role_policy(RoleName=role, PolicyName=policy)["PolicyDocument"]
    iam.delete_role_policy(RoleName=role, PolicyName=policy)
    stack = Stack(account.cloud, STACK, STACK)
    stack.__dict__["outputs"] = account.told
    try:
        done = worker(account, CALCULATION=GOOD, **stack.task_credentials())
    finally:
        iam.put_role_policy(RoleName=role, PolicyName=policy, PolicyDocument=json.dumps(document))
    assert done.returncode == 1, done.stderr
    script.tasks = [ended("Essential container in task exited", "EssentialContainerExited", done.returncode)]
    log(account, script.tasks[0], done.stderr)
    said = fails(account, "make deploy-fargate YES=1 CALCULATION='stars + 2 AS more'")
    assert "denied" in said.lower()
    assert "compare its policy with runner/permissions.py" in said


def test_wrong_network_is_refused_before_anything_is_made(account: Account) -> None:
    other = account.client("ec2").create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
    status, said = account.attempt(
        f"make deploy-fargate YES=1 VPC={other} SUBNETS={account.parameters_of(STACK)['pSubnetIds']}"
    )
    assert status == 2
    assert "pSubnetIds is expected to be subnets of pVPCId" in said
    assert "What to do: VPC and SUBNETS do not belong together" in said
    assert account.parameters_of(STACK)["pVPCId"] != other


@pytest.mark.usefixtures("broken")
def test_new_stack_that_fails_can_be_deployed_again(account: Account) -> None:
    status, said = account.attempt("make deploy-fargate YES=1 STACK=fresh VPC=default")
    assert status == 2
    assert "The deployment of fresh has failed (ROLLBACK_COMPLETE)" in said
    template = json.dumps(without_what_is_unknown(load("fargate")), separators=(",", ":"))
    (account.clone / "cfn" / "ecs-fargate.yaml").write_text(template)
    status, said = account.attempt("make deploy-fargate YES=1 STACK=fresh VPC=default")
    assert status == 0, said
    assert "was never complete and holds nothing, so it is deleted first" in said


def test_update_that_ecs_has_taken_back_is_no_success(account: Account, script: Script) -> None:
    # CloudFormation says UPDATE_COMPLETE here, as it has for years: the service runs something else all the same.
    service = account.told["oService"]
    script.tasks = [ended(NO_ROUTE, "TaskFailedToStart")]
    ecs = account.client("ecs")
    before = ecs.describe_services(cluster=account.told["oCluster"], services=[service])["services"][0][
        "taskDefinition"
    ]
    script.service_runs = before
    status, said = account.attempt("make deploy-fargate YES=1 pLogDays=3 pMaxRejects=7")
    script.service_runs = None
    assert status == 2, said
    assert "has failed (rolled back by ECS)" in said
    assert "the task has no route to AWS" in said


def test_update_begins_with_a_task_that_shows_whether_it_starts(account: Account) -> None:
    ecs, where = account.client("ecs"), {"cluster": account.told["oCluster"]}
    ecs.update_service(**where, service=account.told["oService"], desiredCount=0)
    status, said = account.attempt("make deploy-fargate YES=1 pMaxRejects=9")
    assert status == 0, said
    assert "aws ecs update-service" in said
    assert ecs.describe_services(**where, services=[account.told["oService"]])["services"][0]["desiredCount"] == 1


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        (NO_IMAGE, "there is no such image"),
        (NO_ROUTE, "the task has no route to AWS"),
        (
            "CannotPullContainerError: ... failed to do request: Head https://x: dial tcp 10.0.3.17:443: i/o timeout",
            "no route",
        ),
        (
            "CannotPullContainerError: ... pull access denied for x, repository does not exist or may require auth",
            "no such image",
        ),
        ("CannotPullContainerError: ... unexpected status code [manifests 1]: 403 Forbidden", "may not pull the image"),
        ("exec /usr/local/bin/runner: exec format error", "built for another processor"),
        (
            "CannotPullContainerError: image manifest does not contain descriptor matching platform 'linux/arm64'",
            "processor",
        ),
        ("ResourceInitializationError: ... unable to retrieve secret from asm: AccessDeniedException", "pHmacKeyArn"),
        ("OutOfMemoryError: Container killed due to memory usage", "raise pMemory"),
        ("  worker: exit status 137", "raise pMemory"),
        ("Task failed container health checks", "the worker runs, but is not healthy"),
        (
            "(service x) was unable to place a task because no container instance met all of its requirements.",
            "no instance",
        ),
        ("Capacity is unavailable at this time. Please try again later", "pCapacity=ON_DEMAND"),
        (
            "User: arn:aws:iam::1:user/a is not authorized to perform: iam:CreateRole on resource: x",
            "a permission is missing",
        ),
        ("The vpc ID 'vpc-1' does not exist", "VPC and SUBNETS do not belong together"),
        ("Unable to validate the following destination configurations", "S3 may not send events"),
        ("task has ended\n    runner: CALCULATION: not set", "the worker does not start"),
    ],
)
def test_advice(text: str, advice: str) -> None:
    assert any(advice in found for found in advice_about([text])), advice_about([text])


def test_no_advice_about_what_is_not_known() -> None:
    assert advice_about(["Rate exceeded", ""]) == []
