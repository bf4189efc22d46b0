"""The ECS task of this process, through the container agent: `Protection` from scale-in, and `read_task_metadata`.

While a job runs, the task is protected from being stopped when ECS scales in; see
https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-scale-in-protection-endpoint.html
"""

import http.client
import json
import math
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from structlog.typing import FilteringBoundLogger

EXPIRES_MINUTES = 30
"""Short, so that a task that dies or hangs is soon unprotected; the protection is renewed after half of this time."""
TIMEOUT_S = 3.0
RETRY_S = 15.0
IDLE_S = 1.0
"""How long a task has to be idle before its protection ends: a gap between two jobs is not worth two requests."""
CLOSE_S = 2.0

_MAX_ANSWER_BYTES = 1 << 16
_NOT_IN_A_SERVICE = "TASK_NOT_VALID"


class Protection:
    """Keeps the task protected while it is busy, by requests from a separate thread: no method waits for the agent.

    If the agent refuses or does not answer, this is logged once for each kind of failure, and is never fatal. Without
    an agent, nothing happens.

    Args:
        agent_uri: The value of `ECS_AGENT_URI`.
        log: The log for failures.
        max_s: How long the task is protected at most while it is busy without a break, in seconds; then it expires.
    """

    def __init__(self, agent_uri: str | None, log: FilteringBoundLogger, max_s: float) -> None:
        self._url = f"{agent_uri.rstrip('/')}/task-protection/v1/state" if agent_uri else None
        self._log = log
        self._max_s = max_s
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # the agent is behind no proxy
        self._thread: threading.Thread | None = None
        self._kinds_logged: set[str] = set()
        # Everything below is shared with the thread under this lock, which is not held during a request.
        self._changed = threading.Condition()
        self._ticked_s = 0.0
        self._wanted = self._closing = self._lapsing = False
        self._since_s = -math.inf  # since when it is busy, or idle
        self._protected_until_s = self._renew_at_s = self._retry_at_s = -math.inf

    def busy(self) -> None:
        """Note that there is work: protect the task."""
        self._want(busy=True)

    def idle(self) -> None:
        """Note that there is no work: end the protection after `IDLE_S`."""
        self._want(busy=False)

    def tick(self, now: float | None = None) -> None:
        """Renew the protection if necessary; to be called every few seconds, with the time by the monotonic clock."""
        with self._changed:
            self._ticked_s = self._ticked_s if now is None else max(self._ticked_s, now)
            over = self._wanted and not self._lapsing and self._now() >= self._since_s + self._max_s
            self._lapsing = self._lapsing or over
            self._changed.notify()
        if over and self._url:
            self._log.warning("scale-in protection ends although the task is busy", max_s=self._max_s)

    def close(self) -> None:
        """End the protection; wait up to `CLOSE_S` for the request."""
        with self._changed:
            self._wanted, self._closing = False, True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(CLOSE_S)

    def _want(self, *, busy: bool) -> None:
        with self._changed:
            if self._url is None or self._closing or self._wanted == busy:
                return
            self._wanted, self._since_s, self._lapsing = busy, self._now(), False
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="protection", daemon=True)
                self._thread.start()
            self._changed.notify()

    def _now(self) -> float:
        return max(self._ticked_s, time.monotonic())

    def _run(self) -> None:
        while (minutes := self._next()) is not None:
            asked_s = self._now()
            kind, detail = self._ask(minutes)
            self._log_failure(kind, detail)
            if not self._note(minutes, asked_s, kind):
                return

    def _next(self) -> int | None:
        """Wait until a request is due; return the minutes to ask for, 0 to end the protection, None if closed."""
        with self._changed:
            while (minutes := self._due()) is None:
                if self._closing:
                    return None
                ending = not self._wanted and self._protected_until_s > self._now()
                self._changed.wait(IDLE_S if ending else None)
            return minutes

    def _due(self) -> int | None:
        now = self._now()
        if not self._closing and now < self._retry_at_s:
            return None
        if not self._wanted:
            is_idle = self._closing or now >= self._since_s + IDLE_S
            return 0 if is_idle and self._protected_until_s > now else None
        limit_s = self._since_s + self._max_s
        if now >= limit_s or now < self._renew_at_s or self._protected_until_s >= limit_s:
            return None
        return min(EXPIRES_MINUTES, math.ceil((limit_s - now) / 60))

    def _note(self, minutes: int, asked_s: float, failure: str) -> bool:
        """Note the result of a request; return whether there may be another one."""
        with self._changed:
            if failure == _NOT_IN_A_SERVICE:
                self._url = None
                return False
            if failure:  # the agent may have received the request all the same, so that it may have to be undone
                self._protected_until_s = max(self._protected_until_s, asked_s + 60 * minutes)
                self._retry_at_s = self._now() + RETRY_S
            else:
                self._protected_until_s = asked_s + 60 * minutes if minutes else -math.inf
                self._renew_at_s = asked_s + 60 * minutes / 2 if minutes else -math.inf
            return bool(minutes) or not self._closing

    def _ask(self, minutes: int) -> tuple[str, str]:
        """Send the request; return the kind of the failure and its details, both empty on success."""
        wanted: dict[str, Any] = {"ProtectionEnabled": minutes > 0}
        if minutes:
            wanted["ExpiresInMinutes"] = minutes
        headers = {"Content-Type": "application/json"}
        try:
            request = urllib.request.Request(  # noqa: S310 # the address is that of the agent, from ECS
                self._url or "", data=json.dumps(wanted).encode(), headers=headers, method="PUT"
            )
            with self._opener.open(request, timeout=TIMEOUT_S) as response:
                return _refusal(response.read(_MAX_ANSWER_BYTES))
        except urllib.error.HTTPError as error:
            kind, detail = _refusal(_read_rest(error))
            return kind or f"HTTP {error.code}", detail
        except (OSError, ValueError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            return type(reason if isinstance(reason, Exception) else error).__name__, str(reason)

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
