"""An S3 and SQS server on loopback for the benchmark, with buckets, a queue and objects."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus

import boto3

if TYPE_CHECKING:
    from collections.abc import Iterator

START_TIMEOUT_S = 30
INPUT, OUTPUT, QUEUE, DEAD = "bench-in", "bench-out", "bench-queue", "bench-dead"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "bench",
    "AWS_SECRET_ACCESS_KEY": "bench",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
# Over TLS, which is what AWS is reached by, bodies are not signed; over plain http that has to be said.
_CONFIG = "[default]\ns3 =\n    payload_signing_enabled = false\n"


class NoServerError(Exception):
    """The server does not start."""


@dataclass(frozen=True)
class Cloud:
    """A running server.

    Attributes:
        endpoint: Where it is reached.
        environment: How a process reaches it.
    """

    endpoint: str
    environment: dict[str, str]

    def client(self, service: str) -> Any:
        """Return a client of it."""
        keys = {"aws_access_key_id": "bench", "aws_secret_access_key": "bench", "region_name": "us-east-1"}
        return boto3.client(service, endpoint_url=self.endpoint, **keys)

    def put(self, source: Path, key: str) -> None:
        """Upload a file, in parts if it is large, without telling the queue."""
        self.client("s3").upload_file(str(source), INPUT, key)

    def tell(self, *keys: str) -> None:
        """Put the events of objects on the queue."""
        s3, sqs = self.client("s3"), self.client("sqs")
        url = sqs.get_queue_url(QueueName=QUEUE)["QueueUrl"]
        for key in keys:
            found = s3.head_object(Bucket=INPUT, Key=key)
            thing = {"key": quote_plus(key), "size": found["ContentLength"], "eTag": found["ETag"].strip('"')}
            record = {"eventVersion": "2.1", "eventSource": "aws:s3", "eventName": "ObjectCreated:Put"}
            sent = {**record, "s3": {"bucket": {"name": INPUT}, "object": {**thing, "sequencer": "00A1"}}}
            sqs.send_message(QueueUrl=url, MessageBody=json.dumps({"Records": [sent]}))

    def size_of_outputs(self) -> int:
        """Return how many bytes were published."""
        pages = self.client("s3").get_paginator("list_objects_v2").paginate(Bucket=OUTPUT, Prefix="output/")
        return sum(found["Size"] for page in pages for found in page.get("Contents", []))

    def empty_outputs(self) -> None:
        """Remove what was published, so that it can be again."""
        s3 = self.client("s3")
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=OUTPUT):
            for found in page.get("Contents", []):
                s3.delete_object(Bucket=OUTPUT, Key=found["Key"])


@contextmanager
def cloud_in(folder: Path) -> Iterator[Cloud]:
    """Run a server that keeps its objects in memory, with what a worker needs."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = folder / "aws-config"
    config.write_text(_CONFIG)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "S3_"))}
    own = {"BIND_HOST": "127.0.0.1", "GATEWAY_PORT": str(port), "HOME": str(folder), "TMPDIR": str(folder)}
    quiet = {"IOT_MTLS_ENABLED": "false", "SFTP_ENABLED": "false"}
    command = [str(Path(sys.executable).with_name("ministack"))]
    with subprocess.Popen(
        command, env={**kept, **own, **quiet}, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            endpoint = f"http://127.0.0.1:{port}"
            _await(endpoint, process)
            cloud = Cloud(endpoint, {**CREDENTIALS, "AWS_ENDPOINT_URL": endpoint, "AWS_CONFIG_FILE": str(config)})
            _furnish(cloud)
            yield cloud
        finally:
            process.kill()


def _await(endpoint: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{endpoint}/_ministack/health", timeout=1):
                return
        except OSError:
            time.sleep(0.05)
    raise NoServerError("the S3 server for the benchmark does not start")


def _furnish(cloud: Cloud) -> None:
    s3, sqs = cloud.client("s3"), cloud.client("sqs")
    for bucket in (INPUT, OUTPUT):
        s3.create_bucket(Bucket=bucket)
    dead = sqs.create_queue(QueueName=DEAD)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": "5"})
    sqs.create_queue(QueueName=QUEUE, Attributes={"RedrivePolicy": policy})
