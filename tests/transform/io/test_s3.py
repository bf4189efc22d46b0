"""Objects are read as one version and published whole, or not at all, whatever S3 answers."""

from __future__ import annotations

import gzip
import json
import random
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from io import BytesIO
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from tests.conftest import environment_with
from tests.support.example import ARGUMENTS, BIG, BIG_TRANSFORMED, CALCULATION, held, lines, transformed, wait_until
from tests.support.places import OLD, ObjectPlace
from tests.support.proxy import Cut, Hold, Refuse, Shorten, proxy_of
from tests.support.tuned import Tuned
from transform import Calculation, InputError, OutputError, PartSizes
from transform.io import s3
from transform.io.chunks import CHUNK_BYTES
from transform.io.outputs import Output
from transform.io.s3_reader import READ_BYTES
from transform.io.sources import open_source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.conftest import Command, Start
    from tests.support.proxy import Fault, Proxy, Request

MIB = 1 << 20
COUNT, PAD_BYTES = 4500, 8000
"""34 MiB: two ranges of 16 MiB and a rest are read, two parts and a rest written."""


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("big") / "input.jsonl"
    path.write_bytes(lines(COUNT, PAD_BYTES))
    return path


@pytest.fixture(scope="module")
def expected() -> bytes:
    return transformed(COUNT, PAD_BYTES)


