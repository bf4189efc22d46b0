"""The dead-letter queue: lists its letters, counts their causes, and moves letters back to the queue or removes them.

A letter can be looked at only by receiving it. `DeadLetters.look` receives each with a visibility timeout, so that the
next receive returns others, and makes all visible again at the end. If this process is killed before that, they become
visible when the timeout expires. Reasons that differ only in a key and in numbers are one cause.
"""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from runner.aws.message import Lane, Message, attributes_of, batches, compose, read_message
from runner.aws.queue import send_all
from runner.aws.s3_events import parse
from runner.aws.sqs import ask_sqs, name_of, to_error
from runner.errors import EventError, QueueError, cause_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from runner.aws.queue import Queue
    from runner.machine import Clock


@dataclass(frozen=True, slots=True)
class Cause:
    """The letters with one cause.

    Attributes:
        count: The number of letters.
        reason: The reason of the first one.
        example: The objects of the first one.
    """

    count: int
    reason: str
    example: str


class Causes:
    """Counts letters by their causes."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._first: dict[str, DeadLetter] = {}

    def add(self, letter: DeadLetter) -> None:
        """Count a letter."""
        cause = cause_of(letter.reason, letter.keys[0] if letter.keys else "")
        self._counts[cause] += 1
        self._first.setdefault(cause, letter)

    @property
    def total(self) -> int:
        """How many letters there were."""
        return self._counts.total()

    def listed(self) -> list[Cause]:
        """Return the causes, the most frequent first."""
        return [
            Cause(count, self._first[cause].reason, self._first[cause].about)
            for cause, count in self._counts.most_common()
        ]


_BATCH = 10
_HELD_S = 60
_HELD_LETTERS_PER_S = 50  # far fewer than are received, so that the first ones are not received again meanwhile
_MAX_HELD_S = 3600
_MAX_HELD = 100_000  # SQS has no more than 120,000 in flight
_SYSTEM_NAMES = ["ApproximateReceiveCount", "SentTimestamp", "AWSTraceHeader", "DeadLetterQueueSourceArn"]
_WAIT_S = 1  # a receive that waits asks all servers of SQS, so an empty answer means an empty queue


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message on the dead-letter queue.

    Attributes:
        message: The message.
        reason: Why it is a dead letter.
        buckets: The buckets of the objects that it is about; empty if they are not known.
        keys: The keys of these objects.
        job: The id of the job, "" if not known.
        lane: The queue that it comes from.
    """

    message: Message = field(repr=False)
    reason: str
    buckets: tuple[str, ...]
    keys: tuple[str, ...]
    job: str
    lane: Lane = Lane.MAIN

    @property
    def about(self) -> str:
        """The URIs of the objects that it is about, or the id of the message."""
        uris = [f"s3://{bucket}/{key}" for bucket, key in zip(self.buckets, self.keys, strict=True)]
        return ", ".join(uris) or f"message {self.message.id}"

    @property
    def time(self) -> datetime:
        """When it was sent to the dead-letter queue; if SQS has moved it, when it was sent to the queue."""
        return datetime.fromtimestamp(self.message.sent / 1000, UTC)


