"""Finds out why a deployment fails, from CloudFormation, ECS and the worker's log, and says what to do.

A stack that is rolled back loses its service and its logs, and ECS forgets a task after an hour. So all of them are
read while the deployment runs, and what they say is printed at once.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from cfn.messages import DeployError, say

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from cfn.stack import Stack

LOG_LINES = 12
_TASKS_AT_ONCE = 100
_CONSEQUENCES = ("Resource creation cancelled", "Resource update cancelled", "Resource creation Initiated")
"""What CloudFormation says of resources that failed only because another one did."""
_NOT_A_FAILURE = {"UserInitiated", "SpotInterruption", "TerminationNotice"}
_BY_ECS = "ServiceSchedulerInitiated"
"""Why a task was stopped that did not fail, unless it is for its health."""

_NO_ROUTE = (
    "the task has no route to AWS. Public subnets need pPublicIp=ENABLED (and a route to an internet gateway), private "
    "ones a NAT gateway or the endpoints of cfn/vpc-endpoints.yaml"
)
ADVICE = [
    (
        r"exec format error|image manifest does not contain descriptor matching platform|no match for platform",
        "the image is built for another processor: give the same ARCHITECTURE to make push and make deploy-…",
    ),
    (
        r"unable to (retrieve|pull) secret|secretsmanager|retrieve secrets? from (asm|ssm)",
        "ECS cannot read the key of pseudonyms: check pHmacKeyArn, and the policy of the KMS key that encrypts it. "
        "Without a route to Secrets Manager: " + _NO_ROUTE,
    ),
    (
        r"CannotPull.*(i/o timeout|deadline exceeded|dial tcp|request canceled)"
        r"|ResourceInitializationError.*(i/o timeout|deadline exceeded|dial tcp|RequestError|send request failed)",
        _NO_ROUTE,
    ),
    (
        r"CannotPull.*(not found|manifest unknown|does not exist)",
        "there is no such image: make push first, in the same region and with the same ARCHITECTURE and BASE; or give "
        "the URI of an image that is there as IMAGE",
    ),
    (
        r"CannotPull.*(denied|403|not authorized|AccessDenied)|not authorized to perform: ecr:",
        "ECS may not pull the image: it must be in this account and region, or the policy of its repository must allow "
        "the role rExecutionRole of the stack",
    ),
    (
        r"OutOfMemoryError|OutOfMemory: |exit status 137",
        "the task was killed for lack of memory, or did not end in time: raise pMemory, or lower MAX_LINE_BYTES",
    ),
    (
        r"is not authorized to perform: (?!ecr:)|AccessDenied|access denied|(?i:is denied)",
        "a permission is missing. If the message names you, ask for the permission; if it names the role of the task, "
        "compare its policy with runner/permissions.py, and look at policies of buckets, KMS keys and the organization",
    ),
    (
        r"failed container health checks",
        "the worker runs, but is not healthy: the log says why (`breaker open`, `denied`). See docs/operations.md",
    ),
    (
        r"unable to place a task|RESOURCE:|no container instance met",
        "no instance has room for the task: lower pMemory and pCpu, or choose a larger pInstanceType",
    ),
    (r"[Cc]apacity is unavailable|insufficient capacity", "AWS has no such capacity now: wait, or pCapacity=ON_DEMAND"),
    (
        r"is expected to be subnets of pVPCId|[Ii]nvalid ?[Ss]ubnet|InvalidVpc|vpc ID .* does not exist"
        r"|subnet ID .* does not exist|different networks",
        "VPC and SUBNETS do not belong together, or are not in this account and region: `aws ec2 describe-subnets "
        "--filters Name=vpc-id,Values=VPC` lists those of a VPC",
    ),
    (
        r"Unable to validate the following destination configurations",
        "S3 may not send events to the queue: the policy of the queue has to allow the bucket",
    ),
    (
        r"(?m)^\s*runner: ",
        "the worker does not start, and the last lines of its log say why. docs/operations.md explains each of these "
        "sentences; try the calculation with `transform preview INPUT` before you deploy again",
    ),
]
"""What a text contains, and what to do about it.

