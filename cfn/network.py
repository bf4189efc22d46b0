"""The VPC and the subnets to work in: those that are given, those that the stack has, or the default ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfn.errors import DeployError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cfn.account import Account

DEFAULT = "default"


def network_of(account: Account, given: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str]:
    """Return the network, as parameters of a template.

    Args:
        account: Where the network is.
        given: The parameters that were given; `default` as the VPC means the default one.
        now: Those of the stack.

    Raises:
        DeployError: None is given, or there is no default one.
    """
    vpc, subnets = given.get("pVPCId"), given.get("pSubnetIds")
    if not vpc and not subnets and now:
        return {name: now[name] for name in ("pVPCId", "pSubnetIds")}
    if not vpc and now and subnets:
        vpc = now["pVPCId"]
    if not vpc:
        raise DeployError(
            "VPC is not set: the VPC to work in, as in make deploy-fargate VPC=vpc-… SUBNETS=subnet-…,subnet-…; or "
            "VPC=default for the one that came with the account"
        )
    if vpc == DEFAULT:
        vpc, default_subnets = _default(account)
        subnets = subnets or default_subnets
    if not subnets:
        raise DeployError(f"SUBNETS is not set: two or more subnets of {vpc}, with commas between them")
    return {"pVPCId": vpc, "pSubnetIds": subnets}


def _default(account: Account) -> tuple[str, str]:
    """Return the default VPC and its default subnets."""
    ec2 = account.client("ec2")
    vpcs = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
    if not vpcs:
        raise DeployError(f"there is no default VPC in {account.region} of {account.id}: give VPC and SUBNETS")
    vpc = str(vpcs[0]["VpcId"])
    filters = [{"Name": "vpc-id", "Values": [vpc]}, {"Name": "default-for-az", "Values": ["true"]}]
    found = ec2.describe_subnets(Filters=filters)["Subnets"]
    return vpc, ",".join(sorted(subnet["SubnetId"] for subnet in found))
