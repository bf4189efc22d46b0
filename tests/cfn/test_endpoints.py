"""The endpoints of a VPC without a way out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from tests.cfn.templates import load

if TYPE_CHECKING:
    from tests.cfn.cloud import Cloud

FOR_ALL = {"s3", "sqs", "logs", "ecr.api", "ecr.dkr", "ecs"}
FOR_INSTANCES = {"ecs-agent", "ecs-telemetry", "ssm", "ssmmessages"}


@pytest.fixture
def tables(cloud: Cloud) -> str:
    """A route table of the VPC."""
    made = cloud.client("ec2").create_route_table(VpcId=cloud.network["pVPCId"])
    return str(made["RouteTable"]["RouteTableId"])


def endpoints_in(cloud: Cloud) -> dict[str, dict[str, Any]]:
    """Return the endpoints that there are, by their services."""
    found = cloud.client("ec2").describe_vpc_endpoints()["VpcEndpoints"]
    return {endpoint["ServiceName"].partition("us-east-1.")[2]: endpoint for endpoint in found}


@pytest.mark.parametrize(("instances", "services"), [("false", FOR_ALL), ("true", FOR_ALL | FOR_INSTANCES)])
def test_endpoints(cloud: Cloud, tables: str, instances: str, services: set[str]) -> None:
    stack = cloud.create("endpoints", load("endpoints"), pRouteTableIds=tables, pInstances=instances)
    assert stack.status == "CREATE_COMPLETE"
    made = endpoints_in(cloud)
    assert made.keys() == services
    assert {name for name, endpoint in made.items() if endpoint["VpcEndpointType"] == "Gateway"} == {"s3"}
    assert made["s3"]["RouteTableIds"] == [tables]
    stack.delete()
    assert endpoints_in(cloud) == {}


def test_only_workers_are_let_in() -> None:
    (group,) = (told for told in load("endpoints")["Resources"].values() if told["Type"] == "AWS::EC2::SecurityGroup")
    (rule,) = group["Properties"]["SecurityGroupIngress"]
    assert (rule["FromPort"], rule["ToPort"], rule["CidrIp"]) == (443, 443, {"Ref": "pCidr"})


@pytest.mark.parametrize("given", [{"pRouteTableIds": "main"}, {"pCidr": "everybody"}])
def test_wrong_parameters_are_refused(cloud: Cloud, tables: str, given: dict[str, str]) -> None:
    with pytest.raises(ClientError, match=r"(are|is) expected to be"):
        cloud.create("endpoints", load("endpoints"), **{"pRouteTableIds": tables, **given})
