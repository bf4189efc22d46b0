"""A lease ends earlier for the worker than for SQS, is renewed in time, and never once another may have the message."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from runner.errors import DeniedError, LeaseLostError, QueueError
from runner.worker.leases import Leases
from tests.support.fakes import FakeQueue, Surroundings, make_message

if TYPE_CHECKING:
    from runner.aws.message import Message
    from runner.worker.leases import Lease

VISIBILITY_S = 120


class Held:
    """Leases of a worker, and one that it holds."""

    def __init__(self, **settings: str) -> None:
        known: dict[str, Any] = {"VISIBILITY_TIMEOUT_S": str(VISIBILITY_S), **settings}
        self.around = Surroundings.make(**known)
        self.clock = self.around.clock
        self.leases = Leases(self.around.context)
        self.lease = self.hold(1)

    def hold(self, number: int, ago_s: float = 0.0) -> Lease:
        return self.leases.hold(make_message(number), self.clock.now - ago_s)

    def beat(self, after_s: float | None = None) -> None:
        """Let time pass, by default from one beat to the next, and renew."""
        self.clock.now += self.leases.interval_s if after_s is None else after_s
        self.leases.renew_all()

    def extended(self) -> list[tuple[str, int]]:
        return [(message, told["seconds"]) for name, message, told in self.around.queue.calls if name == "extend"]


def test_a_lease_ends_a_second_earlier_than_sqs_says() -> None:
    held = Held()
    assert held.lease.left_s() == VISIBILITY_S - 1
    held.clock.now += VISIBILITY_S - 1.5
    assert (held.lease.left_s(), held.lease.is_over) == (0.5, False)
    held.clock.now += 0.5
    assert (held.lease.left_s(), held.lease.is_over) == (0, True)


def test_time_counts_from_the_receive_and_not_from_the_hold() -> None:
    held = Held()
    assert held.hold(2, ago_s=20).left_s() == VISIBILITY_S - 20 - 1


def test_each_beat_renews_every_lease_from_now_on() -> None:
    held = Held()
    held.hold(2)
    held.beat()
    assert held.extended() == [("m1", VISIBILITY_S), ("m2", VISIBILITY_S)]
    assert held.lease.left_s() == VISIBILITY_S - 1
    held.beat()
    assert len(held.extended()) == 4


def test_one_beat_may_fail_without_the_lease_ending() -> None:
    held = Held()
    held.around.queue.errors = [QueueError("throttled"), None]
    for _ in range(2):
        held.clock.now += held.leases.interval_s
        assert not held.lease.is_over, "before the next beat"
        held.beat(0.0)
    assert len(held.extended()) == 2
    assert not held.lease.is_over
    assert held.lease.left_s() == VISIBILITY_S - 1
    (line,) = held.around.log("a message could not be renewed")
    assert (line["level"], line["message"], line["error"]) == ("warning", "m1", "throttled")
    assert held.around.breaker.reason is None


def test_a_lease_past_its_end_is_lost_and_not_renewed() -> None:
    """As after a freeze: another worker may have the message, whose receipt may still be good for us."""
    held = Held()
    held.beat(VISIBILITY_S + 0.5)
    assert held.extended() == []
    assert held.lease.is_over
    assert held.lease.lost is not None
    assert "was not renewed in time" in held.lease.lost
    held.beat(-1.0)
    assert held.extended() == [], "nor later"


def test_a_lease_that_sqs_says_is_lost_is_lost() -> None:
    held = Held()
    held.around.queue.errors = [LeaseLostError("somebody else has it")]
    held.beat()
    assert (held.lease.lost, held.lease.is_over) == ("somebody else has it", True)
    held.beat()
    assert len(held.extended()) == 1, "it is not asked for again"
    assert held.around.log() == [], "whoever does the job tells"


def test_the_end_of_one_lease_on_a_message_is_not_that_of_another() -> None:
    """As when a message comes again after its lease was over."""
    held = Held()
    held.clock.now += VISIBILITY_S
    assert not held.leases.adopt(make_message(1, receipt="newer"), held.clock.now)
    again = held.leases.hold(make_message(1, receipt="newer"), held.clock.now)
    held.leases.release(held.lease)
    held.beat()
    assert held.extended() == [("m1", VISIBILITY_S)]
    assert (held.lease.is_over, again.is_over) == (True, False)


def test_a_second_delivery_goes_on_with_the_newer_receipt() -> None:
    held = Held(MAX_LEASE_S="200")
    told: list[float] = []
    held.lease.extended = lambda: told.append(held.lease.left_s())
    held.clock.now += 100
    assert held.leases.adopt(make_message(1, receipt="newer", attempts=7), held.clock.now)
    assert (held.lease.message.receipt, held.lease.message.attempts) == ("newer", 0)
    assert (held.lease.left_s(), told) == (VISIBILITY_S - 1, [VISIBILITY_S - 1])
    for _ in range(3):
        held.beat(40)
    assert not held.lease.is_over, "SQS counts from the newer receive"
    assert not held.leases.adopt(make_message(2), held.clock.now)


def test_a_receipt_that_is_void_since_a_second_delivery_loses_nothing() -> None:
    held = Held()
    queue = held.around.queue

    def extend(message: Message, seconds: int) -> None:
        if message.receipt == "r1":
            assert held.leases.adopt(make_message(1, receipt="newer"), held.clock.now)
            raise LeaseLostError("void")
        FakeQueue.extend(queue, message, seconds)

    queue.extend = extend  # type: ignore[method-assign]
    held.beat()
    assert (held.lease.lost, held.lease.is_over) == (None, False)
    held.beat()
    assert held.extended() == [("m1", VISIBILITY_S)]


def test_the_oldest_message_is_known_even_if_it_was_held_for_a_moment_only() -> None:
    held = Held()
    other = held.leases.hold(make_message(2, first_sent=5), held.clock.now)
    assert held.leases.take_first_sent() == 5
    assert held.leases.take_first_sent() == 5
    held.leases.release(other)
    assert held.leases.take_first_sent() == held.lease.message.first_sent
    held.leases.release(held.leases.hold(make_message(3, first_sent=6), held.clock.now))
    held.leases.release(held.lease)
    assert held.leases.take_first_sent() == 6
    assert held.leases.take_first_sent() is None


def test_a_released_lease_is_renewed_no_longer() -> None:
    held = Held()
    other = held.hold(2)
    held.leases.release(held.lease)
    held.leases.release(held.lease)
    held.beat()
    assert held.extended() == [("m2", VISIBILITY_S)]
    assert not other.is_over


def test_a_lease_that_is_released_during_a_beat_is_not_renewed_in_it() -> None:
    """It would make a message that is to be retried soon invisible for long."""
    held = Held()
    other = held.hold(2)
    held.lease.extended = other.release
    held.beat()
    assert held.extended() == [("m1", VISIBILITY_S)]


def test_a_release_waits_for_the_renewal_that_is_under_way() -> None:
    held = Held()
    queue, done = held.around.queue, []

    def release() -> None:
        held.lease.release()
        done.append("released")

    releases = threading.Thread(target=release)

    def extend(message: Message, seconds: int) -> None:  # noqa: ARG001
        held.lease.drop()  # which does not wait
        releases.start()
        releases.join(0.05)
        done.append("renewed")

    queue.extend = extend  # type: ignore[method-assign]
    held.beat()
    releases.join(10)
    assert done == ["renewed", "released"]


def test_a_renewal_does_not_undo_a_second_delivery_during_it() -> None:
    """It has renewed the first receipt, with the limit of the first receive."""
    held = Held(MAX_LEASE_S="200")
    held.clock.now += 100

    def extend(message: Message, seconds: int) -> None:  # noqa: ARG001
        assert held.leases.adopt(make_message(1, receipt="newer"), held.clock.now)

    held.around.queue.extend = extend  # type: ignore[method-assign]
    held.clock.now += 10
    held.leases.renew_all()
    assert held.lease.left_s() == VISIBILITY_S - 1


def test_no_renewal_goes_beyond_what_sqs_allows() -> None:
    held = Held(MAX_LEASE_S="200")
    received = held.clock.now
    while not held.lease.is_over:
        held.beat(1.0)
        assert held.lease.until <= received + 200
    assert held.lease.lost is None
    assert held.clock.now == received + 199, "it is used up to its margin"


def test_a_renewal_that_would_gain_nothing_is_not_asked_for() -> None:
    held = Held(MAX_LEASE_S=str(VISIBILITY_S))
    held.beat()
    assert held.extended() == []
    assert not held.lease.is_over


def test_a_denial_opens_the_breaker() -> None:
    held = Held()
    held.around.queue.errors = [DeniedError("ChangeMessageVisibility of queue")]
    held.beat()
    assert held.around.breaker.reason == "access denied: ChangeMessageVisibility of queue"
    (line,) = held.around.log("a message could not be renewed")
    assert line["level"] == "error"
    assert not held.lease.is_over, "until its time is over"


def test_a_failure_does_not_keep_the_others_from_being_renewed() -> None:
    held = Held()
    held.hold(2)
    held.around.queue.errors = [QueueError("throttled"), None]
    held.beat()
    assert [message for message, _ in held.extended()] == ["m1", "m2"]


def test_nothing_runs_before_the_start_and_the_heartbeat_ends() -> None:
    before = threading.active_count()
    held = Held(VISIBILITY_TIMEOUT_S="5")
    assert threading.active_count() == before
    held.leases.start()
    assert threading.active_count() == before + 1
    held.leases.close()
    assert threading.active_count() == before


@pytest.mark.parametrize("visibility_s", [5, 120, 43_200])
def test_there_are_enough_beats_for_any_timeout(visibility_s: int) -> None:
    held = Held(VISIBILITY_TIMEOUT_S=str(visibility_s), MAX_LEASE_S="43200")
    assert 2 * held.leases.interval_s < visibility_s - 1
