"""An object appears whole or not at all, and a run leaves no upload open, whatever S3 answers and however it ends."""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import pytest

from tests.support import proxy as proxies
from tests.support.example import CALCULATION, lines
from tests.support.places import OLD, ObjectPlace
from tests.support.proxy import Hold, Refuse
from transform import OutputError
from transform.io.outputs import Output

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.proxy import Fault, Proxy, Request

MIB = 1 << 20
PART_BYTES, LEAST_PART_BYTES = 16 * MIB, 5 * MIB
SOON_S = 0.3
"""How long to wait for a request that should not come."""

DENIED = Refuse(403, "AccessDenied")


@pytest.fixture
def passed_on(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bytes]]:
    """The path and the body of each request that the proxy passes on, in order."""
    seen: list[tuple[str, bytes]] = []
    pass_on = proxies._Handler.pass_on

    def spy(handler: proxies._Handler, body: bytes) -> Any:
        seen.append((handler.path, body))
        return pass_on(handler, body)

    monkeypatch.setattr(proxies._Handler, "pass_on", spy)
    return seen


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "input.jsonl"
    path.write_bytes(lines(3))
    return path


def refused(operation: str, number: int = 1, fault: Fault = DENIED) -> Callable[[Request], Fault | None]:
    """Return a rule under which one request of an operation fails."""
    return lambda request: fault if (request.operation, request.number) == (operation, number) else None


def operations(proxy: Proxy) -> list[str]:
    return [request.operation for request in proxy.requests if request.operation != "HeadBucket"]


def part_sizes(proxy: Proxy) -> list[int]:
    return [request.size for request in proxy.requests if request.operation == "UploadPart"]


def parts(*sizes: int) -> list[bytes]:
    """Return contents of so many bytes, no two of which are alike."""
    return [bytes([number]) * size for number, size in enumerate(sizes, 1)]


def write(target: str, *contents: bytes) -> None:
    """Publish some content."""
    with Output(target) as output:
        for content in contents:
            output.write(content)
        output.publish()


def write_until(error: BaseException, target: str, *contents: bytes) -> None:
    """Write some content, and then be stopped by an error."""
    with Output(target) as output:
        for content in contents:
            output.write(content)
        raise error


@contextmanager
def beside(work: Callable[[], None]) -> Iterator[None]:
    """Do something else meanwhile."""
    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        thread.join()


class Gate:
    """Holds the answers to some parts back until it is opened; notices what is asked for before that.

    Args:
        held: Which parts, by their size.
        awaited: What should not be asked for meanwhile.
    """

    def __init__(self, held: set[int], awaited: Callable[[Request], bool]) -> None:
        self.came_early: bool | None = None
        self._held, self._awaited = held, awaited
        self._answer, self._came = threading.Event(), threading.Event()
        self._reached = {size: threading.Event() for size in held}

    def rule(self, request: Request) -> Fault | None:
        if self._awaited(request) and not self._answer.is_set():
            self._came.set()
        if request.operation == "UploadPart" and request.size in self._held:
            return Hold(self._reached[request.size], self._answer)
        return None

    def reached(self) -> None:
        """Wait until S3 has all the parts that are held."""
        for event in self._reached.values():
            assert event.wait(30)

    def open_soon(self, wait_s: float = SOON_S) -> None:
        """Open once what should not be asked for was, or enough time has passed."""
        try:
            self.reached()
            self.came_early = self._came.wait(wait_s)
        finally:
            self._answer.set()


def asks(operation: str) -> Callable[[Request], bool]:
    return lambda request: request.operation == operation


# --- parts ---------------------------------------------------------------------------------------------------------


