"""What a worker runs on: buckets, queues and the notification between them, and worker processes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus

from runner.cli import main
from tests.conftest import environment_with
from tests.support.in_process import run_command
from tests.support.queues import arn_of, redrive_policy, take_all, texts_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

EXPRESSION = "a + 1 AS b"
SETTINGS = {
    "CALCULATION": EXPRESSION,
    "SCHEMA": "a=Int64",
    "WORKERS": "2",
    "VISIBILITY_TIMEOUT_S": "20",
    "POLL_WAIT_S": "1",
    "RETRY_MIN_S": "1",
    "RETRY_MAX_S": "2",
}
WORKER_TIMEOUT_S = 90

CLAIM = "checkpoints/claim"
"""The object by which a deployment says that the prefixes are its own."""


@dataclass
class Deployment:
    """One deployment of a worker.

    Attributes:
        s3: A client that shares nothing with what is tested.
        sqs: Likewise.
        input: The input bucket.
        output: The output bucket.
        queue: The queue's URL.
        dead_letters: That of the dead-letter queue.
        env: What a worker has in its environment, on top of this process's.
    """

    s3: Any
    sqs: Any
    input: str
    output: str
    queue: str
    dead_letters: str
    env: dict[str, str]
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def put(self, key: str, content: bytes, **options: Any) -> None:
        """Put an object into the input bucket, which sends an event."""
        self.s3.put_object(Bucket=self.input, Key=key, Body=content, **options)

    def send(self, body: str, **attributes: str) -> None:
        """Put a message on the queue."""
        given = {name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()}
        self.sqs.send_message(QueueUrl=self.queue, MessageBody=body, MessageAttributes=given)

    def send_event(self, key: str, sequencer: str = "00A1", **attributes: str) -> None:
        """Put the event of an object that is there on the queue, once more or by hand."""
        found = self.s3.head_object(Bucket=self.input, Key=key)
        self.send(
            event_body(self.input, key, found["ETag"].strip('"'), found["ContentLength"], sequencer), **attributes
        )

    def output_of(self, key: str) -> bytes | None:
        """Return the output of an input, None if there is none."""
        return self.content(f"output/{key}")

    def content(self, key: str) -> bytes | None:
        """Return the content of an object in the output bucket, None if there is none."""
        try:
            return bytes(self.s3.get_object(Bucket=self.output, Key=key)["Body"].read())
        except self.s3.exceptions.NoSuchKey:
            return None

    def metadata_of(self, key: str) -> dict[str, str]:
        """Return the metadata of the output of an input."""
        return dict(self.s3.head_object(Bucket=self.output, Key=f"output/{key}")["Metadata"])

    def stored_keys(self, prefix: str = "") -> list[str]:
        """Return the keys in the output bucket, but for the claim of the deployment to it."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.output, Prefix=prefix)
        keys = [found["Key"] for page in pages for found in page.get("Contents", [])]
        return [key for key in keys if key != CLAIM]

    def uploads(self) -> list[str]:
        """Return the multipart uploads that are open in the output bucket."""
        found = self.s3.list_multipart_uploads(Bucket=self.output).get("Uploads", [])
        return [upload["UploadId"] for upload in found]

    def add_backfill(self, receives: int = 5, **settings: str) -> str:
        """Give it a queue of backfills, with the same dead-letter queue; return the URL."""
        name = f"{self.env['SQSBatchQueue']}-backfill"
        policy = redrive_policy(self.sqs, self.dead_letters, receives)
        self.env |= {"BACKFILL_QUEUE": name, **settings}
        return str(self.sqs.create_queue(QueueName=name, Attributes={"RedrivePolicy": policy})["QueueUrl"])

    def waiting(self, queue: str | None = None) -> tuple[int, int, int]:
        """Return how many messages are visible, in flight and delayed, by default on the main queue."""
        names = [
            "ApproximateNumberOfMessages",
            "ApproximateNumberOfMessagesNotVisible",
            "ApproximateNumberOfMessagesDelayed",
        ]
        found = self.sqs.get_queue_attributes(QueueUrl=queue or self.queue, AttributeNames=names)["Attributes"]
        return int(found[names[0]]), int(found[names[1]]), int(found[names[2]])

    def dead(self) -> list[dict[str, str]]:
        """Return the dead letters: their bodies and attributes."""
        return [{"body": raw["Body"], **texts_of(raw)} for raw in take_all(self.sqs, self.dead_letters)]

    def left(self) -> list[dict[str, str]]:
        """Return what is on the queue, as it is there: their bodies and attributes."""
        return [{"body": raw["Body"], **texts_of(raw)} for raw in take_all(self.sqs, self.queue)]

    def start(self, *arguments: str, env: Mapping[str, str | None] | None = None) -> subprocess.Popen[str]:
        """Start a worker."""
        process = subprocess.Popen(
            [sys.executable, "-m", "runner", "worker", *arguments],
            env=environment_with({**self.env, **(env or {})}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    def drain(self, *, exit_status: int = 0, env: Mapping[str, str | None] | None = None) -> list[dict[str, Any]]:
        """Run a worker in this process until the queue is empty; return what it logged. Its jobs have their own."""
        return logged(self._drain(exit_status, env).stdout.decode())

    def refusal(self, env: Mapping[str, str | None]) -> str:
        """Run a worker in this process that cannot work with its environment; return its standard error."""
        said = self._drain(1, env).stderr.decode()
        assert "Traceback" not in said
        return said

    def _drain(self, exit_status: int, env: Mapping[str, str | None] | None) -> subprocess.CompletedProcess[bytes]:
        done = run_command(Path.cwd(), "worker", "--drain", env={**self.env, **(env or {})}, program=main)
        assert done.returncode == exit_status, (done.stdout[-3000:], done.stderr[-3000:])
        return done

    def drain_apart(self) -> list[dict[str, Any]]:
        """Do the same with a worker process, which takes a second more."""
        process = self.start("--drain")
        try:
            stdout, stderr = process.communicate(timeout=WORKER_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            stdout, stderr = process.communicate()
            raise AssertionError(f"the worker does not end: {stdout[-5000:]}\n{stderr[-5000:]}") from None
        assert process.returncode == 0, (stdout[-3000:], stderr[-3000:])
        return logged(stdout)


def logged(text: str) -> list[dict[str, Any]]:
    """Return what a worker logged, metrics among it."""
    return [json.loads(line) for line in text.splitlines()]


def events_of(lines: list[dict[str, Any]]) -> list[str]:
    """Return the names of what was logged, without the metrics."""
    return [line["event"] for line in lines if "event" in line]


def event_body(bucket: str, key: str, etag: str, size: int, sequencer: str) -> str:
    """Return an event as S3 sends it."""
    found = {"key": quote_plus(key), "size": size, "eTag": etag, "sequencer": sequencer}
    record = {"eventVersion": "2.1", "eventSource": "aws:s3", "eventName": "ObjectCreated:Put"}
    return json.dumps({"Records": [{**record, "s3": {"bucket": {"name": bucket}, "object": found}}]})


def deploy(s3: Any, sqs: Any, *, receives: int = 5, **settings: str) -> Deployment:
    """Make a deployment on the server that the clients speak to."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    for bucket in (f"{name}-in", f"{name}-out"):
        s3.create_bucket(Bucket=bucket)
    dead = sqs.create_queue(QueueName=f"{name}-dead")["QueueUrl"]
    queue = sqs.create_queue(QueueName=name, Attributes={"RedrivePolicy": redrive_policy(sqs, dead, receives)})[
        "QueueUrl"
    ]
    sqs.set_queue_attributes(QueueUrl=queue, Attributes={"Policy": _open_to(f"{name}-in", arn_of(sqs, queue))})
    s3.put_bucket_notification_configuration(
        Bucket=f"{name}-in",
        NotificationConfiguration={
            "QueueConfigurations": [{"QueueArn": arn_of(sqs, queue), "Events": ["s3:ObjectCreated:*"]}]
        },
    )
    env = {
        "s3InputBucket": f"{name}-in",
        "s3OutputBucket": f"{name}-out",
        "SQSBatchQueue": name,
        **SETTINGS,
        **settings,
    }
    return Deployment(s3, sqs, f"{name}-in", f"{name}-out", queue, dead, env)


def _open_to(bucket: str, queue_arn: str) -> str:
    """Return the policy of a queue that takes events of a bucket."""
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": "s3.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": queue_arn,
        "Condition": {"ArnLike": {"aws:SourceArn": f"arn:aws:s3:::{bucket}"}},
    }
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def wait_for(happened: Any, timeout_s: float = 40) -> Any:
    """Wait until something has happened, and return that."""
    deadline = time.monotonic() + timeout_s
    while not (found := happened()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
    return found


def kill_all(deployment: Deployment) -> Iterator[None]:
    """Yield, and leave no worker."""
    yield
    for process in deployment.started:
        process.kill()
        process.communicate()
