"""Publishing is a loop: look at the output that is there, decide, publish on condition that it still is, look again."""

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
    """The upload is of no use any more: what it held has to be made again."""


def look(store: Store, key: str, origin: Origin) -> tuple[PublishDecision, dict[str, str]]:
    """Return what to do given what is there, and the condition under which that stays right."""
    found = store.head(key)
    if found is None:
        return PublishDecision.PUBLISH, _NOTHING_THERE
    decision = origin.decide(Origin.from_metadata(found.get("Metadata", {})))
    return decision, {"IfMatch": found["ETag"]}


def publish(store: Store, key: str, origin: Origin, upload: Upload) -> tuple[PublishDecision, str]:
    """Publish an output, unless one is there that should stay.

    It looks anew each time, whatever was seen when the job began: content that came back has the ETag that it had, so
    that a condition on what was seen long ago may hold although something newer was published since. What is small is
    first put on condition that there is nothing, which is a request less where that is so.

    Returns:
        `PUBLISH` where it was published, else why not; and the ETag of the output where one of this origin stands.

    Raises:
        StartAgainError: It has to be made again.
        StoreError: S3 does not do it; another time may do better.
    """
    multipart = upload.id is not None
    seen = look(store, key, origin) if multipart else (PublishDecision.PUBLISH, _NOTHING_THERE)
    for tries_left in reversed(range(_TRIES)):
        decision, condition = seen
        if decision is not PublishDecision.PUBLISH:
            return decision, condition["IfMatch"] if decision is PublishDecision.DUPLICATE else ""
        try:
            return PublishDecision.PUBLISH, upload.publish(condition)
        except ConditionFailedError:  # somebody else has published meanwhile
            if not tries_left:
                raise
        except ConflictError as error:
            if multipart or not tries_left:  # S3 asks for a new upload then
                raise StartAgainError(str(error)) from error
        except StoreError as error:
            # It may have been done all the same, the answer being lost.
            decision, condition = look(store, key, origin)
            if decision is PublishDecision.DUPLICATE:
                return PublishDecision.PUBLISH, condition["IfMatch"]
            raise (StartAgainError(str(error)) if isinstance(error, NoUploadError) else error) from error
        seen = look(store, key, origin)
    raise AssertionError
