"""The queue, over a boto3 client of SQS.

A message leaves the queue by a delete alone. Whatever else is to become of it, a copy is sent first: when the worker
dies between the two there is one message too many, which is harmless, and never one too few.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

from runner.errors import DeniedError, LeaseLostError, QueueError, RunnerError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

MAX_WAIT_S = 20
MAX_VISIBILITY_S = 43_200
MAX_DELAY_S = 900
BATCH_BYTES = 1 << 20
_BATCH_MESSAGES = 10
_MAX_ATTRIBUTES = 10
_TEXT_CHARACTERS = 1100  # of an attribute: the URI of an object has 1,093 at most

_OURS = {"attempts", "first_sent", "progress"}
_MOST_ATTEMPTS = 1000  # SQS takes no larger maxReceiveCount; what is larger was not counted
_EARLIEST_MS = 1_000_000_000_000  # in 2001: what is less is seconds, or nonsense
_MOST_BYTES = 1 << 46  # objects have 48.8 TiB at most

_NOT_SENDABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ARN = re.compile(r"arn:[\w-]+:sqs:(?P<region>[\w-]+):(?P<account>\d+):(?P<name>[\w.-]+)", re.ASCII)

_DENIED = {"AccessDenied", "AuthorizationError", "NotAuthorized", "UnauthorizedOperation"}
_MISSING = {"NonExistentQueue", "QueueDoesNotExist"}
_MISNAMED = {"InvalidAddress", "InvalidParameterValue", "InvalidQueueName"}
_LOST = {
    *("InvalidIdFormat", "InvalidParameterCombination", "InvalidParameterValue"),
    *("MessageNotInflight", "ReceiptHandleIsInvalid"),
}
_ON_LEASE = {"ChangeMessageVisibility", "DeleteMessage"}


@dataclass(frozen=True, slots=True)
class Message:
    """One message as it was received.

    Attributes:
        id: Its id. A copy has another one.
        body: Its text.
        receipt: The receipt handle.
        attempts: How many times it was tried before this time.
        first_sent: When the first of its copies was sent, in ms since the epoch.
        sent: When this copy was sent, in ms since the epoch.
        progress: How many bytes of the input a checkpoint had covered when the message was handed over.
        trace: The X-Ray trace header, or "".
        attributes: The message attributes that its sender gave it, as SQS describes them.
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
        url, attributes = _find(client, name, "queue")
        target, max_receives = _read_redrive_policy(name, attributes.get("RedrivePolicy"))
        if not (dead_letter or target):
            raise SettingsError(
                f"queue {name} has no dead-letter queue: give it a RedrivePolicy, or name one in the settings"
            )
        dead_letter_url, dead_letter_attributes = _find(client, dead_letter or target, "dead-letter queue")
        if dead_letter_attributes.get("QueueArn") == attributes.get("QueueArn"):
            raise SettingsError(f"queue {name} is its own dead-letter queue: name another one")
        return cls(client, _name_of(url), url, dead_letter_url, max_receives)

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
        return None if messages[0] is None else _read_message(messages[0])

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

    def give_back(self, message: Message, delay_s: int) -> None:
        """Make a message visible again after a time; one whose lease is lost is left to whoever has it.

        SQS counts the time since the receive, too: where both are more than 12 hours, the timeout in force stays.
        """
        with suppress(LeaseLostError):
            self.extend(message, max(0, min(delay_s, MAX_VISIBILITY_S)))

    def hand_over(
        self, message: Message, *, attempts: int, progress: int, body: str | None = None, delay_s: int = 0
    ) -> None:
        """Replace a message by a copy, whose receives are counted anew.

        Args:
            message: Which.
            attempts: How many times it has been tried.
            progress: How many bytes of the input a checkpoint covers.
            body: The copy's text, if another one.
            delay_s: After how long it becomes visible, up to 900.

        Raises:
            LeaseLostError: As `delete`; the copy has been sent.
        """
        attributes = _attributes(message, attempts=attempts, first_sent=message.first_sent, progress=progress)
        copy = _compose(message.body if body is None else body, attributes, message.trace)
        self._call("send_message", **copy, DelaySeconds=max(0, min(delay_s, MAX_DELAY_S)))
        self.delete(message)

    def split(self, message: Message, bodies: Sequence[str]) -> None:
        """Replace a message by one for each body, none of which has been tried.

        Raises:
            LeaseLostError: As `delete`; the others have been sent.
        """
        attributes = _attributes(message, first_sent=message.first_sent)
        for batch in _batches([_compose(body, attributes, message.trace) for body in bodies]):
            entries = [{"Id": str(position), **one} for position, one in enumerate(batch)]
            answer = self._call("send_message_batch", Entries=entries)
            for failed in answer.get("Failed", ()):
                raise _explain({"Error": failed}, "SendMessageBatch", self.name)
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
        attributes = _attributes(
            message, reason=reason, job=job, trace=trace, attempts=message.attempts, first_sent=message.first_sent
        )
        letter = _compose(message.body, attributes, message.trace)
        self._call("send_message", self.dead_letter_url, **letter)
        self.delete(message)

    def waiting(self) -> tuple[int, int, int]:
        """Return about how many messages are visible, in flight, and delayed."""
        names = [f"ApproximateNumberOfMessages{kind}" for kind in ("", "NotVisible", "Delayed")]
        found = self._call("get_queue_attributes", AttributeNames=names).get("Attributes", {})
        visible, in_flight, delayed = (int(found.get(name, 0)) for name in names)
        return visible, in_flight, delayed

    def _call(self, operation: str, url: str | None = None, **arguments: Any) -> Any:
        queue = _name_of(url or self.url)
        try:
            return getattr(self.client, operation)(QueueUrl=url or self.url, **arguments)
        except ClientError as error:
            raise _explain(error.response, error.operation_name, queue) from error
        except BotoCoreError as error:
            raise QueueError(f"queue {queue}: {operation} failed: {error}") from error


