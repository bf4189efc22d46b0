"""The queue and its dead-letter queue, over a boto3 client of SQS: `Queue`, and `send_all` for many messages.

A message leaves the queue only when it is deleted. To requeue, split or dead-letter it, copies are sent first. If the
worker dies between the two, there is one message too many, which does no harm, and never one too few.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from runner.aws.message import Lane, Message, attributes_of, batches, compose, read_message
from runner.aws.sqs import ask_sqs, find_queue, name_of, read_redrive_policy, to_error
from runner.errors import LeaseLostError, QueueError, RunnerError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runner.machine import Clock
    from runner.settings import Settings


MAX_WAIT_S = 20
MAX_VISIBILITY_S = 43_200
MAX_DELAY_S = 900
RETENTION = timedelta(days=14)
"""For how long SQS keeps a message at most."""


class CopiedError(QueueError):
    """A message was copied, but could not be deleted: it comes back beside its copy. Its cause is why."""


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue and its dead-letter queue.

    Every method raises `DeniedError` if AWS denies access, with the action and the queue in its message, and
    `QueueError` for every other failure, after which a retry may succeed.

    Attributes:
        client: A boto3 client of SQS.
        name: The name of the queue.
        url: The URL of the queue.
        dead_letter_url: The URL of the dead-letter queue.
        max_receives: After how many receives SQS itself moves a message to a dead-letter queue; None for never.
        lane: Whether it is the main queue of a deployment, or that of its backfills.
        arn: The ARN of the queue, "" if not known.
    """

    client: Any = field(repr=False)
    name: str
    url: str
    dead_letter_url: str
    max_receives: int | None
    lane: Lane = Lane.MAIN
    arn: str = ""

    @classmethod
    def open(cls, client: Any, name: str, dead_letter: str | None, main: Queue | None = None) -> Queue:
        """Find a queue by its name, URL or ARN.

        Args:
            client: A boto3 client of SQS.
            name: The name, URL or ARN of the queue.
            dead_letter: That of the dead-letter queue; None for the one in the queue's redrive policy.
            main: The main queue, if this is the queue for its backfills. It then has the dead-letter queue of the main
                one unless its redrive policy has another one.

        Raises:
            SettingsError: One of them does not exist, is not accessible, or is a FIFO queue.
            QueueError: A request to SQS failed.
        """
        url, attributes = find_queue(client, name, "queue")
        arn = attributes.get("QueueArn", "")
        if main is not None and arn and arn == main.arn:
            raise SettingsError(f"queue {name} is both the main queue and that of backfills: name another one")
        target, max_receives = read_redrive_policy(name, attributes.get("RedrivePolicy"))
        dead = dead_letter or target or (main.dead_letter_url if main is not None else "")
        if not dead:
            raise SettingsError(
                f"queue {name} has no dead-letter queue: give it a RedrivePolicy, or name one in the settings"
            )
        dead_letter_url, dead_letter_attributes = find_queue(client, dead, "dead-letter queue")
        if dead_letter_attributes.get("QueueArn") == attributes.get("QueueArn"):
            raise SettingsError(f"queue {name} is its own dead-letter queue: name another one")
        lane = Lane.MAIN if main is None else Lane.BACKFILL
        return cls(client, name_of(url), url, dead_letter_url, max_receives, lane, arn)

    def receive(self, wait_s: int, visibility_s: int) -> Message | None:
        """Return a message, invisible to others for `visibility_s`; None if none arrived within `wait_s`, up to 20."""
        answer = self._call(
            "receive_message",
            MaxNumberOfMessages=1,
            WaitTimeSeconds=min(wait_s, MAX_WAIT_S),
            VisibilityTimeout=visibility_s,
            MessageSystemAttributeNames=["ApproximateReceiveCount", "SentTimestamp", "AWSTraceHeader"],
            MessageAttributeNames=["All"],
        )
        messages = answer.get("Messages") or [None]
        return None if messages[0] is None else read_message(messages[0], self.lane)

    def extend(self, message: Message, seconds: int) -> None:
        """Keep a message invisible for a number of seconds from now on.

        Raises:
            LeaseLostError: Another worker may have it by now, or it was received 12 hours ago.
        """
        self._call("change_message_visibility", ReceiptHandle=message.receipt, VisibilityTimeout=seconds)

    def delete(self, message: Message) -> None:
        """Delete a message.

        Raises:
            LeaseLostError: Another worker may have it by now. SQS does not always report that.
        """
        self._call("delete_message", ReceiptHandle=message.receipt)

    def delete_all(self, messages: Sequence[Message]) -> list[RunnerError | None]:
        """Delete up to ten messages with one request; return for each what `delete` would raise, None if it is deleted.

        Raises:
            DeniedError, QueueError: The request failed, so that none is known to be deleted.
        """
        entries = [{"Id": str(place), "ReceiptHandle": message.receipt} for place, message in enumerate(messages)]
        answer = self._call("delete_message_batch", Entries=entries)
        failed = {one["Id"]: to_error({"Error": one}, "DeleteMessage", self.name) for one in answer.get("Failed", ())}
        return [failed.get(entry["Id"]) for entry in entries]

    def release(self, message: Message, delay_s: int) -> None:
        """Make a message visible again after a delay; if its lease is lost, another worker has it, and nothing happens.

        SQS adds the time since the receive: if both are more than 12 hours together, the current timeout stays.
        """
        with suppress(LeaseLostError):
            self.extend(message, max(0, min(delay_s, MAX_VISIBILITY_S)))

    def requeue(
        self,
        message: Message,
        *,
        attempts: int,
        progress: int,
        delay_s: int = 0,
        owner: str | None = None,
    ) -> None:
        """Replace a message by a copy, for which SQS counts receives from 0.

        Args:
            message: The message.
            attempts: How many times it has been tried.
            progress: How many bytes of the input a checkpoint covers.
            delay_s: After how many seconds it becomes visible, up to 900.
            owner: The owner of the copy, as `Message.owner` says; None for that of the message.

        Raises:
            LeaseLostError: As `delete`; the copy has been sent.
            CopiedError: The copy has been sent, but the message could not be deleted.
        """
        known = {"attempts": attempts, "first_sent": message.first_sent, "progress": progress}
        attributes = attributes_of(message, **known, owner=owner or message.owner)
        copy = compose(message.body, attributes, message.trace)
        self._call("send_message", **copy, DelaySeconds=max(0, min(delay_s, MAX_DELAY_S)))
        self._delete_copied(message)

    def split(self, message: Message, bodies: Sequence[str]) -> None:
        """Replace a message by one for each body; their attempts start at 0.

        Raises:
            LeaseLostError: As `delete`; the others have been sent.
            CopiedError: The others have been sent, but the message could not be deleted.
        """
        attributes = attributes_of(message, first_sent=message.first_sent)
        for batch in batches([compose(body, attributes, message.trace) for body in bodies]):
            entries = [{"Id": str(position), **one} for position, one in enumerate(batch)]
            answer = self._call("send_message_batch", Entries=entries)
            for failed in answer.get("Failed", ()):
                raise to_error({"Error": failed}, "SendMessageBatch", self.name)
        self._delete_copied(message)

    def dead_letter(self, message: Message, *, reason: str, job: str) -> None:
        """Move a message to the dead-letter queue, with what is known about its failure as attributes.

        Args:
            message: The message.
            reason: Why it cannot succeed; it is shortened, and characters that SQS refuses are replaced.
            job: The id of its job.

        Raises:
            LeaseLostError: As `delete`; the dead letter has been sent.
            CopiedError: The dead letter has been sent, but the message could not be deleted.
        """
        known: dict[str, int | str] = {"attempts": message.attempts, "first_sent": message.first_sent}
        if message.progress:  # the checkpoint still exists when an operator moves it back
            known["progress"] = message.progress
        if self.lane is not Lane.MAIN:
            known["lane"] = self.lane.value
        attributes = attributes_of(message, reason=reason, job=job, trace=message.trace, **known)
        letter = compose(message.body, attributes, message.trace)
        self._call("send_message", self.dead_letter_url, **letter)
        self._delete_copied(message)

    def _delete_copied(self, message: Message) -> None:
        try:
            self.delete(message)
        except LeaseLostError:
            raise
        except RunnerError as error:
            raise CopiedError(str(error)) from error

    def waiting(self) -> tuple[int, int, int]:
        """Return the approximate numbers of messages that are visible, in flight, and delayed."""
        names = [f"ApproximateNumberOfMessages{kind}" for kind in ("", "NotVisible", "Delayed")]
        found = self._call("get_queue_attributes", AttributeNames=names).get("Attributes", {})
        visible, in_flight, delayed = (int(found.get(name, 0)) for name in names)
        return visible, in_flight, delayed

    def _call(self, operation: str, url: str | None = None, **arguments: Any) -> Any:
        return ask_sqs(self.client, operation, url or self.url, **arguments)


