"""Where an output can go, and what is there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from pathlib import Path

OLD = b"what an earlier run has published\n"


class Place(Protocol):
    """Where output goes, and what is there."""

    target: str

    def put(self, content: bytes) -> None:
        """Put an output of an earlier run there."""

    def content(self) -> bytes | None:
        """Return the output, None if there is none."""

    def begun(self) -> int:
        """Return how many runs have written something that is not published."""

    def others(self) -> list[object]:
        """Return what there is but the output."""


class FilePlace:
    """A file in a directory where nothing else should be."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.target = str(path)

    def put(self, content: bytes) -> None:
        self.path.write_bytes(content)

    def content(self) -> bytes | None:
        return self.path.read_bytes() if self.path.exists() else None

    def begun(self) -> int:
        return sum(path.stat().st_size > 0 for path in self.path.parent.glob(".transform-*"))

    def others(self) -> list[object]:
        return [path for path in self.path.parent.iterdir() if path != self.path]


class ObjectPlace:
    """An object in a bucket where nothing else should be; `scratch` is where runs note what they have open."""

    def __init__(self, s3: Any, bucket: str, scratch: Path, key: str = "some/output.jsonl") -> None:
        self.s3, self.scratch = s3, scratch
        self.bucket, self.key = bucket, key
        self.target = f"s3://{bucket}/{key}"

    def put(self, content: bytes) -> None:
        self.s3.put_object(Bucket=self.bucket, Key=self.key, Body=content)

    def content(self) -> bytes | None:
        try:
            body: bytes = self.s3.get_object(Bucket=self.bucket, Key=self.key)["Body"].read()
        except self.s3.exceptions.NoSuchKey:
            return None
        return body

    def begun(self) -> int:
        return len(self.uploads())

    def others(self) -> list[object]:
        keys = [found["Key"] for found in self.s3.list_objects_v2(Bucket=self.bucket).get("Contents", [])]
        notes = [path for path in self.scratch.rglob("*") if path.is_file()]
        return [*self.uploads(), *notes, *(key for key in keys if key != self.key)]

    def uploads(self) -> list[str]:
        """Return the multipart uploads that are open."""
        found = self.s3.list_multipart_uploads(Bucket=self.bucket).get("Uploads", [])
        return [upload["UploadId"] for upload in found]
