"""A multipart upload sends several parts at a time, and holds what has arrived without a gap."""

from __future__ import annotations

import signal
import threading
import time
from contextlib import suppress
from functools import partial
from itertools import permutations, product
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError
from s3fs.errors import translate_boto_error

from tests.support.example import wait_until
from transform import MultipartUpload, OutputError, PartBuffer, PartSizes, UploadedPart, _process

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 1 << 20
TIMEOUT_S = 30


class FakeS3:
    """Answers requests; those for parts only once they may arrive.

    Attributes:
        requests: The operations asked for, in order; a part with its number: `upload_part 1`.
        arguments: Arguments of the request for each of them.
        errors: What is raised in place of an answer.
    """

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.arguments: dict[str, dict[str, Any]] = {}
        self.answered: list[str] = []
        self.errors: dict[str, BaseException] = {}
        self.may_arrive = threading.Event()
        self._gates: dict[int, threading.Event] = {}

    def gate(self, number: int) -> threading.Event:
        """Return the event that lets a part arrive."""
        return self._gates.setdefault(number, threading.Event())

    def hold(self, *numbers: int) -> None:
        """Let all parts but these arrive."""
        for number in numbers:
            self.gate(number)
        self.may_arrive.set()

    def release(self) -> None:
        """Let all parts arrive."""
        self.may_arrive.set()
        for gate in self._gates.values():
            gate.set()

    def call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        number = arguments.get("PartNumber", 0)
        request = f"{operation} {number}" if number else operation
        self.arguments[request] = arguments
        self.requests.append(request)
        if number:
            assert self._gates.get(number, self.may_arrive).wait(TIMEOUT_S)
        self.answered.append(request)
        if request in self.errors:
            raise self.errors[request]
        return {"UploadId": "the upload", "ETag": f'"e{number}"'}


@pytest.fixture
def s3() -> Iterator[FakeS3]:
    fake = FakeS3()
    yield fake
    fake.release()


def upload_of(
    s3: FakeS3, most: int = 4, max_bytes: int = 1000, begun: str | None = "the upload", parts: int = 0
) -> MultipartUpload:
    return MultipartUpload(
        s3.call,
        bool,  # nothing comes before a part
        {"Metadata": {"a": "b"}},
        max_parts_in_flight=most,
        max_bytes_in_flight=max_bytes,
        upload_id=begun,
        parts=[UploadedPart(number, f'"e{number}"', 5) for number in range(1, parts + 1)],
    )


def numbers(upload: MultipartUpload) -> list[int]:
    return [part.number for part in upload.parts]


def in_thread(function: Any, *arguments: Any) -> threading.Thread:
    thread = threading.Thread(target=function, args=arguments, daemon=True)
    thread.start()
    return thread


def waits(thread: threading.Thread) -> bool:
    thread.join(0.2)
    return thread.is_alive()


def test_an_upload_is_created_sent_and_completed(s3: FakeS3) -> None:
    s3.may_arrive.set()
    upload = upload_of(s3, begun=None)
    assert (upload.id, s3.requests) == (None, []), "nothing happens before it is asked for"
    assert upload.create() == upload.id == "the upload"
    upload.send(b"one")
    upload.send(b"three")
    upload.finish()
    assert upload.complete({"IfMatch": '"x"'}) == '"e0"'
    assert s3.arguments["create_multipart_upload"] == {"Metadata": {"a": "b"}}
    assert s3.arguments["upload_part 2"] == {"UploadId": "the upload", "PartNumber": 2, "Body": b"three"}
    assert s3.arguments["complete_multipart_upload"] == {
        "UploadId": "the upload",
        "MultipartUpload": {"Parts": [{"PartNumber": 1, "ETag": '"e1"'}, {"PartNumber": 2, "ETag": '"e2"'}]},
        "IfMatch": '"x"',
    }
    assert upload.parts == [UploadedPart(1, '"e1"', 3), UploadedPart(2, '"e2"', 5)]
    assert sorted(s3.requests[1:3]) == ["upload_part 1", "upload_part 2"]
    assert len(s3.requests) == 4