def test_parts_are_completed_in_order_each_with_its_own_tag(
    place: ObjectPlace, proxy: Proxy, passed_on: list[tuple[str, bytes]]
) -> None:
    contents = parts(PART_BYTES, PART_BYTES + MIB, 10)
    gate = Gate({PART_BYTES}, lambda request: request.size == PART_BYTES + MIB)  # the second is answered first
    proxy.rule = gate.rule
    with beside(lambda: gate.open_soon(30)):
        write(place.target, *contents)
    assert gate.came_early, "the second goes beside the first"
    assert place.content() == b"".join(contents)
    numbers = {len(body): int(found[1]) for path, body in passed_on if (found := re.search(r"partNumber=(\d+)", path))}
    assert numbers == {len(content): number for number, content in enumerate(contents, 1)}
    (completion,) = [body.decode() for path, body in passed_on if "uploadId" in path and "partNumber" not in path]
    assert re.findall(r"<PartNumber>(\d+)</PartNumber>", completion) == ["1", "2", "3"]
    tags = [hashlib.md5(content).hexdigest() for content in contents]
    assert re.findall(r"<ETag>\W*(?:quot;|#34;)?(\w{32})\W", completion) == tags


def test_no_part_is_smaller_than_s3_allows_but_the_last(place: ObjectPlace, proxy: Proxy) -> None:
    contents = parts(*[300_000] * 120)
    write(place.target, *contents)
    assert place.content() == b"".join(contents)
    *others, last = sorted(part_sizes(proxy), reverse=True)
    assert min(others) >= LEAST_PART_BYTES
    assert max(others) < PART_BYTES + 300_000, "more is not kept in memory"
    assert 0 < last < max(others)
    assert operations(proxy).count("PutObject") == 0


def test_an_output_that_ends_with_a_part_has_no_empty_part(place: ObjectPlace, proxy: Proxy) -> None:
    write(place.target, *parts(PART_BYTES))
    assert part_sizes(proxy) == [PART_BYTES]
    assert place.content() == parts(PART_BYTES)[0]


@pytest.mark.parametrize("contents", [[], [b""], [b"x"], parts(100, 200), parts(PART_BYTES - 1)], ids=len)
def test_an_output_smaller_than_a_part_is_one_put(contents: list[bytes], place: ObjectPlace, proxy: Proxy) -> None:
    write(place.target, *contents)
    assert operations(proxy) == ["PutObject"]
    assert proxy.requests[-1].size == sum(map(len, contents))
    assert place.content() == b"".join(contents)
    assert place.others() == []


def test_a_third_part_waits_while_two_are_on_their_way(place: ObjectPlace, proxy: Proxy) -> None:
    contents = parts(PART_BYTES, PART_BYTES + 1, PART_BYTES + 2)
    gate = Gate({PART_BYTES, PART_BYTES + 1}, lambda request: request.size == PART_BYTES + 2)
    proxy.rule = gate.rule
    with beside(gate.open_soon):
        write(place.target, *contents)
    assert gate.came_early is False, "each is kept in memory until it is answered"
    assert place.content() == b"".join(contents)


@pytest.mark.slow
def test_large_parts_go_one_by_one(place: ObjectPlace, proxy: Proxy) -> None:
    contents = parts(33 * MIB, 34 * MIB)
    gate = Gate({33 * MIB}, lambda request: request.size == 34 * MIB)
    proxy.rule = gate.rule
    with beside(gate.open_soon):
        write(place.target, *contents)
    assert gate.came_early is False
    assert place.content() == b"".join(contents)


def test_parts_of_a_huge_input_are_larger(place: ObjectPlace, proxy: Proxy, tmp_path: Path) -> None:
    huge = tmp_path / "huge.jsonl"
    huge.write_bytes(lines(6500, 8000))  # 50 MiB
    os.truncate(huge, 200 << 30)  # a sparse file, of which no more is read

    def progress(done: int, _total: int | None) -> None:
        if done > 48 * MIB:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        CALCULATION.run(huge, place.target, workers=1, progress=progress)
    first, second = part_sizes(proxy)  # which would be three of 16 MiB
    assert second > 1.2 * first
    assert place.content() == OLD
    assert place.others() == []


