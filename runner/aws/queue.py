"""The queue, over a boto3 client of SQS.

A message leaves the queue by a delete alone. Whatever else is to become of it, a copy is sent first: when the worker
dies between the two there is one message too many, which is harmless, and never one too few.

Messages that are put on the queue by the handful.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from runner.aws.message import BATCH_BYTES, Message, attributes_of, batches, compose, read_message
from runner.aws.sqs import ask_sqs, find_queue, name_of, read_redrive_policy, to_error
from runner.errors import LeaseLostError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence


__all__ = ["BATCH_BYTES", "MAX_DELAY_S", "MAX_VISIBILITY_S", "MAX_WAIT_S", "Message", "Queue"]

MAX_WAIT_S = 20
MAX_VISIBILITY_S = 43_200
MAX_DELAY_S = 900


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue and its dead-letter queue.

    Every method raises `DeniedError` where AWS refuses it, naming the action and the queue, and `QueueError` for
    whatever else goes wrong, which may not go wrong again.

    Attributes:
        client: Of SQS, from boto3.
        name: Of the queue.
        url: Of the queue.
        dead_letter_url: Of the dead-letter queue.
        max_receives: After how many times SQS itself moves a message to a dead-letter queue; None for never.
    """

    client: Any = field(repr=False)
    name: str
    url: str
    dead_letter_url: str
    max_receives: int | None

    @classmethod
    def open(cls, client: Any, name: str, dead_letter: str | None) -> Queue:
        """Find a queue by its name, URL or ARN.

        Args:
            client: Of SQS, from boto3.
            name: Which queue.
            dead_letter: Which dead-letter queue; None for the one in the queue's redrive policy.

        Raises:
            SettingsError: One of them is not there, is not accessible, or is a FIFO queue.
            QueueError: SQS could not be asked.
        """
        url, attributes = find_queue(client, name, "queue")
        target, max_receives = read_redrive_policy(name, attributes.get("RedrivePolicy"))
        if not (dead_letter or target):
            raise SettingsError(
                f"queue {name} has no dead-letter queue: give it a RedrivePolicy, or name one in the settings"
            )
        dead_letter_url, dead_letter_attributes = find_queue(client, dead_letter or target, "dead-letter queue")
        if dead_letter_attributes.get("QueueArn") == attributes.get("QueueArn"):
            raise SettingsError(f"queue {name} is its own dead-letter queue: name another one")
        return cls(client, name_of(url), url, dead_letter_url, max_receives)

    def receive(self, wait_s: int, visibility_s: int) -> Message | None:
        """Return one message, invisible to others for `visibility_s`; None when none came within `wait_s`, up to 20."""
        answer = self._call(
            "receive_message",
            MaxNumberOfMessages=1,
            WaitTimeSeconds=min(wait_s, MAX_WAIT_S),
            VisibilityTimeout=visibility_s,
            MessageSystemAttributeNames=["ApproximateReceiveCount", "SentTimestamp", "AWSTraceHeader"],
            MessageAttributeNames=["All"],
        )
        messages = answer.get("Messages") or [None]
        return None if messages[0] is None else read_message(messages[0])

    def extend(self, message: Message, seconds: int) -> None:
        """Keep a message invisible for so long from now on.

        Raises:
            LeaseLostError: Somebody else may have it by now, or it was received 12 hours ago.
        """
        self._call("change_message_visibility", ReceiptHandle=message.receipt, VisibilityTimeout=seconds)

    def delete(self, message: Message) -> None:
        """Delete a message.

        Raises:
            LeaseLostError: It is not this worker's any more, and SQS said so, which it need not.
        """
        self._call("delete_message", ReceiptHandle=message.receipt)

    def release(self, message: Message, delay_s: int) -> None:
        """Make a message visible again after a time; one whose lease is lost is left to whoever has it.

        SQS counts the time since the receive, too: where both are more than 12 hours, the timeout in force stays.
        """
        with suppress(LeaseLostError):
            self.extend(message, max(0, min(delay_s, MAX_VISIBILITY_S)))

    def requeue(
        self,
        message: Message,
        *,
        attempts: int,
        progress: int,
        body: str | None = None,
        delay_s: int = 0,
        owner: str | None = None,
    ) -> None:
        """Replace a message by a copy, whose receives are counted anew.

        Args:
            message: Which.
            attempts: How many times it has been tried.
            progress: How many bytes of the input a checkpoint covers.
            body: The copy's text, if another one.
            delay_s: After how long it becomes visible, up to 900.
            owner: What the copy stands for in the checkpoint of its job, if not for what the message does.

        Raises:
            LeaseLostError: As `delete`; the copy has been sent.
        """
        known = {"attempts": attempts, "first_sent": message.first_sent, "progress": progress}
        attributes = attributes_of(message, **known, owner=owner or message.owner)
        copy = compose(message.body if body is None else body, attributes, message.trace)
        self._call("send_message", **copy, DelaySeconds=max(0, min(delay_s, MAX_DELAY_S)))
        self.delete(message)

    def split(self, message: Message, bodies: Sequence[str]) -> None:
        """Replace a message by one for each body, none of which has been tried.

        Raises:
            LeaseLostError: As `delete`; the others have been sent.
        """
        attributes = attributes_of(message, first_sent=message.first_sent)
        for batch in batches([compose(body, attributes, message.trace) for body in bodies]):
            entries = [{"Id": str(position), **one} for position, one in enumerate(batch)]
            answer = self._call("send_message_batch", Entries=entries)
            for failed in answer.get("Failed", ()):
                raise to_error({"Error": failed}, "SendMessageBatch", self.name)
        self.delete(message)

    def dead_letter(self, message: Message, *, reason: str, job: str, trace: str) -> None:
        """Move a message to the dead-letter queue, with what is known about its failure as attributes.

        Args:
            message: Which.
            reason: Why it can't be worked on; shortened, and without characters that SQS refuses.
            job: What it was about.
            trace: The id by which the logs of the job are found.

        Raises:
            LeaseLostError: As `delete`; the dead letter has been sent.
        """
        known = {"attempts": message.attempts, "first_sent": message.first_sent}
        if message.progress:  # which is still there when an operator moves it back
            known["progress"] = message.progress
        attributes = attributes_of(message, reason=reason, job=job, trace=trace, **known)
        letter = compose(message.body, attributes, message.trace)
        self._call("send_message", self.dead_letter_url, **letter)
        self.delete(message)

    def waiting(self) -> tuple[int, int, int]:
        """Return about how many messages are visible, in flight, and delayed."""
        names = [f"ApproximateNumberOfMessages{kind}" for kind in ("", "NotVisible", "Delayed")]
        found = self._call("get_queue_attributes", AttributeNames=names).get("Attributes", {})
        visible, in_flight, delayed = (int(found.get(name, 0)) for name in names)
        return visible, in_flight, delayed

    def _call(self, operation: str, url: str | None = None, **arguments: Any) -> Any:
        return ask_sqs(self.client, operation, url or self.url, **arguments)


_TRIES = 6
_FIRST_WAIT_S = 0.2


def send_all(queue: Queue, messages: Sequence[dict[str, Any]]) -> None:
    """Put messages on the queue, and those of them that SQS does not take at first once more.

    Args:
        queue: Where to.
        messages: As `message.compose` makes them, and no more than `message.batches` puts together.

    Raises:
        DeniedError, QueueError: SQS has not taken all of them; it may have taken some.
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
        time.sleep(wait_s)
        wait_s *= 2
    raise AssertionError
