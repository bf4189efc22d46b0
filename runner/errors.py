"""The errors of the worker, as one short hierarchy.

The message of a `RunnerError` is meant for the operator of the worker: it says what was found, where, and what to do.
Errors about the data of a job or its calculation are `transform.TransformError`s.

    RunnerError                     any of these
        SettingsError               a setting is missing or wrong
        EventError                  a message is no event for this worker
        LeaseLostError              another worker may have the message by now
        DeniedError                 AWS denies access
            ObjectDeniedError       S3 denies access to the input object
        QueueError                  a request to SQS failed; a retry may succeed
        StoreError                  a request to S3 failed; a retry may succeed
            ConditionFailedError    an object does not meet the condition of the request
            ConflictError           another request writes the same object at this moment
            NoUploadError           the multipart upload does not exist any more, or has other parts
        FencedError                 another worker has taken over the job
        StoppedError                the job was asked to stop, and can be continued
        CancelledError              an operator has cancelled the job
        ImpossibleError             the job cannot succeed, now or later
    StartAgainError                 what an attempt has stored is lost; within a job only

`runner.job.process` decides what becomes of a job that ends with one of them: `JobResult`.
"""

import re

_VARIES = re.compile(r"\d+")


class RunnerError(Exception):
    """Base of every error that this package raises on purpose."""


class SettingsError(RunnerError):
    """A setting is missing or wrong, or names something that does not exist."""


class EventError(RunnerError):
    """A message is not an event that the worker knows, or is about another bucket."""


class LeaseLostError(RunnerError):
    """The lease on a message is lost: its visibility timeout has expired, so another worker may have it."""


class DeniedError(RunnerError):
    """AWS denies access: a permission on a bucket, a queue or a key is missing. A retry does not help."""


class ObjectDeniedError(DeniedError):
    """S3 denies access to the input object or its tags, perhaps because of its own KMS key or policy."""


class QueueError(RunnerError):
    """A request to SQS failed; a retry may succeed."""


class StoreError(RunnerError):
    """A request to S3 failed; a retry may succeed."""


class ConditionFailedError(StoreError):
    """The object does not, or no longer, meet the condition of the request (412)."""


class ConflictError(StoreError):
    """Another request is writing the same object at this moment (409)."""


class NoUploadError(StoreError):
    """The multipart upload is gone, or its parts are not those that were uploaded."""


class StartAgainError(Exception):
    """Something that an attempt has stored is lost, so that the output must be made again; not the end of a job."""


class FencedError(RunnerError):
    """Another worker has taken over the job: this one must not write anything for it any more."""


class StoppedError(RunnerError):
    """The job was asked to stop, and can continue from its last checkpoint."""


class CancelledError(RunnerError):
    """An operator has cancelled the job."""


class ImpossibleError(RunnerError):
    """The job cannot succeed, now or later."""


def cause_of(reason: str, key: str) -> str:
    """Return a reason without the key and without numbers: equal for all reasons with one cause."""
    return _VARIES.sub("…", reason.replace(key, "…") if key else reason)