def test_a_part_that_is_late_holds_up_what_is_noted_and_no_other_part(s3: FakeS3) -> None:
    s3.hold(1)
    upload, noted = upload_of(s3), list[tuple[int, list[int]]]()

    def note(number: int) -> None:
        noted.append((number, numbers(upload)))

    for number in (1, 2, 3, 4):
        upload.send(b"x", lambda number=number: note(number))  # type: ignore[misc] # a default, so that each has its own
    wait_until(lambda: len(s3.answered) == 3)
    assert (noted, upload.parts) == ([], [])
    s3.release()
    upload.finish()
    assert noted == [(4, [1, 2, 3, 4])], "the newest of them stands for all"


def test_parts_after_a_gap_do_not_count(s3: FakeS3) -> None:
    s3.hold(2)
    upload = upload_of(s3)
    for _ in range(3):
        upload.send(b"x")
    wait_until(lambda: len(s3.answered) == 2 and numbers(upload) == [1])
    s3.release()
    upload.wait()
    assert numbers(upload) == [1, 2, 3]


@pytest.mark.parametrize("ends", list(product([False, True], repeat=3)))
def test_a_part_that_is_no_end_counts_with_the_next_one_that_is(ends: tuple[bool, ...], s3: FakeS3) -> None:
    """Whatever the order in which parts arrive, a note is made of the parts up to its own one only."""
    for order in permutations((1, 2, 3)):
        s3.answered.clear()
        for number in order:
            s3.gate(number).clear()
        upload, noted = upload_of(s3), list[tuple[int, list[int]]]()

        def note(number: int, upload: MultipartUpload = upload, noted: Any = noted) -> None:
            noted.append((number, numbers(upload)))

        for number, is_end in enumerate(ends, 1):
            upload.send(b"x", partial(note, number) if is_end else None, is_end=is_end)
        arrived = set[int]()
        for number in order:
            s3.gate(number).set()
            arrived.add(number)
            whole = next((one for one in (3, 2, 1) if arrived.issuperset(range(1, one + 1))), 0)
            last = max((one for one in range(1, whole + 1) if ends[one - 1]), default=0)
            wait_until(lambda: len(s3.answered) == len(arrived) and numbers(upload) == [*range(1, last + 1)])  # noqa: B023
            wait_until(lambda: [one for one, _ in noted][-1:] == [last][: last > 0])  # noqa: B023
        assert all(parts == [*range(1, number + 1)] and ends[number - 1] for number, parts in noted)
        upload.finish()
        assert numbers(upload) == [1, 2, 3], "they count when nothing follows"


@pytest.mark.parametrize(
    ("most", "sizes", "room"),
    [
        (1, [10] * 2, 1),
        (2, [10] * 3, 2),
        (4, [10] * 5, 4),
        (4, [500, 500, 1], 2),
        (4, [500, 501], 1),
        (4, [1000, 1], 1),
        (4, [1, 5000], 1),
        (4, [5000, 1], 1),
    ],
)
def test_no_more_are_in_flight_than_there_is_room_for(most: int, sizes: list[int], room: int, s3: FakeS3) -> None:
    upload = upload_of(s3, most)
    for size in sizes[:room]:
        upload.send(bytes(size))
    wait_until(lambda: len(s3.requests) == room)
    waiting = in_thread(upload.send, bytes(sizes[room]))
    assert waits(waiting)
    assert len(s3.requests) == room
    s3.release()
    waiting.join(TIMEOUT_S)
    upload.finish()
    assert len(s3.requests) == room + 1


def test_one_that_arrives_makes_room_for_one(s3: FakeS3) -> None:
    s3.hold(1, 2, 3)
    upload = upload_of(s3, 2)
    upload.send(b"x")
    upload.send(b"x")
    waiting = in_thread(upload.send, b"x")
    assert waits(waiting)
    s3.gate(2).set()
    waiting.join(TIMEOUT_S)
    assert waits(in_thread(upload.send, b"x"))
    s3.release()
    upload.wait()


