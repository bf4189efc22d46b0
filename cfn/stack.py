"""A stack: its description by CloudFormation, its change sets, and waiting for its changes."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from cfn.messages import DeployError, say, show_command

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from cfn.account import Account
    from cfn.template import Template

CAPABILITY = "CAPABILITY_IAM"
MAX_POLL_S = 5.0
_EMPTY = ("didn't contain changes", "No updates are to be performed")
"""What CloudFormation says of a change set that would change nothing."""
COMPLETE = {"CREATE_COMPLETE", "UPDATE_COMPLETE"}
NEVER_MADE = {"REVIEW_IN_PROGRESS", "ROLLBACK_COMPLETE", "ROLLBACK_FAILED"}
"""A stack that was never complete; it cannot be updated, and holds nothing."""


@dataclass(frozen=True)
class ChangeSet:
    """What a deployment would do.

    Attributes:
        arn: Its ARN.
        creates: Whether the stack is new.
        changes: The changes of resources, as CloudFormation describes them.
        made: When it was made, by the clock of AWS.
    """

    arn: str
    creates: bool
    changes: list[dict[str, Any]]
    made: datetime


@dataclass(frozen=True)
class Stack:
    """A stack, which may not be there yet.

    Attributes:
        account: Where it is.
        name: Its name.
    """

    account: Account
    name: str

    @property
    def cloudformation(self) -> Any:
        """The client."""
        return self.account.client("cloudformation")

    def found(self) -> dict[str, Any] | None:
        """Return its description by CloudFormation, None if it does not exist."""
        try:
            (found,) = self.cloudformation.describe_stacks(StackName=self.name)["Stacks"]
        except ClientError as error:
            if "does not exist" in str(error):
                return None
            raise
        return dict(found)

    def existing(self) -> dict[str, Any]:
        """Return its description by CloudFormation.

        Raises:
            DeployError: It does not exist.
        """
        found = self.found()
        if found is None or found["StackStatus"] == "REVIEW_IN_PROGRESS":
            raise DeployError(
                f"there is no stack {self.name} in {self.account.region} of the account {self.account.id}: deploy it "
                "first (make deploy-fargate), or name another one by ENV or STACK"
            )
        return found

    def check_own(self, found: Mapping[str, Any] | None, template: Template) -> None:
        """Refuse a stack that was made from another template.

        Args:
            found: What CloudFormation says of it, None if it is not there.
            template: A template that it may have been made from.

        Raises:
            DeployError: It was made from another template.
        """
        if found and not is_of(found, template):
            raise DeployError(
                f"the stack {self.name} was not made from {template.path.name}, as it has no parameter "
                f"{template.mark}: name another one by ENV or STACK"
            )

    def outputs(self) -> dict[str, str]:
        """Return its outputs."""
        return {told["OutputKey"]: told["OutputValue"] for told in self.existing().get("Outputs", [])}

    def resource(self, logical_id: str) -> str | None:
        """Return the name that AWS knows a resource by, None if it is not there."""
        with suppress(ClientError):
            told = self.cloudformation.describe_stack_resource(StackName=self.name, LogicalResourceId=logical_id)
            return told["StackResourceDetail"].get("PhysicalResourceId") or None
        return None

    def service(self) -> dict[str, Any] | None:
        """Return what ECS says of its service, None if it is not there."""
        cluster, service = self.resource("rECSCluster"), self.resource("rECSService")
        if not (cluster and service):
            return None
        found = self.account.client("ecs").describe_services(cluster=cluster, services=[service])["services"]
        return dict(found[0]) if found else None

    def propose(
        self, template: Template, parameters: Mapping[str, str], tags: Mapping[str, str] | None
    ) -> ChangeSet | None:
        """Return a new change set, None if it would change nothing. A stack that was never complete is deleted first.

        Args:
            template: The template.
            parameters: Its parameters.
            tags: The tags of the stack; None keeps them.

        Raises:
            DeployError: CloudFormation refuses it.
        """
        creates = self._delete_if_never_made()
        given = [{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()]
        tagged = [] if tags is None else [{"Key": key, "Value": value} for key, value in tags.items()]
        kind, name = "CREATE" if creates else "UPDATE", f"deploy-{time.time_ns()}"  # two may deploy in one second
        show_command(
            *("aws", "cloudformation", "create-change-set", "--stack-name", self.name, "--change-set-name", name),
            *("--change-set-type", kind, "--capabilities", CAPABILITY),
            *("--template-body", f"file://cfn/{template.path.name}"),
            *("--parameters", json.dumps(given, ensure_ascii=False)),
            *(["--tags", json.dumps(tagged, ensure_ascii=False)] if tags is not None else []),
        )
        try:
            made = self.cloudformation.create_change_set(
                StackName=self.name,
                ChangeSetName=name,
                ChangeSetType=kind,
                Capabilities=[CAPABILITY],
                TemplateBody=template.text,
                Parameters=given,
                **({} if tags is None else {"Tags": tagged}),
            )
        except ClientError as error:
            self._forget_if_new(creates=creates)
            raise DeployError(refusal(error)) from None
        return self._described(made["Id"], creates=creates)

    def _delete_if_never_made(self) -> bool:
        """Delete what a first deployment that failed has left; return whether the stack does not exist."""
        found = self.found()
        if found is None or found["StackStatus"] not in NEVER_MADE:
            return found is None
        say(f"The stack {self.name} was never complete and holds nothing, so it is deleted first.")
        self.delete()
        return True

    def _described(self, arn: str, *, creates: bool) -> ChangeSet | None:
        found = self._wait_for_change_set(arn)
        if found["Status"] == "FAILED":
            self.discard(ChangeSet(arn, creates, [], found["CreationTime"]))
            if any(text in found.get("StatusReason", "") for text in _EMPTY):
                return None
            raise DeployError(f"CloudFormation refuses the change: {found.get('StatusReason')}")
        changes, made = list(found["Changes"]), found["CreationTime"]
        while found.get("NextToken"):
            found = self.cloudformation.describe_change_set(ChangeSetName=arn, NextToken=found["NextToken"])
            changes += found["Changes"]
        return ChangeSet(arn, creates, [told["ResourceChange"] for told in changes if "ResourceChange" in told], made)

    def _wait_for_change_set(self, arn: str) -> dict[str, Any]:
        pause_s = 0.2
        while True:
            found = self.cloudformation.describe_change_set(ChangeSetName=arn)
            if found["Status"] not in {"CREATE_PENDING", "CREATE_IN_PROGRESS"}:
                return dict(found)
            time.sleep(pause_s)
            pause_s = min(MAX_POLL_S, 2 * pause_s)

    def discard(self, change_set: ChangeSet) -> None:
        """Delete a change set that is not executed, and the stack if there is nothing else of it."""
        self.cloudformation.delete_change_set(ChangeSetName=change_set.arn)
        self._forget_if_new(creates=change_set.creates)

    def _forget_if_new(self, *, creates: bool) -> None:
        found = self.found() if creates else None
        if found and found["StackStatus"] == "REVIEW_IN_PROGRESS":
            self.cloudformation.delete_stack(StackName=self.name)

    def execute(self, change_set: ChangeSet) -> None:
        """Start what a change set says."""
        show_command("aws", "cloudformation", "execute-change-set", "--change-set-name", change_set.arn)
        self.cloudformation.execute_change_set(ChangeSetName=change_set.arn)

    def wait(self, look: Callable[[], None] = lambda: None) -> str:
        """Wait until nothing goes on any more, looking at something else each time; return the status.

        A stack that is deleted has the status `DELETE_COMPLETE`.
        """
        arn, pause_s = str((self.found() or {}).get("StackId", self.name)), 0.5
        while True:
            status = self._status(arn)
            look()
            if not status.endswith("_IN_PROGRESS"):
                return status
            time.sleep(pause_s)
            pause_s = min(MAX_POLL_S, 1.5 * pause_s)

    def _status(self, arn: str) -> str:
        found = Stack(self.account, arn).found()
        return str(found["StackStatus"]) if found else "DELETE_COMPLETE"

    def delete(self) -> str:
        """Delete it, wait for that, and return the status."""
        show_command("aws", "cloudformation", "delete-stack", "--stack-name", self.name)
        arn = str((self.found() or {}).get("StackId", self.name))
        self.cloudformation.delete_stack(StackName=self.name)
        show_command("aws", "cloudformation", "wait", "stack-delete-complete", "--stack-name", self.name)
        return Stack(self.account, arn).wait()


def is_of(found: Mapping[str, Any], template: Template) -> bool:
    """Return whether a stack, as CloudFormation describes it, may be of a template, or of an earlier version of it.

    A stack that was never complete may have no parameters.
    """
    names = {told["ParameterKey"] for told in found.get("Parameters", [])}
    mark = template.mark
    return mark in names or (not names and found["StackStatus"] in NEVER_MADE)


def refusal(error: ClientError) -> str:
    """Return what AWS says about a request that it refuses, in its own words."""
    told = error.response["Error"]
    return f"AWS refuses {error.operation_name}: {told.get('Message') or told.get('Code')}"
