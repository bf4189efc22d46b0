"""An object is read as one version, in a few large ranges, whatever S3 answers, and nothing goes on unseen."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import signal
import threading
from collections import Counter
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.example import CALCULATION, lines, transformed, wait_until
from tests.support.places import ObjectPlace
from tests.support.proxy import Cut, Damage, Hold, Refuse, Shorten, proxy_of
from tests.support.tuned import Tuned
from transform import (
    AccessDeniedError,
    InputError,
    OutputError,
    S3Object,
    SourceChangedError,
    UnavailableError,
)
from transform._process import defer_interrupts
from transform.decode.rejects import NO_REJECTS, ChunkResult
from transform.engine.threads import AHEAD, Threads
from transform.io import s3_reader
from transform.io.chunks import Chunk, LongLine
from transform.io.ranges import Range, cut, prefetch_range, read_range
from transform.io.s3 import filesystem, is_uri
from transform.io.s3_reader import READ_OPTIONS, Answer, Block, BlockFetcher, ObjectReader, ReadOptions
from transform.io.sources import InputVersion, Position, open_source, open_version, reopenable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.proxy import Fault, Proxy, Request

READ_BYTES, TAIL_BYTES = 1000, 100
TYPE = "application/octet-stream"
BLOCK_BYTES = READ_BYTES + TAIL_BYTES
CONTENT = random.Random(1).randbytes(5 * BLOCK_BYTES + 17)
DENIED, BROKEN, CUT = Refuse(403, "AccessDenied"), Refuse(500, "InternalError"), Cut(passed_on=False)
SHORT = (Shorten(honest=True), Shorten(honest=False))


class Waits(list[float]):
    """The waits that were asked for, in seconds; none of them takes any time."""

    async def sleep(self, seconds: float) -> None:
        self.append(seconds)


OPTIONS = ReadOptions(READ_BYTES, TAIL_BYTES, sleep=Waits().sleep)


def opened(location: str | S3Object, start: int = 0, options: ReadOptions = OPTIONS) -> ObjectReader:
    """Return a reader in small ranges, which loses no time between two tries."""
    return ObjectReader.open(location, start, options)


@pytest.fixture
def place(s3: Any, bucket: str, scratch: Path) -> ObjectPlace:
    place = ObjectPlace(s3, bucket, scratch, "some/input")
    place.put(CONTENT)
    return place


@pytest.fixture
def proxy(aws: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy that what is tested goes through, and the test's own client does not."""
    with proxy_of(aws) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        send_once(monkeypatch)
        filesystem().read_timeout = 600
        yield proxy


def send_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have botocore and s3fs send each request once, to the endpoint in force: otherwise they try again as well."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    filesystem().retries = 1


def of_some(fault: Fault, numbers: Callable[[int], bool] = lambda _number: True) -> Callable[[Request], Fault | None]:
    """Return a rule under which some or all reads of an object fail."""
    return lambda request: fault if request.operation == "GetObject" and numbers(request.number) else None


def version_of(place: ObjectPlace) -> S3Object:
    """Return an object as the version that is there."""
    return S3Object(place.bucket, place.key, place.s3.head_object(Bucket=place.bucket, Key=place.key)["ETag"][1:-1])


def rest_of(reader: ObjectReader, view_bytes: int = 300) -> bytes:
    content, view = bytearray(), memoryview(bytearray(view_bytes))
    while count := reader.readinto(view):
        content += view[:count]
    return bytes(content)


def ranges(proxy: Proxy) -> list[str]:
    """Return which ranges were asked for, from the first to the last: several are at a time, in any request."""
    asked = [request for request in proxy.requests if request.operation == "GetObject"]
    return [request.range.removeprefix("bytes=") for request in sorted(asked, key=lambda asked: asked.first_byte)]


def going_on() -> int:
    """Return how many reads are under way."""
    tasks = asyncio.all_tasks(filesystem().loop)
    return sum(s3_reader.__file__ in repr(task) for task in tasks)


def wait_for_no_reads() -> None:
    """Return once no read is under way; one that is not answered would go on for longer than is waited for here."""
    wait_until(lambda: going_on() == 0)


