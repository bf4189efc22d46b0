"""A job: an object from the input bucket to its output, from where the last attempt has left off."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from runner.errors import CancelledError, NoUploadError, RunnerError
from runner.job.cancellation import Cancellation
from runner.job.checkpoint import Checkpoint, CheckpointHeartbeat, ProgressLog
from runner.job.context import digest_of
from runner.job.keys import cancellation_key, checkpoint_key, output_key, rejects_folder
from runner.job.protocol import JobResult, Outcome
from runner.job.publish import Origin, PublishDecision, StartAgainError, look, publish
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
    from collections.abc import Mapping

    from runner.job.checkpoint import JobProgress
    from runner.job.context import JobContext
    from runner.job.control import Control
    from runner.job.protocol import Order

_STARTS = 5
_NOT_THE_END = (WidenError, SourceChangedError, UnavailableError, AccessDeniedError, WorkerError)
_CANCELLED_LATELY_S = 1.0
_RESULTS = {
    PublishDecision.PUBLISH: JobResult.DONE,
    PublishDecision.DUPLICATE: JobResult.DUPLICATE,
    PublishDecision.STALE: JobResult.STALE,
}


class Job:
    """One job; `run` it once.

    Args:
        context: What it has in common with others.
        order: What it is.
        control: What the worker says meanwhile.

    Raises:
        TransformError, RunnerError: It cannot be done, now or ever; by `run`, too.
    """

    def __init__(self, context: JobContext, order: Order, control: Control) -> None:
        self._context = context
        self._order = order
        self._control = control
        event = order.event
        self._key = output_key(context.settings, event.key)
        digest = digest_of(context.calculation, context.settings, f"s3://{event.bucket}/{event.key}")
        self._origin = Origin.from_event(event, digest, order.sent)
        self.id = self._origin.job
        self.digest = self._origin.digest
        sent = order.sent if order.first_sent is None else order.first_sent
        note = cancellation_key(context.settings, self._origin.source)
        self._cancellation = Cancellation(context.cancellations, note, sent)
        self._checkpoint = Checkpoint(context.store, checkpoint_key(context.settings, self.id))
        self._progress = ProgressLog(
            self._checkpoint, order.owner, context.settings.visibility_timeout_s, self._about()
        )
        self._upload: Upload | None = None
        self._rejects: RejectObjects | None = None

    @property
    def is_new_and_small(self) -> bool:
        """Whether to do it costs no more than to look whether somebody has."""
        size = self._order.event.size
        return not self._order.tried_before and size is not None and size <= self._context.settings.part_bytes

    @property
    def rejects_prefix(self) -> str:
        """The prefix of the objects of rejected lines, "" where there are none."""
        return self._rejects.folder if self._rejects is not None and self._rejects.count else ""

    def run(self) -> Outcome:
        """Do it, from where the last attempt has left off."""
        progress = None
        if not self.is_new_and_small:
            progress = self._take_up()
            if (standing := self.standing()) is not None:
                self.clean_up()
                return standing
        self._cancellation.check_at_start()
        if progress is not None and self._checkpoint.is_held(progress, self._order.owner):
            return Outcome(JobResult.BUSY, "another worker is at it, for another message about it", job=self.id)
        with CheckpointHeartbeat(self._checkpoint, self._control, self._context.settings.visibility_timeout_s):
            return self._make(progress)

    def _take_up(self) -> JobProgress | None:
        """Return how far somebody has come with the job, None if nobody has."""
        progress = self._progress.take_up()
        if progress is not None:
            self._upload = Upload(self._target({}), progress.upload)
            self._control.note_checkpoint(progress.state.summary.bytes_in)
        return progress

    def _make(self, progress: JobProgress | None) -> Outcome:
        state = progress.state if progress else State()
        starts_left = _STARTS
        while True:
            try:
                if progress is not None:
                    self._progress.take_over(progress)
                return self._attempt(state, progress)
            except WidenError as error:  # once for a column
                state = state.restarted(error.name, error.dtype)
            except StartAgainError:
                starts_left -= 1
                if not starts_left:
                    raise
                state = State(widened=state.widened)
            self._abandon(state)
            progress = None

    def clean_up(self) -> None:
        """Leave neither an upload nor a checkpoint."""
        if self._upload is not None:
            self._upload.abort()
        self._checkpoint.remove()

    def standing(self) -> Outcome | None:
        """Return what has become of the job where an output stands that has to stay, whoever has made it."""
        decision, condition = look(self._context.store, self._key, self._origin)
        if decision is PublishDecision.PUBLISH:
            return None
        etag = condition["IfMatch"] if decision is PublishDecision.DUPLICATE else ""
        return Outcome(_RESULTS[decision], job=self.id, digest=self.digest, etag=etag, rejects=self.rejects_prefix)

    def _attempt(self, state: State, progress: JobProgress | None) -> Outcome:
        settings = self._context.settings
        with self._context.calculation.stream(
            self._source(),
            state,
            on_error=settings.on_error,
            max_rejects=settings.max_rejects,
            max_line_bytes=settings.max_line_bytes,
            max_inflation=settings.max_inflation,
            workers=self._order.workers,
            range_bytes=settings.range_bytes,
        ) as stream:
            target = self._target(stream.headers)
            upload_id, parts = (progress.upload, progress.parts) if progress else (None, ())
            upload = self._upload = Upload(target, upload_id, parts, self._max_parts_in_flight)
            folder = rejects_folder(settings, self._order.event.key, self.id)
            highest = self._rejects.highest if self._rejects else 0
            rejects = self._rejects = RejectObjects(
                self._context.store, folder, progress.rejects if progress else 0, highest
            )
            try:
                self._transform(stream, upload, rejects)
                self._cancellation.check(_CANCELLED_LATELY_S)
            except _NOT_THE_END:
                raise
            except (TransformError, CancelledError) as error:
                end = "cancelled" if isinstance(error, CancelledError) else "failed"
                rejects.finish(stream.summary, self._progress.about(end))
                raise
        rejects.finish(stream.summary, self._progress.about("published"))
        self._control.check()
        decision, etag = publish(self._context.store, self._key, self._origin, upload)
        if decision is PublishDecision.PUBLISH:
            upload.forget()
        self.clean_up()
        done = stream.summary.to_dict()
        return Outcome(_RESULTS[decision], "", done, self.id, 0, self.digest, etag, self.rejects_prefix)

    def _transform(self, stream: Stream, upload: Upload, rejects: RejectObjects) -> None:
        try:
            for part in stream:
                self._control.check()
                self._cancellation.check()
                self._progress.note_position(stream)
                if upload.is_full(self._progress.position):
                    self._begin(upload, stream.state)
                    self._control.check_lease()  # objects of rejects are not fenced off
                    rejects.flush()
                    upload.send_part(partial(self._note_part, stream.state, rejects.count))
                for data in part.output:
                    upload.write(data)
                for line in part.rejects:
                    rejects.write(line)
                self._control.tell(*stream.position)
            upload.finish()
        except NoUploadError as error:  # somebody has aborted it
            raise StartAgainError(str(error)) from error
        finally:
            upload.wait()

    @property
    def _max_parts_in_flight(self) -> int:
        chosen = self._context.max_parts_in_flight
        return max(self._order.workers, MAX_PARTS_IN_FLIGHT) if chosen is None else chosen

    def _begin(self, upload: Upload, state: State) -> None:
        """Have an upload for the parts, and that noted at once: else it would stay open if this process was killed."""
        if upload.id is None:
            upload.create()
            try:
                self._control.check()
                self._progress.note(upload, State(widened=state.widened))
            except RunnerError:
                upload.abort()
                raise

    def _note_part(self, state: State, rejects: int) -> None:
        """Note that the output up to there is uploaded, if the job is still this worker's after that."""
        assert self._upload is not None  # noqa: S101 - there are parts of an upload only
        self._control.check_lease()
        self._progress.note(self._upload, state, rejects)
        self._control.note_checkpoint(state.summary.bytes_in)

    def _abandon(self, state: State) -> None:
        """Give up an upload, as its output is made again, if the job is still this worker's."""
        if self._upload is not None and self._upload.id is not None:
            self._upload.parts.clear()
            self._progress.note(self._upload, state)
            self._upload.abort()

    def _source(self) -> S3Object:
        """Return the version of the input that the event speaks of."""
        event = self._order.event
        if event.etag is not None:
            return S3Object(event.bucket, event.key, event.etag, event.size)
        found = self._context.source.head(event.key)
        if found is None or (event.version_id and found.get("VersionId", event.version_id) != event.version_id):
            raise SourceChangedError(f"s3://{event.bucket}/{event.key}: is no longer what the event speaks of")
        return S3Object(event.bucket, event.key, found["ETag"].strip('"'), found["ContentLength"])

    def _target(self, headers: Mapping[str, Any]) -> Target:
        """Return where the output goes, given what S3 says of the input."""
        event = self._order.event
        if modified := headers.get("LastModified"):
            written = int(modified.timestamp() * 1000)
            self._origin = Origin.from_event(event, self._origin.digest, self._order.sent, written)
        tags = {}
        if headers.get("TagCount"):
            answer = self._context.source.call("get_object_tagging", Key=event.key)
            tags = {tag["Key"]: tag["Value"] for tag in answer["TagSet"]}
        return Target.from_headers(
            self._context.store, self._key, headers, tags, self._origin.to_metadata(), self._context.part_sizes
        )

    def _about(self) -> dict[str, str]:
        event = self._order.event
        return {
            "job": self.id,
            "source": f"s3://{event.bucket}/{event.key}",
            "etag": event.etag or "",
            "version": event.version_id or "",
            "output": f"s3://{self._context.store.bucket}/{self._key}",
            "digest": self.digest,
            "worker": self._context.worker,
        }
