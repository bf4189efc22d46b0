"""Publishing, which is a loop: look at the existing output, decide, publish if it has not changed, or look again.

`identity.Origin.decide` compares the existing output with the new one. All of the output is uploaded before the first
look, so that little time passes between a look and what was decided on it:

1. The output is looked at. It may have to stay: it is the same, of a message that was sent later, or of another input
   with the same output key.
2. If there is one of another origin, S3 is asked which version of the input is current. Only an output of the current
   version replaces another one.
3. The lease on the message is checked.
4. The output is published on the condition that the existing one is still that of the first step.

The sequencers and times in the metadata of an output are a claim, which any program that may write there can make, and
two versions of one second have no known order. So they do not keep an output from being published: the second step
does.
An output whose metadata claim a sequencer from the future is replaced by that of the current version of the input, with
the sequencer of its own event, and later events are compared with that one again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.errors import ConditionFailedError, ConflictError, NoUploadError, StartAgainError, StoreError
from runner.job.identity import Origin, PublishDecision
from runner.job.keys import Sharing
from transform import SourceChangedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from runner.aws.bucket import Store
    from runner.aws.surroundings import Surroundings
    from runner.job.input_object import InputObject
    from runner.job.upload import Upload

_TRIES = 8
_FIRST_WAIT_S = 0.1  # after a conflict; each wait is up to twice as long as the one before


@dataclass(frozen=True, slots=True)
class Published:
    """What there is at the key of the output.

    Attributes:
        decision: `PUBLISH` if it was published now, otherwise why it was not.
        etag: The ETag of the output if its origin is that of the job, otherwise "".
        job: The id of the job that the output is of, if that is of the same version of the input, otherwise "".
        taken_by: The hash of the input that the output is from, if that is another one, "" if it is not known.
    """

    decision: PublishDecision
    etag: str = ""
    job: str = ""
    taken_by: str = ""


@dataclass(frozen=True, slots=True)
class Existing:
    """The existing output, and what it means for a new one.

    Attributes:
        decision: Whether to publish.
        etag: Its ETag, "" if it does not exist.
        job: The id of the job that it is of, if that is of the same version of the input, otherwise "".
        taken_by: The hash of the input that it is from, if that is another one, "" if it is not known.
    """

    decision: PublishDecision = PublishDecision.PUBLISH
    etag: str = ""
    job: str = ""
    taken_by: str = ""

    @property
    def condition(self) -> Mapping[str, str]:
        """The condition of the request to publish: it is still the existing output."""
        return {"IfMatch": self.etag} if self.etag else {"IfNoneMatch": "*"}

    @property
    def result(self) -> Published:
        """What the job ends with if the output stays."""
        is_own = self.decision is PublishDecision.DUPLICATE
        return Published(self.decision, self.etag if is_own else "", self.job, self.taken_by)


@dataclass(frozen=True, slots=True)
class Publisher:
    """Publishes the output of a job.

    Attributes:
        store: The output bucket.
        key: The key of the output.
        source: The input.
        check_lease: Raises if another worker may have the message by now.
        around: The clock and the chance of the process.
        sharing: Whether other inputs may have the same output key.
    """

    store: Store
    key: str
    source: InputObject
    check_lease: Callable[[], None]
    around: Surroundings
    sharing: Sharing = Sharing.EXCLUSIVE

    def published(self, origin: Origin, etag: str | None = None) -> Published | None:
        """Return the output if it has to stay, as `publish` returns it; otherwise None.

        Args:
            origin: The origin of the output that would be published.
            etag: The ETag of the version of the input that was read, None before that.
        """
        found = self._look(origin)
        if found.decision is PublishDecision.STALE and not found.job and self.source.is_current(etag):
            return None
        return None if found.decision is PublishDecision.PUBLISH else found.result

    def publish(self, origin: Origin, upload: Upload, etag: str) -> Published:
        """Publish an output, unless there is one that should stay; return what there is then.

        It does not rely on what was seen when the job began. If an earlier content was published again since, it has
        the same ETag as before, so a condition on what was seen long ago could hold although there were newer outputs.
        A small output is first put on the condition that there is no output, which saves a request if that is true.

        Args:
            origin: The origin of the output.
            upload: The output.
            etag: The ETag of the version of the input that was read, without quotes.

        Raises:
            StartAgainError: The output must be made again.
            SourceChangedError: There is an output, and the version that was read is not the current one any more.
            RunnerError: The lease is lost, or a request to S3 failed; a retry may succeed.
        """
        try:
            upload.finish_parts()
        except NoUploadError as error:
            raise StartAgainError(str(error)) from error
        multipart = upload.id is not None
        seen = self._judged(origin, etag) if multipart else Existing()
        for tries_left in reversed(range(_TRIES)):
            if seen.decision is not PublishDecision.PUBLISH:
                return seen.result
            self.check_lease()
            try:
                published = upload.complete(seen.condition)
            except ConditionFailedError:  # another output was published meanwhile
                if not tries_left:
                    raise
            except ConflictError as error:
                self._wait(_TRIES - 1 - tries_left)
                if multipart or not tries_left:  # S3 asks for a new upload then
                    raise StartAgainError(str(error)) from error
            except StoreError as error:
                return self._settled(origin, etag, error)
            else:
                upload.forget()
                return Published(PublishDecision.PUBLISH, published, origin.job)
            seen = self._judged(origin, etag)
        raise AssertionError

    def describe_taken(self, taken_by: str) -> str:
        """Return why nothing is published if the existing output is that of another input, given its hash or ""."""
        known = f"whose bucket and key have the hash {taken_by}" if taken_by else "which its metadata do not name"
        return (
            f"its output key is taken: s3://{self.store.bucket}/{self.key} is the output of another input, {known}: set"
            " OUTPUT_KEY so that each input has an output key of its own"
        )

    def _settled(self, origin: Origin, etag: str, error: StoreError) -> Published:
        """Return the result after a request to publish has failed: if only its answer was lost, there is the output.

        The output may also be that of another worker with the same job. So the upload is not forgotten: it may be open.
        """
        seen = self._judged(origin, etag)
        if seen.decision is PublishDecision.DUPLICATE:
            return Published(PublishDecision.PUBLISH, seen.etag, seen.job)
        if seen.decision in (PublishDecision.STALE, PublishDecision.TAKEN):
            return seen.result
        raise (StartAgainError(str(error)) if isinstance(error, NoUploadError) else error) from error

    def _judged(self, origin: Origin, etag: str) -> Existing:
        """Return the existing output, after S3 was asked for the current version of the input if that matters."""
        seen = self._look(origin)
        if not seen.etag or seen.decision is PublishDecision.DUPLICATE:
            return seen
        if seen.decision is PublishDecision.STALE and seen.job:
            return seen
        if self.source.is_current(etag):
            return seen if seen.decision is PublishDecision.TAKEN else Existing(PublishDecision.PUBLISH, seen.etag)
        if seen.decision is PublishDecision.STALE:
            return seen
        where = f"s3://{self.source.event.bucket}/{self.source.event.key}"
        raise SourceChangedError(f"{where}: was overwritten or deleted before its output could be published")

    def _look(self, origin: Origin) -> Existing:
        found = self.store.head(self.key)
        if found is None:
            return Existing()
        there = Origin.from_metadata(found.get("Metadata", {}), self.around.clock.time())
        if origin.is_of_another(there, self.sharing):
            return Existing(PublishDecision.TAKEN, found["ETag"], taken_by="" if there is None else there.input)
        job = there.job if there is not None and there.source == origin.source else ""
        return Existing(origin.decide(there), found["ETag"], job)

    def _wait(self, conflicts: int) -> None:
        longest_s = _FIRST_WAIT_S * 2**conflicts
        self.around.clock.sleep(self.around.chance.uniform(longest_s / 2, longest_s))
