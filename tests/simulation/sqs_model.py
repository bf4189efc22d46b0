"""A model of SQS in memory: standard queues, by a clock that a simulator moves and with its randomness.

`SqsModel.request` takes what a boto3 client takes, returns what it returns, and raises what it raises. It has the
operations and arguments that the worker and the operator's commands use, and raises `NotImplementedError` for others.
`WaitTimeSeconds` is ignored: the simulator waits until `next_visible`. Where emulators differ from AWS, the model
follows AWS:

- A receive returns any visible messages, in any order. Answers have no MD5 hashes, which only boto3 itself looks at.
- A delete with an old receipt succeeds and deletes nothing: "If you use an old ReceiptHandle, the request will succeed,
  but the message might not be deleted" ("DeleteMessage" in the API reference of SQS).
- The receipt of the last receive deletes a message even if its visibility timeout has expired ("DeleteMessage").
- The visibility timeout is limited to 12 hours after the receive; a longer one is an error ("ChangeMessageVisibility").
- A message that moves to a dead-letter queue keeps its id, its time and so its expiry ("Setting-up dead-letter queue
  retention" in the developer guide).
"""

from __future__ import annotations

import json
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from tests.simulation.s3_objects import moment_of
from tests.simulation.sqs_limits import (
    RefusedError,
    check_batch,
    check_batch_size,
    check_message,
    check_range,
    invalid_value,
    select_attributes,
    size_of,
)
from tests.simulation.sqs_objects import Queue, StoredMessage

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Mapping, Sequence

ACCOUNT = "123456789012"
_MAX_VISIBILITY_S = 43_200
_MAX_DELAY_S = 900
_ARGUMENTS: dict[str, set[str]] = {
    "get_queue_attributes": {"AttributeNames"},
    "receive_message": {
        *("MaxNumberOfMessages", "VisibilityTimeout", "WaitTimeSeconds"),
        *("MessageSystemAttributeNames", "MessageAttributeNames"),
    },
    "change_message_visibility": {"ReceiptHandle", "VisibilityTimeout"},
    "change_message_visibility_batch": {"Entries"},
    "delete_message": {"ReceiptHandle"},
    "delete_message_batch": {"Entries"},
    "send_message": {"MessageBody", "MessageAttributes", "MessageSystemAttributes", "DelaySeconds"},
    "send_message_batch": {"Entries"},
}
_DEFAULTS = {
    "VisibilityTimeout": "30",
    "DelaySeconds": "0",
    "MaximumMessageSize": "1048576",
    "MessageRetentionPeriod": "345600",
    "ReceiveMessageWaitTimeSeconds": "0",
    "SqsManagedSseEnabled": "true",
}