@pytest.mark.parametrize("size", [0, 1000, 17 * MIB])
def test_a_compressed_object_holds_all_that_was_written(size: int, place: ObjectPlace, proxy: Proxy) -> None:
    content = os.urandom(size)
    write(place.target + ".gz", content[: size // 2], content[size // 2 :])
    found = ObjectPlace(place.s3, place.bucket, place.scratch, place.key + ".gz").content()
    assert found is not None
    assert gzip.decompress(found) == content
    assert (proxy.count("UploadPart") > 0) == (size > PART_BYTES)


# --- discarded -----------------------------------------------------------------------------------------------------


class Abandoned(BaseException):
    """Something that is no Exception."""


ENDS: list[BaseException] = [ValueError(), KeyboardInterrupt(), SystemExit(1), Abandoned()]


@pytest.mark.parametrize("error", ENDS, ids=repr)
def test_any_exception_keeps_the_old_object_and_aborts_the_upload(
    error: BaseException, place: ObjectPlace, proxy: Proxy
) -> None:
    with pytest.raises(type(error)) as caught:
        write_until(error, place.target, *parts(PART_BYTES))
    assert caught.value is error
    assert operations(proxy) == ["CreateMultipartUpload", "UploadPart", "AbortMultipartUpload"]
    assert place.content() == OLD
    assert place.others() == []


def test_an_upload_is_aborted_only_once_its_parts_were_answered(place: ObjectPlace, proxy: Proxy) -> None:
    gate = Gate({PART_BYTES, PART_BYTES + 1}, asks("AbortMultipartUpload"))
    proxy.rule = gate.rule
    with beside(gate.open_soon), pytest.raises(KeyboardInterrupt):
        write_until(KeyboardInterrupt(), place.target, *parts(PART_BYTES, PART_BYTES + 1))
    assert gate.came_early is False, "S3 keeps a part that arrives after the upload was aborted"
    assert operations(proxy)[-1] == "AbortMultipartUpload"
    assert place.content() == OLD
    assert place.others() == []


def test_where_one_part_fails_the_other_is_waited_for_before_the_upload_is_aborted(
    place: ObjectPlace, proxy: Proxy
) -> None:
    gate = Gate({PART_BYTES + 1}, asks("AbortMultipartUpload"))

    def rule(request: Request) -> Fault | None:
        if request.size == PART_BYTES:
            gate.reached()
            return DENIED
        return gate.rule(request)

    proxy.rule = rule
    with beside(gate.open_soon), pytest.raises(OutputError, match=f"^{place.target}: access denied"):
        write(place.target, *parts(PART_BYTES, PART_BYTES + 1))
    assert gate.came_early is False
    assert proxy.count("AbortMultipartUpload") == 1
    assert place.content() == OLD
    assert place.others() == []


def test_what_is_left_unpublished_is_discarded_without_an_error(place: ObjectPlace, proxy: Proxy) -> None:
    for contents in (parts(100), parts(PART_BYTES, 100)):
        with Output(place.target) as output:
            for content in contents:
                output.write(content)
        assert place.content() == OLD
        assert place.others() == []
    assert operations(proxy) == ["CreateMultipartUpload", "UploadPart", "AbortMultipartUpload"]


def test_a_generator_that_is_closed_leaves_no_upload(place: ObjectPlace) -> None:
    def writing() -> Iterator[None]:
        with Output(place.target) as output:
            output.write(*parts(PART_BYTES))
            yield
            output.publish()

    generator = writing()
    next(generator)
    assert place.begun() == 1
    cast("Any", generator).close()
    assert place.content() == OLD
    assert place.others() == []


FAILURES = {
    "the start": refused("CreateMultipartUpload"),
    "the first part": refused("UploadPart"),
    "the last part": refused("UploadPart", 2),
    "the completion": refused("CompleteMultipartUpload"),
    "the completion, as parts are too small": refused("CompleteMultipartUpload", 1, Refuse(400, "EntityTooSmall")),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_refusal_by_s3_keeps_the_old_object_and_leaves_no_upload(
    failure: str, place: ObjectPlace, proxy: Proxy
) -> None:
    proxy.rule = FAILURES[failure]
    with pytest.raises(OutputError, match=f"^{place.target}: "):
        write(place.target, *parts(PART_BYTES, 10))
    assert place.content() == OLD
    assert place.others() == []


def test_a_bucket_that_is_not_there_is_an_error_before_anything_is_read(place: ObjectPlace, source: Path) -> None:
    calls: list[object] = []
    with pytest.raises(OutputError, match="no such bucket or key"):
        CALCULATION.run(source, f"s3://no-{place.bucket}/key", progress=lambda *done: calls.append(done))
    assert calls == []