# --- what is asked for ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("blocks", [1, 2, 5])
@pytest.mark.parametrize("more", [-1, 0, 1])
def test_ranges_follow_one_another_and_stop_at_the_end(
    blocks: int, more: int, place: ObjectPlace, proxy: Proxy
) -> None:
    content = CONTENT[: blocks * BLOCK_BYTES + more]
    place.put(content)
    reader = opened(place.target)
    assert (reader.size, reader.headers["ContentType"]) == (len(content), TYPE)
    assert rest_of(reader) == content
    reader.close()
    expected = [f"{start}-{start + BLOCK_BYTES - 1}" for start in range(0, len(content), BLOCK_BYTES)]
    assert ranges(proxy) == expected
    assert len(proxy.requests) == len(expected) + 1, "and its checksum is asked for"


@pytest.mark.parametrize("start", [1, BLOCK_BYTES, BLOCK_BYTES + 1, len(CONTENT) - 1])
@pytest.mark.parametrize("pinned", [False, True])
def test_what_is_read_from_an_offset_on_is_asked_for_from_there_on(
    start: int, pinned: bool, place: ObjectPlace, proxy: Proxy
) -> None:
    reader = opened(version_of(place) if pinned else place.target, start)
    assert (reader.size, rest_of(reader)) == (len(CONTENT), CONTENT[start:])
    assert ranges(proxy) == [f"{at}-{at + BLOCK_BYTES - 1}" for at in range(start, len(CONTENT), BLOCK_BYTES)]
    assert len(proxy.requests) == len(ranges(proxy)) + 1, "and its checksum is asked for"


@pytest.mark.parametrize("start", [1, len(CONTENT) - 1])
@pytest.mark.parametrize("pinned", [False, True])
def test_a_source_is_read_from_an_offset_on_in_large_ranges(
    start: int, pinned: bool, place: ObjectPlace, proxy: Proxy
) -> None:
    location = version_of(place) if pinned else place.target
    with open_source(location, Position(start, None)) as reader:
        assert (reader.position, reader.size) == (start, len(CONTENT))
        content, view = bytearray(), memoryview(bytearray(300))
        while count := reader.read_into(view):
            content += view[:count]
        reader.check_whole()
    assert bytes(content) == CONTENT[start:]
    assert ranges(proxy) == [f"{start}-{start + (16 << 20) + (64 << 10) - 1}"]
    assert len(proxy.requests) == 2, "one for its checksum"


@pytest.mark.parametrize("pinned", [False, True])
def test_at_the_end_there_is_nothing_to_read(pinned: bool, place: ObjectPlace, proxy: Proxy) -> None:
    location = version_of(place) if pinned else place.target
    with open_source(location, Position(len(CONTENT), None)) as reader:
        assert reader.read_into(memoryview(bytearray(10))) == 0
        assert reader.headers["ContentType"] == TYPE
        reader.check_whole()
    assert [request.operation for request in proxy.requests] == ["GetObject", "HeadObject"]


def test_an_empty_object_is_read(place: ObjectPlace, proxy: Proxy) -> None:
    place.put(b"")
    for location in (place.target, version_of(place)):
        for rule in (lambda _request: None, of_some(Refuse(416, "InvalidRange"))):  # which AWS answers
            proxy.rule = rule
            reader = opened(location)
            assert (reader.size, reader.etag, rest_of(reader)) == (0, version_of(place).etag, b"")
            reader.close()


def of_version(place: ObjectPlace, size: int) -> ObjectReader:
    """Return a reader in small ranges of the version that is there, as others open what somebody has opened."""
    return ObjectReader.from_version(version_of(place), size, OPTIONS)


def test_a_version_that_is_known_is_not_asked_for_before_it_is_read(place: ObjectPlace, proxy: Proxy) -> None:
    version = InputVersion(place.target, (version_of(place).etag, len(CONTENT)))
    view = memoryview(bytearray(100))
    with open_version(version) as anywhere:
        assert proxy.requests == []
        assert anywhere.read_at(view, 7) == 100
    assert view == CONTENT[7:107]
    assert ranges(proxy) == [f"7-{7 + (16 << 20) + (64 << 10) - 1}"]
    assert len(proxy.requests) == 1