@pytest.fixture(scope="module")
def medium(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Just enough to be read in two ranges, and to be written in two parts."""
    path = tmp_path_factory.mktemp("medium") / "input.jsonl"
    path.write_bytes(BIG)
    return path


@pytest.fixture
def source(s3: Any, scratch: Path) -> ObjectPlace:
    """Where input comes from: another bucket."""
    s3.create_bucket(Bucket="input-" + scratch.name)
    return ObjectPlace(s3, "input-" + scratch.name, scratch, "some/input.jsonl")


@pytest.fixture
def proxy(aws: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy that what is tested goes through, and the test's own client does not."""
    with proxy_of(aws) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")  # s3fs tries again as well, and waits for less long
        yield proxy


def faulty(
    operation: str, fault: Fault, numbers: Callable[[int], bool] = lambda _number: True
) -> Callable[[Request], Fault | None]:
    """Return a rule under which some or all of the requests of an operation fail."""
    return lambda request: fault if request.operation == operation and numbers(request.number) else None


def test_a_file_becomes_an_object_of_several_parts(
    place: ObjectPlace, big: Path, proxy: Proxy, expected: bytes
) -> None:
    summary = CALCULATION.run(big, place.target)
    assert place.content() == expected
    assert (summary.target, summary.bytes_out) == (place.target, len(expected))
    assert place.others() == []
    sizes = sorted(request.size for request in proxy.requests if request.operation == "UploadPart")
    assert len(sizes) == 3
    assert sizes[1] >= 5 * MIB, "S3 refuses smaller ones, but for the last"
    assert proxy.count("PutObject") == 0


def test_parts_are_as_large_as_all_of_it_needs_them(
    place: ObjectPlace, big: Path, proxy: Proxy, expected: bytes
) -> None:
    sizes = PartSizes(16 * MIB, max_parts=1)  # as if the object was thousands of times as large
    with CALCULATION.stream(big) as stream, Output(place.target, lambda: stream.position, sizes) as output:
        for part in stream:
            for data in part.output:
                output.write(data)
        output.publish()
    assert place.content() == expected
    uploaded = [request.size for request in proxy.requests if request.operation == "UploadPart"]
    assert len(uploaded) == 2
    assert max(uploaded) > 20 * MIB, "which would be 16"


def test_an_object_becomes_a_file(
    source: ObjectPlace, big: Path, tmp_path: Path, proxy: Proxy, expected: bytes
) -> None:
    source.put(big.read_bytes())
    CALCULATION.run(source.target, tmp_path / "output")
    assert (tmp_path / "output").read_bytes() == expected
    size = big.stat().st_size
    # A range is what is asked for and as much more as is read ahead; but for the first, none is much smaller.
    most, least = -(-size // READ_BYTES), -(-size // (READ_BYTES + CHUNK_BYTES))
    assert least <= proxy.count("GetObject") <= most, "it is read in large ranges"


def test_an_object_becomes_an_object(source: ObjectPlace, place: ObjectPlace, big: Path, expected: bytes) -> None:
    source.put(big.read_bytes())
    progress: list[tuple[int, int | None]] = []
    CALCULATION.run(source.target, place.target, progress=lambda *numbers: progress.append(numbers))
    assert place.content() == expected
    assert place.others() == []
    assert progress[-1] == (big.stat().st_size, big.stat().st_size)


def test_a_filter_makes_no_parts_that_are_too_small(place: ObjectPlace, big: Path, proxy: Proxy) -> None:
    calculation = Calculation.from_sql(where="a > 400 AND (a < 420 OR a > 1200)")
    calculation.run(big, place.target)
    kept = [line for line in big.read_bytes().splitlines(keepends=True) if 400 < json.loads(line)["a"] < 420]
    kept += [line for line in big.read_bytes().splitlines(keepends=True) if json.loads(line)["a"] > 1200]
    assert place.content() == b"".join(kept)
    sizes = sorted(request.size for request in proxy.requests if request.operation == "UploadPart")
    assert len(sizes) > 1
    assert min(sizes[1:]) >= 5 * MIB, "all but the last"


def test_parts_are_uploaded_while_the_next_are_made(
    place: ObjectPlace, big: Path, proxy: Proxy, expected: bytes
) -> None:
    reached, late = threading.Event(), threading.Event()

    def rule(request: Request) -> Fault | None:
        if request.operation != "UploadPart":
            return None
        if request.number == 1:
            return Hold(reached, late)
        late.set()
        return None

    proxy.rule = rule
    CALCULATION.run(big, place.target)
    assert place.content() == expected


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_compressed_objects_are_read_and_written(suffix: str, source: ObjectPlace, place: ObjectPlace) -> None:
    source.put(gzip.compress(lines(2000)))
    target = place.target + suffix
    CALCULATION.run(source.target, target)
    found = ObjectPlace(place.s3, place.bucket, place.scratch, place.key + suffix).content()
    assert found is not None
    assert (gzip.decompress(found) if suffix else found) == transformed(2000)


@pytest.mark.parametrize(
    ("content", "where"),
    [(b"", ""), (b"\n \n", ""), (lines(3), "a < 0"), (lines(5000, PAD_BYTES), "a < 0")],
    ids=["empty input", "blank lines", "all filtered", "much filtered"],
)
def test_an_output_without_a_line_is_an_object_of_no_bytes(
    content: bytes, where: str, source: ObjectPlace, place: ObjectPlace, proxy: Proxy
) -> None:
    source.put(content)
    calculation = Calculation.from_sql("a + 1 AS b", where).with_schema({"a": pl.Int64()})
    calculation.run(source.target, place.target)
    assert place.content() == b""
    assert place.others() == []
    assert proxy.count("PutObject") == 1
    assert proxy.count("CreateMultipartUpload") == 0


@pytest.mark.slow
@pytest.mark.parametrize("size", [0, 1, 16 * MIB - 1, 16 * MIB, 16 * MIB + 1, 33 * MIB])
def test_objects_of_every_size_are_read_whole(size: int, source: ObjectPlace, proxy: Proxy) -> None:
    content = random.Random(size).randbytes(size)
    source.put(content)
    read, view = bytearray(), memoryview(bytearray(3 * MIB))
    with open_source(source.target) as reader:
        assert reader.size == size
        while count := reader.read_into(view):
            read += view[:count]
        reader.check_whole()
    assert bytes(read) == content
    assert proxy.count("GetObject") <= 4


KEYS = (
    "a b",
    "ü/名.jsonl",
    "a//b",
    "/a",
    "a/./b",
    "a+b%20c",
    "a#b",
    "a?b=c&d",
    "*[x]{y}",
    "a:b@c",
    "~\\'\"",
    "<&>",
    "s3://x/y",
)


@pytest.mark.parametrize("key", KEYS)
def test_a_key_may_be_anything(key: str, s3: Any, bucket: str, scratch: Path) -> None:
    source, target = ObjectPlace(s3, bucket, scratch, key), ObjectPlace(s3, bucket, scratch, key + " out")
    source.put(lines(3))
    CALCULATION.run(source.target, target.target)
    assert target.content() == transformed(3)
    assert source.others() == [target.key]


def test_an_object_is_never_its_own_output(source: ObjectPlace) -> None:
    source.put(lines(3))
    with pytest.raises(OutputError, match=rf"the output is the input: {source.target}\."):
        CALCULATION.run(source.target, source.target)
    assert source.content() == lines(3)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("s3://{bucket}/missing", "no such bucket or key"),
        ("s3://no-bucket-of-this-name/key", "no such bucket or key"),
        ("s3://{bucket}", r"expected s3://BUCKET/KEY$"),
        ("s3://{bucket}/", r"expected s3://BUCKET/KEY$"),
        ("s3://{bucket}/folder/", r"expected s3://BUCKET/KEY$"),
        ("s3://", r"expected s3://BUCKET/KEY$"),
        ("s3:///key", r"expected s3://BUCKET/KEY$"),
        ("s3://{bucket}/key?versionId=1", "keys that hold `.versionId=` are not supported"),
        ("s3://No_Bucket!/key", "nvalid bucket name"),
    ],
)
def test_a_place_that_is_none_is_an_error_in_one_line(
    uri: str, message: str, place: ObjectPlace, tmp_path: Path
) -> None:
    uri = uri.format(bucket=place.bucket)
    with pytest.raises(InputError, match=message) as caught:
        CALCULATION.run(uri, place.target)
    assert str(caught.value).startswith(f"{uri}: ")
    assert "\n" not in str(caught.value)
    assert place.content() == OLD
    assert place.others() == []
    if "missing" in uri:  # which is no mistake where it is the output
        return
    (tmp_path / "input").write_bytes(lines(3))
    with pytest.raises(OutputError, match=message) as caught_too:
        CALCULATION.run(tmp_path / "input", uri)
    assert str(caught_too.value).startswith(f"{uri}: ")
    assert "\n" not in str(caught_too.value)


