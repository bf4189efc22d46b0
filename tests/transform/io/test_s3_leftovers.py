"""An upload that a run could not abort is on record on this machine, and the next run that may aborts it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.places import OLD, ObjectPlace
from tests.support.proxy import Refuse
from transform.io.outputs import Output

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.proxy import Fault, Proxy, Request

PART = b"x" * (16 << 20)


def records(place: ObjectPlace) -> list[Path]:
    """Return where it is noted which uploads are open."""
    return [path for path in place.scratch.rglob("*") if path.is_file()]


def left_open(place: ObjectPlace) -> tuple[int, int]:
    """Return how many uploads are open, and how many are on record."""
    return len(place.uploads()), len(records(place))


def write(target: str, content: bytes) -> None:
    """Publish some content."""
    with Output(target) as output:
        output.write(content)
        output.publish()


def write_until(error: BaseException, target: str) -> None:
    """Upload a part, and then be stopped by an error."""
    with Output(target) as output:
        output.write(PART)
        raise error


def no_abort(request: Request) -> Fault | None:
    return Refuse(403, "AccessDenied") if request.operation == "AbortMultipartUpload" else None


def leave_one(place: ObjectPlace, proxy: Proxy) -> None:
    """Leave an upload open."""
    proxy.rule = no_abort
    error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt) as caught:
        write_until(error, place.target)
    assert caught.value is error, "what stopped the run is reported, not that the abort failed"
    assert left_open(place) == (1, 1)
    proxy.rule = lambda _request: None


def test_an_upload_is_on_record_exactly_while_it_is_open(place: ObjectPlace) -> None:
    with Output(place.target) as output:
        assert records(place) == []
        output.write(PART)
        (record,) = records(place)
        assert place.uploads()[0] in record.read_text()
        output.publish()
        assert left_open(place) == (0, 0)


def test_the_record_is_there_before_the_upload_is(place: ObjectPlace, proxy: Proxy) -> None:
    seen: list[int] = []

    def rule(request: Request) -> Fault | None:
        if request.operation == "CreateMultipartUpload":
            seen.append(len(records(place)))
        return None

    proxy.rule = rule
    write(place.target, PART)
    assert seen == [1], "or a directory that cannot be written to would show when it is too late"


def test_an_upload_that_could_not_be_aborted_is_swept_by_the_next_run(place: ObjectPlace, proxy: Proxy) -> None:
    leave_one(place, proxy)
    write(place.target + ".other", b"new")
    assert place.content() == OLD
    assert place.others() == [place.key + ".other"]


def test_a_record_stays_until_the_abort_succeeds(place: ObjectPlace, proxy: Proxy) -> None:
    leave_one(place, proxy)
    proxy.rule = no_abort
    for _ in range(2):
        write(place.target, b"new")
        assert left_open(place) == (1, 1)
    proxy.rule = lambda _request: None
    write(place.target, b"newer")
    assert place.content() == b"newer"
    assert place.others() == []


def test_an_upload_at_another_endpoint_is_left_to_a_run_there(
    place: ObjectPlace, proxy: Proxy, aws: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_one(place, proxy)
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws)
    write(place.target, b"new")
    assert left_open(place) == (1, 1)
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
    write(place.target, b"new")
    assert left_open(place) == (0, 0)


def test_an_upload_to_another_bucket_is_left_to_a_run_there(place: ObjectPlace, proxy: Proxy) -> None:
    leave_one(place, proxy)
    other = f"{place.bucket}-other"
    place.s3.create_bucket(Bucket=other)
    write(f"s3://{other}/{place.key}", b"new")
    assert left_open(place) == (1, 1)
    write(place.target, b"new")
    assert left_open(place) == (0, 0)


def test_a_record_of_an_upload_that_is_gone_is_removed(place: ObjectPlace, proxy: Proxy) -> None:
    leave_one(place, proxy)
    place.s3.abort_multipart_upload(Bucket=place.bucket, Key=place.key, UploadId=place.uploads()[0])
    write(place.target, b"new")
    assert left_open(place) == (0, 0)


@pytest.mark.parametrize("kept", [0, 10], ids=["empty", "cut short"])
def test_a_record_that_is_not_whole_is_removed(kept: int, place: ObjectPlace) -> None:
    with Output(place.target) as output:
        output.write(PART)
        (record,) = records(place)
        other = record.with_name(record.name.replace(".tmp", "0.tmp"))  # as a process that was killed leaves it
        other.write_bytes(record.read_bytes()[:kept])
        write(place.target, b"new")
        assert records(place) == [record]


def test_an_upload_that_is_under_way_is_not_swept(place: ObjectPlace) -> None:
    with Output(place.target) as output:
        output.write(PART)
        write(place.target, PART + b"of another")
        assert place.content() == PART + b"of another"
        assert left_open(place) == (1, 1)
        output.publish()
    assert place.content() == PART
    assert place.others() == []
