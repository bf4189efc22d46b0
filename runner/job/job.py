"""A job: it transforms an object of the input bucket into its output, from the last checkpoint if there is one.

`run` looks at the checkpoint and the current output, then makes one or more attempts. An `Attempt` is one pass over the
input, whose output is then published.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from runner.errors import CancelledError, FencedError, RunnerError, StartAgainError, StoreError
from runner.job.afterwards import Afterwards
from runner.job.attempt import Attempt
from runner.job.checkpoint import CheckpointHeartbeat
from runner.job.identity import PublishDecision
from runner.job.keys import rejects_folder
from runner.job.protocol import JobResult, Outcome
from runner.job.resources import JobResources
from transform import (
    AccessDeniedError,
    DamagedError,
    SourceChangedError,
    State,
    TransformError,
    UnavailableError,
    WidenError,
    WorkerError,
)

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from runner.job.context import JobContext
    from runner.job.control import Control
    from runner.job.identity import JobIdentity
    from runner.job.progress import JobProgress
    from runner.job.protocol import Order
    from runner.job.publish import Published
    from runner.job.rejects import RejectObjects
    from transform import S3Object, Stream

_MAX_STARTS = 5
_CANCELLED_LATELY_S = 1.0
_NOT_FINAL = (WidenError, SourceChangedError, UnavailableError, AccessDeniedError, WorkerError)
"""After these the job runs again, or its input has changed, so the rejected lines so far are not final."""
_ENDS = {JobResult.SUPERSEDED, JobResult.FAILED, JobResult.CANCELLED}
"""After these the job is not attempted again."""
_RESULTS = {
    PublishDecision.PUBLISH: JobResult.DONE,
    PublishDecision.DUPLICATE: JobResult.DUPLICATE,
    PublishDecision.STALE: JobResult.STALE,
}


class Job:
    """One job; `run` it once.

    Args:
        context: The context that all jobs share.
        identity: The identity of the job.
        order: How to do it, and for which message.
        control: The connection to the worker.

    Attributes:
        identity: The identity of the job.
    """

    def __init__(self, context: JobContext, identity: JobIdentity, order: Order, control: Control) -> None:
        self.identity = identity
        self._context = context
        self._order = order
        self._control = control
        self._resources = resources = JobResources.open(context, identity, order, control)
        self._cancellation = resources.cancellation
        self._checkpoint = resources.checkpoint
        self._progress = resources.progress
        self._input = resources.input
        key = identity.output_key
        self._publisher = None if key is None else resources.publisher_at(key)
        self._found: JobProgress | None = None
        self._attempt: Attempt | None = None
        self._starts = 0
        self._is_duplicate = False  # when the output was last looked at
        self._has_output = False  # that has to stay, when the attempt failed
        self._output_job = ""  # whose output is there, if it is of the same version of the input

    @property
    def is_new_and_small(self) -> bool:
        """Whether the job is done at once, because looking for its output first would cost as much as doing it."""
        size = self._order.event.size
        return not self._order.tried_before and size is not None and size <= self._context.settings.part_bytes

    @property
    def rejects_prefix(self) -> str:
        """The prefix of the objects of rejected lines, "" if no line was rejected."""
        return self._attempt.rejects.folder if self._attempt is not None and self._attempt.rejects.names else ""

    def run(self) -> Outcome:
        """Do the job, from the last checkpoint if there is one.

        Raises:
            TransformError, RunnerError, StartAgainError: The job has failed, now or for good.
        """
        if not self.is_new_and_small:
            self._found = self._progress.take_up()
            if self._found is not None:
                self._control.note_checkpoint(self._found.state.summary.bytes_in)
            if (published := self._outcome_before()) is not None:
                self._clean_up()
                return published
        self._cancellation.check_at_start()
        if self._found is not None and self._checkpoint.is_held(self._found, self._order.owner):
            reason = "another worker is processing this object for a different message"
            return Outcome(JobResult.BUSY, reason, job=self.identity.id)
        lease_s, tasks = self._context.settings.visibility_timeout_s, self._context.around.tasks
        with CheckpointHeartbeat(self._checkpoint, self._control, lease_s, tasks):
            return self._run_attempts()

    def published_outcome(self) -> Outcome | None:
        """Return the outcome of the job if there is an output of its input that has to stay; otherwise None."""
        published = self._published()
        if published is None or published.decision is PublishDecision.TAKEN:
            return None
        return self._outcome_of(published)

    def _outcome_before(self) -> Outcome | None:
        """Return the outcome if there is nothing to do, or the output key is that of another input; otherwise None."""
        if self._publisher is None:
            modified = self._input.find_modified()
            if modified is None:  # the input has changed, as the job will find
                return None
            key = self._resources.output_key(self.identity.origin.with_modified(modified))
            self._publisher = self._resources.publisher_at(key)
        published = self._published()
        is_taken = published is not None and published.decision is PublishDecision.TAKEN
        if published is None or (is_taken and not self._input.is_current(None)):
            return None
        return self._outcome_of(published)

    def _published(self) -> Published | None:
        """Return the output that has to stay, by any worker; None without one.

        A job that is new and small does not know the key of its output, if that has a date, before its input is opened.
        """
        attempt, published = self._attempt, None
        if attempt is not None:
            published = attempt.publisher.published(attempt.upload.origin, attempt.version.etag)
        elif self._publisher is not None:
            published = self._publisher.published(self.identity.origin)
        self._is_duplicate = published is not None and published.decision is PublishDecision.DUPLICATE
        return published

    def finish_input(self, outcome: Outcome) -> Outcome:
        """Do with the input what AFTER asks for, if the outcome is that the output exists; return the outcome with it.

        The output may be that of another calculation, which was asked for later. The job of that one may be about
        another version with the same content, so that it does not finish this one.
        A job that was cancelled, has failed, or whose input is not current any more leaves its input as it is.
        """
        context, attempt, event = self._context, self._attempt, self.identity.event
        if context.settings.after == "keep" or outcome.kind not in _RESULTS.values() or not self._output_job:
            return outcome
        is_own = self._output_job == self.identity.id
        afterwards = Afterwards(
            settings=context.settings,
            source=self._input,
            etag=attempt.version.etag if attempt is not None else None,
            check=self._check_afterwards,
            store=context.store,
            rejects_folder=rejects_folder(context.settings, event.bucket, event.key, self._output_job),
            summary=outcome.summary if is_own else {},
        )
        return replace(outcome, input=afterwards.apply())

    def _check_afterwards(self) -> None:
        self._cancellation.check(_CANCELLED_LATELY_S)
        self._control.check_lease()

    def leave(self, result: JobResult, *, published: bool) -> None:
        """Remove what is no longer needed after the job has failed.

        Args:
            result: The result of the job.
            published: Whether there is an output that has to stay.
        """
        is_superseded, is_other = result is JobResult.SUPERSEDED, published and not self._has_output
        published |= self._has_output
        if (is_superseded or is_other) and not self._is_duplicate:
            self._rejects.retract()
        is_over = result in _ENDS or published
        if is_over and result is not JobResult.FENCED:
            self._clean_up()
        if is_superseded or published or (is_over and self._rejects.has_doubles):
            self._rejects.discard(self._checkpoint.exists)

    def _clean_up(self) -> None:
        """Remove the upload and the checkpoint, unless another worker has resumed the job."""
        upload = self._unfinished_upload
        if upload is not None:
            try:
                self._fence_off_others()
            except FencedError:
                return
            if self._attempt is not None:
                self._attempt.upload.abort()
            elif self._found is not None:
                self._abort_upload_of(self._found)
        self._checkpoint.remove()

    @property
    def _rejects(self) -> RejectObjects:
        """The objects of rejected lines of the last attempt, of this worker or an earlier one."""
        return self._attempt.rejects if self._attempt is not None else self._resources.reject_objects(self._found)

    @property
    def _unfinished_upload(self) -> str | None:
        """The id of the multipart upload of the last attempt, of this worker or an earlier one; None without one."""
        if self._attempt is not None:
            return self._attempt.upload.id
        return None if self._found is None else self._found.upload

    def _fence_off_others(self) -> None:
        """Write the checkpoint, so that no other worker uses its upload any more.

        Raises:
            FencedError: Another worker uses it.
        """
        if self._attempt is not None:
            self._checkpoint.touch()
        elif self._found is not None:
            if self._checkpoint.is_held(self._found, self._order.owner):
                raise FencedError("another worker has resumed the job")
            self._progress.take_over(self._found)

    def _abort_upload_of(self, found: JobProgress) -> None:
        """Abort the upload of a checkpoint; one that is elsewhere by other settings is left to `runner sweep`."""
        key = found.output or self.identity.output_key
        if key is not None and key.startswith(self._context.settings.output_prefix):
            self._context.store.abort_upload(key, found.upload)

    def _run_attempts(self) -> Outcome:
        """Make attempts until one succeeds: another one if a column needs a wider type, or the upload is of no use."""
        progress, starts_left = self._found, _MAX_STARTS
        state = progress.state if progress else State()
        while True:
            try:
                if progress is not None:
                    self._progress.take_over(progress)
                return self._run_attempt(state, progress)
            except WidenError as error:  # once for each column
                state = state.restarted(error.name, error.dtype)
            except StartAgainError:
                starts_left -= 1
                if not starts_left:
                    raise
                state = State(widened=state.widened)
            except DamagedError:  # the parts may have been made of damaged bytes: a later attempt makes them again
                self._abandon_upload(State(widened=state.widened))
                raise
            except Exception as error:
                if progress is None or not self._is_of_checkpoint(error):
                    raise
                state = State()
            self._abandon_upload(state)
            progress = None

    def _is_of_checkpoint(self, error: Exception) -> bool:
        """Return whether an attempt may have failed because what its checkpoint says is not true of the input."""
        if isinstance(error, SourceChangedError):
            return self._input.is_current(self._order.event.etag)
        return not isinstance(error, RunnerError | TransformError)

    def _run_attempt(self, state: State, progress: JobProgress | None) -> Outcome:
        version = self._input.find_version()
        with self._open_stream(version, state) as stream:
            attempt = self._begin_attempt(version, stream, progress)
            try:
                attempt.transform(stream)
                self._cancellation.check(_CANCELLED_LATELY_S)
            except _NOT_FINAL:
                raise
            except (TransformError, CancelledError) as error:
                if self.published_outcome() is not None:  # a new small job has not looked for one
                    self._has_output = True
                    raise
                end = "cancelled" if isinstance(error, CancelledError) else "failed"
                self._finish_rejects(stream, attempt, end)
                raise
        self._control.check()
        self._finish_rejects(stream, attempt, "published")
        self._control.check()
        published = attempt.publish()
        is_refused = published.decision in (PublishDecision.STALE, PublishDecision.TAKEN)
        if is_refused:
            attempt.rejects.retract()
        self._clean_up()
        if is_refused or attempt.rejects.has_doubles:
            with suppress(StoreError):  # the job is done; `runner sweep` deletes them
                attempt.rejects.discard(self._checkpoint.exists)
        return self._outcome_of(published, stream)

    def _begin_attempt(self, version: S3Object, stream: Stream, progress: JobProgress | None) -> Attempt:
        self._starts += 1
        earlier, attempt = self._attempt, Attempt.begin(self._resources, version, stream, progress)
        if earlier is not None:
            attempt.rejects.replace(earlier.rejects)
        self._attempt = attempt
        return attempt

    def _finish_rejects(self, stream: Stream, attempt: Attempt, outcome: str) -> None:
        # A job that is tried for the first time has nothing to delete, and needs no listing.
        tidy = self._order.tried_before or self._found is not None or self._starts > 1
        attempt.rejects.finish(stream.summary, self._progress.about(outcome), tidy=tidy)
        if not attempt.rejects.names:
            return
        try:
            self._checkpoint.touch()
        except FencedError:  # the worker that has resumed the job may have deleted the objects before they had an index
            attempt.rejects.retract()
            raise

    def _open_stream(self, version: S3Object, state: State) -> AbstractContextManager[Stream]:
        settings = self._context.settings
        return self._context.calculation.stream(
            version,
            state,
            open_input=self._context.around.open_input,
            on_error=settings.on_error,
            max_rejects=settings.max_rejects,
            max_line_bytes=settings.max_line_bytes,
            max_inflation=settings.max_inflation,
            workers=self._order.workers,
            range_bytes=settings.range_bytes,
        )

    def _abandon_upload(self, state: State) -> None:
        """Abort the upload if this worker still has the job; the next attempt makes its output again, from `state`."""
        upload, found, self._found = self._unfinished_upload, self._found, None
        if upload is None:
            return
        if self._attempt is not None:
            self._attempt.upload.parts.clear()
            self._progress.note(self._attempt.upload, state)
            self._attempt.upload.abort()
        elif found is not None:
            self._progress.take_over(replace(found, parts=(), state=state, rejects=(), reject_bytes=0))
            self._abort_upload_of(found)

    def _outcome_of(self, published: Published, stream: Stream | None = None) -> Outcome:
        publisher = self._publisher if self._attempt is None else self._attempt.publisher
        self._output_job = published.job
        if publisher is not None and published.decision is PublishDecision.TAKEN:
            reason = publisher.describe_taken(published.taken_by)
            return Outcome(JobResult.FAILED, reason, job=self.identity.id, digest=self.identity.digest, of_object=True)
        return Outcome(
            _RESULTS[published.decision],
            summary=stream.summary.to_dict() if stream is not None else {},
            job=self.identity.id,
            digest=self.identity.digest,
            etag=published.etag,
            output="" if publisher is None or published.decision is PublishDecision.STALE else publisher.key,
            rejects=self.rejects_prefix,
        )
