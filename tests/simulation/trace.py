"""The trace of a simulation: what has happened, as a story that a person can read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.simulation.kernel import Process
    from tests.simulation.network import Fault

_QUIET = {"get_queue_attributes", "head_bucket"}


class Trace:
    """Collects what happens; nothing is formatted before somebody wants to read it.

    Args:
        kept: Whether it is kept at all.
    """

    def __init__(self, *, kept: bool) -> None:
        self.kept = kept
        self._lines: list[tuple[float, str, Any, Any, Any]] = []

    def say(self, now: float, who: str, text: str) -> None:
        """Note an action."""
        if self.kept:
            self._lines.append((now, who, text, None, None))

    def request(self, now: float, process: Process, operation: str, arguments: Mapping[str, Any], answer: Any) -> None:
        """Note that a request has taken effect."""
        if self.kept and operation not in _QUIET and (operation != "receive_message" or _messages(answer)):
            self._lines.append((now, process.name, operation, dict(arguments), (answer, process.alive)))

    def fault(self, now: float, process: Process, operation: str, arguments: Mapping[str, Any], fault: Fault) -> None:
        """Note that something happens to a request."""
        if self.kept:
            place = arguments.get("Key", "")
            self._lines.append((now, process.name, f"** {operation} {place} {fault.value}", None, None))

    def lines(self) -> list[str]:
        """Return the story, a line for each thing that has happened."""
        return [
            f"{now:9.3f}  {who:<12} {_told(what, arguments, answer)}"
            for now, who, what, arguments, answer in self._lines
        ]


def _messages(answer: Any) -> Any:
    return isinstance(answer, ClientError) or answer.get("Messages")


def _told(what: str, arguments: Any, answer: Any) -> str:
    if arguments is None:
        return what
    result, alive = answer
    shown = {name: value for name, value in arguments.items() if name in _SHOWN}
    if "Body" in arguments:
        shown["bytes"] = len(arguments["Body"])
    text = f"{what} {arguments.get('Key', '')} {' '.join(f'{name}={value}' for name, value in shown.items())}".rstrip()
    late = "" if alive else " (its sender is dead)"
    if isinstance(result, ClientError):
        return f"{text} → {result.response['Error']['Code']}{late}"
    known = [f"{name}={result[name]}" for name in ("ETag", "UploadId", "MessageId") if name in result]
    if what == "receive_message":
        known = [f"{one['MessageId']} {one['Body'][:160]}" for one in result["Messages"]]
    return f"{text} → {' '.join(known) or 'ok'}{late}"


_SHOWN = (
    "IfMatch",
    "IfNoneMatch",
    "PartNumber",
    "UploadId",
    "Range",
    "DelaySeconds",
    "VisibilityTimeout",
    "ReceiptHandle",
)
