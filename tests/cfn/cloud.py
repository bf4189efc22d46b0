"""An AWS of one's own that admits TLS only and enforces permissions, and stacks on it."""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import trustme

from tests.cfn.stack import Stack
from tests.cfn.templates import everything_in
from tests.conftest import START_TIMEOUT_S
from tests.support.deployment import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

IMAGE = "111122223333.dkr.ecr.us-east-1.amazonaws.com/transform:1.0"
ADMIN = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
UNKNOWN_TYPES = {
    "AWS::ApplicationAutoScaling::ScalableTarget",
    "AWS::ApplicationAutoScaling::ScalingPolicy",
    "AWS::ECS::CapacityProvider",
    "AWS::ECS::ClusterCapacityProviderAssociations",
}
"""What ministack has not; alarms on metric math are the other thing."""


@dataclass
class Cloud:
    """The server.

    Attributes:
        endpoint: Its address.
        authority: A file with the certificate that it is trusted by.
    """

    endpoint: str
    authority: Path
    _clients: dict[str, Any] = field(default_factory=dict)

    def client(self, service: str, credentials: Mapping[str, str] | None = None) -> Any:
        """Return a client, of one who may do everything unless there are other credentials."""
        if credentials is None and service in self._clients:
            return self._clients[service]
        given = ADMIN if credentials is None else credentials
        made = boto3.client(
            service,
            endpoint_url=self.endpoint,
            verify=str(self.authority),
            region_name=ADMIN["AWS_DEFAULT_REGION"],
            aws_access_key_id=given["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=given["AWS_SECRET_ACCESS_KEY"],
            aws_session_token=given.get("AWS_SESSION_TOKEN"),
        )
        return self._clients.setdefault(service, made) if credentials is None else made

    @cached_property
    def network(self) -> dict[str, str]:
        """A VPC with two subnets, as parameters of a template."""
        ec2 = self.client("ec2")
        vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        subnets = [ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.0.{part}.0/24")["Subnet"]["SubnetId"] for part in (1, 2)]
        return {"pVPCId": vpc, "pSubnetIds": ",".join(subnets)}

    def create(self, name: str, template: Mapping[str, Any], **given: str) -> Stack:
        """Create a stack in that network, and wait until it is there or was rolled back."""
        usual = {**self.network, "pDockerImage": IMAGE}
        parameters = {**{name: value for name, value in usual.items() if name in template["Parameters"]}, **given}
        created = self.client("cloudformation").create_stack(
            StackName=name,
            TemplateBody=json.dumps(template),
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
            Capabilities=["CAPABILITY_IAM"],
        )
        stack = Stack(self, name, created["StackId"])
        wait_for(lambda: not stack.status.endswith("_IN_PROGRESS"))
        return stack


def without_what_is_unknown(template: dict[str, Any]) -> dict[str, Any]:
    """Take out of a template what ministack has not, and what refers to that."""
    resources = template["Resources"]
    math = {name for name, told in resources.items() if "Metrics" in told["Properties"]}
    gone = math | {name for name, told in resources.items() if told["Type"] in UNKNOWN_TYPES}
    template["Resources"] = {name: told for name, told in resources.items() if name not in gone}
    for told in template["Resources"].values():
        if isinstance(told.get("DependsOn"), list):
            told["DependsOn"] = [name for name in told["DependsOn"] if name not in gone]
        strategy = told["Properties"].get("CapacityProviderStrategy")
        if any(isinstance(part, dict) and part.get("Ref") in gone for part in everything_in(strategy)):
            del told["Properties"]["CapacityProviderStrategy"]
    return without_splits(template)


def without_splits(template: dict[str, Any]) -> dict[str, Any]:
    """Have conditions select from a text: ministack has no Fn::Split there, and divides texts at commas by itself."""
    for part in everything_in(template.get("Conditions", {})):
        if isinstance(part, dict) and isinstance(part.get("Fn::Select"), list):
            number, items = part["Fn::Select"]
            delimiter, text = items["Fn::Split"]
            assert delimiter == ","
            part["Fn::Select"] = [number, text]
    return template


@contextmanager
def strict_cloud(directory: Path) -> Iterator[Cloud]:
    """Start a ministack that enforces IAM and has a certificate for 127.0.0.1.

    A tests' server of plain HTTP would not do: the policies of buckets and queues deny everything that comes without
    TLS, workers' requests too.
    """
    authority = trustme.CA()
    authority.cert_pem.write_to_path(directory / "authority.pem")
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_and_cert_chain_pem.write_to_path(directory / "server.pem")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "S3_"))}
    own = {"BIND_HOST": "127.0.0.1", "GATEWAY_PORT": str(port), "TMPDIR": str(directory), "HOME": str(directory)}
    tls = dict.fromkeys(["MINISTACK_SSL_CERT", "MINISTACK_SSL_KEY"], str(directory / "server.pem"))
    more = {"AUTH": "true", "USE_SSL": "1", "IOT_MTLS_ENABLED": "false", "SFTP_ENABLED": "false"}
    cloud = Cloud(f"https://127.0.0.1:{port}", directory / "authority.pem")
    with (
        (directory / "log").open("wb") as log,
        subprocess.Popen(
            [Path(sys.executable).with_name("ministack")],
            env={**kept, **own, **tls, **more},
            cwd=directory,
            stdout=log,
            stderr=log,
        ) as process,
    ):
        try:
            _wait_for_answer(cloud, process)
            yield cloud
        finally:
            process.kill()


def _wait_for_answer(cloud: Cloud, process: subprocess.Popen[bytes]) -> None:
    context = ssl.create_default_context(cafile=cloud.authority)
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        assert process.poll() is None, "ministack has ended"
        try:
            with urllib.request.urlopen(f"{cloud.endpoint}/_ministack/health", timeout=1, context=context):
                return
        except OSError:
            time.sleep(0.05)
    raise AssertionError("ministack does not answer")
