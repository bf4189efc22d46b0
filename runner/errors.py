"""What can go wrong in the worker, as one short hierarchy.

A `RunnerError` is an answer to whoever runs the worker: it says what was found, where, and what to do. What goes wrong
with the data of a job is a `transform.TransformError`.
"""

import re

_VARIES = re.compile(r"\d+")


class RunnerError(Exception):
    """Base of every error that this package raises on purpose."""


class SettingsError(RunnerError):
    """A setting is missing or wrong, or what it names is not there."""


class EventError(RunnerError):
    """A message is no event that the worker knows, or one of something that is none of its business."""


class LeaseLostError(RunnerError):
    """The message is no longer this worker's: it was left alone for too long, or somebody else has it."""


class DeniedError(RunnerError):
    """AWS refuses what the worker needs: a permission on a bucket, a queue or a key is missing. Waiting won't help."""


class QueueError(RunnerError):
    """The queue could not be asked, or did not do what it was asked for; it may when tried again."""


class StoreError(RunnerError):
    """S3 could not be asked, or did not do what it was asked for; it may when tried again."""


class ConditionFailedError(StoreError):
    """The object is not, or no longer, what the request was made for (412)."""


class ConflictError(StoreError):
    """Somebody else is writing the same object at this moment (409)."""


class NoUploadError(StoreError):
    """The multipart upload is gone, or its parts are not what was uploaded."""


class FencedError(RunnerError):
    """Another worker has taken the job over: nothing of it may be touched any more."""


class StoppedError(RunnerError):
    """The job was asked to stop, and can go on from its last checkpoint."""


class CancelledError(RunnerError):
    """An operator has cancelled the job."""


class ImpossibleError(RunnerError):
    """The job cannot succeed, now or later."""


def cause_of(reason: str, key: str) -> str:
    """Return what reasons have in common that differ in the key and in numbers only."""
    return _VARIES.sub("…", reason.replace(key, "…") if key else reason)
