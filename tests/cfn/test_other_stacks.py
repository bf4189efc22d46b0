"""Stacks of something else, which nothing is done to, whatever their names."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from cfn.account import Account
from cfn.companion_stacks import check_companions, companions
from cfn.deployment import describe_deletion
from cfn.environment import read_environment
from cfn.messages import DeployError
from cfn.plan import make_plan
from cfn.stack import Stack
from cfn.template import KINDS, read_template

PARAMETERS = {name for kind in KINDS for name in read_template(f"ecs-{kind}").parameters}


@dataclass
class CloudFormation:
    """Stacks in memory.

    Attributes:
        stacks: The names of their parameters by their names.
        status: Of all of them.
    """

    stacks: dict[str, list[str]] = field(default_factory=dict)
    status: str = "CREATE_COMPLETE"

    def describe_stacks(self, StackName: str) -> dict[str, Any]:  # noqa: N803 # as boto3 has it
        if StackName not in self.stacks:
            told = {"Error": {"Code": "ValidationError", "Message": f"Stack with id {StackName} does not exist"}}
            raise ClientError(told, "DescribeStacks")
        parameters = [{"ParameterKey": name, "ParameterValue": "x"} for name in self.stacks[StackName]]
        return {"Stacks": [{"StackId": StackName, "StackStatus": self.status, "Parameters": parameters}]}


def stack_in(name: str, **stacks: list[str]) -> Stack:
    """Return a stack in an account that has these."""
    account = Account("111122223333", "eu-central-1", "arn", boto3.Session(region_name="eu-central-1"))
    known = {key.replace("_", "-"): parameters for key, parameters in stacks.items()}
    account._clients["cloudformation"] = CloudFormation(known)
    return Stack(account, name)


def parameters_of(template: str) -> list[str]:
    return [*read_template(template).parameters]


@pytest.mark.parametrize("there", [[], ["pVpc"]])
def test_a_stack_of_something_else_is_not_updated(there: list[str]) -> None:
    account = stack_in("data", data=there).account
    with pytest.raises(DeployError, match=r"the stack data was not made from ecs-fargate\.yaml"):
        make_plan(account, read_environment(["STACK=data", "VPC=vpc-1", "YES=1"], PARAMETERS), "fargate")


def test_a_stack_of_something_else_is_not_deleted() -> None:
    with pytest.raises(DeployError, match="the stack data was not made from"):
        describe_deletion(stack_in("data", data=["pVpc"]))


@pytest.mark.parametrize("name", ["monitoring", "wake"])
@pytest.mark.parametrize("update", [False, True])
def test_nothing_is_deployed_over_a_stack_that_happens_to_have_such_a_name(name: str, update: bool) -> None:
    own = {"data": parameters_of("ecs-fargate")} if update else {}
    stack = stack_in("data", **own, **{f"data_{name}": ["pEmail"]})
    with pytest.raises(DeployError, match=f"there is a stack data-{name} that was not made from {name}.yaml"):
        make_plan(stack.account, read_environment(["STACK=data", "VPC=vpc-1", "YES=1"], PARAMETERS), "fargate")
    assert companions(stack) == [], "so that nothing of it is deleted"


def test_own_companions_are_known() -> None:
    stack = stack_in("data", data_monitoring=parameters_of("monitoring"), data_wake=parameters_of("wake"))
    check_companions(stack)
    assert [one.name for one in companions(stack)] == ["data-wake", "data-monitoring"]


def test_a_stack_that_was_never_complete_may_have_no_parameters() -> None:
    stack = stack_in("data", data_monitoring=[])
    stack.cloudformation.status = "REVIEW_IN_PROGRESS"
    check_companions(stack)