def test_with_no_part_in_flight_each_is_noted_before_the_next(s3: FakeS3) -> None:
    s3.may_arrive.set()
    upload, noted = upload_of(s3, most=0), list[list[int]]()
    for number in (1, 2, 3):
        upload.send(b"x", lambda: noted.append(numbers(upload)))
        assert noted[-1] == [*range(1, number + 1)]
    assert len(noted) == 3


def test_notes_are_made_one_at_a_time_and_never_go_back(s3: FakeS3) -> None:
    s3.may_arrive.set()
    upload = upload_of(s3, 8)
    running, noted, lock = 0, list[int](), threading.Lock()

    def note() -> None:
        nonlocal running
        with lock:
            running += 1
            assert running == 1
        before = numbers(upload)
        time.sleep(0.001)
        assert numbers(upload) == before == [*range(1, len(before) + 1)], "what is noted stays meanwhile"
        noted.append(len(before))
        with lock:
            running -= 1

    for _ in range(200):
        upload.send(b"x", note)
    upload.finish()
    assert noted == sorted({*noted})
    assert noted[-1] == 200


def test_a_note_holds_up_no_part_and_the_end_waits_for_it(s3: FakeS3) -> None:
    s3.may_arrive.set()
    upload, noted = upload_of(s3, 1), list[int]()
    begun, late = threading.Event(), threading.Event()

    def first() -> None:
        begun.set()
        assert late.wait(TIMEOUT_S)
        noted.append(1)

    upload.send(b"x", first)
    assert begun.wait(TIMEOUT_S)
    for number in (2, 3, 4):
        upload.send(b"x", lambda number=number: noted.append(number))  # type: ignore[misc] # as above
    wait_until(lambda: len(s3.answered) == 4)
    assert (noted, numbers(upload)) == ([], [1])
    ends = [in_thread(upload.finish), in_thread(upload.wait)]
    assert all(map(waits, ends))
    late.set()
    for end in ends:
        end.join(TIMEOUT_S)
    assert (noted, numbers(upload)) == ([1, 4], [1, 2, 3, 4])


def test_a_part_that_fails_is_raised_and_nothing_after_it_is_noted(s3: FakeS3) -> None:
    s3.hold(2)
    s3.errors["upload_part 2"] = error = OSError("no")
    upload, noted = upload_of(s3), list[list[int]]()
    for _ in range(4):
        upload.send(b"x", lambda: noted.append(numbers(upload)))
    wait_until(lambda: len(s3.answered) == 3 and noted == [[1]])
    s3.release()
    for raises in (upload.finish, lambda: upload.send(b"x"), upload.complete, lambda: upload.send_last(b"x")):
        with pytest.raises(OSError, match="no") as caught:
            raises()
        assert caught.value is error
    upload.wait()
    assert (noted, numbers(upload)) == ([[1]], [1])
    assert sorted(s3.requests) == [f"upload_part {number}" for number in (1, 2, 3, 4)], "nothing is sent after that"


def test_who_waits_for_room_hears_of_a_part_that_fails(s3: FakeS3) -> None:
    s3.hold(1, 2)
    s3.errors["upload_part 2"] = OSError("no")
    upload, heard = upload_of(s3, 2), list[str]()
    upload.send(b"x")
    upload.send(b"x")

    def send() -> None:
        with pytest.raises(OSError, match="no"):
            upload.send(b"x")
        heard.append("no")

    waiting = in_thread(send)
    assert waits(waiting)
    s3.gate(2).set()
    waiting.join(TIMEOUT_S)
    assert heard == ["no"]


def test_a_note_that_fails_is_raised_and_what_arrives_later_is_noted_all_the_same(s3: FakeS3) -> None:
    class Killed(BaseException):
        pass

    s3.hold(2)
    upload, noted, all_sent = upload_of(s3), list[list[int]](), threading.Event()

    def killed() -> None:
        assert all_sent.wait(TIMEOUT_S)
        raise Killed

    upload.send(b"x", killed)
    upload.send(b"x", lambda: noted.append(numbers(upload)))
    all_sent.set()
    with pytest.raises(Killed):
        upload.finish()
    s3.release()
    upload.wait()
    assert noted == [[1, 2]]