def _find(client: Any, name: str, what: str) -> tuple[str, dict[str, str]]:
    """Return the URL and the attributes of a queue."""
    try:
        url = _locate(client, name, what)
        if _name_of(url).endswith(".fifo"):
            raise SettingsError(
                f"{what} {name} is a FIFO queue, which drops a copy handed over as a duplicate: use a standard queue"
            )
        # "All", as asking for the redrive policy of a queue that has none may be an error.
        return url, client.get_queue_attributes(QueueUrl=url, AttributeNames=["All"]).get("Attributes", {})
    except ClientError as error:
        code = _code_of(error.response)
        if code in _MISSING or code in _MISNAMED:
            raise SettingsError(
                f"there is no {what} {name} in {client.meta.region_name}, or none that you may know of"
                f" ({_text_of(error.response)}): check its name, account and region"
            ) from error
        explained = _explain(error.response, error.operation_name, name)
        if isinstance(explained, DeniedError):
            raise SettingsError(f"{what} {name}: {explained}") from error
        raise explained from error
    except NoCredentialsError:
        raise SettingsError(
            f"{what} {name}: no AWS credentials found. Give the task a role, or set AWS_PROFILE."
        ) from None
    except BotoCoreError as error:
        raise QueueError(f"{what} {name} cannot be looked up: {error}") from error


def _locate(client: Any, name: str, what: str) -> str:
    if name.startswith(("http://", "https://")):
        return name.rstrip("/")
    if not name.startswith("arn:"):
        return str(client.get_queue_url(QueueName=name)["QueueUrl"])
    arn = _ARN.fullmatch(name)
    if not arn:
        raise SettingsError(f"{what} {name}: expected arn:aws:sqs:REGION:ACCOUNT:NAME, a URL, or a name")
    if arn["region"] != client.meta.region_name:  # which may well have a queue of this name, too
        raise SettingsError(
            f"{what} {name} is in {arn['region']}, and the worker in {client.meta.region_name}: set AWS_REGION"
        )
    return str(client.get_queue_url(QueueName=arn["name"], QueueOwnerAWSAccountId=arn["account"])["QueueUrl"])


def _read_redrive_policy(name: str, policy: str | None) -> tuple[str, int | None]:
    if not policy:
        return "", None
    try:
        read = json.loads(policy)
        return str(read["deadLetterTargetArn"]), int(read["maxReceiveCount"])
    except (ValueError, TypeError, KeyError):
        raise SettingsError(f"queue {name} has a RedrivePolicy that cannot be read: {policy[:200]}") from None


def _name_of(url: str) -> str:
    return url.rpartition("/")[2]


