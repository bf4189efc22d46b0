"""The sink of an S3 object for the command and the library: published whole or not at all.

While an upload is open, a file on this machine records it, so that the next run can abort it if this one is killed.
"""

import contextlib
import json
import os
import secrets
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from transform.errors import OutputError
from transform.io.s3 import S3Object, endpoint, filesystem, object_at, split_uri, translate_errors
from transform.io.s3_writer import MultipartUpload, PartBuffer, PartSizes, ReadSoFar, prepare_sending
from transform.io.temp_files import create_held, find_abandoned, records_directory

if TYPE_CHECKING:
    from pathlib import Path

PART_SIZES = PartSizes(first=16 << 20)
_MAX_PARTS_IN_FLIGHT = 2  # one more is collected meanwhile
_MAX_BYTES_IN_FLIGHT = 64 << 20
_RECORD_PREFIX = "upload-"
_RUN = "transform-run"
"""The metadata of an object that names the run that uploaded it."""


class ObjectSink:
    """An object being written: one multipart upload, or one PutObject if it is small.

    The file objects of s3fs are not used, because they publish what they have when an exception leaves their `with`.

    Args:
        target: The object.
        filesystem: The s3fs file system that reaches it.
        read_so_far: Returns how much of the input was read.
        sizes: The sizes of the parts.

    Raises:
        OutputError: S3 refuses; raised by every method.
    """

    def __init__(
        self, target: S3Object, filesystem: Any, read_so_far: Callable[[], ReadSoFar], sizes: PartSizes = PART_SIZES
    ) -> None:
        self.name = str(target)
        self._filesystem = filesystem
        self._read_so_far = read_so_far
        self._run = secrets.token_hex(16)
        self._record: tuple[int, Path] | None = None
        self._buffer = PartBuffer(sizes)
        self._object = {"Bucket": target.bucket, "Key": target.key}
        self._call: Callable[..., dict[str, Any]] = partial(filesystem.call_s3, **self._object)
        self._upload = MultipartUpload(
            self._call,
            partial(prepare_sending, filesystem),
            {"Metadata": {_RUN: self._run}},
            max_parts_in_flight=_MAX_PARTS_IN_FLIGHT,
            max_bytes_in_flight=_MAX_BYTES_IN_FLIGHT,
        )

    def write(self, data: memoryview | bytes) -> None:
        """Add to the content."""
        self._buffer.write(data)
        if self._buffer.is_full(self._read_so_far()):
            with translate_errors(self.name, OutputError):
                self._send_part()

    def publish(self) -> None:
        """Make the object appear, in place of the one that was there."""
        with translate_errors(self.name, OutputError):
            if self._upload.id is None:
                prepare_sending(self._filesystem)
                self._call("put_object", Body=self._buffer.content())
            else:
                if self._buffer.size:
                    self._send_part()
                self._upload.finish()
                self._complete()
        self._remove_record()

    def discard(self) -> None:
        """Leave no upload open; if S3 cannot be reached, the next run on this machine tries again."""
        try:
            with translate_errors(self.name, OutputError):
                self._upload.abort()
        except OutputError:
            if self._record is not None:  # closed and not removed, so that the next run sweeps it
                os.close(self._record[0])
            self._record = None
        self._remove_record()

    def _complete(self) -> None:
        try:
            self._upload.complete()
        except FileNotFoundError:
            # Perhaps it was completed and the answer was lost, so that the retry found no upload.
            found = self._call("head_object")
            if found.get("Metadata", {}).get(_RUN) != self._run:
                raise

    def _send_part(self) -> None:
        if self._upload.id is None:
            self._record = create_held(records_directory(), _RECORD_PREFIX)
            record = {**self._object, "UploadId": self._upload.create(), "endpoint": endpoint()}
            os.write(self._record[0], json.dumps(record).encode())
        self._upload.send(self._buffer.take())

    def _remove_record(self) -> None:
        if self._record is not None:
            self._record[1].unlink(missing_ok=True)
            os.close(self._record[0])
            self._record = None


def open_object(uri: str, read_so_far: Callable[[], ReadSoFar], sizes: PartSizes = PART_SIZES) -> ObjectSink:
    """Return the sink for an object in a bucket that can be reached, and abort what killed runs have left there.

    Args:
        uri: URI of the object.
        read_so_far: Returns how much of the input was read.
        sizes: The sizes of the parts.

    Raises:
        OutputError: The URI is wrong, or the bucket cannot be reached.
    """
    with translate_errors(uri, OutputError):
        target = object_at(uri)
        s3 = filesystem()
        with contextlib.suppress(PermissionError):  # it needs s3:ListBucket, which writing does not
            s3.call_s3("head_bucket", Bucket=target.bucket)
        _sweep(s3, target.bucket)
        return ObjectSink(target, s3, read_so_far, sizes)


def _sweep(filesystem: Any, bucket: str) -> None:
    """Abort the uploads to a bucket that killed runs on this machine have left."""
    for path in find_abandoned(records_directory(), _RECORD_PREFIX):
        with contextlib.suppress(ValueError):  # the run was killed before it wrote the record
            record = json.loads(path.read_bytes())
            if record.pop("endpoint") != endpoint() or record["Bucket"] != bucket:
                continue
            try:
                filesystem.call_s3("abort_multipart_upload", **record)
            except FileNotFoundError:
                pass  # gone already
            except OSError:
                continue  # left to a run that may abort it
        path.unlink(missing_ok=True)


def remove_object(uri: str) -> None:
    """Remove an object, if it exists.

    Raises:
        OutputError: It cannot be removed.
    """
    with translate_errors(uri, OutputError):
        bucket, key = split_uri(uri)
        try:
            filesystem().call_s3("head_object", Bucket=bucket, Key=key)
        except FileNotFoundError:
            return
        except PermissionError:
            pass  # without s3:ListBucket, this is also the answer for a missing object
        filesystem().call_s3("delete_object", Bucket=bucket, Key=key)