def test_an_abort_waits_for_parts_that_s3_might_keep(s3: FakeS3) -> None:
    upload = upload_of(s3)
    upload.send(b"x")
    upload.send(b"x")
    aborting = in_thread(upload.abort)
    assert waits(aborting)
    assert sorted(s3.requests) == ["upload_part 1", "upload_part 2"]
    s3.release()
    aborting.join(TIMEOUT_S)
    assert (s3.requests[-1], upload.id) == ("abort_multipart_upload", None)
    assert s3.arguments["abort_multipart_upload"] == {"UploadId": "the upload"}
    assert set(s3.answered[:2]) == {"upload_part 1", "upload_part 2"}
    upload.abort()
    assert len(s3.requests) == 3, "there is nothing to abort any more"


def test_an_abort_after_an_error_waits_for_the_other_parts(s3: FakeS3) -> None:
    s3.hold(2)
    s3.errors["upload_part 1"] = OSError("no")
    upload = upload_of(s3)
    upload.send(b"x")
    with suppress(OSError):  # it may know already
        upload.send(b"x")
    with pytest.raises(OSError, match="no"):
        upload.finish()
    aborting = in_thread(upload.abort)
    if "upload_part 2" in s3.requests:
        assert waits(aborting)
    s3.release()
    aborting.join(TIMEOUT_S)
    assert s3.requests[-1] == s3.answered[-1] == "abort_multipart_upload"


