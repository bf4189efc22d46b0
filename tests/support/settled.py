"""Settlements without time, network and threads, and outcomes to settle messages by."""

from __future__ import annotations

from typing import Any

from runner.aws.queue import CopiedError
from runner.job.protocol import JobResult, Outcome
from runner.worker.breaker import LONGEST_DELAY_S, BreakerState
from runner.worker.settlement import Settlement
from tests.support.fakes import SENT_MS, Surroundings, make_event, make_message

ACKNOWLEDGED = [JobResult.DONE, JobResult.DUPLICATE, JobResult.STALE, JobResult.SUPERSEDED, JobResult.CANCELLED]
HANDED_ON = [JobResult.STOPPED, JobResult.BUSY, JobResult.FENCED, JobResult.DENIED, JobResult.RETRY]
EVENT = make_event()


def copied(cause: Exception) -> CopiedError:
    error = CopiedError(str(cause))
    error.__cause__ = cause
    return error


class Settled:
    """A settlement whose jitter is the longest delay."""

    def __init__(self, jitter: float = 1.0, **options: Any) -> None:
        self.around = Surroundings.make(**options)
        self.around.chance.number = jitter
        self.around.clock.now = SENT_MS / 1000 + 60
        self.settlement = Settlement(self.around.context)

    def settle(
        self,
        kind: JobResult,
        reason: str = "because",
        *,
        offset: int | None = None,
        counts: bool = False,
        **message: Any,
    ) -> tuple[str, dict[str, Any]]:
        """Settle a message; return what was done with it."""
        outcome = Outcome(kind, reason, {"lines_in": 7}, job="j1", offset=offset)
        self.settlement.settle(make_message(**message), outcome, event=EVENT, seconds=2.0, counts=counts)
        return self.around.queue.only


class Backlog:
    """Messages about different objects, of which each is settled by an outcome."""

    def __init__(self, **settings: str) -> None:
        known: dict[str, Any] = {"BREAKER_FAILURES": "2", **settings}
        self.around = Surroundings.make(**known)
        self.around.chance.number = 1.0
        self.around.clock.now = SENT_MS / 1000 + 60
        self.settlement = Settlement(self.around.context)
        self.number = 0

    def state(self) -> BreakerState:
        return self.around.breaker.state

    def settle(self, outcome: Outcome, key: int | None = None, **message: Any) -> tuple[str, dict[str, Any]]:
        self.number += 1
        event = make_event(self.number if key is None else key)
        self.settlement.settle(make_message(self.number, **message), outcome, event=event)
        name, _, told = self.around.queue.calls[-1]
        return name, told

    def probe(self) -> None:
        """Let time pass until a probe begins."""
        self.around.clock.now += LONGEST_DELAY_S
        assert self.around.breaker.begin_probe()


FAILED = Outcome(JobResult.FAILED, "bad", offset=9)
JUNK = Outcome(JobResult.FAILED, "every line was rejected", of_object=True)
UNFIT = Outcome(JobResult.FAILED, "there is no column `a`", unfit=True)
DENIED = Outcome(JobResult.DENIED, "put_object")
FOREIGN = Outcome(JobResult.DENIED, "get_object", of_object=True)
DONE = Outcome(JobResult.DONE)
