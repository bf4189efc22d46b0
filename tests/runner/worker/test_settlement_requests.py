"""Requests that settle messages: what fails is logged, what hangs keeps nothing waiting, deletes are sent together."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import pytest

from runner.errors import DeniedError, LeaseLostError, QueueError
from runner.job.protocol import JobResult, Outcome
from runner.worker.breaker import BreakerState
from runner.worker.leases import Leases
from runner.worker.settlement import Settlement
from tests.support.fakes import make_message
from tests.support.settled import (
    DONE,
    EVENT,
    Backlog,
    Settled,
    copied,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runner.aws.message import Message
    from runner.worker.leases import Lease


# What goes wrong


@pytest.mark.parametrize("kind", list(JobResult))
@pytest.mark.parametrize(
    ("error", "event", "opens"),
    [
        (LeaseLostError("gone"), "another worker had the message by then", False),
        (QueueError("throttled"), "the message could not be settled", False),
        (DeniedError("DeleteMessage"), "the message could not be settled", True),
        (copied(QueueError("DeleteMessage")), "the message could not be settled", False),
        (copied(DeniedError("DeleteMessage")), "the message could not be settled", True),
    ],
)
def test_a_message_that_cannot_be_settled_is_logged(kind: JobResult, error: Exception, event: str, opens: bool) -> None:
    settled = Settled()
    settled.around.queue.errors = [error]
    settled.settle(kind)
    (line,) = settled.around.log(event)
    assert (line["message"], line["error"]) == ("m1", str(error))
    assert (settled.around.breaker.reason is not None) == (opens or kind is JobResult.DENIED)


def test_a_message_that_has_a_copy_but_was_not_deleted_is_not_copied_again() -> None:
    settled = Settled()
    settled.around.queue.errors = [copied(QueueError("DeleteMessage"))]
    settled.settle(JobResult.STOPPED)
    for error in (QueueError("DeleteMessage"), None):
        settled.around.queue.errors = [error]
        assert settled.settlement.finish(make_message(receipt="another"))
    assert [name for name, _, _ in settled.around.queue.calls] == ["requeue", "delete", "delete"]
    assert not settled.settlement.finish(make_message()), "it is gone"
    assert not settled.settlement.finish(make_message(2))


def test_deletes_that_fail_while_copies_are_sent_open_the_breaker() -> None:
    """Or each round would double the messages."""
    backlog = Backlog()
    for _ in range(2):
        assert backlog.state() is BreakerState.CLOSED
        backlog.around.queue.errors = [copied(QueueError("DeleteMessage"))]
        backlog.settle(Outcome(JobResult.STOPPED))
    assert backlog.state() is BreakerState.OPEN
    backlog.probe()
    backlog.around.queue.errors = [QueueError("DeleteMessage")]
    backlog.settle(DONE)
    assert backlog.state() is BreakerState.PROBING, "its message was not deleted"
    backlog.settle(DONE)
    assert backlog.state() is BreakerState.CLOSED


# The thread


def test_a_request_that_hangs_keeps_nobody_waiting_and_the_lease_goes_on() -> None:
    settled = Settled()
    receipts: list[str] = []
    queue, hangs, sent = settled.around.queue, threading.Event(), threading.Event()

    class Hanging:
        max_receives = None

        def delete(self, message: Message) -> None:
            receipts.append(message.receipt)
            sent.set()
            hangs.wait(30)
            queue.delete(message)

    settlement = Settlement(replace(settled.around.context, queue=cast("Any", Hanging())))
    leases = Leases(settled.around.context)
    held = [leases.hold(make_message(number), settled.around.clock.now) for number in (1, 2)]
    settlement.start()
    settlement.settle(held[0].message, DONE, event=EVENT, lease=held[0])
    assert sent.wait(30)
    settlement.settle(held[1].message, DONE, event=EVENT, lease=held[1])
    assert settlement.pending == 2
    leases.renew_all()
    settled.around.clock.now += 1
    leases.renew_all()
    assert {message for _, message, _ in queue.calls} == {"m2"}, "whose request was not sent yet"
    assert leases.adopt(make_message(2, receipt="newer"), settled.around.clock.now)
    assert held[1].message.receipt == "newer"
    hangs.set()
    settlement.close(30)
    assert settlement.pending == 0
    assert receipts == ["r1", "newer"]


@pytest.fixture
def gathering() -> Iterator[tuple[Settled, threading.Event]]:
    """A settlement with a thread that has one message to delete, and gathers more until an event."""
    settled, gathers, enough = Settled(), threading.Event(), threading.Event()

    def sleep(_seconds: float) -> None:
        gathers.set()
        assert enough.wait(30)

    settled.around.clock.sleep = sleep  # type: ignore[method-assign, assignment]
    settled.settlement.start()
    settled.settlement.settle(make_message(0), DONE, event=EVENT)
    assert gathers.wait(30)
    yield settled, enough
    enough.set()
    settled.settlement.close(30)


def test_messages_of_jobs_that_end_together_are_deleted_together(gathering: tuple[Settled, threading.Event]) -> None:
    settled, enough = gathering
    leases = Leases(settled.around.context)
    held = [leases.hold(make_message(number), settled.around.clock.now) for number in range(1, 13)]
    for lease in held[:11]:
        settled.settlement.settle(lease.message, DONE, event=EVENT, lease=lease)
    settled.settlement.requeue(held[11].message, lease=held[11])
    settled.around.clock.now += 1
    leases.renew_all()
    assert [name for name, _, _ in settled.around.queue.calls] == ["extend"] * 12, "they are held meanwhile"
    settled.around.queue.calls.clear()
    enough.set()
    settled.settlement.close(30)
    assert [call[:2] for call in settled.around.queue.calls] == [
        ("delete_all", " ".join(f"m{number}" for number in range(10))),
        ("delete_all", "m10 m11"),
        ("requeue", "m12"),
    ]
    assert settled.settlement.pending == 0
    settled.around.clock.now += 1
    leases.renew_all()
    assert len(settled.around.queue.calls) == 3, "no lease is left"
    assert settled.around.channels.calls_before == [0] * 10 + [1, 1], "told before they are deleted"


def test_each_message_that_is_not_deleted_with_the_others_is_logged(gathering: tuple[Settled, threading.Event]) -> None:
    settled, enough = gathering
    settled.around.queue.errors = [None, LeaseLostError("gone"), DeniedError("sqs:DeleteMessage is denied")]
    for number in (1, 2):
        settled.settlement.settle(make_message(number), DONE, event=EVENT)
    enough.set()
    settled.settlement.close(30)
    assert [call[0] for call in settled.around.queue.calls] == ["delete_all"]
    said = [(entry["event"], entry["message"]) for entry in settled.around.log() if "error" in entry]
    assert said == [("another worker had the message by then", "m1"), ("the message could not be settled", "m2")]
    assert settled.around.breaker.state is BreakerState.OPEN, "denied"


def test_a_request_for_all_of_them_that_fails_counts_for_each(gathering: tuple[Settled, threading.Event]) -> None:
    settled, enough = gathering

    def fail(_messages: object) -> Any:
        raise QueueError("SQS is away")

    settled.around.queue.delete_all = fail  # type: ignore[method-assign, assignment]
    for number in (1, 2):
        settled.settlement.settle(make_message(number), DONE, event=EVENT)
    enough.set()
    settled.settlement.close(30)
    said = [entry["message"] for entry in settled.around.log("the message could not be settled")]
    assert said == ["m0", "m1", "m2"]


def test_a_channel_that_hangs_keeps_nobody_waiting_and_the_lease_goes_on() -> None:
    settled = Settled()
    hangs, told = threading.Event(), threading.Event()

    class Hanging:
        def send(self, event: dict[str, Any]) -> None:
            told.set()
            hangs.wait(30)
            settled.around.channels.send(event)

    context = replace(settled.around.context, channels=cast("Any", Hanging()))
    settlement, leases = Settlement(context), Leases(context)
    lease = leases.hold(make_message(), settled.around.clock.now)
    settlement.start()
    settlement.settle(lease.message, DONE, event=EVENT, lease=lease)
    assert told.wait(30)
    settled.around.clock.now += 1
    leases.renew_all()
    hangs.set()
    settlement.close(30)
    assert [name for name, _, _ in settled.around.queue.calls] == ["extend", "delete"]
    assert settled.around.channels.calls_before == [1], "told before the delete"


def test_a_message_that_is_received_again_until_its_lease_ends_is_settled_with_the_newest_receipt() -> None:
    settled = Settled()
    now = settled.around.clock.now

    class Late(Leases):
        def release(self, lease: Lease) -> None:
            assert self.adopt(make_message(receipt="newer"), now)
            super().release(lease)

    lease = Late(settled.around.context).hold(make_message(), now)
    receipts: list[str] = []
    settled.around.queue.delete = lambda message: receipts.append(message.receipt)  # type: ignore[method-assign]
    settled.settlement.settle(lease.message, DONE, event=EVENT, lease=lease)
    assert receipts == ["newer"]


def test_a_bug_in_the_thread_is_raised_by_the_main_thread() -> None:
    settled = Settled()
    settled.around.queue.errors = [ZeroDivisionError()]
    settled.settlement.start()
    settled.settlement.settle(make_message(), DONE, event=EVENT)
    settled.settlement.close(30)
    with pytest.raises(ZeroDivisionError):
        settled.around.context.bugs.raise_first()
