"""A circuit breaker: one bad deployment must not send a whole backlog to the dead-letter queue."""

from __future__ import annotations

import math
from collections import OrderedDict
from enum import Enum
from typing import TYPE_CHECKING

from runner.aws.surroundings import REAL, Surroundings
from runner.errors import cause_of
from runner.metrics import breaker_metric

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import FilteringBoundLogger

    from runner.metrics import Metrics

FIRST_DELAY_S, LONGEST_DELAY_S = 30.0, 900.0
"""Between two probes; each delay is twice the one before it, and random between half of that and all of it.

After a probe that has cost its message nothing the next one comes after the first delay again.
"""

_MAX_CAUSES = 100
_MAX_AVOIDED = 10  # objects by one probe
_MAX_NAMES = 100  # that are remembered; the oldest are forgotten first


class BreakerState(Enum):
    """State of the breaker."""

    CLOSED = "closed"
    """Jobs are done."""
    OPEN = "open"
    """No job is done: messages are given back."""
    PROBING = "probing"
    """One job is done at a time, to see whether jobs succeed again."""


class Proof(Enum):
    """What has to succeed before the breaker closes."""

    JOB = "job"
    RECEIVE = "receive"
    START = "start"


class Breaker:
    """Opens if the deployment may be at fault, and closes once a job succeeds.

    It opens at the first denial that is not an object's, and after failures of one cause on a number of different
    objects without a success in between. Once it has seen the deployment transform an object, failures that may be
    those of an object need not be reported to it. While it is open, it allows probes at growing delays. All methods may
    be called from any thread.

    Args:
        failures: The number of objects.
        around: Tells the time, and varies the delays.
        tell: Is called with every new state and the reason for it, in the order in which they come.

    Attributes:
        state: Its state.
        is_proven: Whether a job has transformed lines, so that the deployment is not at fault where an object may be.
        reason: Why it is not closed, None while it is closed. If a probe fails, the reason of that.
    """

    def __init__(
        self,
        failures: int,
        around: Surroundings = REAL,
        tell: Callable[[BreakerState, str | None], None] = lambda _state, _reason: None,
    ) -> None:
        self._failures = failures
        self._tell = tell
        self._clock = around.clock
        self._chance = around.chance
        self._lock = around.tasks.condition()
        self._names_by_cause: OrderedDict[str, set[str]] = OrderedDict()
        self._failed_names: OrderedDict[str, None] = OrderedDict()
        self._denied_names: OrderedDict[str, None] = OrderedDict()  # whose denials have opened it
        self._denied_alone: OrderedDict[str, None] = OrderedDict()  # of these, those after which others succeeded
        self._avoided: set[str] = set()  # by the present probe
        self._needs = Proof.JOB
        self._delay_s = FIRST_DELAY_S
        self._probe_at = math.inf
        self.state = BreakerState.CLOSED
        self.is_proven = False
        self.reason: str | None = None

    # What happens

    def succeeded(self, proof: Proof = Proof.JOB, *, transformed: bool = True) -> None:
        """Note a success. That of a job closes the breaker, any other one only if it was open because of that.

        Args:
            proof: What has succeeded.
            transformed: Whether the job has transformed lines. One on an empty object shows that its output can be
                written, and nothing about the calculation.
        """
        with self._lock:
            if proof is Proof.JOB:
                self.is_proven |= transformed
                self._names_by_cause.clear()
                self._failed_names.clear()
                for name in self._denied_names:
                    _remember(self._denied_alone, name)
                self._denied_names.clear()
            if self.state is not BreakerState.CLOSED and proof in (Proof.JOB, self._needs):
                self._delay_s = FIRST_DELAY_S
                self._change(BreakerState.CLOSED, None)

    def failed(self, reason: str, name: str, *, key: str = "", counted: bool = True) -> None:
        """Note the failure of a job, which may be the fault of its object or of the deployment.

        Reasons that differ only in numbers and in the object's key are one cause.

        Args:
            reason: Why it has failed.
            name: The bucket and key of its object, or another name that no other failure has.
            key: The key alone, as the reason has it.
            counted: Whether it counts against its message. A probe that does not costs nothing but time, so that the
                next one, on another object, comes soon.
        """
        with self._lock:
            cause = cause_of(reason, key or name)
            names = self._names_by_cause.setdefault(cause, set())
            self._names_by_cause.move_to_end(cause)
            if len(self._names_by_cause) > _MAX_CAUSES:
                self._names_by_cause.popitem(last=False)
            if len(names) < self._failures:
                names.add(name)
            _remember(self._failed_names, name)
            if self.state is BreakerState.PROBING:
                # Once a job has succeeded, only objects that may not be read come here: most likely a sender's, with
                # a key of their own. Each probe counts against its message, and the good ones behind them wait.
                self._open(reason, Proof.JOB, soon=not counted or self.is_proven)
            elif len(names) >= self._failures:
                self._open(f"jobs on {len(names)} objects have failed for one cause: {reason}", Proof.JOB)

    def denied(self, reason: str, *, name: str = "", proof: Proof = Proof.JOB) -> None:
        """Note that AWS refuses something that every job needs.

        Args:
            reason: What is denied.
            name: The bucket and key of the object whose job was denied it, "" without one.
            proof: What shows that it is denied no longer.
        """
        with self._lock:
            if name:
                _remember(self._failed_names, name)
                _remember(self._denied_names, name)
            self._open(f"access denied: {reason}", proof)

    def broken(self, reason: str) -> None:
        """Note that no job process starts any more."""
        with self._lock:
            self._open(reason, Proof.START)

    def denies_only(self, name: str) -> bool:
        """Return whether jobs of other objects have succeeded since a job of this one was denied something."""
        with self._lock:
            return name in self._denied_alone

    # Probes

    def begin_probe(self) -> bool:
        """Return whether probes may begin or go on: OPEN → PROBING once the delay is over."""
        with self._lock:
            if self.state is BreakerState.OPEN and self._clock.monotonic() >= self._probe_at:
                self._avoided.clear()
                self._change(BreakerState.PROBING, self.reason)
            return self.state is BreakerState.PROBING

    def postpone(self) -> None:
        """PROBING → OPEN: a probe has not succeeded, for a reason that is neither the object's nor the deployment's."""
        with self._lock:
            if self.state is BreakerState.PROBING:
                self._open(str(self.reason), self._needs)

    def avoids(self, name: str) -> bool:
        """Return whether a probe should use another object, because the jobs of this one have failed already.

        An object that comes again in the same probe is used: there are hardly any others.
        """
        with self._lock:
            avoided = self._avoided
            if self.state is not BreakerState.PROBING or name not in self._failed_names:
                return False
            if name in avoided or len(avoided) == _MAX_AVOIDED:
                return False
            avoided.add(name)
            return True

    def _open(self, reason: str, proof: Proof, *, soon: bool = False) -> None:
        """Open it; if it is open already, it stays as it is, but may need more to close.

        Args:
            reason: Why.
            proof: What shows that this is over.
            soon: Whether the next probe comes after the first delay; the one after it is not delayed longer for that.
        """
        if self.state is BreakerState.CLOSED:
            self._needs = proof
        elif self._needs is not proof:
            self._needs = Proof.JOB  # which proves everything else
        if self.state is not BreakerState.OPEN:
            delay_s = FIRST_DELAY_S if soon else self._delay_s
            self._probe_at = self._clock.monotonic() + delay_s * self._chance.uniform(0.5, 1.0)
            if not soon:
                self._delay_s = min(2 * self._delay_s, LONGEST_DELAY_S)
            self._change(BreakerState.OPEN, reason)

    def _change(self, state: BreakerState, reason: str | None) -> None:
        self.state, self.reason = state, reason
        self._tell(state, reason)


def tells(log: FilteringBoundLogger, metrics: Metrics) -> Callable[[BreakerState, str | None], None]:
    """Return what logs and counts each new state; that the breaker is open still, the loop counts every minute."""

    def tell(state: BreakerState, reason: str | None) -> None:
        write = log.error if state is BreakerState.OPEN else log.info
        write(f"breaker {state.value}", reason=reason)
        breaker_metric(metrics, is_open=state is not BreakerState.CLOSED)

    return tell


def _remember(names: OrderedDict[str, None], name: str) -> None:
    names[name] = None
    names.move_to_end(name)
    if len(names) > _MAX_NAMES:
        names.popitem(last=False)
