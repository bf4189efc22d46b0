"""An attempt at a job: one pass over its input, from the start or from a checkpoint.

It collects the output in an upload, and notes each part that has arrived in the checkpoint. The job then publishes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Self

from runner.errors import NoUploadError, RunnerError, StartAgainError
from runner.job.identity import PublishDecision
from runner.job.upload import MAX_PARTS_IN_FLIGHT, Target, Upload
from transform import State

if TYPE_CHECKING:
    from runner.job.identity import Origin
    from runner.job.progress import JobProgress
    from runner.job.publish import Published, Publisher
    from runner.job.rejects import RejectObjects
    from runner.job.resources import JobResources
    from transform import S3Object, Stream


_EARLIER = "the upload is that of an earlier request than the existing output, which is of another calculation"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One pass over the input.

    Attributes:
        job: The resources of the job.
        version: The version of the input that is read.
        upload: The upload of the output.
        rejects: The objects of rejected lines.
        publisher: Publishes the output.
        origin: The origin for which it is made; that of the upload may be of an earlier request for the same job.
    """

    job: JobResources
    origin: Origin
    version: S3Object
    upload: Upload
    rejects: RejectObjects
    publisher: Publisher

    @classmethod
    def begin(cls, job: JobResources, version: S3Object, stream: Stream, progress: JobProgress | None) -> Self:
        """Return a new attempt, or one that continues an upload.

        The metadata of a multipart upload are those with which it was created. If the same content was uploaded again,
        the checkpoint may be that of the earlier event. Its upload would be published with the sequencer of that event,
        as if it was older than it is: a newer event begins a new upload. An older event, or one that cannot be
        compared, continues the upload, and takes its origin: what is decided is decided on what the metadata will say.

        The properties of the input may have changed since, without a change of its content. An upload keeps the content
        type, tags and so on with which it was created, but the format of its parts has to stay the same.

        Raises:
            StartAgainError: The upload of the checkpoint is that of an older event, or compressed in another format.
        """
        context = job.context
        own = origin = job.identity.origin.with_modified(stream.headers.get("LastModified"))
        if progress is not None:
            noted = progress.origin(origin)
            if origin.is_newer_than(noted):
                raise StartAgainError("the upload is that of an earlier event about the same content")
            key = job.output_key(noted if noted.modified else origin)
            if progress.output not in ("", key):
                raise StartAgainError("the upload is that of another output key")
            origin = noted
        else:
            key = job.output_key(origin)
        job.progress.output = f"s3://{context.store.bucket}/{key}"
        target = Target.from_input(context, job.input, key, stream.headers, origin)
        upload_id, parts = (progress.upload, progress.parts) if progress else (None, ())
        chosen = context.max_parts_in_flight
        in_flight = max(job.order.workers, MAX_PARTS_IN_FLIGHT) if chosen is None else chosen
        upload = Upload(target, upload_id, parts, in_flight, context.around.tasks)
        if progress is not None and upload.codec != progress.codec:
            raise StartAgainError(f"the parts of the upload are compressed by {progress.codec}, not {upload.codec}")
        rejects = job.reject_objects(progress)
        if not rejects.are_there():
            raise StartAgainError("rejected lines that the checkpoint names are gone")
        return cls(job, own, version, upload, rejects, job.publisher_at(key))

    def publish(self) -> Published:
        """Publish the output, unless there is one that should stay; return what there is then.

        Raises:
            StartAgainError: As `Publisher.publish` does; or only what the metadata of the upload claim keeps the output
                from being published, because they are those of an earlier request.
        """
        published = self.publisher.publish(self.upload.origin, self.upload, self.version.etag or "")
        is_earlier = self.origin.first_sent > self.upload.origin.first_sent
        is_held_back = is_earlier and published.decision is PublishDecision.STALE
        if is_held_back and self.publisher.published(self.origin, self.version.etag) is None:
            raise StartAgainError(_EARLIER)
        return published

    def transform(self, stream: Stream) -> None:
        """Transform all of the input: send the output as parts, and note each in the checkpoint.

        Raises:
            StartAgainError: The upload is gone.
            TransformError, RunnerError: The attempt has failed.
        """
        job, upload, rejects = self.job, self.upload, self.rejects
        try:
            for part in stream:
                job.control.check()
                job.cancellation.check()
                job.progress.note_position(stream)
                if upload.is_full(job.progress.position, within_line=not part.resumable):
                    self._send_part(stream.state, can_note=part.resumable)
                for data in part.output:
                    upload.write(data)
                for lines in part.rejects:
                    rejects.write(lines, stream.summary)
                job.control.tell(*stream.position)
            upload.finish()
        except NoUploadError as error:  # it was aborted by `runner sweep`, or by another worker
            raise StartAgainError(str(error)) from error
        finally:
            upload.wait()

    def _send_part(self, state: State, *, can_note: bool) -> None:
        """Start to send what is collected as a part, and note it in the checkpoint once it has arrived.

        Args:
            state: How far the input was transformed; within a line, up to which line.
            can_note: Whether the output ends there. A line that becomes gigabytes is sent in many parts, and only the
                last of them is noted: a job that is continued begins with a whole line.
        """
        upload, rejects = self.upload, self.rejects
        self._create_upload(state)
        if not can_note:
            upload.send_part_of_line()
            return
        rejects.flush()
        names = rejects.names_for_checkpoint()
        upload.send_part(partial(self._note_part, state, names, rejects.size))

    def _create_upload(self, state: State) -> None:
        """Create the upload on first use and note it at once, or it would stay open if this process was killed."""
        job, upload = self.job, self.upload
        if upload.id is not None:
            return
        upload.create()
        try:
            job.control.check()
            job.progress.note(upload, State(widened=state.widened))
        except RunnerError:
            upload.abort()
            raise

    def _note_part(self, state: State, rejects: tuple[str, ...], reject_bytes: int) -> None:
        """Note that the output up to a state is uploaded, if this worker still has the job."""
        job = self.job
        job.control.check_lease()
        job.progress.note(self.upload, state, rejects, reject_bytes)
        job.control.note_checkpoint(state.summary.bytes_in)