def test_the_command_says_in_one_line_what_is_missing(process: Command, place: ObjectPlace) -> None:
    done = process("run", f"s3://{place.bucket}/missing", place.target, *ARGUMENTS)
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.startswith(f"transform: s3://{place.bucket}/missing: no such bucket or key".encode())
    assert done.stderr.count(b"\n") == 1


def test_missing_credentials_are_an_error_in_one_line(process: Command, place: ObjectPlace, tmp_path: Path) -> None:
    env = {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None, "HOME": str(tmp_path)}
    done = process("run", "-", place.target, *ARGUMENTS, stdin=lines(3), env=env)
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.decode() == (
        f"transform: {place.target}: no AWS credentials found. "
        "Set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.\n"
    )
    assert place.content() == OLD


def second(number: int) -> bool:
    return number == 2


def from_second(number: int) -> bool:
    return number >= 2


DENIED, BROKEN, CUT = Refuse(403, "AccessDenied"), Refuse(500, "InternalError"), Cut(passed_on=False)
FAILURES = {
    "start denied": faulty("CreateMultipartUpload", DENIED),
    "start broken": faulty("CreateMultipartUpload", BROKEN),
    "first part denied": faulty("UploadPart", DENIED),
    "second part denied": faulty("UploadPart", DENIED, second),
    "parts broken": faulty("UploadPart", BROKEN),
    "parts slowed down": faulty("UploadPart", Refuse(503, "SlowDown"), from_second),
    "parts cut": faulty("UploadPart", CUT, from_second),
    "part's answer lost": faulty("UploadPart", Cut(passed_on=True), from_second),
    "upload gone": faulty("UploadPart", Refuse(404, "NoSuchUpload"), from_second),
    "completion denied": faulty("CompleteMultipartUpload", DENIED),
    "completion broken": faulty("CompleteMultipartUpload", BROKEN),
    "completion broken in a good answer": faulty("CompleteMultipartUpload", Refuse(200, "InternalError")),
    "completion cut": faulty("CompleteMultipartUpload", CUT),
    "part too small": faulty("CompleteMultipartUpload", Refuse(400, "EntityTooSmall")),
}