def test_ranges_that_others_share_take_a_request_each(place: ObjectPlace, proxy: Proxy) -> None:
    content = lines(400)
    place.put(content)
    parts = list(cut(0, len(content), lambda: READ_BYTES))
    assert len(parts) > 5
    found = b""
    readers = [of_version(place, len(content)) for _ in range(2)]
    assert proxy.requests == [], "what is known need not be asked for"
    for number, part in enumerate(parts):
        for chunk in read_range(readers[number % 2], part, 300, 500):
            assert isinstance(chunk, Chunk)
            found += chunk.data
    assert found == content
    starts = [max(part.start - 1, 0) for part in parts]  # whether a line starts there, the byte before tells
    assert [request.first_byte for request in proxy.requests] == starts
    assert going_on() == 0, "nobody knows which range is the next"


def test_a_range_that_is_expected_is_read_before_anybody_asks_and_once(place: ObjectPlace, proxy: Proxy) -> None:
    content = lines(400)
    place.put(content)
    parts = list(cut(0, len(content), lambda: READ_BYTES))
    found = b""
    with closing(of_version(place, len(content))) as anywhere:
        for number, part in enumerate(parts):
            for following in parts[number : number + 2]:
                prefetch_range(anywhere, following)
            wait_until(lambda: len(proxy.requests) == min(number + 2, len(parts)))  # noqa: B023 - called here only
            for chunk in read_range(anywhere, part, 300, 500):
                assert isinstance(chunk, Chunk)
                found += chunk.data
        prefetch_range(anywhere, Range(0, READ_BYTES))
    wait_for_no_reads()  # what was expected and not read goes with the reader
    assert found == content
    starts = [max(part.start - 1, 0) for part in parts]
    assert sorted(request.first_byte for request in proxy.requests[: len(parts)]) == starts


def test_the_next_ranges_are_read_before_the_first_one_is_done(place: ObjectPlace, proxy: Proxy) -> None:
    content = lines(400)
    place.put(content)
    parts = list(cut(0, len(content), lambda: READ_BYTES))[:4]
    version = InputVersion(place.target, (version_of(place).etag, len(content)))
    done = threading.Event()

    def results_of(chunk: Chunk | LongLine) -> Iterator[ChunkResult]:
        done.wait()
        yield ChunkResult((), NO_REJECTS, 0, 0, 0, 0, {}, chunk.stop)

    with Threads(results_of, 1, 300, 500) as threads:
        results = threads.results([], version, parts)
        first = threading.Thread(target=next, args=[results])
        first.start()
        wait_until(lambda: len(proxy.requests) == 1 + AHEAD)
        done.set()
        first.join()