def answer(status: int, code: str) -> Exception:
    """Return what s3fs raises for an answer of S3."""
    response: Any = {"Error": {"Code": code, "Message": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    error: Exception = translate_boto_error(ClientError(response, "AbortMultipartUpload"))
    return error


def test_an_upload_that_is_gone_is_aborted(s3: FakeS3) -> None:
    s3.errors["abort_multipart_upload"] = answer(404, "NoSuchUpload")
    upload_of(s3).abort()
    ours = OutputError("it is gone")
    ours.__cause__ = answer(404, "NoSuchUpload")
    s3.errors["abort_multipart_upload"] = ours
    upload_of(s3).abort()
    assert s3.answered == ["abort_multipart_upload"] * 2


@pytest.mark.parametrize("error", [answer(404, "NoSuchBucket"), answer(403, "AccessDenied"), OSError("unreachable")])
def test_an_upload_that_cannot_be_aborted_is_said_to_be(s3: FakeS3, error: Exception) -> None:
    s3.errors["abort_multipart_upload"] = error
    with pytest.raises(type(error)):
        upload_of(s3).abort()


def test_an_upload_without_parts_ends_at_once(s3: FakeS3) -> None:
    upload = upload_of(s3, begun=None)
    upload.finish()
    upload.abort()
    assert s3.requests == []
    upload.create()
    upload.finish()
    upload.abort()
    assert s3.requests == ["create_multipart_upload", "abort_multipart_upload"]


def test_an_upload_is_continued_after_its_parts(s3: FakeS3) -> None:
    s3.may_arrive.set()
    upload, noted = upload_of(s3, parts=3), list[list[int]]()
    assert (upload.id, numbers(upload)) == ("the upload", [1, 2, 3])
    upload.send(b"x", lambda: noted.append(numbers(upload)))
    upload.finish()
    upload.complete()
    assert noted == [[1, 2, 3, 4]]
    assert s3.requests == ["upload_part 4", "complete_multipart_upload"]
    parts = s3.arguments["complete_multipart_upload"]["MultipartUpload"]["Parts"]
    assert [part["ETag"] for part in parts] == ['"e1"', '"e2"', '"e3"', '"e4"']


def test_a_last_part_that_does_not_arrive_is_sent_again_under_its_number(s3: FakeS3) -> None:
    s3.may_arrive.set()
    upload = upload_of(s3)
    upload.send(b"x")
    s3.errors["upload_part 2"] = OSError("no")
    with pytest.raises(OSError, match="no"):
        upload.send_last(b"last")
    assert numbers(upload) == [1]
    del s3.errors["upload_part 2"]
    upload.send_last(b"last")
    assert upload.parts[1:] == [UploadedPart(2, '"e2"', 4)]
    upload.complete()
    assert s3.requests == ["upload_part 1", "upload_part 2", "upload_part 2", "complete_multipart_upload"]


def test_it_is_not_completed_before_all_parts_have_arrived(s3: FakeS3) -> None:
    upload = upload_of(s3)
    upload.send(b"x")
    completing = in_thread(upload.complete)
    assert waits(completing)
    s3.release()
    completing.join(TIMEOUT_S)
    assert s3.requests == ["upload_part 1", "complete_multipart_upload"]


@pytest.fixture
def noted_interrupts() -> Iterator[None]:
    """Signals are noted, as by the command."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    signal.signal(signal.SIGINT, signal.default_int_handler)  # shells have it ignored in the background
    _process.install_interrupts()
    yield
    _process._state.requested = False
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("noted_interrupts")
@pytest.mark.parametrize("method", ["send", "finish"])
def test_a_wait_can_be_interrupted(s3: FakeS3, method: str) -> None:
    upload = upload_of(s3, most=1)
    upload.send(b"x")
    main = threading.get_ident()
    interrupt = threading.Timer(0.2, lambda: signal.pthread_kill(main, signal.SIGINT))
    interrupt.start()
    with pytest.raises(KeyboardInterrupt):
        upload.send(b"x") if method == "send" else upload.finish()
    assert s3.answered == [], "it has not waited"
    s3.release()
    upload.abort()
    assert s3.requests == ["upload_part 1", "abort_multipart_upload"]


def test_what_is_collected_becomes_a_part_once_there_is_enough() -> None:
    buffer = PartBuffer(PartSizes(first=10))
    assert buffer.is_untouched
    buffer.write(b"123456789")
    assert not buffer.is_full((0, None))
    buffer.write(memoryview(b"abc"))
    assert (buffer.is_full((0, None)), buffer.size, buffer.content()) == (True, 12, b"123456789abc")
    assert buffer.take() == b"123456789abc"
    assert (buffer.size, buffer.content(), buffer.is_untouched) == (0, b"", False)


def test_some_of_what_is_collected_may_stay_for_the_next_part() -> None:
    buffer = PartBuffer(PartSizes(first=10))
    buffer.write(b"123456789abcde")
    assert [buffer.is_full((0, None), rest) for rest in (0, 4, 5)] == [True, True, False]
    assert (buffer.take(4), buffer.size, buffer.content()) == (b"123456789a", 4, b"bcde")
    buffer.write(b"fghijk")
    assert (buffer.is_full((0, None)), buffer.take()) == (True, b"bcdefghijk")
    assert (buffer.min_size, PartBuffer(PartSizes(first=16 * MIB)).min_size) == (10, 5 * MIB)


def test_parts_grow_with_what_is_still_to_come_whoever_sent_those_before() -> None:
    sizes, parts = PartSizes(first=10, max_parts=12), [UploadedPart(1, '"e"', 40), UploadedPart(2, '"e"', 40)]
    continued, anew = PartBuffer(sizes, parts), PartBuffer(sizes)
    for content in (bytes(40), bytes(40)):
        anew.write(content)
        anew.take()
    # 100 bytes of a tenth of the input: twice 900 are kept room for, in the 10 parts that are left.
    for buffer in (continued, anew):
        buffer.write(bytes(20))
        assert not buffer.is_full((10, 100))
        buffer.write(bytes(160))
        # By then there are 260 bytes, and 2 * 260 * 9 / 10 of them in a part.
        assert not buffer.is_full((10, 100))
        assert buffer.is_full((99, 100))