class DeadLetters:
    """The dead-letter queue of a queue.

    Every method raises `DeniedError` or `QueueError` if a request to SQS fails.

    Args:
        queue: The queue.
        clock: Tells the time.
        backfill: The queue of backfills, if its dead letters are among these. They have an attribute that the worker
            adds, or the ARN of that queue, from which SQS has moved them.
    """

    def __init__(self, queue: Queue, clock: Clock, backfill: Queue | None = None) -> None:
        self._queue = queue
        self._backfill = backfill
        self._clock = clock
        self._url = queue.dead_letter_url
        self._held: dict[str, str] = {}  # the receipt handle of each by its id

    def count(self) -> int:
        """Return the approximate number of letters, including invisible ones."""
        names = [f"ApproximateNumberOfMessages{kind}" for kind in ("", "NotVisible", "Delayed")]
        answer = ask_sqs(self._queue.client, "get_queue_attributes", self._url, AttributeNames=names)
        return sum(int(answer.get("Attributes", {}).get(name, 0)) for name in names)

    def clock(self) -> datetime:
        """Return the time by the clock of SQS, to the second."""
        answer = ask_sqs(self._queue.client, "get_queue_attributes", self._url, AttributeNames=["QueueArn"])
        date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
        return parsedate_to_datetime(date) if date else datetime.fromtimestamp(self._clock.time(), UTC)

    @contextmanager
    def look(self, max_letters: int = _MAX_HELD) -> Iterator[Iterator[list[DeadLetter]]]:
        """Yield the visible letters in batches, each letter once; make them visible again at the end.

        Args:
            max_letters: Maximum number of letters.
        """
        try:
            yield self._receive(max_letters)
        finally:
            self._let_go()

    def move_back(self, letters: Sequence[DeadLetter]) -> None:
        """Send letters to the queues that they come from, as if never tried, and then remove them here."""
        for lane in Lane:
            self._move_back(lane, [letter for letter in letters if letter.lane is lane])

    def _move_back(self, lane: Lane, letters: Sequence[DeadLetter]) -> None:
        queue = self._backfill if lane is Lane.BACKFILL and self._backfill is not None else self._queue
        copies = []
        for letter in letters:
            # The progress of a checkpoint is still true; attempts, and the time when it was first sent, start again.
            known = {"progress": letter.message.progress} if letter.message.progress else {}
            copies.append(compose(letter.message.body, attributes_of(letter.message, **known), letter.message.trace))
        left = [*letters]
        for batch in batches(copies):
            send_all(queue, batch, self._clock)
            self.remove(left[: len(batch)])
            del left[: len(batch)]

    def remove(self, letters: Sequence[DeadLetter]) -> None:
        """Remove letters here, 10 at most."""
        entries = [{"Id": str(at), "ReceiptHandle": letter.message.receipt} for at, letter in enumerate(letters)]
        answer = ask_sqs(self._queue.client, "delete_message_batch", self._url, Entries=entries)
        for failed in answer.get("Failed", ()):  # it is now on both queues; a duplicate does no harm
            raise to_error({"Error": failed}, "DeleteMessageBatch", name_of(self._url))
        for letter in letters:
            self._held.pop(letter.message.id, None)

    def _receive(self, max_letters: int) -> Iterator[list[DeadLetter]]:
        hold_s = min(_HELD_S + min(self.count(), max_letters) // _HELD_LETTERS_PER_S, _MAX_HELD_S)
        while len(self._held) < max_letters:
            answer = ask_sqs(
                self._queue.client,
                "receive_message",
                self._url,
                MaxNumberOfMessages=min(_BATCH, max_letters - len(self._held)),
                VisibilityTimeout=hold_s,
                WaitTimeSeconds=_WAIT_S,
                MessageSystemAttributeNames=_SYSTEM_NAMES,
                MessageAttributeNames=["All"],
            )
            messages = answer.get("Messages") or []
            new = [raw for raw in messages if raw["MessageId"] not in self._held]
            self._held.update({raw["MessageId"]: raw["ReceiptHandle"] for raw in messages})
            if new:
                yield [self._read(raw) for raw in new]
            elif not messages:
                return

    def _read(self, raw: dict[str, Any]) -> DeadLetter:
        given = {name: value.get("StringValue", "") for name, value in raw.get("MessageAttributes", {}).items()}
        try:
            created = parse(raw.get("Body", "")).created
        except EventError:
            created = ()
        reason = given.get("reason") or "moved here by SQS, after more receives than its redrive policy allows"
        buckets, keys = tuple(event.bucket for event in created), tuple(event.key for event in created)
        return DeadLetter(read_message(raw), reason, buckets, keys, given.get("job", ""), self._lane_of(raw, given))

    def _lane_of(self, raw: Mapping[str, Any], given: Mapping[str, str]) -> Lane:
        moved_from = raw.get("Attributes", {}).get("DeadLetterQueueSourceArn")
        by_worker = "reason" in given and given.get("lane") == Lane.BACKFILL.value
        by_sqs = self._backfill is not None and bool(moved_from) and moved_from == self._backfill.arn
        return Lane.BACKFILL if by_worker or by_sqs or self._queue.lane is Lane.BACKFILL else Lane.MAIN

    def _let_go(self) -> None:
        """Make the letters that are held visible again at once; it does not matter if some are gone or visible."""
        receipts = [*self._held.values()]
        self._held.clear()
        for start in range(0, len(receipts), _BATCH):
            entries = [
                {"Id": str(number), "ReceiptHandle": receipt, "VisibilityTimeout": 0}
                for number, receipt in enumerate(receipts[start : start + _BATCH])
            ]
            with suppress(QueueError):
                ask_sqs(self._queue.client, "change_message_visibility_batch", self._url, Entries=entries)
