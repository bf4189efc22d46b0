"""A job: it transforms an object of the input bucket into its output, from the last checkpoint if there is one.

`run` looks at the checkpoint and the current output, then makes one or more attempts. An attempt is one pass over the
input: `_transform` is its loop, which sends parts and notes them in the checkpoint; `publish` ends it.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from runner.errors import CancelledError, NoUploadError, RunnerError
from runner.job.cancellation import Cancellation
from runner.job.checkpoint import Checkpoint, CheckpointHeartbeat, ProgressLog
from runner.job.identity import PublishDecision
from runner.job.protocol import JobResult, Outcome
from runner.job.publish import StartAgainError, look, publish
from runner.job.rejects import RejectObjects
from runner.job.upload import MAX_PARTS_IN_FLIGHT, Target, Upload
from transform import (
    AccessDeniedError,
    S3Object,
    SourceChangedError,
    State,
    Stream,
    TransformError,
    UnavailableError,
    WidenError,
    WorkerError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runner.aws.bucket import Store
    from runner.aws.s3_events import ObjectCreated
    from runner.job.checkpoint import JobProgress
    from runner.job.context import JobContext
    from runner.job.control import Control
    from runner.job.identity import JobIdentity, Origin
    from runner.job.protocol import Order

_MAX_STARTS = 5
_CANCELLED_LATELY_S = 1.0
_NOT_FINAL = (WidenError, SourceChangedError, UnavailableError, AccessDeniedError, WorkerError)
"""After these the job runs again, or its input has changed, so the rejected lines so far are not final."""
_RESULTS = {
    PublishDecision.PUBLISH: JobResult.DONE,
    PublishDecision.DUPLICATE: JobResult.DUPLICATE,
    PublishDecision.STALE: JobResult.STALE,
}


@dataclass(frozen=True, slots=True)
class _Attempt:
    """One pass over the input.

    Attributes:
        origin: The origin of the output.
        upload: The upload of the output.
        rejects: The objects of rejected lines.
    """

    origin: Origin
    upload: Upload
    rejects: RejectObjects


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
        settings = context.settings
        self.identity = identity
        self._context = context
        self._order = order
        self._control = control
        first_sent = order.sent if order.first_sent is None else order.first_sent
        self._cancellation = Cancellation(context.cancellations, identity.cancellation_key, first_sent)
        self._checkpoint = Checkpoint(context.store, identity.checkpoint_key)
        self._progress = ProgressLog(self._checkpoint, order.owner, settings.visibility_timeout_s, identity.about)
        self._found: JobProgress | None = None
        self._attempt: _Attempt | None = None

    @property
    def is_new_and_small(self) -> bool:
        """Whether the job is done at once, because looking for its output first would cost as much as doing it."""
        size = self._order.event.size
        return not self._order.tried_before and size is not None and size <= self._context.settings.part_bytes

    @property
    def rejects_prefix(self) -> str:
        """The prefix of the objects of rejected lines, "" if there are none."""
        return self._attempt.rejects.folder if self._attempt is not None and self._attempt.rejects.count else ""

    def run(self) -> Outcome:
        """Do the job, from the last checkpoint if there is one.

        Raises:
            TransformError, RunnerError, StartAgainError: The job has failed, now or for good.
        """
        if not self.is_new_and_small:
            self._found = self._progress.take_up()
            if self._found is not None:
                self._control.note_checkpoint(self._found.state.summary.bytes_in)
            if (published := self.published_outcome()) is not None:
                self.clean_up()
                return published
        self._cancellation.check_at_start()
        if self._found is not None and self._checkpoint.is_held(self._found, self._order.owner):
            reason = "another worker is at it, for another message about it"
            return Outcome(JobResult.BUSY, reason, job=self.identity.id)
        with CheckpointHeartbeat(self._checkpoint, self._control, self._context.settings.visibility_timeout_s):
            return self._run_attempts()

    def published_outcome(self) -> Outcome | None:
        """Return the outcome of the job if there is an output that has to stay, by any worker; otherwise None."""
        origin = self.identity.origin if self._attempt is None else self._attempt.origin
        decision, condition = look(self._context.store, self.identity.output_key, origin)
        if decision is PublishDecision.PUBLISH:
            return None
        return self._outcome_of(decision, condition["IfMatch"] if decision is PublishDecision.DUPLICATE else "")

    def clean_up(self) -> None:
        """Remove the upload and the checkpoint."""
        if self._attempt is not None:
            self._attempt.upload.abort()
        elif self._found is not None:
            bare = Target(self._context.store, self.identity.output_key, {}, None, self._context.part_sizes)
            Upload(bare, self._found.upload).abort()
        self._checkpoint.remove()

    def _run_attempts(self) -> Outcome:
        """Make attempts until one succeeds: another one if a column needs a wider type, or the upload is lost."""
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
            self._abandon_upload(state)
            progress = None

    def _run_attempt(self, state: State, progress: JobProgress | None) -> Outcome:
        with self._open_stream(state) as stream:
            attempt = self._attempt = self._begin_attempt(stream, progress)
            try:
                self._transform(stream, attempt)
                self._cancellation.check(_CANCELLED_LATELY_S)
            except _NOT_FINAL:
                raise
            except (TransformError, CancelledError) as error:
                end = "cancelled" if isinstance(error, CancelledError) else "failed"
                attempt.rejects.finish(stream.summary, self._progress.about(end))
                raise
        attempt.rejects.finish(stream.summary, self._progress.about("published"))
        self._control.check()
        decision, etag = publish(self._context.store, self.identity.output_key, attempt.origin, attempt.upload)
        if decision is PublishDecision.PUBLISH:
            attempt.upload.forget()
        self.clean_up()
        return self._outcome_of(decision, etag, stream)

    @contextmanager
    def _open_stream(self, state: State) -> Iterator[Stream]:
        settings = self._context.settings
        with self._context.calculation.stream(
            _input_version(self._context.source, self._order.event),
            state,
            on_error=settings.on_error,
            max_rejects=settings.max_rejects,
            max_line_bytes=settings.max_line_bytes,
            max_inflation=settings.max_inflation,
            workers=self._order.workers,
            range_bytes=settings.range_bytes,
        ) as stream:
            yield stream

    def _begin_attempt(self, stream: Stream, progress: JobProgress | None) -> _Attempt:
        context, identity = self._context, self.identity
        origin = identity.origin.with_modified(stream.headers.get("LastModified"))
        target = Target.from_input(context, identity, stream.headers, origin)
        upload_id, parts = (progress.upload, progress.parts) if progress else (None, ())
        chosen = context.max_parts_in_flight
        in_flight = max(self._order.workers, MAX_PARTS_IN_FLIGHT) if chosen is None else chosen
        before = self._attempt.rejects.highest if self._attempt is not None else 0
        rejects = RejectObjects(context.store, identity.rejects_folder, progress.rejects if progress else 0, before)
        return _Attempt(origin, Upload(target, upload_id, parts, in_flight), rejects)

    def _transform(self, stream: Stream, attempt: _Attempt) -> None:
        upload, rejects = attempt.upload, attempt.rejects
        try:
            for part in stream:
                self._control.check()
                self._cancellation.check()
                self._progress.note_position(stream)
                if upload.is_full(self._progress.position):
                    self._create_upload(upload, stream.state)
                    self._control.check_lease()  # objects of rejects are not fenced off
                    rejects.flush()
                    upload.send_part(partial(self._note_part, upload, stream.state, rejects.count))
                for data in part.output:
                    upload.write(data)
                for line in part.rejects:
                    rejects.write(line)
                self._control.tell(*stream.position)
            upload.finish()
        except NoUploadError as error:  # it was aborted by `runner sweep`, or by another worker
            raise StartAgainError(str(error)) from error
        finally:
            upload.wait()

    def _create_upload(self, upload: Upload, state: State) -> None:
        """Create the upload on first use and note it at once, or it would stay open if this process was killed."""
        if upload.id is not None:
            return
        upload.create()
        try:
            self._control.check()
            self._progress.note(upload, State(widened=state.widened))
        except RunnerError:
            upload.abort()
            raise

    def _note_part(self, upload: Upload, state: State, rejects: int) -> None:
        """Note that the output up to a state is uploaded, if this worker still has the job."""
        self._control.check_lease()
        self._progress.note(upload, state, rejects)
        self._control.note_checkpoint(state.summary.bytes_in)

    def _abandon_upload(self, state: State) -> None:
        """Abort the upload if this worker still has the job; the next attempt makes its output again."""
        if self._attempt is not None and self._attempt.upload.id is not None:
            upload = self._attempt.upload
            upload.parts.clear()
            self._progress.note(upload, state)
            upload.abort()

    def _outcome_of(self, decision: PublishDecision, etag: str, stream: Stream | None = None) -> Outcome:
        return Outcome(
            _RESULTS[decision],
            summary=stream.summary.to_dict() if stream is not None else {},
            job=self.identity.id,
            digest=self.identity.digest,
            etag=etag,
            rejects=self.rejects_prefix,
        )


def _input_version(source: Store, event: ObjectCreated) -> S3Object:
    """Return the version of the input that an event is about.

    Raises:
        SourceChangedError: It is gone, or there is another version.
    """
    if event.etag is not None:
        return S3Object(event.bucket, event.key, event.etag, event.size)
    found = source.head(event.key)
    if found is None or (event.version_id and found.get("VersionId", event.version_id) != event.version_id):
        raise SourceChangedError(f"s3://{event.bucket}/{event.key}: is no longer what the event speaks of")
    return S3Object(event.bucket, event.key, found["ETag"].strip('"'), found["ContentLength"])
