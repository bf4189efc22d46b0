"""What a deployment is doing, and its end."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from cfn.beside import all_beside
from cfn.errors import DeployError
from cfn.said import show_command, table
from cfn.template import KINDS, read_template

if TYPE_CHECKING:
    from cfn.stack import Stack

QUEUES = {"oQueueUrl": "queue", "oBackfillQueueUrl": "backfill queue", "oDeadLetterQueueUrl": "dead letters"}
_COUNTS = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]


def describe(stack: Stack) -> str:
    """Return the state of a stack, of its service and of its queues, as text."""
    found = stack.existing()
    outputs = {told["OutputKey"]: told["OutputValue"] for told in found.get("Outputs", [])}
    lines = [f"{stack.name}: {found['StackStatus']}", table(sorted(outputs.items()))]
    if "oService" in outputs:
        cluster, service = outputs["oCluster"], outputs["oService"]
        (told,) = stack.account.client("ecs").describe_services(cluster=cluster, services=[service])["services"]
        lines.append(
            f"tasks: {told['desiredCount']} desired, {told['pendingCount']} pending, {told['runningCount']} running"
        )
    sqs = stack.account.client("sqs")
    for name, what in QUEUES.items():
        if name in outputs:
            counts = sqs.get_queue_attributes(QueueUrl=outputs[name], AttributeNames=_COUNTS)["Attributes"]
            lines.append(f"{what}: {counts[_COUNTS[0]]} waiting, {counts[_COUNTS[1]]} in flight")
    return "\n".join(lines)


def destroy(stack: Stack) -> str:
    """Delete a stack and that of its alarms, but not the buckets; return what is left."""
    outputs = {told["OutputKey"]: told["OutputValue"] for told in stack.existing().get("Outputs", [])}
    group = stack.resource("rECSAutoScalingGroup")
    if group:  # an instance that ECS protects would keep the stack from going
        _empty(stack, outputs, group)
    for part in (*all_beside(stack), stack):
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
        where = {"cluster": outputs["oCluster"], "service": outputs["oService"]}
        show_command(
            *("aws", "ecs", "update-service", "--cluster", where["cluster"], "--service", where["service"]),
            *("--desired-count", "0"),
        )
        with suppress(ClientError):
            stack.account.client("ecs").update_service(**where, desiredCount=0)
    show_command(
        "aws", "autoscaling", "delete-auto-scaling-group", "--auto-scaling-group-name", group, "--force-delete"
    )
    # After an attempt that was interrupted it is gone already. If it is not, the stack's own deletion says so.
    with suppress(ClientError):
        stack.account.client("autoscaling").delete_auto_scaling_group(AutoScalingGroupName=group, ForceDelete=True)


def what_goes(stack: Stack) -> str:
    """Return what `destroy` deletes and what it keeps, as text to read before.

    Raises:
        DeployError: The stack is of something else.
    """
    stack.check_own(stack.existing(), read_template(f"ecs-{KINDS[0]}"))
    account, names = stack.account, [part.name for part in (stack, *all_beside(stack))]
    where = f"{account.region} of the account {account.id}"
    return (
        f"{describe(stack)}\n\nThis deletes {' and '.join(names)} in {where}: the queues with their messages, the "
        "logs, the service and its tasks. The buckets and their objects stay."
    )
