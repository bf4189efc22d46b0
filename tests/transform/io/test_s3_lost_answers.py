"""If an answer of S3 is lost, a run looks up what became of its object."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.example import BIG, BIG_TRANSFORMED, CALCULATION
from tests.support.places import OLD, ObjectPlace
from tests.support.proxy import Cut, Refuse
from transform import OutputError
from transform.io.outputs import Output

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.proxy import Fault, Proxy, Request

FIRST_PART = b"x" * (16 << 20)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Enough to be written in two parts."""
    path = tmp_path / "input.jsonl"
    path.write_bytes(BIG)
    return path


def write(target: str, *contents: bytes) -> None:
    """Publish some content."""
    with Output(target) as output:
        for content in contents:
            output.write(content)
        output.publish()


def nothing(place: ObjectPlace) -> None:
    place.s3.delete_object(Bucket=place.bucket, Key=place.key)


def an_old_one(place: ObjectPlace) -> None:
    place.put(OLD)


def one_of_another_run(place: ObjectPlace) -> None:
    write(place.target, FIRST_PART + b"of another")


@pytest.mark.parametrize("there", [nothing, an_old_one, one_of_another_run])
def test_an_upload_that_is_gone_fails_the_run_whatever_object_is_there(
    there: Callable[[ObjectPlace], None], place: ObjectPlace, proxy: Proxy
) -> None:
    there(place)
    before = place.content()
    gone = Refuse(404, "NoSuchUpload")
    proxy.rule = lambda request: gone if request.operation == "CompleteMultipartUpload" else None
    with pytest.raises(OutputError, match=f"^{place.target}: no such bucket or key"):
        write(place.target, FIRST_PART, b"rest")
    assert place.content() == before
    assert place.others() == []


def test_an_upload_that_is_gone_as_it_was_completed_is_a_success(
    place: ObjectPlace, source: Path, proxy: Proxy
) -> None:
    def rule(request: Request) -> Fault | None:
        if request.operation != "CompleteMultipartUpload":
            return None
        upload = {"Bucket": place.bucket, "Key": place.key, "UploadId": place.uploads()[0]}
        found = [
            {name: part[name] for name in ("PartNumber", "ETag")} for part in place.s3.list_parts(**upload)["Parts"]
        ]
        place.s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": found})
        return Refuse(404, "NoSuchUpload")

    proxy.rule = rule
    summary = CALCULATION.run(source, place.target)
    assert summary.target == place.target
    assert place.content() == BIG_TRANSFORMED
    assert place.others() == []
    assert proxy.count("AbortMultipartUpload") == 0


@pytest.mark.parametrize("contents", [(b"small",), (FIRST_PART, b"rest")], ids=["put", "completion"])
def test_an_object_that_appeared_though_the_answer_got_lost_is_a_success(
    contents: tuple[bytes, ...], place: ObjectPlace, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_MAX_ATTEMPTS")
    operation = "PutObject" if len(contents) == 1 else "CompleteMultipartUpload"

    def rule(request: Request) -> Fault | None:
        if request.operation != operation:
            return None
        if request.number == 1:
            return Cut(passed_on=True)
        return Refuse(404, "NoSuchUpload") if len(contents) > 1 else None

    proxy.rule = rule
    write(place.target, *contents)
    assert place.content() == b"".join(contents)
    assert place.others() == []
    assert proxy.count(operation) == 2


def test_a_part_whose_answer_got_lost_is_in_the_object_once(
    place: ObjectPlace, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_MAX_ATTEMPTS")
    proxy.rule = lambda request: (
        Cut(passed_on=True) if (request.operation, request.number) == ("UploadPart", 1) else None
    )
    write(place.target, FIRST_PART, b"rest")
    assert place.content() == FIRST_PART + b"rest"
    assert place.others() == []
