"""The IAM actions that the worker and its operator need, and no others, as policies."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

ACTIONS = {
    "input_bucket": (
        "s3:ListBucket",  # without it, the answer for a missing object is that access is denied
    ),
    "input_objects": ("s3:GetObject", "s3:GetObjectTagging"),
    "output_bucket": ("s3:ListBucket",),
    "output_objects": (
        "s3:GetObject",  # to look at an output before it is replaced, to replace it on a condition, for checkpoints
        "s3:PutObject",
        "s3:PutObjectTagging",
        "s3:DeleteObject",  # of checkpoints
        "s3:AbortMultipartUpload",
    ),
    "queue": (
        "sqs:GetQueueUrl",
        "sqs:GetQueueAttributes",
        "sqs:ReceiveMessage",
        "sqs:ChangeMessageVisibility",
        "sqs:SendMessage",  # of copies, when a message is requeued or split
        "sqs:DeleteMessage",
    ),
    "dead_letter_queue": ("sqs:GetQueueUrl", "sqs:GetQueueAttributes", "sqs:SendMessage"),
    "keys": ("kms:Decrypt", "kms:GenerateDataKey"),
    "tasks": ("ecs:GetTaskProtection", "ecs:UpdateTaskProtection"),
    "outcome_topic": ("sns:Publish",),
    "outcome_bus": ("events:PutEvents",),
}
"""The actions of the worker by the kind of resource, as `Resources` names them."""

OPERATOR_ACTIONS = {
    "input_bucket": (
        "s3:ListBucket",
        "s3:GetBucketVersioning",  # submit
        "s3:ListBucketVersions",  # submit, where the bucket has versions
    ),
    "input_objects": ("s3:GetObject",),  # cancel, which asks for the ETag
    "output_bucket": (
        "s3:ListBucket",
        "s3:ListBucketMultipartUploads",  # sweep
    ),
    "output_objects": (
        "s3:GetObject",
        "s3:PutObject",  # cancel
        "s3:DeleteObject",  # sweep
        "s3:AbortMultipartUpload",  # sweep
    ),
    "queue": (
        "sqs:GetQueueUrl",
        "sqs:GetQueueAttributes",
        "sqs:SendMessage",  # submit, redrive
    ),
    "dead_letter_queue": (
        "sqs:GetQueueUrl",
        "sqs:GetQueueAttributes",
        "sqs:ReceiveMessage",  # status, letters, redrive, discard
        "sqs:ChangeMessageVisibility",  # likewise
        "sqs:DeleteMessage",  # redrive, discard
    ),
    "keys": ("kms:Decrypt", "kms:GenerateDataKey"),
    "metrics": ("cloudwatch:GetMetricStatistics",),  # status, for the age of the oldest message; optional
}
"""The actions that all commands other than `runner worker` need together, by the same kinds of resources."""


@dataclass(frozen=True, slots=True)
class Resources:
    """The ARNs of the resources of a deployment; a kind without any is left out of the policies.

    Attributes:
        input_bucket: The input bucket.
        output_bucket: The output bucket.
        queue: The queue.
        dead_letter_queue: Its dead-letter queue.
        keys: The KMS keys that the buckets and queues are encrypted with.
        tasks: The tasks of the service, which protect themselves from scale-in: `arn:…:task/CLUSTER/*`.
        outcome_topic: The SNS topic that outcomes are sent to.
        outcome_bus: The EventBridge bus that outcomes are sent to.
    """

    input_bucket: str
    output_bucket: str
    queue: str
    dead_letter_queue: str
    keys: tuple[str, ...] = ()
    tasks: str | None = None
    outcome_topic: str | None = None
    outcome_bus: str | None = None

    def by_kind(self, actions: Mapping[str, tuple[str, ...]] = ACTIONS) -> dict[str, list[str]]:
        """Return the ARNs by the kinds of actions; none of them is empty."""
        found: dict[str, list[str]] = {
            "input_objects": [f"{self.input_bucket}/*"],
            "output_objects": [f"{self.output_bucket}/*"],
            "metrics": ["*"],  # IAM has no resources for metrics
        }
        for field in fields(self):
            value = getattr(self, field.name)
            found[field.name] = list(value) if isinstance(value, tuple) else [value] if value else []
        return {kind: found[kind] for kind in actions if found[kind]}


def policy(resources: Resources, actions: Mapping[str, tuple[str, ...]] = ACTIONS) -> dict[str, Any]:
    """Return the IAM policy document for the role of the task, or for its operator with `OPERATOR_ACTIONS`.

    Example:
        >>> arn = "arn:aws:sqs:eu-central-1:111122223333:jobs"
        >>> document = policy(Resources("arn:aws:s3:::in", "arn:aws:s3:::out", arn, f"{arn}-dead"))
        >>> document["Statement"][1]["Action"], document["Statement"][1]["Resource"]
        (['s3:GetObject', 's3:GetObjectTagging'], ['arn:aws:s3:::in/*'])
    """
    statements = [
        {
            "Sid": kind.title().replace("_", ""),
            "Effect": "Allow",
            "Action": list(actions[kind]),
            "Resource": arns,
        }
        for kind, arns in resources.by_kind(actions).items()
    ]
    return {"Version": "2012-10-17", "Statement": statements}
