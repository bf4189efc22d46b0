"""Servers of S3 and SQS on loopback for the benchmark, with a queue and objects.

S3 is `s3_server`, over TLS as AWS is: plain http misleads, because there bodies are signed, and reading costs less than
half. The queue is that of an emulator, over plain http.
"""

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
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus

import boto3

from tests.benchmarks.s3_server import CA_FILE, COUNTS_PATH, FILE_HEADER

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT = Path(__file__).parents[2]
START_TIMEOUT_S = 30
INPUT, OUTPUT, QUEUE, DEAD = "bench-in", "bench-out", "bench-queue", "bench-dead"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "bench",
    "AWS_SECRET_ACCESS_KEY": "bench",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
MB_PER_S = 90  # of one connection; that is about what S3 gives
DELAY_S = 0.05


class NoServerError(Exception):
    """The server does not start."""


@dataclass(frozen=True)
class Cloud:
    """Running servers.

    Attributes:
        sqs: The endpoint of SQS.
        s3: The endpoint of S3.
        late_s3: An endpoint of the same S3 that answers after a delay.
        environment: How a process reaches them.
    """

    sqs: str
    s3: str
    late_s3: str
    environment: dict[str, str]

    def client(self, service: str) -> Any:
        """Return a client of one of them."""
        keys = {"aws_access_key_id": "bench", "aws_secret_access_key": "bench", "region_name": "us-east-1"}
        if service == "s3":
            return boto3.client(service, endpoint_url=self.s3, verify=self.environment["AWS_CA_BUNDLE"], **keys)
        return boto3.client(service, endpoint_url=self.sqs, **keys)

    def put(self, source: Path, key: str) -> None:
        """Have the content of a file as an object, without a copy and without telling the queue."""
        self._request(f"/{INPUT}/{key}", "PUT", {FILE_HEADER: str(source)})

    def take_counts(self) -> dict[str, int]:
        """Return how many requests of each operation S3 had since this was last asked for."""
        counts: dict[str, int] = json.loads(self._request(COUNTS_PATH))
        return counts

    def _request(self, path: str, method: str = "GET", headers: Mapping[str, str] | None = None) -> bytes:
        context = ssl.create_default_context(cafile=self.environment["AWS_CA_BUNDLE"])
        request = urllib.request.Request(f"{self.s3}{path}", headers=dict(headers or {}), method=method)
        with urllib.request.urlopen(request, context=context) as answer:
            return bytes(answer.read())

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
    """Run servers that keep everything in memory, with what a worker needs."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "S3_"))}
    own = {"BIND_HOST": "127.0.0.1", "GATEWAY_PORT": str(port), "HOME": str(folder), "TMPDIR": str(folder)}
    quiet = {"IOT_MTLS_ENABLED": "false", "SFTP_ENABLED": "false"}
    command = [str(Path(sys.executable).with_name("ministack"))]
    with (
        _s3_in(folder) as (s3, late_s3),
        subprocess.Popen(
            command, env={**kept, **own, **quiet}, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process,
    ):
        try:
            endpoint = f"http://127.0.0.1:{port}"
            _await(endpoint, process)
            trusted = {"AWS_CA_BUNDLE": str(folder / CA_FILE), "AWS_CONFIG_FILE": str(folder / "no-config")}
            endpoints = {"AWS_ENDPOINT_URL": endpoint, "AWS_ENDPOINT_URL_S3": s3}
            cloud = Cloud(endpoint, s3, late_s3, {**CREDENTIALS, **trusted, **endpoints})
            _make_queue(cloud)
            yield cloud
        finally:
            process.kill()


@contextmanager
def _s3_in(folder: Path) -> Iterator[list[str]]:
    command = [sys.executable, "-m", "tests.benchmarks.s3_server", str(folder), str(MB_PER_S), str(DELAY_S)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=ROOT, **pipes) as process:  # type: ignore[call-overload]
        try:
            assert process.stdout is not None
            yield process.stdout.readline().split()
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


def _make_queue(cloud: Cloud) -> None:
    sqs = cloud.client("sqs")
    dead = sqs.create_queue(QueueName=DEAD)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": "5"})
    sqs.create_queue(QueueName=QUEUE, Attributes={"RedrivePolicy": policy})