OFFSETS = st.integers(0, len(CONTENT) + 5)
SIZES = st.integers(1, 3000)
CALLS = st.one_of(
    st.tuples(st.just("read_at"), OFFSETS, SIZES),
    st.tuples(st.just("readinto"), st.just(0), SIZES),
    st.tuples(st.just("prefetch"), OFFSETS | st.sampled_from(range(0, len(CONTENT), BLOCK_BYTES)), st.just(0)),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(start=st.sampled_from([0, 1, BLOCK_BYTES]), calls=st.lists(CALLS, max_size=10))
def test_reading_anywhere_gives_what_is_there(
    start: int, calls: list[tuple[str, int, int]], place: ObjectPlace
) -> None:
    reader, position = opened(place.target, start), start
    for name, offset, size in calls:
        if name == "prefetch":
            reader.prefetch(offset)
            continue
        view = memoryview(bytearray(size))
        wanted = offset if name == "read_at" else position
        count = reader.read_at(view, offset) if name == "read_at" else reader.readinto(view)
        assert bytes(view[:count]) == CONTENT[wanted : wanted + count]
        assert count > 0 or wanted >= len(CONTENT)
        position += count if name == "readinto" else 0
    assert rest_of(reader) == CONTENT[position:]
    reader.close()


# --- which object --------------------------------------------------------------------------------------------------

KEYS = (
    *("a b", " ", "a+b", "a%20b", "ü/名", "a?versionId=1", "?versionId=", "folder/", "folder//", "/", "//", "//a"),
    *("a/../b", "./a", "a#b", "a&b=c", "s3://x/y", "\U0001f600", "a\tb", "a.gz/b"),
)


@pytest.mark.parametrize("key", KEYS)
def test_a_key_is_taken_as_it_is(key: str, s3: Any, bucket: str, scratch: Path, tmp_path: Path) -> None:
    place = ObjectPlace(s3, bucket, scratch, key)
    place.put(lines(3))
    for source in (version_of(place), S3Object(bucket, key)):
        assert is_uri(source)
        assert reopenable(source)
        summary = CALCULATION.run(source, tmp_path / "out")
        assert (tmp_path / "out").read_bytes() == transformed(3)
        assert summary.source == f"s3://{bucket}/{key}"
        with pytest.raises(InputError, match="is not what was read before"), open_source(source, Position(5, "gzip")):
            pass
    with pytest.raises(SourceChangedError):
        CALCULATION.run(S3Object(bucket, key, "0" * 32), tmp_path / "out")


def test_workers_read_the_same_object_whatever_its_key(s3: Any, bucket: str, scratch: Path, tmp_path: Path) -> None:
    place = ObjectPlace(s3, bucket, scratch, "a b?versionId=1//名/")
    place.put(lines(3000))
    Tuned(CALCULATION).run(version_of(place), tmp_path / "out", workers=2, range_bytes=4000)
    assert (tmp_path / "out").read_bytes() == transformed(3000)


def test_a_version_of_an_object_is_not_its_own_output(place: ObjectPlace) -> None:
    with pytest.raises(OutputError, match="the output is the input"):
        CALCULATION.run(version_of(place), place.target)


# --- which version -------------------------------------------------------------------------------------------------


def overwrite(place: ObjectPlace) -> None:
    place.put(CONTENT + b"\n")


def overwrite_with_less(place: ObjectPlace) -> None:
    place.put(b"x")


def empty(place: ObjectPlace) -> None:
    place.put(b"")


def delete(place: ObjectPlace) -> None:
    place.s3.delete_object(Bucket=place.bucket, Key=place.key)


CHANGES = [overwrite, overwrite_with_less, empty, delete]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("start", [0, 100, len(CONTENT)])
def test_a_version_that_is_gone_before_the_first_byte_is_noticed(
    change: Callable[[ObjectPlace], None], start: int, place: ObjectPlace
) -> None:
    version = version_of(place)
    change(place)
    how = "vanished" if change is delete else "changed"
    with pytest.raises(SourceChangedError, match=f"^{place.target}: {how} while it was read") as caught:
        opened(version, start)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("pinned", [False, True])
def test_a_version_that_is_gone_between_two_ranges_is_noticed(
    change: Callable[[ObjectPlace], None], pinned: bool, place: ObjectPlace
) -> None:
    reader = opened(version_of(place) if pinned else place.target)
    assert reader.readinto(memoryview(bytearray(BLOCK_BYTES))) == BLOCK_BYTES
    change(place)
    with pytest.raises(SourceChangedError, match="while it was read"):
        reader.readinto(memoryview(bytearray(10)))
    with pytest.raises(SourceChangedError, match="while it was read"):
        reader.read_at(memoryview(bytearray(10)), 3 * BLOCK_BYTES)
    reader.close()


@pytest.mark.parametrize("change", CHANGES)
def test_a_version_that_is_gone_before_others_read_it_is_noticed(
    change: Callable[[ObjectPlace], None], place: ObjectPlace
) -> None:
    version = InputVersion(place.target, (version_of(place).etag, len(CONTENT)))
    change(place)
    with open_version(version) as anywhere, pytest.raises(SourceChangedError, match="while it was read"):
        anywhere.read_at(memoryview(bytearray(10)), 0)


def test_an_object_that_never_was_there_has_not_changed(place: ObjectPlace) -> None:
    for location in (place.target + "x", f"s3://no-bucket-{place.bucket}/key"):
        with pytest.raises(InputError, match="no such bucket or key") as caught:
            opened(location)
        assert type(caught.value) is InputError
    with pytest.raises(InputError, match="no such bucket or key") as caught:
        opened(S3Object(f"no-bucket-{place.bucket}", "key", "0" * 32))
    assert type(caught.value) is InputError, "a bucket is not a version of an object"


# --- what goes wrong -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("honest", [False, True])
def test_a_body_that_is_cut_short_is_asked_for_again(honest: bool, place: ObjectPlace, proxy: Proxy) -> None:
    proxy.rule = of_some(Shorten(honest=honest), lambda number: number in (1, 2, 4))
    reader = opened(version_of(place))
    assert rest_of(reader) == CONTENT
    reader.close()
    whole = [f"{start}-{start + BLOCK_BYTES - 1}" for start in range(0, len(CONTENT), BLOCK_BYTES)]
    assert ranges(proxy) == [whole[0], whole[0], whole[0], whole[1], whole[1], *whole[2:]]


@pytest.mark.parametrize("honest", [False, True])
@pytest.mark.parametrize("first", [1, 2])
def test_a_body_that_is_cut_short_again_and_again_is_an_error(
    honest: bool, first: int, place: ObjectPlace, proxy: Proxy
) -> None:
    proxy.rule = of_some(Shorten(honest=honest), lambda number: number >= first)
    with pytest.raises(UnavailableError, match=f"^{place.target}: ") as caught:
        rest_of(opened(place.target))
    assert "\n" not in str(caught.value)
    start = (first - 1) * BLOCK_BYTES
    assert ranges(proxy).count(f"{start}-{start + BLOCK_BYTES - 1}") == 5


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (DENIED, AccessDeniedError),
        (Refuse(403, "InvalidAccessKeyId"), AccessDeniedError),
        (Refuse(403, "SignatureDoesNotMatch"), AccessDeniedError),
        (Refuse(400, "ExpiredToken"), UnavailableError),
        (Refuse(403, "RequestTimeTooSkewed"), UnavailableError),
        (Refuse(403, "InvalidObjectState"), InputError),
        (BROKEN, UnavailableError),
        (Refuse(503, "SlowDown"), UnavailableError),
        (Refuse(503, "ServiceUnavailable"), UnavailableError),
        (CUT, UnavailableError),
    ],
    ids=repr,
)
@pytest.mark.parametrize("first", [1, 2])
def test_an_error_says_whether_it_may_pass(
    fault: Fault, error: type[InputError], first: int, place: ObjectPlace, proxy: Proxy
) -> None:
    proxy.rule = of_some(fault, lambda number: number >= first)
    with pytest.raises(InputError, match=f"^{place.target}: ") as caught:
        rest_of(opened(version_of(place)))
    assert type(caught.value) is error
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("fault", [CUT, *SHORT], ids=repr)
def test_before_each_try_it_waits_twice_as_long_as_before_the_last(
    fault: Fault, place: ObjectPlace, proxy: Proxy
) -> None:
    proxy.rule = of_some(fault)
    waits = Waits()
    with pytest.raises(UnavailableError, match=f"^{place.target}: "):
        opened(place.target, options=replace(READ_OPTIONS, sleep=waits.sleep))
    assert waits == [0.2, 0.4, 0.8, 1.6]
    sent = 2 if fault == CUT else 1  # aiohttp tries once more after a connection is closed
    assert proxy.count("GetObject") == (len(waits) + 1) * sent, "after the last try it does not wait"


