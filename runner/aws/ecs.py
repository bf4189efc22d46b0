"""The ECS task of this process, through the container agent: `Protection` from scale-in, and `read_task_metadata`.

While a job runs, the task is protected from being stopped when ECS scales in; see
https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-scale-in-protection-endpoint.html
"""

from __future__ import annotations

import http.client
import json
import math
import urllib.error
import urllib.request
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from structlog.typing import FilteringBoundLogger

    from runner.machine import Bugs, Clock, Task, Tasks

EXPIRES_MINUTES = 30
"""Short, so that a task that dies or hangs is soon unprotected; the protection is renewed after half of this time."""
TIMEOUT_S = 3.0
RETRY_S = 15.0
IDLE_S = 1.0
"""How long a task must be idle before its protection ends: a gap between two jobs is not worth two requests."""
CLOSE_S = 2.0
REST_AFTER_S = 15 * 60.0
"""After this time of protection without a break, a task takes no more work until it has rested."""
REST_S = 20.0
"""How long a task rests: without work and protection, so that ECS can stop it for a deployment or to scale in."""

_MAX_ANSWER_BYTES = 1 << 16
_NOT_IN_A_SERVICE = "TASK_NOT_VALID"


class AsksAgent(Protocol):
    """The ECS agent, as far as it protects tasks."""

    def protect(self, minutes: int) -> tuple[str, str]:
        """Protect the task for some minutes, 0 to end that; return the kind of the failure and its details, or ""."""