@pytest.mark.slow
@pytest.mark.parametrize("failure", FAILURES)
def test_where_s3_fails_for_good_the_old_object_stays(
    failure: str, place: ObjectPlace, medium: Path, proxy: Proxy
) -> None:
    proxy.rule = FAILURES[failure]
    with pytest.raises(OutputError, match=f"^{place.target}: ") as caught:
        CALCULATION.run(medium, place.target)
    assert "\n" not in str(caught.value)
    assert place.content() == OLD
    assert place.others() == []


@pytest.mark.parametrize("fault", [DENIED, BROKEN, CUT], ids=repr)
def test_where_a_small_object_cannot_be_put_the_old_one_stays(
    fault: Fault, place: ObjectPlace, tmp_path: Path, proxy: Proxy
) -> None:
    (tmp_path / "input").write_bytes(lines(3))
    proxy.rule = faulty("PutObject", fault)
    with pytest.raises(OutputError, match=f"^{place.target}: "):
        CALCULATION.run(tmp_path / "input", place.target)
    assert place.content() == OLD
    assert place.others() == []


PASSING: dict[str, tuple[str, Fault]] = {
    "start broken": ("CreateMultipartUpload", BROKEN),
    "part broken": ("UploadPart", BROKEN),
    "part slowed down": ("UploadPart", Refuse(503, "SlowDown")),
    "part cut": ("UploadPart", CUT),
    "part's answer lost": ("UploadPart", Cut(passed_on=True)),
    "completion broken": ("CompleteMultipartUpload", BROKEN),
    "completion broken in a good answer": ("CompleteMultipartUpload", Refuse(200, "InternalError")),
    "completion cut": ("CompleteMultipartUpload", CUT),
    "completion's answer lost": ("CompleteMultipartUpload", Cut(passed_on=True)),
    "read broken": ("GetObject", BROKEN),
    "read cut": ("GetObject", CUT),
    "read cut short": ("GetObject", Shorten(honest=True)),
}


