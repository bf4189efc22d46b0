"""Parts are uploaded several at a time, and noted in their order; what goes wrong with one is raised by the next."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from runner.aws.bucket import Store
from runner.errors import FencedError, NoUploadError
from runner.job.part_sender import ON_THEIR_WAY_BYTES, Mark, PartSender
from runner.job.upload import Target, Upload
from tests.support.example import wait_until
from tests.support.proxy import Hold, Refuse
from transform import State, Summary

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.proxy import Proxy

PART_BYTES = 5 << 20


@pytest.fixture
def upload(s3: Any, proxy: Proxy) -> Iterator[Upload]:
    s3.create_bucket(Bucket="parts")
    made = Upload(Target(Store.open("parts", {"AWS_ENDPOINT_URL": proxy.endpoint}), "key", {}, None, PART_BYTES))
    made.create()
    yield made
    made.abort()


def content(number: int) -> bytes:
    return b"%d" % number * PART_BYTES


def mark(number: int) -> Mark:
    return Mark(State(Summary(bytes_in=number)), 0)


def send(sender: PartSender, upload: Upload, number: int) -> None:
    upload.write(content(number))
    assert upload.is_full((0, None))
    sender.send(mark(number))


def test_a_part_that_is_late_holds_up_what_is_noted_and_no_other_part(upload: Upload, proxy: Proxy, s3: Any) -> None:
    reached, late = threading.Event(), threading.Event()
    proxy.rule = lambda request: (
        Hold(reached, late) if (request.operation, request.number) == ("UploadPart", 1) else None
    )
    noted: list[Mark] = []
    with PartSender(upload, noted.append, 4) as sender:
        send(sender, upload, 1)
        assert reached.wait(10)
        for number in (2, 3, 4):
            send(sender, upload, number)
        wait_until(lambda: len(sender._arrived) == 3)
        assert (noted, upload.parts) == ([], [])
        late.set()
        sender.finish()
    assert noted == [mark(4)], "the newest of them stands for all"
    assert [part.number for part in upload.parts] == [1, 2, 3, 4]
    upload.write(b"the rest")
    upload.publish({})
    whole = s3.get_object(Bucket="parts", Key="key")["Body"].read()
    assert whole == b"".join(map(content, range(1, 5))) + b"the rest"


@pytest.mark.parametrize(("most", "size"), [(1, PART_BYTES), (2, PART_BYTES), (4, ON_THEIR_WAY_BYTES)])
def test_no_more_are_on_their_way_than_there_is_room_for(most: int, size: int, upload: Upload, proxy: Proxy) -> None:
    reached, late = threading.Event(), threading.Event()
    proxy.rule = lambda request: Hold(reached, late) if request.operation == "UploadPart" else None
    room = 1 if size == ON_THEIR_WAY_BYTES else most
    with PartSender(upload, lambda _: None, most) as sender:
        try:
            for number in range(room):
                upload.write(bytes(size))
                sender.send(mark(number))
            upload.write(bytes(size))
            waiting = threading.Thread(target=sender.send, args=(mark(room),))
            waiting.start()
            wait_until(lambda: proxy.count("UploadPart") == room)
            waiting.join(0.3)
            assert waiting.is_alive()
            assert upload.collected_bytes == size
        finally:
            late.set()
        waiting.join(10)
        sender.finish()
    assert proxy.count("UploadPart") == room + 1


def test_noting_holds_up_no_part_and_the_end_waits_for_it(upload: Upload) -> None:
    begun, late = threading.Event(), threading.Event()
    noted: list[Mark] = []

    def note(mark: Mark) -> None:
        begun.set()
        assert late.wait(10)
        noted.append(mark)

    with PartSender(upload, note, 1) as sender:
        send(sender, upload, 1)
        assert begun.wait(10)
        for number in (2, 3, 4):
            send(sender, upload, number)
        assert noted == []
        end = threading.Thread(target=sender.finish)
        end.start()
        end.join(0.3)
        assert end.is_alive()
        late.set()
        end.join(10)
        assert (noted[0], noted[-1]) == (mark(1), mark(4))


def test_a_part_that_fails_is_raised_and_nothing_after_it_is_noted(upload: Upload, proxy: Proxy) -> None:
    proxy.rule = lambda request: (
        Refuse(404, "NoSuchUpload") if (request.operation, request.number) == ("UploadPart", 2) else None
    )
    noted: list[Mark] = []
    with PartSender(upload, noted.append, 2) as sender:
        send(sender, upload, 1)
        wait_until(lambda: len(noted) == 1)
        send(sender, upload, 2)
        with pytest.raises(NoUploadError):
            sender.finish()
    assert noted == [mark(1)]
    assert [part.number for part in upload.parts] == [1]


def test_who_is_fenced_off_hears_of_it(upload: Upload) -> None:
    def note(_: Mark) -> None:
        raise FencedError("another worker goes on with the job")

    with PartSender(upload, note, 2) as sender:
        send(sender, upload, 1)
        with pytest.raises(FencedError):
            sender.finish()


def test_at_the_end_nothing_is_on_its_way(upload: Upload, proxy: Proxy) -> None:
    noted: list[Mark] = []
    with pytest.raises(KeyError), PartSender(upload, noted.append, 2) as sender:  # noqa: PT012 - what the job raises
        send(sender, upload, 1)
        raise KeyError
    assert noted == [mark(1)]
    assert proxy.count("UploadPart") == 1
