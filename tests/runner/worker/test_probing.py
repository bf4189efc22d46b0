"""No input stops a worker, and a bad deployment costs little: the breaker opens, probes, and closes again."""

from __future__ import annotations

from itertools import pairwise

import pytest

from runner.aws.queue import CopiedError
from runner.errors import DeniedError
from runner.job.protocol import JobResult, Outcome
from runner.worker.breaker import BreakerState
from tests.support.whole_worker import WholeWorker

DONE = Outcome(JobResult.DONE)
JUNK = Outcome(JobResult.FAILED, "every line was rejected", of_object=True)
FOREIGN = Outcome(JobResult.DENIED, "get_object", of_object=True)
WRONG = Outcome(JobResult.FAILED, "there is no column `aa`", unfit=True)
REFUSED = Outcome(JobResult.DENIED, "put_object")


def by_name(key: str) -> Outcome:
    """Return how a job on an object ends by the name of the object."""
    return {"junk": JUNK, "foreign": FOREIGN, "unfit": WRONG}.get(key.split("/", maxsplit=1)[0], DONE)


def test_junk_before_good_objects_does_not_stop_the_worker() -> None:
    whole = WholeWorker()
    whole.outcome_of = by_name
    junk, good = [f"junk/{number}" for number in range(5)], {f"good/{number}" for number in range(5)}
    for key in (*junk, *good):
        whole.queue.put(key)
    with whole:
        whole.wait_until_empty()
        whole.wait_for(lambda: whole.health.state == "ok")
    assert (whole.status, whole.done(), set(whole.queue.dead)) == (0, good, set(junk))


@pytest.mark.parametrize("kind", ["junk", "unfit"])
def test_bad_objects_hold_up_nobody_where_others_have_succeeded(kind: str) -> None:
    whole = WholeWorker()
    whole.outcome_of = by_name
    whole.queue.put("good/first")
    with whole:
        whole.wait_for(whole.done)
        for number in range(30):
            whole.queue.put(f"{kind}/{number}")
        whole.queue.put("good/last")
        whole.wait_until_empty()
        assert (whole.health.state, whole.breaker.reason) == ("ok", None)
    assert (len(whole.queue.dead), len(whole.orders), whole.done()) == (30, 32, {"good/first", "good/last"})
    assert whole.status == 0


def test_objects_that_do_not_fit_hold_up_good_ones_for_minutes_where_none_has_succeeded() -> None:
    """Although they might be all there is; it took hours when probes of them became rare."""
    whole = WholeWorker()
    whole.outcome_of = by_name
    for number in range(12):
        whole.queue.put(f"unfit/{number}")
    with whole:
        whole.wait_for(lambda: whole.breaker.state is BreakerState.OPEN)
        began = whole.clock.monotonic()
        whole.queue.put("good")
        whole.wait_for(whole.done)
        took = whole.clock.monotonic() - began
        whole.wait_until_empty()
    assert took < 20 * 60
    assert len(whole.queue.dead) == 12


def test_a_queue_of_nothing_but_junk_becomes_empty() -> None:
    whole = WholeWorker()
    whole.outcome_of = by_name
    for number in range(7):
        whole.queue.put(f"junk/{number}")
    with whole:
        whole.wait_until_empty()
    assert len(whole.queue.dead) == len(whole.orders) == 7


def test_objects_that_are_denied_do_not_stop_the_worker() -> None:
    whole = WholeWorker(RETRY_MIN_S="1", RETRY_MAX_S="2")
    whole.outcome_of = by_name
    for number in range(4):
        whole.queue.put(f"foreign/{number}")
        whole.queue.put(f"good/{number}")
    with whole:
        whole.wait_until_empty()
    assert whole.queue.dead.keys() == {f"foreign/{number}" for number in range(4)}
    assert set(whole.queue.dead.values()) == {"gave up after 3 attempts, the last of which: get_object"}
    assert len(whole.done()) == 4


def test_a_deployment_that_is_denied_costs_nothing_and_goes_on_when_it_is_allowed() -> None:
    whole = WholeWorker(workers=2)
    whole.outcome_of = lambda _: REFUSED
    for number in range(6):
        whole.queue.put(f"good/{number}")
    with whole:
        whole.wait_for(lambda: len(whole.orders) >= 4)
        assert whole.health.state == "failing"
        assert whole.health.reason == "access denied: put_object"
        whole.outcome_of = by_name
        whole.wait_until_empty()
        whole.wait_for(lambda: whole.health.state == "ok")
    assert (len(whole.done()), whole.queue.dead, whole.status) == (6, {}, 0)


