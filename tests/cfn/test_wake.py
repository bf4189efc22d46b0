"""wake.yaml starts the first task within a minute or so, and never more than one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.cfn.cloud import without_what_is_unknown
from tests.cfn.functions import evaluate
from tests.cfn.simulation import START_S, WAKES_IN_MINUTES, simulate
from tests.cfn.templates import KINDS, load
from tests.cfn.test_scaling import BURST, JOB_S, NIGHT_S, STRAGGLER, TRICKLE
from tests.support.deployment import wait_for
from tests.support.iam import allows
from tests.support.queues import take_all

if TYPE_CHECKING:
    from tests.cfn.cloud import Cloud
    from tests.cfn.stack import Stack

LOOK_S = 60
NAMES = {
    "AWS::Partition": "aws",
    "AWS::Region": "us-east-1",
    "AWS::AccountId": "111122223333",
    "pCluster": "cluster",
    "pService": "service",
    "pQueueName": "jobs",
    "pBackfillQueueName": "later",
    "rLogGroup.Arn": "arn:aws:logs:us-east-1:111122223333:log-group:/ecs/jobs-wake:*",
}


@pytest.fixture(scope="module")
def worker(cloud: Cloud) -> Stack:
    """The stack of a worker."""
    return cloud.create("waking", without_what_is_unknown(load("fargate")))


@pytest.fixture(scope="module")
def wake(cloud: Cloud, worker: Stack) -> Stack:
    """The stack beside it."""
    # For the emulator, a request to ECS is about the cluster.
    template = json.loads(json.dumps(load("wake")).replace("service/${pCluster}/${pService}", "cluster/${pCluster}"))
    variables = template["Resources"]["rFunction"]["Properties"]["Environment"]["Variables"]
    variables["AWS_CA_BUNDLE"] = str(cloud.authority)
    given = {
        f"p{name[1:]}": value for name, value in worker.outputs.items() if f"p{name[1:]}" in template["Parameters"]
    }
    stack = cloud.create("waking-wake", template, **given)
    assert stack.status == "CREATE_COMPLETE"
    return stack


def look(cloud: Cloud, wake: Stack) -> str:
    """Run the function, and return what it says."""
    done = cloud.client("lambda").invoke(FunctionName=wake.outputs["oFunction"])
    said = json.loads(done["Payload"].read())
    assert "FunctionError" not in done, said
    return str(said)


def set_desired(cloud: Cloud, worker: Stack, number: int) -> None:
    where = {"cluster": worker.outputs["oCluster"], "service": worker.outputs["oService"]}
    cloud.client("ecs").update_service(**where, desiredCount=number)


def desired(cloud: Cloud, worker: Stack) -> int:
    where = {"cluster": worker.outputs["oCluster"], "services": [worker.outputs["oService"]]}
    return int(cloud.client("ecs").describe_services(**where)["services"][0]["desiredCount"])


@pytest.mark.parametrize("queue", ["oQueueUrl", "oBackfillQueueUrl"])
def test_message_starts_a_task_and_no_more(cloud: Cloud, worker: Stack, wake: Stack, queue: str) -> None:
    sqs = cloud.client("sqs")
    for url in (worker.outputs["oQueueUrl"], worker.outputs["oBackfillQueueUrl"]):
        take_all(sqs, url, wait_s=1)
    set_desired(cloud, worker, 0)
    assert look(cloud, wake) == "nothing waits"
    assert desired(cloud, worker) == 0
    sqs.send_message(QueueUrl=worker.outputs[queue], MessageBody="x")
    assert look(cloud, wake) == "a task starts"
    assert desired(cloud, worker) == 1
    assert look(cloud, wake) == "a task is wanted already"
    set_desired(cloud, worker, 5)
    assert look(cloud, wake) == "a task is wanted already"
    assert desired(cloud, worker) == 5, "what scaling has decided stays"


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_schedule_starts_a_task_by_itself(cloud: Cloud, worker: Stack, wake: Stack) -> None:
    assert wake.resource("rSchedule")
    set_desired(cloud, worker, 0)
    cloud.client("sqs").send_message(QueueUrl=worker.outputs["oQueueUrl"], MessageBody="x")
    wait_for(lambda: desired(cloud, worker) == 1, timeout_s=2.5 * LOOK_S)


def test_schedule_may_run_the_function(cloud: Cloud, wake: Stack) -> None:
    (rule,) = cloud.client("events").list_rules(NamePrefix=wake.resource("rSchedule").rpartition("|")[2])["Rules"]
    assert (rule["ScheduleExpression"], rule["State"]) == ("rate(1 minute)", "ENABLED")
    function = cloud.client("lambda").get_function(FunctionName=wake.outputs["oFunction"])["Configuration"]
    (target,) = cloud.client("events").list_targets_by_rule(Rule=rule["Name"])["Targets"]
    assert target["Arn"] == function["FunctionArn"]
    policy = json.loads(cloud.client("lambda").get_policy(FunctionName=wake.outputs["oFunction"])["Policy"])
    (statement,) = policy["Statement"]
    assert statement["Principal"] == {"Service": "events.amazonaws.com"}
    assert rule["Arn"] in json.dumps(statement["Condition"])


def test_role_may_do_what_the_function_does_and_nothing_else() -> None:
    role = load("wake")["Resources"]["rRole"]["Properties"]
    document: dict[str, Any] = evaluate(role["Policies"][0]["PolicyDocument"], NAMES, {})
    start = "arn:aws:{}:us-east-1:111122223333:{}"
    allowed = {
        ("sqs:GetQueueAttributes", start.format("sqs", "jobs")),
        ("sqs:GetQueueAttributes", start.format("sqs", "later")),
        ("ecs:DescribeServices", start.format("ecs", "service/cluster/service")),
        ("ecs:UpdateService", start.format("ecs", "service/cluster/service")),
    }
    assert all(allows(document, action, resource) for action, resource in allowed)
    for action, resource in {
        ("sqs:ReceiveMessage", start.format("sqs", "jobs")),
        ("sqs:GetQueueAttributes", start.format("sqs", "other")),
        ("ecs:UpdateService", start.format("ecs", "service/cluster/other")),
        ("ecs:RunTask", start.format("ecs", "task-definition/jobs:1")),
        ("iam:PassRole", "arn:aws:iam::111122223333:role/other"),
    }:
        assert not allows(document, action, resource)


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_are_outputs_or_parameters_of_the_worker(kind: str) -> None:
    template = load(kind)
    known = {f"p{name[1:]}" for name in template["Outputs"]} | template["Parameters"].keys()
    for beside in ("wake", "monitoring"):
        assert load(beside)["Parameters"].keys() <= known


@pytest.mark.parametrize("kind", KINDS)
def test_first_object_after_silence_waits_for_a_minute_and_the_start(kind: str) -> None:
    one = [(NIGHT_S + 10, JOB_S)]
    late = simulate(kind, load(kind), one, 60 * 11).service
    assert late.longest_wait_s > 60 * WAKES_IN_MINUTES
    at_once = simulate(kind, load(kind), one, 60 * 11, wakes_at_once=True)
    assert at_once.service.longest_wait_s <= LOOK_S + START_S[kind] + 10
    assert max(at_once.desired[60:]) == 1
    assert at_once.service.done == 1
    backfill = simulate(kind, load(kind), [], 60 * 11, backfill=one, wakes_at_once=True).service
    assert backfill.done == 1


@pytest.mark.parametrize("arrivals", [BURST, TRICKLE, STRAGGLER], ids=["burst", "trickle", "straggler"])
@pytest.mark.parametrize("most", ["1", "10"])
@pytest.mark.parametrize("kind", KINDS)
def test_never_more_than_the_most(kind: str, most: str, arrivals: list[tuple[float, float]]) -> None:
    minutes = 60 * 20
    found = simulate(kind, load(kind), arrivals, minutes, wakes_at_once=True, pMinTasks="0", pMaxTasks=most)
    assert max(found.desired) <= int(most)
    assert found.service.interrupted == found.service.most_missing == 0
    assert set(found.desired[60:600]) == {0}, "silence"
    without = simulate(kind, load(kind), arrivals, minutes, pMinTasks="0", pMaxTasks=most)
    assert found.service.done >= without.service.done
