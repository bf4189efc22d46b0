"""The account and region of a deployment, with clients for them, and the network."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from cfn.messages import DeployError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cfn.environment import Environment

DEFAULT_VPC = "default"
REGION_VARIABLES = ("AWS_REGION", "AWS_DEFAULT_REGION")
_PATIENT = Config(retries={"mode": "standard", "max_attempts": 10})


@dataclass(frozen=True)
class Account:
    """An account, in a region.

    Attributes:
        id: Its 12 digits.
        region: The region.
        caller: The ARN of the user or role that deploys.
        session: What clients are made of.
    """

    id: str
    region: str
    caller: str
    session: boto3.Session
    _clients: dict[str, Any] = field(default_factory=dict)

    def client(self, service: str) -> Any:
        """Return the client of a service."""
        if service not in self._clients:
            self._clients[service] = self.session.client(service, config=_PATIENT)
        return self._clients[service]


def connect(environment: Environment, environ: Mapping[str, str]) -> Account:
    """Return the account of an environment, after asking AWS which account the credentials belong to.

    Args:
        environment: What to deploy, and where.
        environ: The environment of the process.

    Raises:
        DeployError: The region or the account is not known, or is not that of the environment.
    """
    region = _region(environment, environ)
    try:
        session = boto3.Session(profile_name=environment.options.get("AWS_PROFILE"), region_name=region)
        if not session.region_name:
            raise DeployError(
                "AWS_REGION is not set: the region to deploy to, as in make deploy-fargate AWS_REGION=eu-central-1, in "
                "the file of the environment, or exported"
            )
        found = session.client("sts", config=_PATIENT).get_caller_identity()
    except (BotoCoreError, ClientError) as error:
        raise DeployError(
            f"AWS does not know who you are: log in first (aws sso login, or aws configure): {error}"
        ) from None
    expected = environment.options.get("AWS_ACCOUNT_ID", found["Account"])
    if found["Account"] != expected:
        raise DeployError(
            f"these credentials are of the account {found['Account']} ({found['Arn']}), and AWS_ACCOUNT_ID "
            f"({environment.places['AWS_ACCOUNT_ID']}) is {expected}: log in there, or choose another profile with "
            "AWS_PROFILE"
        )
    return Account(found["Account"], session.region_name, found["Arn"], session)


def _region(environment: Environment, environ: Mapping[str, str]) -> str | None:
    """Return the region that is given, by the environment or otherwise by the variables of AWS's tools."""
    given = environment.options.get("AWS_REGION")
    exported = {name: environ[name] for name in REGION_VARIABLES if environ.get(name)}
    for name, region in exported.items():
        if given and region != given:
            raise DeployError(
                f"{name} is {region} in your shell, and AWS_REGION is {given} ({environment.places['AWS_REGION']}): "
                f"unset {name}, or export the same region"
            )
    return given or next(iter(exported.values()), None)


def network_of(account: Account, given: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str]:
    """Return the network, as parameters of a template.

    Args:
        account: Where the network is.
        given: The parameters that were given; `default` as the VPC means the default VPC.
        now: The parameters of the stack.

    Raises:
        DeployError: No network is given, or there is no default VPC.
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
    if vpc == DEFAULT_VPC:
        vpc, default_subnets = _default_network(account)
        subnets = subnets or default_subnets
    if not subnets:
        raise DeployError(f"SUBNETS is not set: two or more subnets of {vpc}, with commas between them")
    return {"pVPCId": vpc, "pSubnetIds": subnets}


def _default_network(account: Account) -> tuple[str, str]:
    """Return the default VPC and its default subnets."""
    ec2 = account.client("ec2")
    vpcs = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
    if not vpcs:
        raise DeployError(f"there is no default VPC in {account.region} of {account.id}: give VPC and SUBNETS")
    vpc = str(vpcs[0]["VpcId"])
    filters = [{"Name": "vpc-id", "Values": [vpc]}, {"Name": "default-for-az", "Values": ["true"]}]
    found = ec2.describe_subnets(Filters=filters)["Subnets"]
    return vpc, ",".join(sorted(subnet["SubnetId"] for subnet in found))
