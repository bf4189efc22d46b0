"""One S3 object written, which appears whole or not at all."""

import contextlib
import json
import os
import secrets
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, wait
from io import BytesIO
from typing import TYPE_CHECKING, Any

from transform import _process
from transform.errors import OutputError
from transform.io.s3 import ReadSoFar, endpoint, filesystem, part_size, spare_copies, split_uri, translate_errors
from transform.io.temp_files import create_held, find_abandoned, records_directory

if TYPE_CHECKING:
    from pathlib import Path

PART_BYTES = 16 << 20
_AT_A_TIME = 2  # one more is collected while these are on their way
_LARGE_BYTES = 32 << 20  # these go one by one, or they would take the memory
_RECORD_PREFIX = "upload-"
_RUN = "transform-run"
"""The metadata of an object that tells by which run it was uploaded."""


class ObjectSink:
    """An object being written: one multipart upload, or one put where it is small.

    s3fs's own file would publish what it has when an exception leaves its `with`, so the calls are made here.

    Args:
        uri: Which.
        read_so_far: Tells how much of the input was read.
    """

    def __init__(self, uri: str, read_so_far: Callable[[], ReadSoFar]) -> None:
        self.name = uri
        self._uri = uri
        self._read_so_far = read_so_far
        self._buffer = BytesIO()
        self._written = 0
        self._sent: deque[Future[Any]] = deque()
        self._upload: str | None = None
        self._parts: list[dict[str, object]] = []
        self._record: tuple[int, Path] | None = None
        self._run = secrets.token_hex(16)
        with translate_errors(uri, OutputError):
            bucket, key = split_uri(uri)
            self._object = {"Bucket": bucket, "Key": key}
            self._fs = filesystem()
            spare_copies(self._fs)
            with contextlib.suppress(PermissionError):  # it takes s3:ListBucket, which writing does not
                self._fs.call_s3("head_bucket", Bucket=bucket)
            self._sweep()

    def write(self, data: memoryview | bytes) -> None:
        """Add to the content."""
        self._buffer.write(data)
        self._written += len(data)
        parts = len(self._parts) + len(self._sent)
        if self._buffer.tell() >= part_size(PART_BYTES, parts, self._written, self._read_so_far()):
            with translate_errors(self._uri, OutputError):
                self._send_part()

    def publish(self) -> None:
        """Make the object appear, in place of the one that was there."""
        with translate_errors(self._uri, OutputError):
            if self._upload is None:
                self._fs.call_s3("put_object", **self._object, Body=self._buffer.getvalue())
            else:
                if self._buffer.tell():
                    self._send_part()
                self._settle(leave=0)
                self._complete()
        self._forget()

    def discard(self) -> None:
        """Leave no upload open; where S3 cannot be reached, the next run from this machine will try again."""
        if self._upload is not None:
            wait(self._sent)  # S3 may keep a part that is still on its way when the upload is aborted
            try:
                with translate_errors(self._uri, OutputError):
                    self._fs.call_s3("abort_multipart_upload", **self._object, UploadId=self._upload)
            except OutputError:
                if self._record is not None:  # let go of, it is the next run's to sweep
                    os.close(self._record[0])
                self._record = None
        self._forget()

    def _complete(self) -> None:
        parts = {"Parts": self._parts}
        try:
            self._fs.call_s3("complete_multipart_upload", **self._object, UploadId=self._upload, MultipartUpload=parts)
        except FileNotFoundError:
            # Perhaps it was completed and the answer got lost, and now that it was tried again there is no upload.
            found = self._fs.call_s3("head_object", **self._object)
            if found.get("Metadata", {}).get(_RUN) != self._run:
                raise

    def _send_part(self) -> None:
        """Begin to upload what is collected; wait where enough is on its way already."""
        import asyncio  # noqa: PLC0415 - with TLS and all it takes 30 ms, which local runs need not pay

        if self._upload is None:
            self._record = create_held(records_directory(), _RECORD_PREFIX)
            created = self._fs.call_s3("create_multipart_upload", **self._object, Metadata={_RUN: self._run})
            self._upload = created["UploadId"]
            record = {**self._object, "UploadId": self._upload, "endpoint": endpoint()}
            os.write(self._record[0], json.dumps(record).encode())
        content, self._buffer = self._buffer.getvalue(), BytesIO()
        self._settle(leave=_AT_A_TIME - 1 if len(content) <= _LARGE_BYTES else 0)
        part = {"UploadId": self._upload, "PartNumber": len(self._parts) + len(self._sent) + 1, "Body": content}
        request = self._fs._call_s3("upload_part", **self._object, **part)  # noqa: SLF001 # fsspec's name for the same in a coroutine
        self._sent.append(asyncio.run_coroutine_threadsafe(request, self._fs.loop))

    def _settle(self, leave: int) -> None:
        """Take down the parts that are uploaded, once no more than these are on their way."""
        while len(self._sent) > leave:
            with _process.interruptible():
                answer = self._sent[0].result()
            self._sent.popleft()
            self._parts.append({"PartNumber": len(self._parts) + 1, "ETag": answer["ETag"]})

    def _forget(self) -> None:
        self._upload = None
        self._buffer = BytesIO()
        if self._record is not None:
            self._record[1].unlink(missing_ok=True)
            os.close(self._record[0])
            self._record = None

    def _sweep(self) -> None:
        """Abort the uploads to this bucket that killed runs on this machine have left."""
        for path in find_abandoned(records_directory(), _RECORD_PREFIX):
            with contextlib.suppress(ValueError):  # killed before it was noted
                record = json.loads(path.read_bytes())
                if record.pop("endpoint") != endpoint() or record["Bucket"] != self._object["Bucket"]:
                    continue
                try:
                    self._fs.call_s3("abort_multipart_upload", **record)
                except FileNotFoundError:
                    pass  # gone already
                except OSError:
                    continue  # it stays for somebody who may
            path.unlink(missing_ok=True)


def remove_object(uri: str) -> None:
    """Remove an object, if it is there.

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
            pass  # who may not list is told so of an object that isn't there, too
        filesystem().call_s3("delete_object", Bucket=bucket, Key=key)
