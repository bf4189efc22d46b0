"""Makes what the worker of compose.yaml works with, by its own settings; once more does no harm."""

import json
import os
import time
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

START_TIMEOUT_S = 120
RECEIVES = "5"


def main() -> None:
    """Make the buckets, the queues and the notification."""
    settings = {name: os.environ[name] for name in ("S3_INPUT_BUCKET", "S3_OUTPUT_BUCKET", "SQS_BATCH_QUEUE")}
    s3, sqs = boto3.client("s3"), boto3.client("sqs")
    wait_for(s3)
    for bucket in (settings["S3_INPUT_BUCKET"], settings["S3_OUTPUT_BUCKET"]):
        s3.create_bucket(Bucket=bucket)
    name = settings["SQS_BATCH_QUEUE"]
    dead_letters = arn_of(sqs, sqs.create_queue(QueueName=f"{name}-dead-letters")["QueueUrl"])
    policy = json.dumps({"deadLetterTargetArn": dead_letters, "maxReceiveCount": RECEIVES})
    queue = sqs.create_queue(QueueName=name, Attributes={"RedrivePolicy": policy})["QueueUrl"]
    notification = {"QueueArn": arn_of(sqs, queue), "Events": ["s3:ObjectCreated:*"]}
    s3.put_bucket_notification_configuration(
        Bucket=settings["S3_INPUT_BUCKET"], NotificationConfiguration={"QueueConfigurations": [notification]}
    )


def wait_for(s3: Any) -> None:
    """Wait until the emulator answers."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            s3.list_buckets()
        except (BotoCoreError, ClientError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)
        else:
            return


def arn_of(sqs: Any, queue: str) -> str:
    """Return a queue's ARN."""
    found = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])
    return str(found["Attributes"]["QueueArn"])


if __name__ == "__main__":
    main()
