"""Metrics in CloudWatch's embedded format: lines on standard output, from which CloudWatch Logs extracts the numbers.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TextIO

from runner.log import to_json, write_line
from runner.machine import Clock, SystemClock

_MAX_METRICS_PER_LINE = 100
_MAX_NAME_CHARACTERS = 255  # PutMetricData's limit, narrower than that of the format
_MAX_DIMENSION_CHARACTERS = 1024
_BYTES_PER_MB = 1_000_000


class Metrics:
    """Emits numbers under one namespace.

    Args:
        namespace: The namespace.
        stream: Where lines are written.
        dimensions: Dimensions of every number, such as the task's family. Those without a value are left out.
        clock: Tells the time of the numbers.

    Attributes:
        dimensions: As above, without those that have no value.
    """

    def __init__(
        self, namespace: str, stream: TextIO, dimensions: Mapping[str, str], clock: Clock | None = None
    ) -> None:
        self._namespace = namespace
        self._stream = stream
        self._clock = clock or SystemClock()
        self.dimensions = _presentable(dimensions)

    def emit(
        self,
        values: Mapping[str, tuple[float, str]],
        by: Mapping[str, str] | None = None,
        **properties: object,
    ) -> None:
        """Write a line with numbers and their units; those that are not finite are left out.

        Args:
            values: Number and unit by name.
            by: Further dimensions: the numbers are counted without them, and once more with them.
            properties: Further fields of the line, which can be searched for in the log and are not metrics.

        Raises:
            ValueError: A name is empty, or longer than CloudWatch allows.
        """
        for name in values:
            if not 0 < len(name) <= _MAX_NAME_CHARACTERS:
                raise ValueError(f"a metric's name has 1 to {_MAX_NAME_CHARACTERS} characters, not {len(name)}")
        finite = [(name, value, unit) for name, (value, unit) in values.items() if math.isfinite(value)]
        further = _presentable(by or {})
        sets = [[*self.dimensions], *([[*self.dimensions, *further]] if further else [])]
        for start in range(0, len(finite), _MAX_METRICS_PER_LINE):
            some = finite[start : start + _MAX_METRICS_PER_LINE]
            directive = {
                "Namespace": self._namespace,
                "Dimensions": sets,
                "Metrics": [{"Name": name, "Unit": unit} for name, _, unit in some],
            }
            record = {
                "_aws": {"Timestamp": int(self._clock.time() * 1000), "CloudWatchMetrics": [directive]},
                **{name: value for name, value in properties.items() if name != "_aws"},
                **self.dimensions,
                **further,
                **{name: value for name, value, _ in some},
            }
            write_line(self._stream, to_json(record))


@dataclass(frozen=True, slots=True, kw_only=True)
class JobNumbers:
    """The numbers of a job that has ended.

    Attributes:
        lines_in: Lines read, including blank ones.
        lines_out: Lines written.
        rejects: Rejected lines.
        bytes_in: Bytes read.
        bytes_out: Bytes written.
        seconds: How long it took.
        absent: Names to read, drop or select that no line has.
        message_age_s: Time at the end since its message was first sent, None if not known.
        retries: Attempts before this one.
        is_backfill: Whether its message was on the backfill queue.
    """

    lines_in: int = 0
    lines_out: int = 0
    rejects: int = 0
    absent: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    seconds: float = 0.0
    message_age_s: float | None = None
    retries: int = 0
    is_backfill: bool = False


def job_metrics(metrics: Metrics, outcome: str, numbers: JobNumbers, **properties: object) -> None:
    """Emit the numbers of a job, once by family and once by family and outcome, with properties such as its key."""
    values: dict[str, tuple[float, str]] = {
        "Jobs": (1, "Count"),
        "LinesIn": (numbers.lines_in, "Count"),
        "LinesOut": (numbers.lines_out, "Count"),
        "Rejects": (numbers.rejects, "Count"),
        "BytesIn": (numbers.bytes_in, "Bytes"),
        "BytesOut": (numbers.bytes_out, "Bytes"),
        "Seconds": (numbers.seconds, "Seconds"),
        "Retries": (numbers.retries, "Count"),
    }
    if numbers.absent:  # a metric costs money from its first number on, and most deployments have no such names
        values["AbsentNames"] = (numbers.absent, "Count")
    if numbers.seconds > 0:
        values["MBPerSecond"] = (numbers.bytes_in / _BYTES_PER_MB / numbers.seconds, "Megabytes/Second")
    if numbers.message_age_s is not None:
        name = "BackfillMessageAge" if numbers.is_backfill else "MessageAge"
        values[name] = (max(0.0, numbers.message_age_s), "Seconds")  # SQS's clock may be ahead of ours
    metrics.emit(values, by={"Outcome": outcome}, **properties)


def age_metric(metrics: Metrics, seconds: float, *, is_backfill: bool = False) -> None:
    """Emit the age of the oldest message that a worker holds, since it was first sent.

    SQS tells the age of each copy, which starts again when a message is requeued. A backfill may wait for days, so that
    its messages have a metric of their own.
    """
    name = "OldestBackfillMessageAge" if is_backfill else "OldestMessageAge"
    metrics.emit({name: (max(0.0, seconds), "Seconds")})


def input_metric(metrics: Metrics, name: str, *, job: str, key: str) -> None:
    """Emit that an input was not tagged or deleted: `InputsNotFinished` if S3 refused it, else `InputsKept`."""
    metrics.emit({name: (1, "Count")}, job=job, key=key)


def denial_metric(metrics: Metrics, error: str) -> None:
    """Emit that AWS has denied a request to SQS; the error says which."""
    metrics.emit({"QueueDenials": (1, "Count")}, error=error)


def last_receive_metric(metrics: Metrics, message: str) -> None:
    """Emit that a message was received for the last time before SQS would move it to the dead letters itself."""
    metrics.emit({"LastReceives": (1, "Count")}, message=message)


def breaker_metric(metrics: Metrics, *, is_open: bool) -> None:
    """Emit whether the circuit breaker keeps a worker from doing jobs: 1 if so, 0 once it does them again."""
    metrics.emit({"BreakerOpen": (float(is_open), "Count")})


def ignored_metric(metrics: Metrics, count: int) -> None:
    """Emit how many objects of a message were ignored because of their keys, as INPUT_PREFIX and INPUT_SUFFIX say."""
    metrics.emit({"ObjectsIgnored": (count, "Count")})


def _presentable(dimensions: Mapping[str, str]) -> dict[str, str]:
    """Return the dimensions as CloudWatch accepts them: in ASCII, not too long, and without empty ones."""
    texts = {name: value.encode("ascii", "replace").decode().strip() for name, value in dimensions.items()}
    return {name: text[:_MAX_DIMENSION_CHARACTERS] for name, text in texts.items() if text}
