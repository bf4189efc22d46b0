"""What the model of SQS stores."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(slots=True)
class StoredMessage:
    """A message on a queue. Do not change it.

    Attributes:
        id: Its id.
        body: Its text.
        attributes: The message attributes of its sender, as SQS describes them.
        sent: When it was sent, by the clock of the model.
        visible_at: When it becomes visible, or became so.
        trace: Its X-Ray trace header, or "".
        receives: How many times it was received.
        receipt: The receipt of the last receive, None before the first.
        received: When it was last received.
        first_received: When it was first received.
        is_duplicated: Whether it can be received once more although it is in flight.
        source: ARN of the queue from which it was moved to a dead-letter queue, or "".
    """

    id: str
    body: str
    attributes: Mapping[str, Mapping[str, Any]]
    sent: float
    visible_at: float
    trace: str = ""
    receives: int = 0
    receipt: str | None = None
    received: float = 0.0
    first_received: float = 0.0
    is_duplicated: bool = False
    source: str = ""

    def is_in_flight(self, now: float) -> bool:
        """Return whether it was received and its visibility timeout has not expired."""
        return self.receipt is not None and self.visible_at > now


@dataclass(slots=True)
class Queue:
    """A queue.

    Attributes:
        url: Its URL.
        arn: Its ARN.
        attributes: Its attributes as they were set.
        retention_s: After how many seconds a message is dropped.
        visibility_s: Its default visibility timeout.
        delay_s: Its default delay.
        created: When it was created, in whole seconds.
        messages: Its messages by their ids.
        receipts: The id of the message of each receipt that was given out.
        expires: No message is dropped before this time.
        target: ARN of its dead-letter queue, or "".
        max_receives: After how many receives a message moves there.
    """

    url: str
    arn: str
    attributes: dict[str, str]
    retention_s: float
    visibility_s: int
    delay_s: int
    created: int
    messages: dict[str, StoredMessage] = field(default_factory=dict)
    receipts: dict[str, str] = field(default_factory=dict)
    expires: float = float("inf")
    target: str = ""
    max_receives: int = 0

    def add(self, message: StoredMessage) -> None:
        """Add a message."""
        self.messages[message.id] = message
        self.expires = min(self.expires, message.sent + self.retention_s)
