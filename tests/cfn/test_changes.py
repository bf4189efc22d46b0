"""What is shown before a deployment: the changes, and a warning where data are replaced."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from cfn.account import Account
from cfn.changes import table_of_changes, table_of_parameters, warnings_about
from cfn.stack import ChangeSet, Stack
from cfn.template import read_template

NOW = datetime(2026, 11, 28, tzinfo=UTC)


def change(kind: str = "AWS::SQS::Queue", action: str = "Modify", **told: Any) -> dict[str, Any]:
    return {
        "Action": action,
        "LogicalResourceId": "rOne",
        "PhysicalResourceId": "one",
        "ResourceType": kind,
        **told,
    }


def recreated(*answers: str) -> list[dict[str, Any]]:
    return [{"Target": {"Attribute": "Properties", "RequiresRecreation": answer}} for answer in answers]


@pytest.mark.parametrize(
    ("told", "found"),
    [
        (change(Replacement="False"), []),
        (change("AWS::ECS::TaskDefinition", Replacement="True"), []),
        (change(Replacement="True"), [("is replaced: the messages in it are lost", True)]),
        (change(action="Remove"), [("is removed: the messages in it are lost", True)]),
        (change("AWS::Logs::LogGroup", "Remove"), [("is removed: the logs in it are lost", True)]),
        (change("AWS::S3::Bucket", Replacement="True"), [("is replaced: the stack would use another, empty", False)]),
        (
            change(Replacement="True", PolicyAction="ReplaceAndRetain"),
            [("is replaced: the stack would not use", False)],
        ),
        (change(action="Remove", PolicyAction="Delete"), [("is removed: the messages in it are lost", True)]),
        (change(Replacement="Conditional"), [("may be replaced: the messages in it are lost", False)]),
        (change(Replacement="Conditional", Details=recreated("Never", "Never")), []),
        (
            change(Replacement="Conditional", Details=recreated("Never", "Always")),
            [("may be replaced: the mess", False)],
        ),
    ],
)
def test_warnings(told: dict[str, Any], found: list[tuple[str, bool]]) -> None:
    warned = warnings_about(ChangeSet("arn", creates=False, changes=[told], made=NOW))
    assert [lost for _, lost in warned] == [lost for _, lost in found]
    for (text, _), (start, _) in zip(warned, found, strict=True):
        assert text.startswith(f"rOne (one) {start}")


def test_table_of_an_update_has_each_resource() -> None:
    changes = [change(Replacement="True"), change("AWS::ECS::Service", "Add")]
    assert table_of_changes(ChangeSet("arn", creates=False, changes=changes, made=NOW)).splitlines() == [
        "  action  resource  type               replaced",
        "  Modify  rOne      AWS::SQS::Queue    yes",
        "  Add     rOne      AWS::ECS::Service",
    ]


def test_table_of_a_new_stack_counts() -> None:
    changes = [change(action="Add"), change("AWS::ECS::Service", "Add"), change(action="Add")]
    table = table_of_changes(ChangeSet("arn", creates=True, changes=changes, made=NOW))
    assert table.splitlines() == ["    2  AWS::SQS::Queue", "    1  AWS::ECS::Service"]


def test_table_of_parameters() -> None:
    table = table_of_parameters({"a": "1", "b": "2"}, {"a": "1", "b": "", "c": "x " * 50}, {"c": "prod.env:3"})
    assert table.splitlines() == [
        "  parameter  now     then" + " " * 58 + "from",
        "  b          2       (empty)",
        f"  c          (none)  {('x ' * 50)[:59]}…  prod.env:3",
    ]
    assert table_of_parameters({"a": "1"}, {"a": "1"}, {}) == ""


@pytest.mark.parametrize(
    ("now", "then"),
    [
        ("x" * 100 + "a" + "z" * 100, "x" * 100 + "b" + "z" * 100),
        ("x" * 100, "x" * 101),
        ("a  b", "a b"),
        ("a\nb", "a b"),
        (" ", ""),
    ],
)
def test_table_of_parameters_shows_what_differs(now: str, then: str) -> None:
    header, row = table_of_parameters({"p": now}, {"p": then}, {"p": "place"}).splitlines()
    columns = [header.index(name) for name in ("now", "then", "from")]
    shown = [row[start:end].rstrip() for start, end in pairwise(columns)]
    assert shown[0] != shown[1]
    assert len(row) < 150


class _CloudFormation:
    """Has one stack, whose only change set was never answered, and takes another."""

    def __init__(self) -> None:
        self.status = "REVIEW_IN_PROGRESS"
        self.types: list[str] = []

    def describe_stacks(self, **given: str) -> dict[str, Any]:
        if self.status == "DELETE_COMPLETE" and given["StackName"] != "arn":
            raise ClientError({"Error": {"Code": "ValidationError", "Message": "x does not exist"}}, "DescribeStacks")
        return {"Stacks": [{"StackId": "arn", "StackStatus": self.status}]}

    def delete_stack(self, **_: str) -> None:
        self.status = "DELETE_COMPLETE"

    def create_change_set(self, **given: Any) -> dict[str, str]:
        assert self.status == "DELETE_COMPLETE"
        self.types.append(given["ChangeSetType"])
        return {"Id": "change"}

    def describe_change_set(self, **_: str) -> dict[str, Any]:
        return {"Status": "CREATE_COMPLETE", "Changes": [], "CreationTime": datetime.now(UTC)}


def test_stack_of_a_change_set_without_an_answer_is_deployed_again() -> None:
    cloud = _CloudFormation()
    account = Account("0", "eu-central-1", "arn", boto3.Session(), {"cloudformation": cloud})
    change_set = Stack(account, "x").propose(read_template("monitoring"), {}, None)
    assert change_set is not None
    assert change_set.creates
    assert cloud.types == ["CREATE"]
