"""The IAM actions that the worker and its operator need, and no others, as policies."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from runner.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping

ACTIONS = {
    "input_bucket": ("s3:ListBucket",),
    "input_objects": ("s3:GetObject", "s3:GetObjectTagging", "s3:GetObjectVersionTagging"),
    "tagged_inputs": ("s3:PutObjectTagging", "s3:PutObjectVersionTagging"),
    "deleted_inputs": ("s3:DeleteObject",),  # of the current version, on a condition, which takes s3:GetObject as well
    "output_bucket": ("s3:ListBucket",),
    "outputs": (
        "s3:GetObject",  # to look at an output before it is replaced, and to replace it on a condition
        "s3:PutObject",
        "s3:PutObjectTagging",
        "s3:AbortMultipartUpload",
    ),
    "rejects": (
        "s3:GetObject",  # of the index that another worker has written for the same job
        "s3:PutObject",
        "s3:DeleteObject",  # of those that an earlier attempt has left
    ),
    "checkpoints": ("s3:GetObject", "s3:PutObject", "s3:DeleteObject"),
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
"""The actions of the worker by the kind of resource, as `Resources` names them.

`s3:ListBucket` has no condition on `s3:prefix`. It allows HeadBucket, which a worker starts with, and has S3 answer
404 rather than 403 if an input, an output or a checkpoint is missing. Those requests have no prefix, so they do not
meet such a condition. With `IfExists` they do, but so does every request that lists the whole bucket.
"""

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
    "outputs": (
        "s3:GetObject",  # cancel
        "s3:AbortMultipartUpload",  # sweep
    ),
    "rejects": ("s3:GetObject", "s3:DeleteObject"),  # sweep
    "checkpoints": (
        "s3:GetObject",
        "s3:PutObject",  # cancel
        "s3:DeleteObject",  # sweep
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
        "sqs:ChangeMessageVisibility",  # status, letters, redrive, discard
        "sqs:DeleteMessage",  # redrive, discard
    ),
    "keys": ("kms:Decrypt", "kms:GenerateDataKey"),
    "metrics": ("cloudwatch:GetMetricStatistics",),  # status, for the age of the oldest message; optional
}
"""The actions that all commands other than `runner worker` need together, by the same kinds of resources."""


@dataclass(frozen=True, slots=True)
class Resources:
    """The ARNs of the resources of a deployment, and its prefixes; a kind without any is left out of the policies.

    OUTPUT_KEY needs no other permissions: outputs are below the output prefix, whatever it says.

    Attributes:
        input_bucket: The input bucket, or several.
        output_bucket: The output bucket.
        queue: The main queue.
        dead_letter_queue: Its dead-letter queue.
        keys: The KMS keys that the buckets and queues are encrypted with.
        tasks: The tasks of the service, which protect themselves from scale-in: `arn:…:task/CLUSTER/*`.
        outcome_topic: The SNS topic that outcomes are sent to.
        outcome_bus: The EventBridge bus that outcomes are sent to.
        backfill_queue: The queue of backfills, None without one.
        backfill_dead_letter_queue: Its dead-letter queue, None if that is the one of the main queue.
        after: AFTER of the worker: whether it tags or deletes inputs.
        input_prefix: The prefix of all inputs, or several. Unless INPUT_PREFIX of the worker is the same, a message
            about another object stops the workers, as access is denied.
        output_prefix: OUTPUT_PREFIX of the worker; if it is empty, outputs may be anywhere in the bucket.
        rejects_prefix: REJECTS_PREFIX of the worker.
        checkpoint_prefix: CHECKPOINT_PREFIX of the worker.
    """

    input_bucket: str | tuple[str, ...]
    output_bucket: str
    queue: str
    dead_letter_queue: str
    keys: tuple[str, ...] = ()
    tasks: str | None = None
    outcome_topic: str | None = None
    outcome_bus: str | None = None
    backfill_queue: str | None = None
    backfill_dead_letter_queue: str | None = None
    after: Literal["keep", "tag", "delete"] = "keep"
    input_prefix: str | tuple[str, ...] = ""
    output_prefix: str = Settings.model_fields["output_prefix"].default
    rejects_prefix: str = Settings.model_fields["rejects_prefix"].default
    checkpoint_prefix: str = Settings.model_fields["checkpoint_prefix"].default

    def by_kind(self, actions: Mapping[str, tuple[str, ...]] = ACTIONS) -> dict[str, list[str]]:
        """Return the ARNs by the kinds of actions; none of them is empty.

        Raises:
            ValueError: The prefix of rejected lines or of checkpoints is empty: all objects could be deleted.
        """
        if not (self.rejects_prefix and self.checkpoint_prefix):
            raise ValueError("expected a rejects_prefix and a checkpoint_prefix: without, any object could be deleted")
        inputs, prefixes = _listed(self.input_bucket), _listed(self.input_prefix) or [""]
        objects = [_objects(bucket, prefix) for bucket in inputs for prefix in prefixes]
        found: dict[str, list[str]] = {
            "input_bucket": inputs,
            "input_objects": objects,
            "tagged_inputs": objects if self.after == "tag" else [],
            "deleted_inputs": objects if self.after == "delete" else [],
            "output_bucket": [self.output_bucket],
            "outputs": [_objects(self.output_bucket, self.output_prefix)],
            "rejects": [_objects(self.output_bucket, self.rejects_prefix)],
            "checkpoints": [_objects(self.output_bucket, self.checkpoint_prefix)],
            "queue": [arn for arn in (self.queue, self.backfill_queue) if arn],
            "dead_letter_queue": [arn for arn in (self.dead_letter_queue, self.backfill_dead_letter_queue) if arn],
            "keys": list(self.keys),
            "tasks": [self.tasks] if self.tasks else [],
            "outcome_topic": [self.outcome_topic] if self.outcome_topic else [],
            "outcome_bus": [self.outcome_bus] if self.outcome_bus else [],
            "metrics": ["*"],  # IAM has no resources for metrics
        }
        return {kind: found[kind] for kind in actions if found[kind]}


def _listed(one_or_several: str | tuple[str, ...]) -> list[str]:
    return [one_or_several] if isinstance(one_or_several, str) else [*one_or_several]


def _objects(bucket: str, prefix: str) -> str:
    """Return the ARN of all objects under a prefix, in which `*`, `?` and `$` stand for themselves."""
    literal = re.sub(r"[*?$]", r"${\g<0>}", prefix)
    return f"{bucket}/{literal}*"


def policy(resources: Resources, actions: Mapping[str, tuple[str, ...]] = ACTIONS) -> dict[str, Any]:
    """Return the IAM policy document for the role of the task, or for its operator with `OPERATOR_ACTIONS`.

    Example:
        >>> arn = "arn:aws:sqs:eu-central-1:111122223333:jobs"
        >>> document = policy(Resources("arn:aws:s3:::in", "arn:aws:s3:::out", arn, f"{arn}-dead"))
        >>> document["Statement"][1]["Action"], document["Statement"][1]["Resource"]
        (['s3:GetObject', 's3:GetObjectTagging', 's3:GetObjectVersionTagging'], ['arn:aws:s3:::in/*'])
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
