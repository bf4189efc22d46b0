"""What is done with an input once its output exists, if the setting AFTER asks for it: it is tagged or deleted.

This is the last step of a job, before its message is deleted. If the process dies before this step, the message comes
back, finds the output, and the step is done then. Only the version that was read is touched, and only after its output
was published or found.
"""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runner.errors import CancelledError, DeniedError, ObjectDeniedError, StoppedError, StoreError, TagLimitError
from runner.job.protocol import InputOutcome, InputResult
from runner.job.rejects import INDEX_NAME, count_incomplete

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from runner.aws.bucket import Store
    from runner.job.input_object import InputObject
    from runner.settings import Settings


@dataclass(frozen=True, slots=True)
class Afterwards:
    """The last step of a job whose output exists.

    Attributes:
        settings: Say what to do.
        source: The input.
        etag: The ETag of the version that was read, None if it was not read this time.
        check: Called before the input is changed; raises if the job is cancelled, or if another worker may have it.
        store: The output bucket.
        rejects_folder: The prefix of the objects of rejected lines.
        summary: The summary of the run, empty if the output was found.
    """

    settings: Settings
    source: InputObject
    etag: str | None
    check: Callable[[], None]
    store: Store
    rejects_folder: str
    summary: Mapping[str, Any]

    def apply(self) -> InputOutcome:
        """Tag or delete the input. Never raises: the output is good, whatever becomes of its input."""
        try:
            return self._delete() if self.settings.after == "delete" else self._tag()
        except CancelledError as error:
            return InputOutcome(InputResult.KEPT, str(error))
        except (ObjectDeniedError, TagLimitError) as error:
            return InputOutcome(InputResult.FAILED, str(error))
        except (DeniedError, StoreError, StoppedError) as error:  # denied: there are no credentials at the moment
            return InputOutcome(InputResult.FAILED, str(error), may_succeed=True)
        except Exception as error:  # noqa: BLE001 - a bug, which must not make a job fail whose output is published
            return InputOutcome(InputResult.FAILED, "".join(traceback.format_exception(error)))

    def _delete(self) -> InputOutcome:
        if incomplete := self._count_incomplete_rejects():
            reason = (
                f"of {incomplete} rejected lines the input has the only whole copy: they exceed MAX_LINE_BYTES, "
                "or beyond the rejected lines that a job keeps"
            )
            return InputOutcome(InputResult.KEPT, reason)
        deleted = self.source.delete(self.etag, self.check)
        return InputOutcome(InputResult.DELETED if deleted else InputResult.GONE)

    def _count_incomplete_rejects(self) -> int:
        """Return how many rejected lines only the input has. The index says it if the output was found."""
        if self.summary:
            return int(self.summary["rejects_left_out"] + self.summary["rejects_truncated"])
        found = self.store.read(self.rejects_folder + INDEX_NAME)
        return count_incomplete(found[0]) if found is not None else 0

    def _tag(self) -> InputOutcome:
        name, _, value = self.settings.after_tag.partition("=")
        tagged = self.source.tag(name, value, self.etag, self.check)
        return InputOutcome(InputResult.TAGGED if tagged else InputResult.GONE)