def test_a_calculation_that_fails_costs_as_many_dead_letters_as_it_takes_to_open() -> None:
    whole = WholeWorker()
    whole.outcome_of = lambda _: WRONG
    for number in range(8):
        whole.queue.put(f"good/{number}")
    with whole:
        whole.wait_for(lambda: len(whole.orders) >= 6)
        assert len(whole.queue.dead) == 3
        assert set(whole.queue.attempts().values()) == {0}
        assert whole.orders[3] not in whole.orders[:3]
        whole.outcome_of = by_name
        whole.wait_until_empty()
    assert (len(whole.done()), len(whole.queue.dead)) == (5, 3)


def test_probes_are_one_at_a_time_and_of_other_objects() -> None:
    whole = WholeWorker(workers=3)
    running: list[str] = []

    def outcome_of(key: str) -> Outcome:
        running.append(key)
        assert len(running) == 1
        whole.clock.sleep(20)
        running.remove(key)
        return REFUSED

    whole.outcome_of = outcome_of
    whole.queue.put("first")
    with whole:
        whole.wait_for(lambda: whole.breaker.state is BreakerState.OPEN)
        for number in range(4):
            whole.queue.put(f"good/{number}")
        whole.wait_for(lambda: len(whole.orders) == 4)
        assert len(set(whole.orders)) == 4
        whole.outcome_of = by_name
        whole.wait_until_empty()


def test_an_object_that_has_failed_is_probed_where_there_is_no_other() -> None:
    whole = WholeWorker(POLL_WAIT_S="1")
    whole.outcome_of = lambda _: REFUSED
    whole.queue.put("only")
    with whole:
        whole.wait_for(lambda: len(whole.orders) >= 2)
        whole.outcome_of = by_name
        whole.wait_until_empty()
    assert whole.done() == {"only"}


def test_a_queue_that_denies_is_asked_again_at_growing_delays() -> None:
    whole = WholeWorker()
    whole.queue.receive_errors = [DeniedError("sqs:ReceiveMessage")] * 3
    with whole:
        whole.wait_for(lambda: whole.health.state == "failing")
        whole.wait_for(lambda: whole.health.state == "ok")
    times = whole.queue.receives[:4]
    delays = [later - earlier for earlier, later in pairwise(times)]
    assert all(delay >= longest / 2 for delay, longest in zip(delays, (30, 60, 120), strict=True))
    assert whole.status == 0, "although no message has come"


def test_processes_that_start_again_close_it() -> None:
    whole = WholeWorker()

    def died() -> int:
        return whole.output.getvalue().count("a job process has died")

    with whole:
        whole.wait_for(lambda: whole.queue.receives)
        whole.starts = False
        whole.wait_for(died)
        whole.queue.put("good")
        whole.wait_for(lambda: whole.breaker.state is BreakerState.OPEN)
        assert died() == 6, "one that could work, and five that could not"
        whole.wait_for(lambda: died() == 8)
        whole.wait_for(lambda: whole.breaker.state is BreakerState.OPEN)
        assert died() == 8, "each is a probe"
        whole.starts = True
        whole.wait_until_empty()
        whole.wait_for(lambda: whole.health.state == "ok")
    assert (whole.done(), whole.status) == ({"good"}, 0)


def test_a_queue_is_not_drained_by_an_open_breaker() -> None:
    whole = WholeWorker(drain=True)
    whole.outcome_of = lambda _: WRONG
    for number in range(5):
        whole.queue.put(f"good/{number}")
    with whole:
        assert whole.join() == 1
    assert (len(whole.queue.dead), len(whole.queue.attempts())) == (3, 2)


def test_an_empty_queue_is_drained() -> None:
    whole = WholeWorker(workers=2, drain=True)
    for number in range(5):
        whole.queue.put(f"good/{number}")
    with whole:
        assert whole.join() == 0
    assert len(whole.done()) == 5


# Besides