class SqsModel:
    """All queues of an account in a region.

    Args:
        clock: Returns the time, in seconds since the epoch.
        chance: The source of randomness: the order of messages, and duplicates.
        region: The region.

    Attributes:
        meta: Has the `region_name`, as that of a client.
        duplicate_probability: How likely a received message can be received once more while it is in flight.
        report_expired: Whether a change of visibility is refused if the visibility timeout has expired, as the
            reference says. With False it succeeds and changes nothing, as AWS has been observed to answer for a
            while after a message became visible (localstack/localstack, pull request 9632).
        expired: How many messages were dropped after their retention period.
    """

    def __init__(self, clock: Callable[[], float], chance: random.Random, *, region: str = "eu-central-1") -> None:
        self.meta = SimpleNamespace(region_name=region)
        self.duplicate_probability = 0.0
        self.report_expired = True
        self.expired = 0
        self._clock = clock
        self._chance = chance
        self._queues: dict[str, Queue] = {}
        self._by_arn: dict[str, Queue] = {}
        self._number = 0
        self._second = -1
        self._date = ""

    def create_queue(self, name: str, attributes: Mapping[str, str]) -> str:
        """Create a queue with attributes as SQS names them; return its URL.

        Raises:
            ValueError: It exists, or its dead-letter queue does not.
        """
        region = self.meta.region_name
        url, arn = f"https://sqs.{region}.amazonaws.com/{ACCOUNT}/{name}", f"arn:aws:sqs:{region}:{ACCOUNT}:{name}"
        if url in self._queues:
            raise ValueError(f"queue {name} exists")
        given = {**_DEFAULTS, **attributes}
        timings = int(given["MessageRetentionPeriod"]), int(given["VisibilityTimeout"]), int(given["DelaySeconds"])
        queue = Queue(url, arn, given, *timings, int(self._clock()))
        if "RedrivePolicy" in given:
            policy = json.loads(given["RedrivePolicy"])
            queue.target, queue.max_receives = policy["deadLetterTargetArn"], int(policy["maxReceiveCount"])
            if queue.target not in self._by_arn:
                raise ValueError(f"there is no dead-letter queue {queue.target}")
        self._queues[url] = self._by_arn[arn] = queue
        return url

    def next_visible(self, url: str) -> float | None:
        """Return when the next message becomes visible, now or earlier if one is; None if there is no message."""
        queue, now = self._opened(url)
        if not queue.messages:
            return None
        return min(now if one.is_duplicated else one.visible_at for one in queue.messages.values())

    def stored(self, url: str) -> Mapping[str, StoredMessage]:
        """Return what is on a queue now and later, by ids, expired messages included."""
        return self._queues[url].messages

    def messages(self, url: str) -> list[StoredMessage]:
        """Return all messages of a queue, visible or not."""
        queue, _ = self._opened(url)
        return list(queue.messages.values())

    def purge_expired(self) -> None:
        """Drop all messages whose retention period is over; requests do so for their own queue."""
        for url in self._queues:
            self._opened(url)

    def request(self, operation: str, **arguments: Any) -> dict[str, Any]:
        """Return the answer to a request.

        Args:
            operation: The operation, as boto3 names it.
            arguments: Its arguments, as boto3 names them.

        Raises:
            ClientError: SQS refuses the request.
            NotImplementedError: The model does not have the operation or an argument.
        """
        try:
            if operation == "get_queue_url":
                return self._get_queue_url(**arguments)
            if operation not in _HANDLERS:
                raise NotImplementedError(f"the model of SQS has no operation {operation}")
            handler, allowed = _HANDLERS[operation]
            if not allowed.issuperset(arguments):
                raise NotImplementedError(f"the model of SQS does not know {set(arguments) - allowed} of {operation}")
            queue, now = self._opened(arguments["QueueUrl"])
            answer: dict[str, Any] = handler(self, queue, now, arguments)
        except RefusedError as error:
            response = {"Error": {"Code": error.code, "Message": error.message, "Type": "Sender"}}
            raise ClientError(
                response | {"ResponseMetadata": self._metadata(400)}, operation.title().replace("_", "")
            ) from None
        answer["ResponseMetadata"] = self._metadata(200)
        return answer

    def __getattr__(self, operation: str) -> Callable[..., dict[str, Any]]:
        """Return a method of a client, so that a model can stand in for one."""
        if operation not in _ARGUMENTS and operation != "get_queue_url":
            raise AttributeError(operation)
        return partial(self.request, operation)

    def _metadata(self, status: int) -> dict[str, Any]:
        second = int(self._clock())
        if second != self._second:
            self._second, (_, self._date) = second, moment_of(second)
        return {"HTTPStatusCode": status, "HTTPHeaders": {"date": self._date}, "RetryAttempts": 0}

    def _opened(self, url: str) -> tuple[Queue, float]:
        """Return a queue without messages whose retention period is over, and the time."""
        queue, now = self._queues.get(url), self._clock()
        if queue is None:
            raise RefusedError("AWS.SimpleQueueService.NonExistentQueue", "The specified queue does not exist.")
        if queue.expires <= now:
            old = [one for one in queue.messages.values() if one.sent + queue.retention_s <= now]
            for message in old:
                del queue.messages[message.id]
            self.expired += len(old)
            sent = min((one.sent for one in queue.messages.values()), default=float("inf"))
            queue.expires = sent + queue.retention_s
        return queue, now

    def _get_queue_url(self, *, QueueName: str, QueueOwnerAWSAccountId: str = ACCOUNT) -> dict[str, Any]:  # noqa: N803 # as boto3
        url = f"https://sqs.{self.meta.region_name}.amazonaws.com/{QueueOwnerAWSAccountId}/{QueueName}"
        if url not in self._queues:
            raise RefusedError("AWS.SimpleQueueService.NonExistentQueue", "The specified queue does not exist.")
        return {"QueueUrl": url, "ResponseMetadata": self._metadata(200)}

    def _get_queue_attributes(self, queue: Queue, now: float, arguments: dict[str, Any]) -> dict[str, Any]:
        names = arguments.get("AttributeNames", ())
        known = dict(queue.attributes)
        in_flight = sum(one.is_in_flight(now) for one in queue.messages.values())
        hidden = sum(one.visible_at > now for one in queue.messages.values())
        known |= {
            "QueueArn": queue.arn,
            "CreatedTimestamp": str(queue.created),
            "LastModifiedTimestamp": str(queue.created),
            "ApproximateNumberOfMessages": str(len(queue.messages) - hidden),
            "ApproximateNumberOfMessagesNotVisible": str(in_flight),
            "ApproximateNumberOfMessagesDelayed": str(hidden - in_flight),
        }
        if "All" not in names:
            if unknown := [name for name in names if name not in known and name not in ("RedrivePolicy", "Policy")]:
                raise RefusedError("InvalidAttributeName", f"Unknown Attribute {unknown[0]}.")
            known = {name: known[name] for name in names if name in known}
        return {"Attributes": known} if known else {}

    def _receive_message(self, queue: Queue, now: float, arguments: dict[str, Any]) -> dict[str, Any]:
        limit = check_range("MaxNumberOfMessages", arguments.get("MaxNumberOfMessages", 1), 1, 10)
        timeout_s = check_range(
            "VisibilityTimeout", arguments.get("VisibilityTimeout", queue.visibility_s), 0, _MAX_VISIBILITY_S
        )
        visible = [one for one in queue.messages.values() if one.visible_at <= now or one.is_duplicated]
        received: list[dict[str, Any]] = []
        while visible and len(received) < limit:
            chosen = int(self._chance.random() * len(visible)) if len(visible) > 1 else 0
            visible[chosen], visible[-1] = visible[-1], visible[chosen]
            message = visible.pop()
            if 0 < queue.max_receives <= message.receives:
                self._dead_letter(queue, message, now)
                continue
            received.append(self._received(queue, message, now, timeout_s, arguments))
        return {"Messages": received} if received else {}

    def _received(
        self, queue: Queue, message: StoredMessage, now: float, timeout_s: int, arguments: dict[str, Any]
    ) -> dict[str, Any]:
        """Give a message a new receipt and return what the receiver sees."""
        message.receives += 1
        message.receipt = receipt = f"{queue.arn}/{message.id}/{self._next()}"
        queue.receipts[receipt] = message.id
        message.received = now
        if message.receives == 1:
            message.first_received = now
        message.is_duplicated = False
        message.visible_at = max(message.visible_at, now + timeout_s)
        if self.duplicate_probability and self._chance.random() < self.duplicate_probability:
            message.is_duplicated = True
        raw: dict[str, Any] = {
            "MessageId": message.id,
            "ReceiptHandle": receipt,
            "Body": message.body,
        }
        if names := arguments.get("MessageSystemAttributeNames"):
            system = {
                "ApproximateReceiveCount": str(message.receives),
                "SentTimestamp": str(int(message.sent * 1000)),
                "ApproximateFirstReceiveTimestamp": str(int(message.first_received * 1000)),
                "SenderId": ACCOUNT,
            }
            if message.trace:
                system["AWSTraceHeader"] = message.trace
            if message.source:
                system["DeadLetterQueueSourceArn"] = message.source
            raw["Attributes"] = {name: text for name, text in system.items() if name in names or "All" in names}
        if message.attributes and (names := arguments.get("MessageAttributeNames")):
            chosen = select_attributes(message.attributes, names)
            if chosen:
                raw["MessageAttributes"] = chosen
        return raw

    def _dead_letter(self, queue: Queue, message: StoredMessage, now: float) -> None:
        del queue.messages[message.id]
        message.source, message.visible_at, message.is_duplicated = queue.arn, now, False
        message.receipt = None
        self._by_arn[queue.target].add(message)

    def _next(self) -> int:
        self._number += 1
        return self._number

    def _change_message_visibility(self, queue: Queue, now: float, arguments: dict[str, Any]) -> dict[str, Any]:
        timeout_s = check_range("VisibilityTimeout", arguments["VisibilityTimeout"], 0, _MAX_VISIBILITY_S)
        receipt = arguments["ReceiptHandle"]
        message = self._find(queue, receipt)
        if message is None:
            reason = "Message does not exist or is not available for visibility timeout change."
            raise invalid_value("ReceiptHandle", receipt, reason)
        if message.receipt != receipt or message.visible_at <= now:
            if not self.report_expired:
                return {}
            if message.receipt != receipt:
                reason = "The receipt handle has expired."
                raise invalid_value("ReceiptHandle", receipt, reason)
            raise RefusedError("AWS.SimpleQueueService.MessageNotInflight", "The specified message isn't in flight.")
        if now - message.received + timeout_s > _MAX_VISIBILITY_S:
            reason = f"Total VisibilityTimeout for the message is beyond the limit [{_MAX_VISIBILITY_S} seconds]"
            raise invalid_value("VisibilityTimeout", timeout_s, reason)
        message.visible_at = now + timeout_s
        return {}

    def _delete_message(self, queue: Queue, _now: float, arguments: dict[str, Any]) -> dict[str, Any]:
        receipt = arguments["ReceiptHandle"]
        message = self._find(queue, receipt)
        if message is not None and message.receipt == receipt:
            del queue.messages[message.id]
        return {}

    def _find(self, queue: Queue, receipt: str) -> StoredMessage | None:
        """Return the message of a receipt, None if it is not on the queue any more; raise if it is no receipt."""
        if receipt not in queue.receipts:
            text = f'The input receipt handle "{receipt}" is not a valid receipt handle.'
            raise RefusedError("ReceiptHandleIsInvalid", text)
        return queue.messages.get(queue.receipts[receipt])

    def _send_message(self, queue: Queue, now: float, arguments: dict[str, Any]) -> dict[str, Any]:
        check_message(arguments, int(queue.attributes["MaximumMessageSize"]))
        return self._sent(queue, now, arguments)

    def _sent(self, queue: Queue, now: float, arguments: Mapping[str, Any]) -> dict[str, Any]:
        delay_s = check_range("DelaySeconds", arguments.get("DelaySeconds", queue.delay_s), 0, _MAX_DELAY_S)
        header = (arguments.get("MessageSystemAttributes") or {}).get("AWSTraceHeader", {})
        message = StoredMessage(
            id=f"message-{self._next():012}",
            body=arguments["MessageBody"],
            attributes=dict(arguments.get("MessageAttributes") or {}),
            sent=now,
            visible_at=now + delay_s,
            trace=header.get("StringValue", ""),
        )
        queue.add(message)
        return {"MessageId": message.id}

    def _change_message_visibility_batch(self, queue: Queue, now: float, arguments: dict[str, Any]) -> dict[str, Any]:
        return _for_each(arguments["Entries"], partial(self._change_message_visibility, queue, now))

    def _delete_message_batch(self, queue: Queue, now: float, arguments: dict[str, Any]) -> dict[str, Any]:
        return _for_each(arguments["Entries"], partial(self._delete_message, queue, now))

    def _send_message_batch(self, queue: Queue, now: float, arguments: dict[str, Any]) -> dict[str, Any]:
        entries = arguments["Entries"]
        check_batch(entries)
        check_batch_size(sum(map(size_of, entries)))
        return _for_each(entries, partial(self._send_message, queue, now))


_HANDLERS: dict[str, tuple[Callable[..., dict[str, Any]], set[str]]] = {
    name: (getattr(SqsModel, f"_{name}"), {*allowed, "QueueUrl"}) for name, allowed in _ARGUMENTS.items()
}


def _for_each(entries: Sequence[dict[str, Any]], handle: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
    """Return the answer to a batch, with what succeeded and what failed."""
    check_batch(entries)
    answer: dict[str, Any] = {}
    for entry in entries:
        try:
            done = handle(entry)
        except RefusedError as error:
            answer.setdefault("Failed", []).append(error.to_entry(entry["Id"]))
        else:
            answer.setdefault("Successful", []).append({"Id": entry["Id"], **done})
    return answer
