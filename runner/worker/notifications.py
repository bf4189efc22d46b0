"""Tells subscribers how each object has ended: on an SNS topic, an EventBridge bus, both or neither.

`describe` makes the event, which docs/outcome-event.schema.json documents; `OutcomeChannels` sends it.

Jobs matter more than events. An event that cannot be sent is logged in full and counted, and the job's message is
acknowledged all the same. After a failure a channel pauses, so that a service that does not answer costs little time.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from runner.aws.clients import notification_client
from runner.aws.surroundings import REAL
from runner.job.protocol import JobResult

if TYPE_CHECKING:
    from collections.abc import Mapping

    from structlog.typing import FilteringBoundLogger

    from runner.aws.message import Message
    from runner.aws.s3_events import ObjectCreated
    from runner.job.protocol import Outcome
    from runner.machine import Clock
    from runner.metrics import Metrics
    from runner.settings import Settings

VERSION = 1
SOURCE = "jsonl-transform"
DETAIL_TYPE = "Object Transformed"
_MAX_REASON_CHARACTERS = 2000  # a traceback may be longer, and SNS takes 256 KiB in all
_COUNTS = ("lines_in", "lines_out", "filtered", "rejected", "rejects_left_out", "blank", "bytes_in", "bytes_out")

_PAUSE_S = 30.0


def describe(
    settings: Settings, event: ObjectCreated, message: Message, outcome: Outcome, seconds: float, now: float
) -> dict[str, Any]:
    """Return the event about an object that has ended.

    Args:
        settings: The worker's configuration.
        event: The event that said that the object was created.
        message: The message with that event.
        outcome: The final outcome of the job.
        seconds: How long the last attempt took.
        now: The current time, in seconds since the epoch.
    """
    published = outcome.kind in (JobResult.DONE, JobResult.DUPLICATE)
    output = {"bucket": settings.output_bucket, "key": outcome.output} if published else None
    return {
        "version": VERSION,
        "time": datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds"),
        "outcome": outcome.kind.value,
        "reason": outcome.reason[:_MAX_REASON_CHARACTERS],
        "source": {
            "bucket": event.bucket,
            "key": event.key,
            "version_id": event.version_id,
            "etag": event.etag,
            "size": event.size,
            "after": outcome.input and outcome.input.kind.value,
        },
        "output": output and {**output, "etag": outcome.etag.strip('"') or None},
        "counts": {name: outcome.summary.get(name, 0) for name in _COUNTS} if outcome.summary else None,
        "rejects": {"bucket": settings.output_bucket, "prefix": outcome.rejects} if outcome.rejects else None,
        "job": outcome.job or None,
        "digest": outcome.digest or None,
        "attempts": message.attempts + 1,
        "seconds": round(seconds, 3),
        "message": message.id,
        "trace": message.trace or None,
    }


@dataclass(slots=True)
class _Channel(ABC):
    """A topic or a bus.

    Attributes:
        name: Its ARN or name.
        client: A boto3 client of SNS or EventBridge.
        paused_until: When it may be tried again after a failure, by the monotonic clock.
    """

    name: str
    client: Any = field(repr=False)
    paused_until: float = float("-inf")

    @abstractmethod
    def send(self, event: Mapping[str, Any]) -> None:
        """Send an event."""


class _Topic(_Channel):
    def send(self, event: Mapping[str, Any]) -> None:
        attributes = {"outcome": {"DataType": "String", "StringValue": event["outcome"]}}  # for filter policies
        if event["counts"] is not None:  # a duplicate, for example, does not know what was rejected
            attributes["rejected"] = {"DataType": "Number", "StringValue": str(event["counts"]["rejected"])}
        self.client.publish(TopicArn=self.name, Message=json.dumps(event), MessageAttributes=attributes)


class _Bus(_Channel):
    def send(self, event: Mapping[str, Any]) -> None:
        entry = {"Source": SOURCE, "DetailType": DETAIL_TYPE, "Detail": json.dumps(event), "EventBusName": self.name}
        answer = self.client.put_events(Entries=[entry])
        if answer.get("FailedEntryCount"):
            failed = answer["Entries"][0]
            raise _RefusedError(f"{failed.get('ErrorCode')}: {failed.get('ErrorMessage')}")


class _RefusedError(Exception):
    """EventBridge has answered, but has not accepted the event."""


class OutcomeChannels:
    """Sends events to all channels.

    Args:
        channels: The topic, the bus, both or neither.
        log: Gets the events that could not be sent.
        metrics: Counts them.
        clock: Tells the time.
    """

    def __init__(
        self,
        channels: list[_Channel],
        log: FilteringBoundLogger,
        metrics: Metrics,
        clock: Clock = REAL.clock,
    ) -> None:
        self._channels = channels
        self._log = log
        self._metrics = metrics
        self._clock = clock

    @classmethod
    def open(cls, settings: Settings, log: FilteringBoundLogger, metrics: Metrics) -> OutcomeChannels:
        """Return the channels that the settings name."""
        channels: list[_Channel] = []
        if settings.outcome_topic:
            channels.append(
                _Topic(settings.outcome_topic, notification_client("sns", settings.outcome_topic, settings))
            )
        if settings.outcome_bus:
            channels.append(_Bus(settings.outcome_bus, notification_client("events", settings.outcome_bus, settings)))
        return cls(channels, log, metrics)

    def send(self, event: Mapping[str, Any]) -> None:
        """Send an event. Never raises, and takes a few seconds at most."""
        for channel in self._channels:
            if self._clock.monotonic() < channel.paused_until:
                self._report_unsent(channel, event, "not tried, as another one failed a moment ago")
                continue
            try:
                channel.send(event)
            except Exception as error:  # noqa: BLE001 - whatever it is, a job that is done must not fail because of it
                channel.paused_until = self._clock.monotonic() + _PAUSE_S
                self._report_unsent(channel, event, str(error))

    def _report_unsent(self, channel: _Channel, event: Mapping[str, Any], reason: str) -> None:
        self._log.error("outcome not told", channel=channel.name, error=reason, outcome=event)
        self._metrics.emit({"OutcomesNotTold": (1, "Count")}, job=event["job"], key=event["source"]["key"])