The texts are those of https://docs.aws.amazon.com/AmazonECS/latest/developerguide/stopped-task-error-codes.html, of the
events of a service, and of CloudFormation.
"""


@dataclass
class Evidence:
    """What has gone wrong with a stack since a given time.

    Attributes:
        stack: The stack.
        since: The time.
        texts: What was found, in order.
    """

    stack: Stack
    since: datetime
    texts: list[str] = field(default_factory=list)
    _seen: set[str] = field(default_factory=set)

    def look(self) -> None:
        """Look again, and print what is new; what AWS denies is left out."""
        with suppress(ClientError):
            self._look_at_events()
        cluster, service = self.stack.resource("rECSCluster"), self.stack.resource("rECSService")
        if cluster and service:
            with suppress(ClientError):
                self._look_at_tasks(cluster)
            with suppress(ClientError):
                self._look_at_service(cluster, service)

    def advice(self) -> list[str]:
        """Return what to do about it."""
        return advice_about(self.texts)

    def _note(self, key: str, text: str) -> None:
        if key not in self._seen:
            self._seen.add(key)
            self.texts.append(text)
            say(text)

    def _look_at_events(self) -> None:
        told = self.stack.cloudformation.describe_stack_events(StackName=self.stack.name)["StackEvents"]
        for event in reversed(told):
            reason = event.get("ResourceStatusReason", "")
            failed = event["ResourceStatus"].endswith("FAILED") and not reason.startswith(_CONSEQUENCES)
            if failed and event["Timestamp"] >= self.since:
                self._note(event["EventId"], f"{event['LogicalResourceId']} ({event['ResourceStatus']}): {reason}")

    def _look_at_service(self, cluster: str, service: str) -> None:
        (told,) = self.stack.account.client("ecs").describe_services(cluster=cluster, services=[service])["services"]
        for event in reversed(told.get("events", [])):
            failed = any(word in event["message"] for word in ("unable to", "failed", "unhealthy"))
            if failed and event["createdAt"] >= self.since:
                self._note(event["id"], f"the service: {event['message']}")

    def _look_at_tasks(self, cluster: str) -> None:
        ecs = self.stack.account.client("ecs")
        arns = ecs.list_tasks(cluster=cluster, desiredStatus="STOPPED")["taskArns"][:_TASKS_AT_ONCE]
        new = [arn for arn in arns if arn not in self._seen]
        for task in ecs.describe_tasks(cluster=cluster, tasks=new)["tasks"] if new else []:
            if task["lastStatus"] == "STOPPED" and task["createdAt"] >= self.since and _has_failed(task):
                self._note(task["taskArn"], self._about(task))

    def _about(self, task: dict[str, Any]) -> str:
        name = task["taskArn"].rpartition("/")[2]
        lines = [f"task {name} has ended: {task.get('stoppedReason', '')}"]
        for container in task["containers"]:
            status = container.get("exitCode")
            told = [f"exit status {status}"] if status is not None else []
            told += [container["reason"]] if container.get("reason") else []
            if told:
                lines.append(f"  {container['name']}: {', '.join(told)}")
        log = self._last_lines(name)
        if log:
            lines += ["  the last lines of its log:", *(f"    {line}" for line in log)]
        return "\n".join(lines)

    def _last_lines(self, task: str) -> list[str]:
        """Return the last lines of the log of a task; none if it has not begun."""
        logs = self.stack.account.client("logs")
        with suppress(ClientError):
            found = logs.get_log_events(
                logGroupName=f"/ecs/{self.stack.name}",
                logStreamName=f"worker/worker/{task}",
                limit=LOG_LINES,
                startFromHead=False,
            )
            return [event["message"].rstrip() for event in found["events"]]
        return []


def _has_failed(task: dict[str, Any]) -> bool:
    """Return whether a task has ended by itself, or did not start, or was not healthy."""
    if task.get("stopCode") in _NOT_A_FAILURE:
        return False
    return task.get("stopCode") != _BY_ECS or "health" in task.get("stoppedReason", "")


def advice_about(texts: Iterable[str]) -> list[str]:
    """Return what to do about what AWS and the worker have said, each sentence once."""
    found = [advice for text in texts for pattern, advice in ADVICE if re.search(pattern, text)]
    return list(dict.fromkeys(found))


def with_advice(error: DeployError) -> DeployError:
    """Return an error with what to do about it, if that is known and not in it already."""
    message = str(error)
    missing = [text for text in advice_about([message]) if text not in message]
    return DeployError("\n".join([message, *(f"What to do: {text}." for text in missing)]))
