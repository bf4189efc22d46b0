"""Publishing, which is a loop: look at the existing output, decide, publish if it has not changed, or look again.

`identity.Origin.decide` compares the existing output with the new one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner.errors import ConditionFailedError, ConflictError, NoUploadError, StoreError
from runner.job.identity import Origin, PublishDecision

if TYPE_CHECKING:
    from runner.aws.bucket import Store
    from runner.job.upload import Upload

_TRIES = 8
_NOTHING_THERE = {"IfNoneMatch": "*"}


class StartAgainError(Exception):
    """The upload is lost, so that its output has to be made again."""


def look(store: Store, key: str, origin: Origin) -> tuple[PublishDecision, dict[str, str]]:
    """Return the decision for the existing output, and the condition under which the decision stays right."""
    found = store.head(key)
    if found is None:
        return PublishDecision.PUBLISH, _NOTHING_THERE
    decision = origin.decide(Origin.from_metadata(found.get("Metadata", {})))
    return decision, {"IfMatch": found["ETag"]}


def publish(store: Store, key: str, origin: Origin, upload: Upload) -> tuple[PublishDecision, str]:
    """Publish an output, unless there is one that should stay.

    It does not rely on what was seen when the job began. If an earlier content was published again since, it has the
    same ETag as before, so a condition on what was seen long ago could hold although there were newer outputs. A small
    output is first put on the condition that there is no output, which saves a request if that is true.

    Returns:
        `PUBLISH` if it was published, otherwise the decision not to; and the ETag of the output if its origin is this.

    Raises:
        StartAgainError: The output has to be made again.
        StoreError: A request to S3 failed; a retry may succeed.
    """
    multipart = upload.id is not None
    seen = look(store, key, origin) if multipart else (PublishDecision.PUBLISH, _NOTHING_THERE)
    for tries_left in reversed(range(_TRIES)):
        decision, condition = seen
        if decision is not PublishDecision.PUBLISH:
            return decision, condition["IfMatch"] if decision is PublishDecision.DUPLICATE else ""
        try:
            return PublishDecision.PUBLISH, upload.publish(condition)
        except ConditionFailedError:  # another output was published meanwhile
            if not tries_left:
                raise
        except ConflictError as error:
            if multipart or not tries_left:  # S3 asks for a new upload then
                raise StartAgainError(str(error)) from error
        except StoreError as error:
            # It may have been published all the same, if only the answer was lost.
            decision, condition = look(store, key, origin)
            if decision is PublishDecision.DUPLICATE:
                return PublishDecision.PUBLISH, condition["IfMatch"]
            raise (StartAgainError(str(error)) if isinstance(error, NoUploadError) else error) from error
        seen = look(store, key, origin)
    raise AssertionError