@pytest.mark.parametrize("tries", [1, 2, 3])
@pytest.mark.parametrize("fault", SHORT, ids=repr)
def test_it_tries_and_waits_as_it_is_set_up(tries: int, fault: Fault, place: ObjectPlace, proxy: Proxy) -> None:
    waits = Waits()
    options = replace(OPTIONS, tries=tries, first_wait_s=3.0, sleep=waits.sleep)
    proxy.rule = of_some(fault, lambda number: number < tries)
    assert rest_of(opened(place.target, options=options)) == CONTENT
    assert waits == [3.0 * 2**number for number in range(tries - 1)]
    waits.clear()
    proxy.rule = of_some(fault)
    with pytest.raises(UnavailableError, match=f"^{place.target}: "):
        opened(place.target, options=options)
    assert waits == [3.0 * 2**number for number in range(tries - 1)]


def test_waits_begin_anew_with_each_range(place: ObjectPlace, proxy: Proxy) -> None:
    waits = Waits()
    seen = Counter[str]()

    def shorten_each_twice(request: Request) -> Fault | None:
        if request.operation != "GetObject":
            return None
        seen[request.range] += 1
        return SHORT[0] if seen[request.range] <= 2 else None

    proxy.rule = shorten_each_twice
    options = replace(OPTIONS, first_wait_s=1.0, sleep=waits.sleep)
    assert rest_of(opened(place.target, options=options)) == CONTENT
    assert sorted(waits) == [1.0] * 6 + [2.0] * 6


