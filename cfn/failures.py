"""Why a deployment goes wrong: what CloudFormation, ECS and the worker say of it, collected while it is still there.

A stack that is taken back loses its service and its logs, and ECS forgets a task after an hour. So everything is looked
at while the deployment runs, and printed as it is found.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from cfn.advice import advice_about
from cfn.said import say

if TYPE_CHECKING:
    from datetime import datetime

    from cfn.stack import Stack

LOG_LINES = 12
_TASKS_AT_ONCE = 100
_CONSEQUENCES = ("Resource creation cancelled", "Resource update cancelled", "Resource creation Initiated")
"""What CloudFormation says of resources that only another one has stopped."""
_NOT_A_FAILURE = {"UserInitiated", "SpotInterruption", "TerminationNotice"}
_BY_ECS = "ServiceSchedulerInitiated"
"""Why a task was stopped that did not fail, unless it is for its health."""


@dataclass
class Evidence:
    """What has gone wrong with a stack since a moment.

    Attributes:
        stack: The stack.
        since: The moment.
        texts: What was found, in order.
    """

    stack: Stack
    since: datetime
    texts: list[str] = field(default_factory=list)
    _seen: set[str] = field(default_factory=set)

    def look(self) -> None:
        """Look once more, and print what is new. What may not be looked at is left out."""
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