def open_queues(client: Any, settings: Settings) -> tuple[Queue, Queue | None]:
    """Return the main queue of a deployment, and the queue of its backfills; None if there is no such queue.

    Raises:
        SettingsError: A queue does not exist, is not accessible, is a FIFO queue, or is used for two purposes.
        QueueError: A request to SQS failed.
    """
    main = Queue.open(client, settings.queue, settings.dead_letter_queue)
    if settings.backfill_queue is None:
        return main, None
    backfill = Queue.open(client, settings.backfill_queue, settings.dead_letter_queue, main)
    if backfill.url == main.dead_letter_url or backfill.dead_letter_url == main.url:
        raise SettingsError(f"queue {backfill.name} is also a dead-letter queue, or has the main queue as one")
    return main, backfill


_TRIES = 6
_FIRST_WAIT_S = 0.2


def send_all(queue: Queue, messages: Sequence[dict[str, Any]], clock: Clock) -> None:
    """Send messages to the queue, and retry those that SQS does not accept at first.

    Args:
        queue: The queue.
        messages: The messages as `message.compose` returns them; at most one group of `message.batches`.
        clock: Waits before another try.

    Raises:
        DeniedError, QueueError: SQS has not accepted all of them; it may have accepted some.
    """
    wait_s = _FIRST_WAIT_S
    entries = [{"Id": str(number), **message} for number, message in enumerate(messages)]
    for tries_left in reversed(range(_TRIES)):
        failed = ask_sqs(queue.client, "send_message_batch", queue.url, Entries=entries).get("Failed", ())
        if not failed:
            return
        if not tries_left or any(one.get("SenderFault") for one in failed):
            error = to_error({"Error": failed[0]}, "SendMessageBatch", queue.name)
            raise type(error)(f"{error} ({len(failed)} of {len(messages)} messages were not taken)")
        ids = {one["Id"] for one in failed}
        entries = [entry for entry in entries if entry["Id"] in ids]
        clock.sleep(wait_s)
        wait_s *= 2
    raise AssertionError
