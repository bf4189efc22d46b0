"""A stack on an AWS of one's own."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tests.support.deployment import wait_for

if TYPE_CHECKING:
    from tests.cfn.cloud import Cloud


@dataclass
class Stack:
    """A stack.

    Attributes:
        cloud: Where it is.
        name: What it is called.
        id: Its ARN.
    """

    cloud: Cloud
    name: str
    id: str

    @property
    def status(self) -> str:
        """How it is, such as CREATE_COMPLETE."""
        return str(self._told()["StackStatus"])

    @cached_property
    def outputs(self) -> dict[str, str]:
        """What it tells."""
        return {output["OutputKey"]: output["OutputValue"] for output in self._told()["Outputs"]}

    @cached_property
    def container(self) -> dict[str, Any]:
        """The definition of the container, as ECS has it."""
        ecs = self.cloud.client("ecs")
        found = ecs.describe_task_definition(taskDefinition=self.outputs["oTaskFamily"])
        (container,) = found["taskDefinition"]["containerDefinitions"]
        return dict(container)

    @property
    def environment(self) -> dict[str, str]:
        """What a worker has in its environment, by the task definition."""
        return {variable["name"]: variable["value"] for variable in self.container["environment"]}

    def resource(self, logical_id: str) -> str:
        """Return the name that something was given."""
        found = self.cloud.client("cloudformation").describe_stack_resource(
            StackName=self.id, LogicalResourceId=logical_id
        )
        return str(found["StackResourceDetail"]["PhysicalResourceId"])

    def delete(self) -> None:
        """Delete it, and wait for that."""
        self.cloud.client("cloudformation").delete_stack(StackName=self.id)
        wait_for(lambda: self.status == "DELETE_COMPLETE")

    def task_credentials(self) -> dict[str, str]:
        """Return credentials of the role of the tasks, as variables of the environment.

        The role trusts ECS alone, which cannot be asked for them here: this test does what ECS would.
        """
        role = self.outputs["oTaskRoleArn"]
        iam, name = self.cloud.client("iam"), role.rpartition("/")[2]
        trust = iam.get_role(RoleName=name)["Role"]["AssumeRolePolicyDocument"]
        own = {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{role.split(':')[4]}:root"}}
        changed = {**trust, "Statement": [*trust["Statement"], {**own, "Action": "sts:AssumeRole"}]}
        iam.update_assume_role_policy(RoleName=name, PolicyDocument=json.dumps(changed))
        self._allow_batches(name)
        given = self.cloud.client("sts").assume_role(RoleArn=role, RoleSessionName="task")["Credentials"]
        iam.update_assume_role_policy(RoleName=name, PolicyDocument=json.dumps(trust))
        return {
            "AWS_ACCESS_KEY_ID": given["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": given["SecretAccessKey"],
            "AWS_SESSION_TOKEN": given["SessionToken"],
        }

    def _allow_batches(self, role: str) -> None:
        """Allow a role to delete several messages at once where it may delete one.

        On AWS that is one permission; ministack wants one with the name of the request.
        """
        iam = self.cloud.client("iam")
        for policy in iam.list_role_policies(RoleName=role)["PolicyNames"]:
            document = iam.get_role_policy(RoleName=role, PolicyName=policy)["PolicyDocument"]
            allowed = [part for part in document["Statement"] if "sqs:DeleteMessage" in part["Action"]]
            batches = [{**part, "Action": ["sqs:DeleteMessageBatch"]} for part in allowed]
            if batches:
                text = json.dumps({**document, "Statement": batches})
                iam.put_role_policy(RoleName=role, PolicyName="Batches", PolicyDocument=text)

    def _told(self) -> dict[str, Any]:
        (found,) = self.cloud.client("cloudformation").describe_stacks(StackName=self.id)["Stacks"]
        return dict(found)
