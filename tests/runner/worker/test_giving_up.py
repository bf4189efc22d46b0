"""A worker that may not use its queue counts it, and one that ends without having done its work says why."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from runner.aws.queue import CopiedError
from runner.errors import DeniedError, QueueError
from runner.job.protocol import JobResult, Outcome
from runner.worker.leases import Leases
from runner.worker.settlement import Settlement
from tests.support.deployment import logged
from tests.support.fakes import Surroundings, make_event, make_message
from tests.support.proxy import Refuse, proxy_of
from tests.support.whole_worker import WholeWorker

if TYPE_CHECKING:
    from tests.support.deployment import Deployment

DENIED = DeniedError("sqs:ReceiveMessage on queue jobs is denied: allow it to the role of the worker")
AWAY = QueueError("queue jobs: receive_message failed: no route to host")


def denials(whole: WholeWorker) -> list[str]:
    return [line["error"] for line in whole.metrics() if "QueueDenials" in line]


def test_receives_that_are_denied_are_counted() -> None:
    whole = WholeWorker()
    whole.queue.receive_errors = [DENIED, DENIED]
    whole.queue.put("a")
    with whole:
        whole.wait_until_empty()
    assert denials(whole) == [str(DENIED)] * 2
    assert [line["level"] for line in whole.log() if line["event"] == "no message could be received"] == ["error"] * 2
    assert (whole.status, whole.done()) == (0, {"a"})


@pytest.mark.parametrize("kind", [JobResult.DONE, JobResult.STOPPED, JobResult.FAILED, JobResult.RETRY])
@pytest.mark.parametrize("copied", [False, True])
def test_messages_that_may_not_be_settled_are_counted(kind: JobResult, copied: bool) -> None:
    around = Surroundings.make()
    error: Exception = DENIED
    if copied:
        error = CopiedError(str(DENIED))
        error.__cause__ = DENIED
    around.queue.errors = [error]
    Settlement(around.context).settle(make_message(), Outcome(kind, "because"), event=make_event(), seconds=1.0)
    assert around.metric("QueueDenials") == [1]
    assert len(around.log("the message could not be settled")) == 1


def test_renewals_that_are_denied_are_counted() -> None:
    around = Surroundings.make()
    leases = Leases(around.context)
    leases.hold(make_message(), around.clock.monotonic())
    around.clock.now += 60
    around.queue.errors = [DENIED]
    leases.renew_all()
    assert around.metric("QueueDenials") == [1]
    assert around.log("a message could not be renewed")[0]["level"] == "error"


def test_failures_other_than_denials_are_not_counted_as_such() -> None:
    whole = WholeWorker()
    whole.queue.receive_errors = [AWAY]
    whole.queue.put("a")
    with whole:
        whole.wait_until_empty()
    assert denials(whole) == []


# The last receive


@pytest.mark.parametrize(("max_receives", "receives", "warned"), [(3, 3, True), (3, 2, False), (None, 9, False)])
def test_a_message_that_is_received_for_the_last_time_is_told(
    max_receives: int | None, receives: int, warned: bool
) -> None:
    whole = WholeWorker(MAX_ATTEMPTS="20")
    whole.queue.max_receives = max_receives
    whole.queue.put("a", receives=receives, attempts=receives - 1)
    with whole:
        whole.wait_until_empty()
    lines = [line for line in whole.log() if line["event"] == "last receive"]
    assert [line["receives"] for line in lines] == [receives] * warned
    assert all('"key": "a"' in line["body"] for line in lines)
    assert [line["LastReceives"] for line in whole.metrics() if "LastReceives" in line] == [1] * warned


# The end


def test_a_worker_that_drains_a_queue_gives_up_if_it_cannot_receive() -> None:
    whole = WholeWorker(drain=True)
    whole.queue.receive_errors = [AWAY] * 100
    whole.queue.put("a")
    whole._thread.start()
    assert whole.join() == 1
    (end,) = [line for line in whole.log() if line["event"] == "stopped"]
    assert (end["level"], end["reason"]) == ("error", f"8 receives in a row have failed: {AWAY}")
    assert whole.worker.end_reason == end["reason"]


def test_a_worker_that_drains_a_queue_survives_a_few_failures() -> None:
    whole = WholeWorker(drain=True)
    whole.queue.receive_errors = [AWAY] * 7
    whole.queue.put("a")
    whole._thread.start()
    assert (whole.join(), whole.done(), whole.worker.end_reason) == (0, {"a"}, "")


def test_a_worker_goes_on_however_long_it_cannot_receive() -> None:
    whole = WholeWorker()
    whole.queue.receive_errors = [AWAY] * 12
    whole.queue.put("a")
    with whole:
        whole.wait_until_empty()
    assert whole.status == 0


@pytest.mark.parametrize("level", ["info", "critical"])
def test_a_worker_that_gives_up_says_so_on_standard_error(deployment: Deployment, aws: str, level: str) -> None:
    """Whatever the level of its log is: outside of ECS, nobody may look at that."""
    with proxy_of(aws) as proxy:
        proxy.rule = lambda asked: Refuse(400, "AccessDenied") if asked.operation == "ReceiveMessage" else None
        process = deployment.start("--drain", env={"AWS_ENDPOINT_URL_SQS": proxy.endpoint, "LOG_LEVEL": level})
        stdout, stderr = process.communicate(timeout=60)
    (said,) = stderr.splitlines()
    assert said.startswith("runner: the worker has ended with status 1: access denied: sqs:ReceiveMessage on queue ")
    assert process.returncode == 1
    ends = [line for line in logged(stdout) if line.get("event") == "stopped"]
    assert [line["reason"] for line in ends] == [said.partition("status 1: ")[2]] * (level == "info")
    assert any("QueueDenials" in line for line in logged(stdout))
