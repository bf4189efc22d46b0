"""A message of the queue: read from what SQS returns, and composed for sending, with the attributes that we add."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

BATCH_BYTES = 1 << 20
_BATCH_MESSAGES = 10
_MAX_ATTRIBUTES = 10
_TEXT_CHARACTERS = 1100  # of an attribute: the URI of an object has 1,093 at most

_OURS = {"attempts", "first_sent", "progress", "owner"}
_OF_A_DEAD_LETTER = {"reason", "job", "trace", "lane"}  # in addition
_MAX_ATTEMPTS = 1000  # the largest maxReceiveCount of SQS; a larger number is not ours
_EARLIEST_MS = 1_000_000_000_000  # in 2001: a smaller number is not a time in ms
_OWNER = re.compile(r"[!-~]{1,100}")
_MAX_PROGRESS_BYTES = 1 << 46  # the largest objects have 48.8 TiB

_NOT_SENDABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Lane(Enum):
    """Which of the queues of a deployment a message belongs to."""

    MAIN = "main"
    """The queue that S3's events are on."""
    BACKFILL = "backfill"
    """The queue of existing objects, which are transformed while there are no events."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message as it was received.

    Attributes:
        id: Its id. A copy has another one.
        body: Its text.
        receipt: The receipt handle.
        attempts: How many times it was tried before this time.
        first_sent: When the original message was sent, in ms since the epoch.
        sent: When this copy was sent, in ms since the epoch.
        progress: How many bytes of the input a checkpoint covered when the message was requeued.
        trace: The X-Ray trace header, or "".
        owner: Identifies the message in the checkpoint of its job: the id of the original message.
        lane: The queue that it was received from, to which all that is done with it has to go.
        receives: How many times SQS has delivered this copy.
        attributes: The message attributes of the sender, as SQS describes them.
    """

    id: str
    body: str
    receipt: str = field(repr=False)
    attempts: int
    first_sent: int
    sent: int
    progress: int
    trace: str
    attributes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, compare=False, repr=False)
    owner: str = ""
    lane: Lane = Lane.MAIN
    receives: int = 1

    @property
    def is_copy(self) -> bool:
        """Whether it is a copy of a message that was received before."""
        return self.owner not in ("", self.id)

    def age_s(self, now: float) -> float:
        """Return how long ago the original was sent, given the time in seconds since the epoch."""
        return now - self.first_sent / 1000


def read_message(raw: Mapping[str, Any], lane: Lane = Lane.MAIN) -> Message:
    """Return the message that SQS describes; one that was moved back from the dead letters has no attempts."""
    system = raw.get("Attributes", {})
    given = raw.get("MessageAttributes", {})
    ours = {name: given[name].get("StringValue") for name in _OURS & given.keys()}
    sent = _read_number(system.get("SentTimestamp"), max_value=None)
    first_sent = _read_number(ours.get("first_sent"), max_value=sent)
    receives = _read_number(system.get("ApproximateReceiveCount"), max_value=None)
    moved_back = "reason" in given
    owner = "" if moved_back else ours.get("owner") or ""
    before = 0 if moved_back else _read_number(ours.get("attempts"), max_value=_MAX_ATTEMPTS)
    # A copy of it is not a dead letter any more, and its attempts count.
    not_theirs = _OURS | _OF_A_DEAD_LETTER if moved_back else _OURS
    return Message(
        id=raw["MessageId"],
        body=raw.get("Body", ""),
        receipt=raw["ReceiptHandle"],
        attempts=before + max(receives - 1, 0),
        first_sent=first_sent if first_sent >= _EARLIEST_MS else sent,
        sent=sent,
        progress=_read_number(ours.get("progress"), max_value=_MAX_PROGRESS_BYTES),
        trace=system.get("AWSTraceHeader", ""),
        attributes={name: _sendable(value) for name, value in given.items() if name not in not_theirs},
        owner=owner if _OWNER.fullmatch(owner) else raw["MessageId"],
        lane=lane,
        receives=receives,
    )


def _read_number(text: str | None, *, max_value: int | None) -> int:
    """Return a number that any sender may have written; 0 if it is not a number, or larger than the maximum."""
    if text is None or not re.fullmatch("[0-9]{1,15}", text):
        return 0
    number = int(text)
    return number if max_value is None or number <= max_value else 0


def _sendable(attribute: Mapping[str, Any]) -> dict[str, Any]:
    """Return an attribute without the empty lists that some servers add."""
    return {name: attribute[name] for name in ("DataType", "StringValue", "BinaryValue") if attribute.get(name)}


def attributes_of(message: Message, **ours: int | str) -> dict[str, Mapping[str, Any]]:
    """Return the attributes of a copy: ours, and as many of the sender's as SQS allows."""
    described: dict[str, Mapping[str, Any]] = {}
    for name, value in ours.items():
        text = _NOT_SENDABLE.sub("\ufffd", str(value))[:_TEXT_CHARACTERS]
        if text:  # SQS does not accept empty ones
            described[name] = {"DataType": "Number" if isinstance(value, int) else "String", "StringValue": text}
    others = [name for name in message.attributes if name not in described]
    return described | {name: message.attributes[name] for name in others[: _MAX_ATTRIBUTES - len(described)]}


def compose(body: str, attributes: Mapping[str, Mapping[str, Any]], trace: str) -> dict[str, Any]:
    """Return the arguments of boto3's `send_message` for a message, without its queue."""
    header = {"AWSTraceHeader": {"DataType": "String", "StringValue": trace}} if trace else {}
    return {"MessageBody": body, "MessageAttributes": attributes, "MessageSystemAttributes": header}


def batches(messages: Sequence[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Yield the messages in groups that SQS accepts in one request."""
    batch: list[dict[str, Any]] = []
    size = 0
    for message in messages:
        bytes_more = _size_of(message)
        if batch and (len(batch) == _BATCH_MESSAGES or size + bytes_more > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(message)
        size += bytes_more
    if batch:
        yield batch


def _size_of(message: Mapping[str, Any]) -> int:
    """Return the size as SQS counts it: the bytes of the body, and of each attribute's name, type and value."""
    attributes = message["MessageAttributes"]
    texts = [message["MessageBody"], *attributes, *(value for one in attributes.values() for value in one.values())]
    return sum(len(text.encode() if isinstance(text, str) else text) for text in texts)
