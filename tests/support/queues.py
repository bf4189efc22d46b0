"""Queues of a real server, and answers of AWS that it does not give by itself."""

from __future__ import annotations

import io
import json
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from botocore.awsrequest import AWSResponse

if TYPE_CHECKING:
    from collections.abc import Iterator

SYSTEM_NAMES = ["ApproximateReceiveCount", "SentTimestamp", "AWSTraceHeader"]


def create_queue(client: Any, **attributes: str) -> str:
    """Return the URL of a new queue."""
    name = f"test-{uuid.uuid4().hex}" + (".fifo" if attributes.get("FifoQueue") else "")
    return str(client.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"])


def arn_of(client: Any, url: str) -> str:
    """Return a queue's ARN."""
    found = client.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    return str(found["Attributes"]["QueueArn"])


def redrive_policy(client: Any, dead_letter_url: str, receives: int = 5) -> str:
    """Return the policy that moves messages to a queue after so many receives."""
    return json.dumps({"deadLetterTargetArn": arn_of(client, dead_letter_url), "maxReceiveCount": str(receives)})


def name_of(url: str) -> str:
    """Return a queue's name."""
    return url.rpartition("/")[2]


def take_all(client: Any, url: str, wait_s: int = 0) -> list[dict[str, Any]]:
    """Return every message that is visible, as boto3 gives them, and those that come while it waits for others."""
    taken: list[dict[str, Any]] = []
    while messages := client.receive_message(
        QueueUrl=url,
        MaxNumberOfMessages=10,
        WaitTimeSeconds=wait_s,  # or each queue of the templates would be waited for as long as its worker does: 20 s
        MessageSystemAttributeNames=SYSTEM_NAMES,
        MessageAttributeNames=["All"],
    ).get("Messages"):
        taken += messages
    return taken


def texts_of(raw: dict[str, Any]) -> dict[str, str]:
    """Return the values of a message's attributes."""
    return {name: value["StringValue"] for name, value in raw.get("MessageAttributes", {}).items()}


@contextmanager
def answering(client: Any, operation: str, code: str, message: str = "no", status: int = 400) -> Iterator[None]:
    """Let an operation of a client be answered by an error, in the protocol of SQS, without reaching the server."""

    def answer(request: Any, **_: object) -> AWSResponse:
        body = json.dumps({"__type": f"com.amazonaws.sqs#{code.rpartition('.')[2]}", "message": message})
        headers = {"content-type": "application/x-amz-json-1.0", "x-amzn-query-error": f"{code};Sender"}
        return AWSResponse(request.url, status, headers, _Raw(body.encode()))

    client.meta.events.register_first(f"before-send.sqs.{operation}", answer)
    try:
        yield
    finally:
        client.meta.events.unregister(f"before-send.sqs.{operation}", answer)


class _Raw(io.BytesIO):
    def stream(self, **_: object) -> Iterator[bytes]:
        yield self.read()