def _read_message(raw: Mapping[str, Any]) -> Message:
    system = raw.get("Attributes", {})
    given = raw.get("MessageAttributes", {})
    ours = {name: given[name].get("StringValue") for name in _OURS & given.keys()}
    sent = _read_number(system.get("SentTimestamp"), most=None)
    first_sent = _read_number(ours.get("first_sent"), most=sent)
    receives = _read_number(system.get("ApproximateReceiveCount"), most=None)
    return Message(
        id=raw["MessageId"],
        body=raw.get("Body", ""),
        receipt=raw["ReceiptHandle"],
        attempts=_read_number(ours.get("attempts"), most=_MOST_ATTEMPTS) + max(receives - 1, 0),
        first_sent=first_sent if first_sent >= _EARLIEST_MS else sent,
        sent=sent,
        progress=_read_number(ours.get("progress"), most=_MOST_BYTES),
        trace=system.get("AWSTraceHeader", ""),
        attributes={name: _sendable(value) for name, value in given.items() if name not in _OURS},
    )


def _read_number(text: str | None, *, most: int | None) -> int:
    """Return a number that anybody may have written; 0 for what is none, or more than it can be."""
    if text is None or not re.fullmatch("[0-9]{1,15}", text):
        return 0
    number = int(text)
    return number if most is None or number <= most else 0


def _sendable(attribute: Mapping[str, Any]) -> dict[str, Any]:
    """Return an attribute as it was received without the empty lists that some servers add."""
    return {name: attribute[name] for name in ("DataType", "StringValue", "BinaryValue") if attribute.get(name)}


def _attributes(message: Message, **ours: int | str) -> dict[str, Mapping[str, Any]]:
    """Return the attributes of a copy: ours, and as many of the sender's as there is room for."""
    described: dict[str, Mapping[str, Any]] = {}
    for name, value in ours.items():
        text = _NOT_SENDABLE.sub("\ufffd", str(value))[:_TEXT_CHARACTERS]
        if text:  # SQS takes no empty ones
            described[name] = {"DataType": "Number" if isinstance(value, int) else "String", "StringValue": text}
    others = [name for name in message.attributes if name not in described]
    return described | {name: message.attributes[name] for name in others[: _MAX_ATTRIBUTES - len(described)]}


def _compose(body: str, attributes: Mapping[str, Mapping[str, Any]], trace: str) -> dict[str, Any]:
    header = {"AWSTraceHeader": {"DataType": "String", "StringValue": trace}} if trace else {}
    return {"MessageBody": body, "MessageAttributes": attributes, "MessageSystemAttributes": header}


def _batches(messages: Sequence[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Yield the messages in groups that SQS takes at once."""
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
    """Return the bytes that SQS counts: of the body, and of each attribute's name, type and value."""
    attributes = message["MessageAttributes"]
    texts = [message["MessageBody"], *attributes, *(value for one in attributes.values() for value in one.values())]
    return sum(len(text.encode() if isinstance(text, str) else text) for text in texts)


def _explain(response: Mapping[str, Any], operation: str, queue: str) -> RunnerError:
    """Return the error of ours for what SQS has answered."""
    code, said = _code_of(response), _text_of(response)
    if code.lower().startswith("kms") and "throttl" not in code.lower():
        needed = "kms:Decrypt" if operation == "ReceiveMessage" else "kms:GenerateDataKey and kms:Decrypt"
        return DeniedError(f"sqs:{operation} on queue {queue} is denied by its key, which takes {needed}: {said}")
    if code in _DENIED:
        action = operation.removesuffix("Batch")  # IAM has no actions for batches
        return DeniedError(f"sqs:{action} on queue {queue} is denied: allow it to the role of the worker ({said})")
    handle_expired = "receipt handle" in said.lower() and "expired" in said.lower()
    if operation in _ON_LEASE and (code in _LOST or handle_expired):
        return LeaseLostError(f"queue {queue}: the message is no longer this worker's: {said}")
    return QueueError(f"queue {queue}: {operation} failed: {said}")


def _code_of(response: Mapping[str, Any]) -> str:
    """Return the error's code without the namespaces and suffixes that protocols add; those of KMS begin with `KMS`."""
    code = str(response.get("Error", {}).get("Code", "")).rpartition("#")[2].removesuffix("Exception")
    return code if code.startswith("KMS.") else code.rpartition(".")[2]


def _text_of(response: Mapping[str, Any]) -> str:
    error = response.get("Error", {})
    return f"{error.get('Code', 'no code')}: {error.get('Message', 'no message')}"