class Agent:
    """The ECS container agent.

    Args:
        uri: The value of `ECS_AGENT_URI`.
    """

    def __init__(self, uri: str) -> None:
        self._url = f"{uri.rstrip('/')}/task-protection/v1/state"
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # the agent is behind no proxy

    def protect(self, minutes: int) -> tuple[str, str]:
        """Protect the task for some minutes, 0 to end that; return the kind of the failure and its details, or ""."""
        wanted: dict[str, Any] = {"ProtectionEnabled": minutes > 0}
        if minutes:
            wanted["ExpiresInMinutes"] = minutes
        headers = {"Content-Type": "application/json"}
        try:
            request = urllib.request.Request(  # noqa: S310 # the address is that of the agent, from ECS
                self._url, data=json.dumps(wanted).encode(), headers=headers, method="PUT"
            )
            with self._opener.open(request, timeout=TIMEOUT_S) as response:
                return _refusal(response.read(_MAX_ANSWER_BYTES))
        except urllib.error.HTTPError as error:
            kind, detail = _refusal(_read_rest(error))
            return kind or f"HTTP {error.code}", detail
        except (OSError, ValueError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            return type(reason if isinstance(reason, Exception) else error).__name__, str(reason)


class ProtectionState(Enum):
    """State of the protection."""

    IDLE = "idle"
    """There is no work. The protection ends if that lasts for `IDLE_S`."""
    BUSY = "busy"
    """There is work: the task is protected, and takes more."""
    ENDING = "ending"
    """There is work: the task is protected, but takes no more until it has rested."""
    LAPSED = "lapsed"
    """There is work, for so long that the protection expires."""
    RESTING = "resting"
    """There is no work, and the task takes none. The protection ends at once."""
    CLOSED = "closed"
    """The protection ends at once, for good."""


_PROTECTED = {ProtectionState.BUSY, ProtectionState.ENDING}
_WORKING = _PROTECTED | {ProtectionState.LAPSED}


class Protection:
    """Keeps the task protected while it is busy, by requests from a separate thread: no method waits for the agent.

    With jobs back to back the task would be protected for ever, so that a deployment could not replace it. So the task
    rests for `REST_S` after `REST_AFTER_S` of protection, as soon as its jobs have ended.

    If the agent refuses or does not answer, this is logged once for each kind of failure, and is never fatal. Without
    an agent, nothing happens.

    Args:
        agent: The ECS agent, None outside of ECS.
        log: The log for failures.
        max_s: How long the task is protected at most while it is busy without a break, in seconds; then it expires.
        clock: Tells the time.
        tasks: Starts the thread.
        bugs: Keeps what the thread raises.
    """

    def __init__(
        self,
        agent: AsksAgent | None,
        log: FilteringBoundLogger,
        max_s: float,
        clock: Clock,
        tasks: Tasks,
        bugs: Bugs,
    ) -> None:
        self._agent = agent
        self._log = log
        self._max_s = max_s
        self._clock = clock
        self._tasks = tasks
        self._bugs = bugs
        self._thread: Task | None = None
        self._kinds_logged: set[str] = set()
        # Everything below is shared with the thread under this lock, which is not held during a request.
        self._changed = tasks.condition()
        self._state = ProtectionState.IDLE
        self._since_s = -math.inf  # since when it is busy, idle or resting
        self._unbroken_since_s: float | None = None  # since when it is protected; None while it is not
        self._protected_until_s = self._renew_at_s = self._retry_at_s = -math.inf

    def busy(self) -> None:
        """Note that there is work: protect the task."""
        with self._changed:
            if self._agent is None or self._state in _WORKING or self._state is ProtectionState.CLOSED:
                return
            if self._unbroken_since_s is None:
                self._unbroken_since_s = self._clock.monotonic()
            # A message that was on its way when the rest began is worked on first.
            rests = self._state is ProtectionState.RESTING
            self._enter(ProtectionState.ENDING if rests else ProtectionState.BUSY)
            if self._thread is None:
                self._thread = self._tasks.start(self._bugs.noted(self._run), name="protection")

    def idle(self) -> None:
        """Note that there is no work: end the protection after `IDLE_S`, or at once if the task has to rest."""
        with self._changed:
            if self._agent is not None and self._state in _WORKING:
                rests = self._state is ProtectionState.ENDING or self._has_to_rest()
                self._enter(ProtectionState.RESTING if rests else ProtectionState.IDLE)

    def tick(self) -> None:
        """Renew the protection if necessary; to be called every few seconds."""
        with self._changed:
            over = self._state in _PROTECTED and self._clock.monotonic() >= self._since_s + self._max_s
            if over:
                self._state = ProtectionState.LAPSED
            self._advance()
            self._changed.notify_all()
        if over and self._agent:
            self._log.warning("scale-in protection ends although the task is busy", max_s=self._max_s)

    def may_take(self) -> bool:
        """Return whether the task may take more work."""
        with self._changed:
            self._advance()
            return self._agent is None or self._state in (ProtectionState.IDLE, ProtectionState.BUSY)

    def close(self) -> None:
        """End the protection; wait up to `CLOSE_S` for the request."""
        with self._changed:
            self._enter(ProtectionState.CLOSED)
        if self._thread is not None:
            self._thread.join(CLOSE_S)

    def _enter(self, state: ProtectionState) -> None:
        self._state, self._since_s = state, self._clock.monotonic()
        self._changed.notify_all()

    def _advance(self) -> None:
        """Begin and end rests."""
        if self._state is ProtectionState.RESTING and self._clock.monotonic() >= self._since_s + REST_S:
            self._unbroken_since_s = None  # even if the agent has not answered
            self._enter(ProtectionState.IDLE)
        elif self._state is ProtectionState.BUSY and self._has_to_rest():
            self._state = ProtectionState.ENDING
        elif self._state is ProtectionState.IDLE and self._has_to_rest():
            self._enter(ProtectionState.RESTING)

    def _has_to_rest(self) -> bool:
        return self._unbroken_since_s is not None and self._clock.monotonic() >= self._unbroken_since_s + REST_AFTER_S

    def _run(self) -> None:
        while self._agent and (minutes := self._next()) is not None:
            asked_s = self._clock.monotonic()
            kind, detail = self._agent.protect(minutes)
            self._log_failure(kind, detail)
            if not self._note(minutes, asked_s, kind):
                return

    def _next(self) -> int | None:
        """Wait until a request is due; return the minutes to ask for, 0 to end the protection, None if closed."""
        with self._changed:
            while (minutes := self._due()) is None:
                if self._state is ProtectionState.CLOSED:
                    return None
                ending = self._state not in _WORKING and self._protected_until_s > self._clock.monotonic()
                self._changed.wait(IDLE_S if ending else None)
            return minutes

    def _due(self) -> int | None:
        now, state = self._clock.monotonic(), self._state
        if state is not ProtectionState.CLOSED and now < self._retry_at_s:
            return None
        if state not in _WORKING:
            ends = state is not ProtectionState.IDLE or now >= self._since_s + IDLE_S
            return 0 if ends and self._protected_until_s > now else None
        limit_s = self._since_s + self._max_s
        if now >= limit_s or now < self._renew_at_s or self._protected_until_s >= limit_s:
            return None
        return min(EXPIRES_MINUTES, math.ceil((limit_s - now) / 60))

    def _note(self, minutes: int, asked_s: float, failure: str) -> bool:
        """Note the result of a request; return whether there may be another one."""
        with self._changed:
            if failure == _NOT_IN_A_SERVICE:
                self._agent = None
                return False
            if failure:  # the agent may have received the request all the same, so that it may have to be undone
                self._protected_until_s = max(self._protected_until_s, asked_s + 60 * minutes)
                self._retry_at_s = self._clock.monotonic() + RETRY_S
            else:
                self._protected_until_s = asked_s + 60 * minutes if minutes else -math.inf
                self._renew_at_s = asked_s + 60 * minutes / 2 if minutes else -math.inf
                if not minutes and self._state not in _WORKING:
                    self._unbroken_since_s = None
            return bool(minutes) or self._state is not ProtectionState.CLOSED

    def _log_failure(self, kind: str, detail: str) -> None:
        if not kind or kind in self._kinds_logged:
            return
        self._kinds_logged.add(kind)
        if kind == _NOT_IN_A_SERVICE:
            self._log.info("no scale-in protection: the task is not part of a service")
        else:
            self._log.warning("scale-in protection failed; the work goes on", kind=kind, detail=detail)


def _read_rest(error: urllib.error.HTTPError) -> bytes:
    try:
        with error:
            return error.read(_MAX_ANSWER_BYTES)
    except (OSError, http.client.HTTPException):
        return b""


def _refusal(body: bytes) -> tuple[str, str]:
    """Return the kind and the text of a refusal by the agent, which may have the status 200."""
    try:
        said = json.loads(body)
    except ValueError:
        return "", ""
    if not isinstance(said, dict):
        return "", ""
    if isinstance(failure := said.get("failure"), dict):
        return str(failure.get("Reason") or "failure"), str(failure.get("Detail") or "")
    if isinstance(error := said.get("error"), dict):
        return str(error.get("Code") or "error"), str(error.get("Message") or "")
    return "", ""


METADATA_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class TaskMetadata:
    """The names of a task; empty if they are not known.

    Attributes:
        arn: The task's ARN.
        family: The family of its task definition.
    """

    arn: str = ""
    family: str = ""


def read_task_metadata(environ: Mapping[str, str], timeout_s: float = METADATA_TIMEOUT_S) -> TaskMetadata:
    """Ask the agent at `ECS_CONTAINER_METADATA_URI_V4`; without an answer, as outside of ECS, all names are empty."""
    base = environ.get("ECS_CONTAINER_METADATA_URI_V4", "").rstrip("/")
    if not base.startswith(("http://", "https://")):
        return TaskMetadata()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # the agent is never behind a proxy
    try:
        with opener.open(f"{base}/task", timeout=timeout_s) as response:
            said = json.load(response)
        return TaskMetadata(arn=str(said.get("TaskARN") or ""), family=str(said.get("Family") or ""))
    except (OSError, ValueError, AttributeError, http.client.HTTPException):
        return TaskMetadata()
