"""Buckets, queues and keys that somebody has before they deploy a template."""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.support.queues import arn_of

if TYPE_CHECKING:
    from tests.cfn.cloud import Cloud

ACCOUNT = "000000000000"


@dataclass(frozen=True)
class WhatExists:
    """What there is, by the names that texts about it use.

    Attributes:
        cloud: Where it is.
        names: The names and ARNs.
    """

    cloud: Cloud
    names: dict[str, str]

    def fill_in(self, parameters: dict[str, str]) -> dict[str, str]:
        """Return parameters with the names in place of `<bucket>` and the like."""
        return {
            name: re.sub("<([a-z-]+)>", lambda found: self.names.get(found[1], found[0]), value)
            for name, value in parameters.items()
        }

    def url(self, word: str) -> str:
        """Return the URL of a queue."""
        name = self.names[word].rpartition(":")[2]
        return str(self.cloud.client("sqs").get_queue_url(QueueName=name)["QueueUrl"])


def make_what_exists(cloud: Cloud) -> WhatExists:
    """Make three buckets for inputs and one for outputs, queues, a topic, a key and a policy.

    Events of the first bucket are on the queue.
    """
    s3, sqs, start = cloud.client("s3"), cloud.client("sqs"), f"own-{uuid.uuid4().hex[:10]}"
    buckets = {word: f"{start}-{word}" for word in ("bucket", "another", "third", "outputs")}
    for bucket in buckets.values():
        s3.create_bucket(Bucket=bucket)
    queues = {}
    for word in ("queue", "dead-letters"):
        url = sqs.create_queue(QueueName=f"{start}-{word}")["QueueUrl"]
        queues[word] = arn_of(sqs, url)
        if word == "queue":
            sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": _open_to(buckets["bucket"], queues[word])})
    s3.put_bucket_notification_configuration(
        Bucket=buckets["bucket"],
        NotificationConfiguration={
            "QueueConfigurations": [{"Id": "own", "QueueArn": queues["queue"], "Events": ["s3:ObjectCreated:*"]}]
        },
    )
    policy = {"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}], "Version": "2012-10-17"}
    more = {
        "key": cloud.client("kms").create_key()["KeyMetadata"]["Arn"],
        "topic": cloud.client("sns").create_topic(Name=f"{start}-topic")["TopicArn"],
        "boundary": cloud.client("iam").create_policy(PolicyName=start, PolicyDocument=json.dumps(policy))["Policy"][
            "Arn"
        ],
    }
    return WhatExists(cloud, {**buckets, **queues, **more})


def _open_to(bucket: str, queue: str) -> str:
    """Return the policy of a queue that takes events of a bucket."""
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": "s3.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": queue,
        "Condition": {"ArnEquals": {"aws:SourceArn": f"arn:aws:s3:::{bucket}"}},
    }
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})