@pytest.mark.parametrize("failure", PASSING)
def test_what_fails_once_is_tried_again(
    failure: str,
    source: ObjectPlace,
    place: ObjectPlace,
    medium: Path,
    proxy: Proxy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    operation, fault = PASSING[failure]
    monkeypatch.delenv("AWS_MAX_ATTEMPTS")
    proxy.rule = faulty(operation, fault, lambda number: number == 1)
    if operation == "GetObject":
        source.put(BIG)
        CALCULATION.run(source.target, tmp_path / "output")
        assert (tmp_path / "output").read_bytes() == BIG_TRANSFORMED
    else:
        CALCULATION.run(medium, place.target)
        assert place.content() == BIG_TRANSFORMED
        assert place.others() == []
    assert proxy.count(operation) > 1


def test_a_completion_whose_answer_got_lost_is_settled_by_looking(
    place: ObjectPlace, medium: Path, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_MAX_ATTEMPTS")
    lost = {1: Cut(passed_on=True)}
    proxy.rule = lambda request: (
        lost.get(request.number, Refuse(404, "NoSuchUpload"))
        if request.operation == "CompleteMultipartUpload"
        else None
    )
    CALCULATION.run(medium, place.target)
    assert place.content() == BIG_TRANSFORMED
    assert place.others() == []


READ_FAILURES: dict[str, Any] = {
    "denied": faulty("GetObject", DENIED, second),
    "broken": faulty("GetObject", BROKEN, from_second),
    "cut": faulty("GetObject", CUT, from_second),
    "cut short": faulty("GetObject", Shorten(honest=True), from_second),
    "cut short without a word": faulty("GetObject", Shorten(honest=False), from_second),
    "gone": faulty("GetObject", Refuse(404, "NoSuchKey"), second),
    "expired credentials": faulty("GetObject", Refuse(400, "ExpiredToken"), from_second),
}


@pytest.mark.slow
@pytest.mark.parametrize("failure", READ_FAILURES)
def test_where_the_input_cannot_be_read_on_nothing_is_published(
    failure: str, source: ObjectPlace, proxy: Proxy, tmp_path: Path
) -> None:
    source.put(BIG)
    (tmp_path / "output").write_bytes(OLD)
    proxy.rule = READ_FAILURES[failure]
    with pytest.raises(InputError, match=f"^{source.target}: ") as caught:
        CALCULATION.run(source.target, tmp_path / "output", rejects=tmp_path / "rejects")
    assert "\n" not in str(caught.value)
    assert (tmp_path / "output").read_bytes() == OLD
    assert source.others() == []


def other_content(source: ObjectPlace, content: bytes) -> None:
    source.put(content.replace(b"x", b"y"))


def same_content(source: ObjectPlace, content: bytes) -> None:
    source.put(content + b"\n")
    source.put(content)


def longer(source: ObjectPlace, content: bytes) -> None:
    source.put(content + lines(1))


def shorter(source: ObjectPlace, _content: bytes) -> None:
    source.put(lines(1))


def deleted(source: ObjectPlace, _content: bytes) -> None:
    source.s3.delete_object(Bucket=source.bucket, Key=source.key)


@pytest.mark.parametrize("change", [other_content, longer, shorter, deleted])
def test_an_object_that_is_overwritten_between_two_ranges_fails_the_run(
    change: Callable[[ObjectPlace, bytes], None], source: ObjectPlace, place: ObjectPlace, medium: Path
) -> None:
    content = medium.read_bytes()
    source.put(content)
    calls = 0

    def progress(_done: int, _total: int | None) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            change(source, content)

    how = "vanished" if change is deleted else "changed"
    message = f"{how} while it was read; nothing was published"
    with pytest.raises(InputError, match=f"^{source.target}: {message}"):
        CALCULATION.run(source.target, place.target, progress=progress)
    assert place.content() == OLD
    assert place.others() == []


WAITING = Tuned(CALCULATION)
"""A worker process takes half of the ranges, however small they are."""


def test_an_object_is_read_by_several_processes(source: ObjectPlace, place: ObjectPlace, proxy: Proxy) -> None:
    source.put(BIG)
    WAITING.run(source.target, place.target, workers=2, range_bytes=MIB)
    assert place.content() == BIG_TRANSFORMED
    assert place.others() == []
    assert proxy.count("GetObject") >= 3, "each process reads it for itself"


@pytest.mark.parametrize(
    "change", [other_content, deleted, *(pytest.param(change, marks=pytest.mark.slow) for change in (longer, shorter))]
)
def test_an_object_that_is_overwritten_while_several_processes_read_it_fails_the_run(
    change: Callable[[ObjectPlace, bytes], None],
    source: ObjectPlace,
    place: ObjectPlace,
) -> None:
    source.put(BIG)
    changes = [change]

    def progress(_done: int, _total: int | None) -> None:
        while changes:
            changes.pop()(source, BIG)

    with pytest.raises(InputError, match=f"^{source.target}: "):
        WAITING.run(source.target, place.target, progress=progress, workers=2, range_bytes=MIB)
    assert place.content() == OLD
    assert place.others() == []


def test_an_object_that_is_overwritten_with_itself_is_fine(
    source: ObjectPlace, place: ObjectPlace, medium: Path
) -> None:
    content = medium.read_bytes()
    source.put(content)
    changes = [same_content]

    def progress(_done: int, _total: int | None) -> None:
        while changes:
            changes.pop()(source, content)

    CALCULATION.run(source.target, place.target, progress=progress)
    assert place.content() == BIG_TRANSFORMED


def test_who_may_write_but_not_list_can_write(place: ObjectPlace, tmp_path: Path, proxy: Proxy) -> None:
    (tmp_path / "input").write_bytes(lines(3))
    proxy.rule = faulty("HeadBucket", Refuse(403, "AccessDenied"))
    CALCULATION.run(tmp_path / "input", place.target)
    assert place.content() == transformed(3)


def test_who_may_write_but_not_list_can_write_without_rejects(place: ObjectPlace, tmp_path: Path, proxy: Proxy) -> None:
    (tmp_path / "input").write_bytes(lines(3))
    # Without s3:ListBucket, S3 says of what is not there that it is forbidden.
    proxy.rule = faulty("HeadObject", Refuse(403, "AccessDenied"))
    CALCULATION.run(tmp_path / "input", place.target)
    assert place.content() == transformed(3)


def unreachable_from(operation: str) -> Callable[[Request], Fault | None]:
    """Return a rule under which nothing gets through any more once an operation has been asked for."""
    gone = threading.Event()

    def rule(request: Request) -> Fault | None:
        if request.operation == operation:
            gone.set()
        return CUT if gone.is_set() else None

    return rule


@pytest.mark.slow
def test_an_upload_that_could_not_be_aborted_is_swept_by_the_next_process(
    place: ObjectPlace, medium: Path, tmp_path: Path, proxy: Proxy, process: Command
) -> None:
    proxy.rule = unreachable_from("UploadPart")
    done = process("run", medium, place.target, *ARGUMENTS)
    assert done.returncode == 1
    assert done.stderr.count(b"\n") == 1
    assert place.content() == OLD
    assert len(place.uploads()) == 1
    proxy.rule = lambda _request: None
    (tmp_path / "input").write_bytes(lines(3))
    CALCULATION.run(tmp_path / "input", place.target)
    assert place.content() == transformed(3)
    assert place.others() == []


@pytest.mark.slow
def test_an_upload_that_could_not_be_aborted_is_swept_by_the_next_run_of_the_process(
    place: ObjectPlace, medium: Path, tmp_path: Path, proxy: Proxy
) -> None:
    proxy.rule = unreachable_from("UploadPart")
    with pytest.raises(OutputError):
        CALCULATION.run(medium, place.target)
    proxy.rule = lambda _request: None
    (tmp_path / "input").write_bytes(lines(3))
    CALCULATION.run(tmp_path / "input", place.target)
    assert place.others() == []


def kill_one(start: Start, place: ObjectPlace) -> None:
    """Leave behind what a killed run does."""
    process = held(start, place)
    process.kill()
    process.wait()
    assert len(place.uploads()) == 1


def test_a_leftover_whose_upload_is_gone_is_forgotten(place: ObjectPlace, start: Start, tmp_path: Path) -> None:
    kill_one(start, place)
    place.s3.abort_multipart_upload(Bucket=place.bucket, Key=place.key, UploadId=place.uploads()[0])
    (tmp_path / "input").write_bytes(lines(3))
    CALCULATION.run(tmp_path / "input", place.target)
    assert place.content() == transformed(3)
    assert place.others() == []


def test_a_leftover_that_may_not_be_swept_does_not_stop_the_next_run(
    place: ObjectPlace, start: Start, tmp_path: Path, proxy: Proxy
) -> None:
    kill_one(start, place)
    proxy.rule = faulty("AbortMultipartUpload", DENIED)
    (tmp_path / "input").write_bytes(lines(3))
    CALCULATION.run(tmp_path / "input", place.target)
    assert place.content() == transformed(3)
    proxy.rule = lambda _request: None
    CALCULATION.run(tmp_path / "input", place.target)
    assert place.others() == []


def test_leftovers_in_another_bucket_wait_for_a_run_to_that_bucket(
    source: ObjectPlace, place: ObjectPlace, start: Start, tmp_path: Path
) -> None:
    kill_one(start, place)
    (tmp_path / "input").write_bytes(lines(3))
    CALCULATION.run(tmp_path / "input", source.target)
    assert len(place.uploads()) == 1
    CALCULATION.run(tmp_path / "input", place.target + ".other")
    assert place.others() == [place.key + ".other"]


@contextmanager
def interrupted_in(
    operation: str, medium: Path, place: ObjectPlace, proxy: Proxy, start: Start
) -> Iterator[tuple[int, bytes]]:
    """Interrupt a run while it waits for an answer that S3 has on its way; yield how that ended."""
    passed_on, until = threading.Event(), threading.Event()
    proxy.rule = faulty(operation, Hold(passed_on, until))
    process = start("run", medium, place.target, *ARGUMENTS)
    try:
        wait_until(passed_on.is_set)
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):  # it may wait for the answer, which is a good thing to do
            process.wait(3)
        until.set()
        _, errors = process.communicate(timeout=30)
        yield process.returncode, errors
    finally:
        until.set()


@pytest.mark.slow
def test_an_interrupt_while_an_upload_is_started_leaves_none_open(
    place: ObjectPlace, medium: Path, proxy: Proxy, start: Start
) -> None:
    with interrupted_in("CreateMultipartUpload", medium, place, proxy, start) as (status, errors):
        assert status == 130
        assert b"Traceback" not in errors
        assert place.content() == OLD
        assert place.others() == []


@pytest.mark.slow
def test_an_interrupt_while_a_part_is_sent_leaves_nothing(
    place: ObjectPlace, medium: Path, proxy: Proxy, start: Start
) -> None:
    with interrupted_in("UploadPart", medium, place, proxy, start) as (status, errors):
        assert status == 130
        assert b"Traceback" not in errors
        assert place.content() == OLD
        assert place.others() == []


@pytest.mark.slow
@pytest.mark.parametrize("operation", ["CompleteMultipartUpload", "PutObject"])
def test_an_interrupt_while_the_object_is_published_tells_what_became_of_it(
    operation: str, place: ObjectPlace, medium: Path, proxy: Proxy, start: Start, tmp_path: Path
) -> None:
    if operation == "PutObject":
        medium = tmp_path / "small"
        medium.write_bytes(lines(COUNT // 100, PAD_BYTES))
    with interrupted_in(operation, medium, place, proxy, start) as (status, errors):
        assert b"Traceback" not in errors
        if status == 130:
            assert place.content() == OLD
        else:
            assert (status, errors) == (0, b"")
        assert place.others() == []


def test_parts_are_sent_from_where_they_are(place: ObjectPlace, big: Path, expected: bytes) -> None:
    sent: list[bytes] = []

    class Spied(BytesIO):
        """Stands for the stream that is sent, and has it asked for its buffer."""

        def __init__(self, stream: BytesIO) -> None:
            super().__init__(stream.getvalue())
            self._stream = stream

        def getbuffer(self) -> memoryview:
            buffer = self._stream.getbuffer()
            assert isinstance(buffer.obj, bytes), "or it is a copy"
            sent.append(buffer.obj)
            return buffer

    def spy(params: dict[str, Any], **_: object) -> None:
        params["Body"] = Spied(params["Body"])

    events = s3.filesystem().s3.meta.events  # which all have in common that use the endpoint
    events.register_last("before-parameter-build.s3.UploadPart", spy)
    try:
        CALCULATION.run(big, place.target)
    finally:
        events.unregister("before-parameter-build.s3.UploadPart", spy)
    assert sum(map(len, sent)) == len(expected)
    assert place.content() == expected


MEMORY = """
import resource, sys
from tests.support.example import CALCULATION

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

CALCULATION.run(sys.argv[1], sys.argv[3])
before = peak()
CALCULATION.run(sys.argv[2], sys.argv[3])
print(peak() - before)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_object(source: ObjectPlace, place: ObjectPlace) -> None:
    larger = ObjectPlace(source.s3, source.bucket, source.scratch, "larger")
    source.put(lines(8_000, PAD_BYTES))  # 61 MiB
    larger.put(lines(40_000, PAD_BYTES))  # 305 MiB
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, source.target, larger.target, place.target],
        capture_output=True,
        env=environment_with({}),
        check=True,
    )
    assert int(done.stdout) < 32 * MIB


@pytest.mark.slow
def test_who_interrupts_again_and_again_does_not_wait_for_s3(
    place: ObjectPlace, medium: Path, proxy: Proxy, start: Start
) -> None:
    passed_on, until = threading.Event(), threading.Event()
    proxy.rule = faulty("UploadPart", Hold(passed_on, until))
    process = start("run", medium, place.target, *ARGUMENTS)
    try:
        wait_until(passed_on.is_set)
        process.send_signal(signal.SIGINT)
        for _ in range(2):
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(1)  # for the part on its way, which could outlive the upload
            process.send_signal(signal.SIGINT)
        process.wait(10)
        assert process.returncode == 130
    finally:
        until.set()