@pytest.mark.parametrize("fault", [DENIED, BROKEN], ids=repr)
def test_an_answer_that_is_an_error_is_not_asked_for_again(fault: Fault, place: ObjectPlace, proxy: Proxy) -> None:
    waits = Waits()  # botocore and s3fs have tried again by then, where that makes sense
    proxy.rule = of_some(fault)
    with pytest.raises(InputError):
        opened(place.target, options=replace(OPTIONS, sleep=waits.sleep))
    assert waits == []
    assert proxy.count("GetObject") == 1


def test_by_default_a_wait_takes_its_time() -> None:
    with pytest.raises(TimeoutError):
        asyncio.run(asyncio.wait_for(READ_OPTIONS.sleep(3600), 0.01))


def test_a_reader_that_is_made_asks_for_nothing(place: ObjectPlace, proxy: Proxy) -> None:
    fetcher = BlockFetcher(version_of(place), filesystem(), OPTIONS)
    reader = ObjectReader(fetcher, Answer({}, Block(5, [b"56", b"789"]), 10))
    assert (reader.size, reader.headers, reader.etag) == (10, {}, version_of(place).etag)
    assert rest_of(reader, 3) == b"56789"
    assert going_on() == 0
    assert proxy.requests == []


def test_no_credentials_are_a_denial(place: ObjectPlace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(AccessDeniedError, match="no AWS credentials found"):
        opened(place.target)


def test_credentials_that_come_later_are_found(
    place: ObjectPlace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    given = {name: os.environ[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
    for name in given:
        monkeypatch.delenv(name)
    with pytest.raises(AccessDeniedError):
        opened(place.target)
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "credentials").write_text(
        "[default]\n" + "".join(f"{name.lower()} = {value}\n" for name, value in given.items())
    )
    assert rest_of(opened(place.target)) == CONTENT


def test_settings_that_change_are_followed(place: ObjectPlace, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy.rule = of_some(BROKEN, lambda number: number <= 2)
    with pytest.raises(UnavailableError):
        opened(place.target)
    monkeypatch.delenv("AWS_MAX_ATTEMPTS")
    assert rest_of(opened(place.target)) == CONTENT


def test_nobody_there_may_pass(place: ObjectPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    send_once(monkeypatch)
    with pytest.raises(UnavailableError, match=f"^{place.target}: "):
        opened(place.target)


# --- what goes on meanwhile ----------------------------------------------------------------------------------------


def test_the_next_range_is_read_ahead_and_forgotten_on_close(place: ObjectPlace, proxy: Proxy) -> None:
    asked, answer = threading.Event(), threading.Event()
    proxy.rule = lambda request: Hold(asked, answer) if request.first_byte == 2 * BLOCK_BYTES else None
    reader = opened(place.target)
    view = memoryview(bytearray(BLOCK_BYTES))
    try:
        assert reader.readinto(view) == BLOCK_BYTES
        assert len(ranges(proxy)) == 1, "a short object may end here"
        assert reader.readinto(view) == BLOCK_BYTES
        assert asked.wait(10), "it is asked for the third range before anybody reads that"
        wait_until(lambda: going_on() == 1)  # those before have ended
        reader.close()
        wait_for_no_reads()
    finally:
        answer.set()


def test_an_interrupt_leaves_nothing_going_on(place: ObjectPlace, proxy: Proxy) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has what runs beside it ignore this
    asked, answer, interrupted = threading.Event(), threading.Event(), threading.Event()
    proxy.rule = of_some(Hold(asked, answer))

    def interrupt() -> None:
        asked.wait(10)
        while not interrupted.is_set():  # a signal just before a thread begins to wait for a lock does not end the wait
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            interrupted.wait(2)

    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with defer_interrupts():
            try:
                with pytest.raises(KeyboardInterrupt):
                    opened(place.target)
            finally:
                interrupted.set()
        wait_for_no_reads()
    finally:
        thread.join()
        answer.set()
        signal.signal(signal.SIGINT, before)


def test_a_failure_that_nobody_asks_for_is_silent(
    place: ObjectPlace, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    proxy.rule = lambda request: DENIED if request.first_byte == 2 * BLOCK_BYTES else None
    reader = opened(place.target)
    view = memoryview(bytearray(BLOCK_BYTES))
    reader.readinto(view)
    reader.readinto(view)
    wait_until(lambda: len(ranges(proxy)) >= 3 and going_on() == 0)
    reader.close()
    gc.collect()  # asyncio says that nobody has looked at a failure when that is collected
    asyncio.run_coroutine_threadsafe(asyncio.sleep(0), filesystem().loop).result()
    assert [record for record in caplog.records if record.name == "asyncio"] == []


# --- what is small, and known to be ----------------------------------------------------------------------------------


def sized(place: ObjectPlace, size: int) -> S3Object:
    return replace(version_of(place), size=size)


def test_a_small_object_is_asked_for_whole(place: ObjectPlace, proxy: Proxy) -> None:
    place.put(CONTENT[:READ_BYTES])
    reader = opened(sized(place, READ_BYTES))
    assert (reader.size, rest_of(reader)) == (READ_BYTES, CONTENT[:READ_BYTES])
    assert ranges(proxy) == [""]


@pytest.mark.parametrize("size", [1, READ_BYTES, 1 << 40])
def test_a_size_that_is_wrong_is_not_believed(size: int, place: ObjectPlace, proxy: Proxy) -> None:
    reader = opened(sized(place, size))
    assert (reader.size, rest_of(reader)) == (len(CONTENT), CONTENT)
    assert ranges(proxy)[-1] != ""


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"])
def test_a_damaged_body_is_noticed_where_there_is_a_checksum(
    algorithm: str, s3: Any, place: ObjectPlace, proxy: Proxy
) -> None:
    s3.put_object(Bucket=place.bucket, Key=place.key, Body=CONTENT[:500], ChecksumAlgorithm=algorithm)
    proxy.rule = of_some(Damage(), lambda number: number == 1)
    assert rest_of(opened(sized(place, 500))) == CONTENT[:500]
    proxy.rule = of_some(Damage())
    with pytest.raises(UnavailableError, match="did not match calculated checksum"):
        opened(sized(place, 500))


@pytest.mark.parametrize("honest", [False, True])
def test_a_small_body_that_is_cut_short_is_asked_for_again(honest: bool, place: ObjectPlace, proxy: Proxy) -> None:
    place.put(CONTENT[:500])
    proxy.rule = of_some(Shorten(honest), lambda number: number == 1)
    assert rest_of(opened(sized(place, 500))) == CONTENT[:500]


# --- blocks -----------------------------------------------------------------------------------------------------------


@given(
    start=st.integers(0, 2**40),
    pieces=st.lists(st.binary(max_size=5), max_size=5),
    before=st.integers(0, 3),
    skipped=st.integers(0, 30),
    size=st.integers(0, 30),
)
def test_a_block_is_read_as_if_it_was_in_one_piece(
    start: int, pieces: list[bytes], before: int, skipped: int, size: int
) -> None:
    whole = b"".join(pieces)
    block = Block(start, pieces)
    assert (block.start, block.size) == (start, len(whole))
    assert not any(block.holds(start - 1 - number) for number in range(before))
    assert block.holds(start + skipped) is (skipped < len(whole))
    view = memoryview(bytearray(b"?" * size))
    count = block.read_at(view, start + skipped)
    wanted = whole[skipped : skipped + size]
    assert (bytes(view[:count]), bytes(view[count:])) == (wanted, b"?" * (size - len(wanted)))
