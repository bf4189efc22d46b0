"""Carries out the plan of a deployment, describes a deployment, and deletes it."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from cfn.companion_stacks import companions
from cfn.failures import Evidence
from cfn.messages import DeployError, say, show_command, table
from cfn.stack import COMPLETE
from cfn.template import KINDS, read_template

if TYPE_CHECKING:
    from cfn.plan import Plan
    from cfn.stack import ChangeSet, Stack

QUEUES = {"oQueueUrl": "queue", "oBackfillQueueUrl": "backfill queue", "oDeadLetterQueueUrl": "dead letters"}
_COUNTS = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
_SERVICE_TYPES = {"AWS::ECS::Service", "AWS::ECS::TaskDefinition"}


def carry_out(plan: Plan, change_set: ChangeSet) -> None:
    """Execute the change set of a plan, and check that the service runs the new version.

    Raises:
        DeployError: The deployment was rolled back; the message says what to do.
    """
    evidence = Evidence(plan.stack, datetime.now(UTC))
    if not plan.creates and any(change["ResourceType"] in _SERVICE_TYPES for change in change_set.changes):
        _have_a_task(plan.stack)
    plan.stack.execute(change_set)
    say("This takes some minutes; an update waits for the jobs at work.")
    try:
        status = plan.stack.wait(evidence.look)
    except KeyboardInterrupt:
        raise DeployError(
            f"\nThe deployment of {plan.stack.name} goes on: make status shows it. To cancel it: aws cloudformation "
            f"cancel-update-stack --stack-name {plan.stack.name}"
        ) from None
    if status not in COMPLETE:
        raise DeployError(_failure(plan, status, evidence))
    if not _runs_what_is_meant(plan.stack):
        raise DeployError(_failure(plan, "rolled back by ECS", evidence))


def _have_a_task(stack: Stack) -> None:
    """Start a task before the update, so that it shows whether the new version starts; scaling ends it later.

    A new service begins with one, too. Without a task, ECS starts nothing, and accepts any version.
    """
    with suppress(ClientError):
        service = stack.service()
        if service is not None and service["desiredCount"] == 0:
            _set_tasks(stack, service["clusterArn"], service["serviceArn"], 1)


def _set_tasks(stack: Stack, cluster: str, service: str, count: int) -> None:
    command = ("aws", "ecs", "update-service", "--cluster", cluster, "--service", service)
    show_command(*command, "--desired-count", str(count))
    stack.account.client("ecs").update_service(cluster=cluster, service=service, desiredCount=count)


def _runs_what_is_meant(stack: Stack) -> bool:
    """Return whether the service has the task definition of the stack, which ECS may have rolled back by itself.

    CloudFormation has reported such updates as complete: https://github.com/aws/containers-roadmap/issues/1205.
    """
    service, meant = stack.service(), stack.resource("rTaskDefinition")
    return service is None or meant is None or service["taskDefinition"] == meant


def _failure(plan: Plan, status: str, evidence: Evidence) -> str:
    """Return the message about a deployment that was rolled back."""
    name = plan.stack.name
    lines = [f"\nThe deployment of {name} has failed ({status})."]
    if plan.creates:
        lines.append("Only the name of the stack is left; the next deployment reuses it.")
    elif status == "UPDATE_ROLLBACK_FAILED":
        lines.append("The rollback has failed as well: see the events of the stack.")
    else:
        lines.append("The previous version keeps running.")
    found = evidence.advice()
    lines += [f"What to do: {text}." for text in found]
    if not found:
        lines.append(f"What to do: read the events: aws cloudformation describe-stack-events --stack-name {name}")
    return "\n".join(lines)


def describe(stack: Stack) -> str:
    """Return the state of a stack, of its service and of its queues, as text."""
    found = stack.existing()
    outputs = {told["OutputKey"]: told["OutputValue"] for told in found.get("Outputs", [])}
    lines = [f"{stack.name}: {found['StackStatus']}", table(sorted(outputs.items()))]
    service = stack.service() if "oService" in outputs else None  # a stack that was rolled back has none
    if service is not None:
        desired, pending, running = (service[f"{kind}Count"] for kind in ("desired", "pending", "running"))
        lines.append(f"tasks: {desired} desired, {pending} pending, {running} running")
    sqs = stack.account.client("sqs")
    for name, what in QUEUES.items():
        if name in outputs:
            counts = sqs.get_queue_attributes(QueueUrl=outputs[name], AttributeNames=_COUNTS)["Attributes"]
            lines.append(f"{what}: {counts[_COUNTS[0]]} waiting, {counts[_COUNTS[1]]} in flight")
    return "\n".join(lines)


def describe_deletion(stack: Stack) -> str:
    """Return what `destroy` deletes and what it keeps, as text to read before.

    Raises:
        DeployError: The stack is of something else.
    """
    stack.check_own(stack.existing(), read_template(f"ecs-{KINDS[0]}"))
    account, names = stack.account, [part.name for part in (stack, *companions(stack))]
    where = f"{account.region} of the account {account.id}"
    return (
        f"{describe(stack)}\n\nThis deletes {' and '.join(names)} in {where}: the queues with their messages, the "
        "logs, the service and its tasks. The buckets and their objects stay."
    )


def destroy(stack: Stack) -> str:
    """Delete a stack and that of its alarms, but not the buckets; return what is left."""
    outputs = {told["OutputKey"]: told["OutputValue"] for told in stack.existing().get("Outputs", [])}
    group = stack.resource("rECSAutoScalingGroup")
    if group:  # an instance that ECS protects would keep the stack from going
        _empty(stack, outputs, group)
    for part in (*companions(stack), stack):
        if part.delete() != "DELETE_COMPLETE":
            raise DeployError(
                f"{part.name} is not deleted: aws cloudformation describe-stack-events --stack-name {part.name} says "
                "why. Then make destroy again"
            )
    kept = [f"s3://{outputs[name]}" for name in ("oInputBucket", "oOutputBucket") if name in outputs]
    return f"{stack.name} is gone. Kept: {' '.join(kept)}"


def _empty(stack: Stack, outputs: dict[str, str], group: str) -> None:
    """Take the instances away, which CloudFormation does not do."""
    if "oService" in outputs:
        with suppress(ClientError):
            _set_tasks(stack, outputs["oCluster"], outputs["oService"], 0)
    show_command(
        "aws", "autoscaling", "delete-auto-scaling-group", "--auto-scaling-group-name", group, "--force-delete"
    )
    # After an attempt that was interrupted it is gone already. If it is not, the stack's own deletion says so.
    with suppress(ClientError):
        stack.account.client("autoscaling").delete_auto_scaling_group(AutoScalingGroupName=group, ForceDelete=True)