def test_a_message_that_was_copied_and_not_deleted_is_only_deleted_when_it_comes_back() -> None:
    whole = WholeWorker(POLL_WAIT_S="1")
    outcomes = [Outcome(JobResult.STOPPED)]
    whole.outcome_of = lambda _: outcomes.pop() if outcomes else DONE
    whole.queue.delete_errors = [CopiedError("sqs:DeleteMessage")]
    whole.queue.put("good")
    with whole:
        whole.wait_until_empty()
    assert (whole.queue.copies, whole.orders) == (["good"], ["good"] * 2)


def test_messages_are_settled_before_the_worker_ends() -> None:
    whole = WholeWorker()
    whole.queue.slow_s = 0.3
    whole.queue.put("good")
    with whole:
        whole.wait_for(whole.done)
    assert [key for key, _ in whole.queue.settled] == ["good"]


def test_a_message_that_is_delivered_again_while_it_is_at_work_is_one_job() -> None:
    whole = WholeWorker(workers=2)
    held = whole.queue.again
    held.add("twice")

    def outcome_of(_key: str) -> Outcome:
        whole.wait_for(lambda: "received again" in whole.output.getvalue())
        return DONE

    whole.outcome_of = outcome_of
    whole.queue.put("twice")
    with whole:
        whole.wait_until_empty()
    assert (whole.orders, whole.queue.settled) == (["twice"], [("twice", "r1'")]), "with the newer receipt"


def test_nothing_is_received_while_the_task_rests() -> None:
    whole = WholeWorker(POLL_WAIT_S="1")
    whole.protection.takes = False
    whole.queue.put("good")
    with whole:
        whole.wait_for(lambda: whole.health.state == "ok")
        assert whole.queue.receives == []
        whole.protection.takes = True
        whole.wait_until_empty()


def test_the_age_of_the_oldest_message_is_told_once_a_minute_while_one_is_held() -> None:
    whole = WholeWorker(workers=3, POLL_WAIT_S="1")

    def told() -> list[float]:
        return [line["OldestMessageAge"] for line in whole.metrics() if "OldestMessageAge" in line]

    def outcome_of(_key: str) -> Outcome:
        whole.wait_for(lambda: len(told()) >= 3)
        return DONE

    with whole:
        whole.wait_for(lambda: whole.queue.receives)
        began = whole.clock.time()
        whole.outcome_of = outcome_of
        whole.queue.put("new", first_sent=int(began * 1000))
        whole.queue.put("old", first_sent=int(began * 1000) - 86_400_000)
        whole.wait_until_empty()
    ages = told()
    assert max(ages) >= 86_400
    assert ages[-1] - ages[-2] >= 59


def test_it_says_and_counts_that_it_does_no_jobs_and_that_it_does_them_again() -> None:
    whole = WholeWorker()
    denied = True
    whole.outcome_of = lambda _: REFUSED if denied else DONE
    whole.queue.put("a")
    with whole:
        whole.wait_for(lambda: len(breaker_numbers(whole)) >= 4)
        denied = False
        whole.wait_until_empty()
        whole.wait_for(lambda: whole.health.state == "ok")
    told = [(line["level"], line["event"], line["reason"]) for line in whole.log() if "breaker" in line["event"]]
    reason = "access denied: put_object"
    assert told[0] == ("error", "breaker open", reason)
    assert told[1] == ("info", "breaker probing", reason)
    assert told[-1] == ("info", "breaker closed", None)
    numbers = breaker_numbers(whole)
    assert set(numbers[:-1]) == {1}
    assert numbers[-1] == 0
    (end,) = [line for line in whole.log() if line["event"] == "stopped"]
    assert (end["level"], end.get("reason")) == ("info", None)


def test_it_counts_every_minute_that_it_does_no_jobs() -> None:
    """Or an alarm would end between two probes, of which there are 15 minutes in the end."""
    whole = WholeWorker()
    whole.outcome_of = lambda _: REFUSED
    whole.queue.put("a")
    with whole:
        whole.wait_for(lambda: whole.clock.monotonic() > 1000 + 45 * 60)
    times = [line["_aws"]["Timestamp"] / 1000 for line in whole.metrics() if "BreakerOpen" in line]
    assert max(after - before for before, after in pairwise(times)) < 5 * 60
    (end,) = [line for line in whole.log() if line["event"] == "stopped"]
    assert (end["level"], end["reason"]) == ("error", whole.breaker.reason)
    assert whole.status == 1


def breaker_numbers(whole: WholeWorker) -> list[float]:
    return [line["BreakerOpen"] for line in whole.metrics() if "BreakerOpen" in line]
