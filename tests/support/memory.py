"""S3 in memory, and jobs that are done against it in this process: no server, no files, no time."""

# ruff: noqa: N803 - arguments have the names that boto3 gives them
from __future__ import annotations

import hashlib
import io
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError
from s3fs.errors import translate_boto_error

from runner.aws.bucket import Store
from runner.aws.s3_events import ObjectCreated
from runner.aws.surroundings import REAL
from runner.job.cancellation import Cancellations
from runner.job.context import JobContext, load_calculation
from runner.job.identity import JobIdentity
from runner.job.keys import cancellations_prefix
from runner.job.process import do
from runner.job.protocol import Order, Outcome
from runner.settings import Settings
from tests.support.fakes import LEAST, FakeChance, FakeClock
from tests.support.jobs import Free
from transform import InputError, PartSizes, SourceChangedError
from transform.io.s3 import translate_errors
from transform.io.sources import Position, Reader, StoredInput

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

INPUT, OUTPUT = LEAST["s3InputBucket"], LEAST["S3_OUTPUT_BUCKET"]
KEY = "in/some.jsonl"
OUTPUT_KEY = f"output/{KEY}"
SENT = 1_700_000_000_000
NOW_S = 1_700_000_100.0


def refusal(status: int, code: str) -> BaseException:
    """Return what s3fs raises when S3 answers with an error."""
    response: Any = {"Error": {"Code": code, "Message": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    error: BaseException = translate_boto_error(ClientError(response, "some operation"))
    return error


@dataclass(frozen=True)
class Stored:
    """An object as it is stored."""

    content: bytes
    etag: str
    modified: float
    headers: dict[str, Any]
    version: str


@dataclass
class MemoryS3:
    """S3 in memory.

    Attributes:
        clock: Its clock.
        objects: The objects, by bucket and key.
        uploads: The open uploads by id: bucket, key, headers and parts.
        requests: What was requested: operation, first folder of the key.
        before: Called before each request with the operation and its arguments; may raise, or do something else first.
        after: Called after each request that succeeded, likewise: what it raises is a lost answer.
        versioned: Whether the buckets have versions.
        etags_of_writes: Whether each write has another ETag, as with a key of KMS, and not each content.
    """

    clock: FakeClock = field(default_factory=lambda: FakeClock(NOW_S))
    objects: dict[tuple[str, str], Stored] = field(default_factory=dict)
    uploads: dict[str, tuple[str, str, dict[str, Any], dict[int, bytes]]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    before: Callable[[str, dict[str, Any]], None] = lambda _operation, _arguments: None
    after: Callable[[str, dict[str, Any]], None] = lambda _operation, _arguments: None
    versioned: bool = False
    etags_of_writes: bool = False
    _count: int = 0

    def call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        name = f"{operation} {str(arguments.get('Key', '')).partition('/')[0]}".strip()
        self.requests.append(name)
        self.before(operation, arguments)
        answer: dict[str, Any] = getattr(self, f"_{operation}")(**arguments)
        self.after(operation, arguments)
        return answer

    def read(self, bucket: str, key: str) -> tuple[dict[str, Any], bytes]:
        answer = self.call("get_object", Bucket=bucket, Key=key)
        return answer, self.objects[bucket, key].content

    def prepare_part(self) -> None:
        pass

    def put(self, key: str, content: bytes, bucket: str = INPUT, **headers: Any) -> str:
        """Put an object, not as a request; return its ETag without quotes."""
        self._count += 1
        salt = b"%d" % self._count if self.etags_of_writes else b""
        etag = hashlib.md5(content + salt, usedforsecurity=False).hexdigest()
        made = Stored(content, f'"{etag}"', self.clock.now, headers, f"v{self._count}")
        self.objects[bucket, key] = made
        return etag

    def keys(self, prefix: str = "", bucket: str = OUTPUT) -> list[str]:
        return sorted(key for where, key in self.objects if where == bucket and key.startswith(prefix))

    def content(self, key: str) -> bytes | None:
        found = self.objects.get((OUTPUT, key))
        return None if found is None else found.content

    def _head_object(self, Bucket: str, Key: str) -> dict[str, Any]:
        found = self.objects.get((Bucket, Key))
        if found is None:
            raise refusal(404, "404")
        answer = {"ETag": found.etag, "ContentLength": len(found.content), **found.headers}
        answer |= {"VersionId": found.version} if self.versioned else {}
        date = format_datetime(datetime.fromtimestamp(int(self.clock.now), UTC), usegmt=True)
        answer["LastModified"] = datetime.fromtimestamp(int(found.modified), UTC)
        return {**answer, "ResponseMetadata": {"HTTPHeaders": {"date": date}}}

    def _get_object(self, Bucket: str, Key: str) -> dict[str, Any]:
        if (Bucket, Key) not in self.objects:
            raise refusal(404, "NoSuchKey")
        return self._head_object(Bucket, Key)

    def _get_object_tagging(self, Bucket: str, Key: str) -> dict[str, Any]:
        del Bucket, Key
        return {"TagSet": []}

    def _put_object(self, Bucket: str, Key: str, Body: bytes, **more: Any) -> dict[str, Any]:
        self._meet(Bucket, Key, more)
        return {"ETag": f'"{self.put(Key, Body, Bucket, **more)}"'}

    def _delete_object(self, Bucket: str, Key: str, **more: Any) -> dict[str, Any]:
        if (Bucket, Key) in self.objects:
            self._meet(Bucket, Key, more)
            del self.objects[Bucket, Key]
        return {}

    def _create_multipart_upload(self, Bucket: str, Key: str, **headers: Any) -> dict[str, Any]:
        self._count += 1
        upload = f"upload-{self._count}"
        self.uploads[upload] = Bucket, Key, headers, {}
        return {"UploadId": upload}

    def _upload_part(self, UploadId: str, PartNumber: int, Body: bytes, **_: Any) -> dict[str, Any]:
        self._parts_of(UploadId)[PartNumber] = bytes(Body)
        return {"ETag": f'"{hashlib.md5(Body, usedforsecurity=False).hexdigest()}"'}

    def _complete_multipart_upload(
        self, Bucket: str, Key: str, UploadId: str, MultipartUpload: dict[str, Any], **more: Any
    ) -> dict[str, Any]:
        parts = self._parts_of(UploadId)
        self._meet(Bucket, Key, more)
        content = b"".join(parts[part["PartNumber"]] for part in MultipartUpload["Parts"])
        _, _, headers, _ = self.uploads.pop(UploadId)
        return {"ETag": f'"{self.put(Key, content, Bucket, **headers)}"'}

    def _abort_multipart_upload(self, UploadId: str, **_: Any) -> dict[str, Any]:
        self._parts_of(UploadId)
        del self.uploads[UploadId]
        return {}

    def _list_objects_v2(self, Bucket: str, Prefix: str, **_: Any) -> dict[str, Any]:
        found = [
            {
                "Key": key,
                "LastModified": datetime.fromtimestamp(int(self.objects[Bucket, key].modified), UTC),
                "ETag": self.objects[Bucket, key].etag,
            }
            for key in self.keys(Prefix, Bucket)
        ]
        return {"Contents": found}

    def _parts_of(self, upload: str) -> dict[int, bytes]:
        if upload not in self.uploads:
            raise refusal(404, "NoSuchUpload")
        return self.uploads[upload][3]

    def _meet(self, bucket: str, key: str, arguments: dict[str, Any]) -> None:
        there = self.objects.get((bucket, key))
        if arguments.pop("IfNoneMatch", None) is not None and there is not None:
            raise refusal(412, "PreconditionFailed")
        etag = arguments.pop("IfMatch", None)
        if etag is not None and there is None:
            raise refusal(404, "NoSuchKey")
        if etag is not None and there is not None and there.etag != etag:
            raise refusal(412, "PreconditionFailed")

    @contextmanager
    def open_input(self, source: Any, start: Position | None, max_inflation: int | None) -> Iterator[Reader]:
        """Open an input, as the engine takes it; not of a compressed one."""
        del max_inflation
        self.requests.append(f"get_object {source.key.partition('/')[0]}")
        with translate_errors(str(source), InputError, pinned=True):
            self.before("get_object", {"Bucket": source.bucket, "Key": source.key})
        found = self.objects.get((source.bucket, source.key))
        if found is None or found.etag.strip('"') != source.etag:
            raise SourceChangedError(f"s3://{source.bucket}/{source.key}: changed")
        if start is not None and start.codec is not None:
            raise SourceChangedError(f"s3://{source.bucket}/{source.key}: is not what was read before")
        offset = 0 if start is None else start.offset
        raw = io.BytesIO(found.content)
        raw.seek(offset)
        stored = StoredInput(str(source), raw, offset)
        headers = self._head_object(source.bucket, source.key)
        yield Reader(stored, stored.read_into, len(found.content), start=start, headers=headers)


@dataclass
class MemoryJobs:
    """Does jobs against S3 in memory.

    Attributes:
        s3: S3.
        part_bytes: The least size of a part; an output of less is put with one request.
        changes: Changes to the settings.
        chance: The chance of the jobs.
    """

    s3: MemoryS3 = field(default_factory=MemoryS3)
    part_bytes: int = 5 << 20
    changes: dict[str, str] = field(
        default_factory=lambda: {"CALCULATION": "a + 1 AS b", "SCHEMA": "a=Int64", "PART_BYTES": "5MiB"}
    )
    chance: FakeChance = field(default_factory=FakeChance)
    max_reject_bytes: int = 1 << 30

    def context(self, **changes: str) -> JobContext:
        settings = Settings.read({**LEAST, **self.changes, **changes})
        around = replace(REAL, clock=self.s3.clock, chance=self.chance, open_input=self.s3.open_input)
        sources = {name: Store(name, self.s3) for name in settings.input_buckets}
        store = Store(OUTPUT, self.s3)
        notes = Cancellations(store, cancellations_prefix(settings), clock=self.s3.clock)
        return JobContext(
            settings,
            load_calculation(settings),
            sources,
            store,
            notes,
            PartSizes(self.part_bytes),
            "worker",
            0,
            self.max_reject_bytes,
            around,
        )

    def event(
        self, sequencer: str | None = "0055", *, etag: bool = True, key: str = KEY, bucket: str = INPUT
    ) -> ObjectCreated:
        """Return the event of the object that is there."""
        found = self.s3.objects[bucket, key]
        version = found.version if self.s3.versioned else None
        tag = found.etag.strip('"') if etag else None
        return ObjectCreated(bucket, key, version, tag, len(found.content), sequencer, None)

    def do(
        self,
        event: ObjectCreated | None = None,
        *,
        sent: int = SENT,
        again: bool = False,
        control: Free | None = None,
        owner: str = "",
        first_sent: int | None = None,
        **changes: str,
    ) -> Outcome:
        """Do a job, that of the object that is there if not told otherwise."""
        order = Order(event or self.event(), sent, 1, again, sent if first_sent is None else first_sent, owner)
        return do(self.context(**changes), order, control or Free())

    def identity(self, event: ObjectCreated | None = None, sent: int = SENT, **changes: str) -> JobIdentity:
        order = Order(event or self.event(), sent, 1, tried_before=False, first_sent=sent)
        return JobIdentity.from_order(self.context(**changes), order)

    @property
    def output(self) -> bytes | None:
        return self.s3.content(OUTPUT_KEY)

    @property
    def metadata(self) -> dict[str, str]:
        metadata: dict[str, str] = self.s3.objects[OUTPUT, OUTPUT_KEY].headers["Metadata"]
        return metadata

    def left(self) -> list[str]:
        """Return what a job that has ended may not leave."""
        return [*self.s3.uploads, *self.s3.keys("checkpoints/")]
