"""Messages on a topic have attributes for filter policies, which say nothing that is not known."""

from __future__ import annotations

import json
from typing import Any

import pytest

from runner.job.protocol import JobResult, Outcome
from runner.settings import Settings
from runner.worker.notifications import _Topic, describe
from tests.support.fakes import LEAST, make_event, make_message

ARN = "arn:aws:sns:eu-central-1:111122223333:outcomes"


class Sns:
    """A client of SNS that keeps what was published."""

    def __init__(self) -> None:
        self.published: list[dict[str, Any]] = []

    def publish(self, **arguments: Any) -> None:
        self.published.append(arguments)


def attributes_of(outcome: Outcome) -> dict[str, str]:
    """Return the attributes of the message about an outcome."""
    sns = Sns()
    event = describe(Settings.read(LEAST), make_event(), make_message(), outcome, 1.0, 0.0)
    _Topic(ARN, sns).send(event)
    (published,) = sns.published
    assert (published["TopicArn"], json.loads(published["Message"])) == (ARN, event)
    return {name: value["StringValue"] for name, value in published["MessageAttributes"].items()}


@pytest.mark.parametrize("rejected", [0, 3])
def test_rejected_lines_are_told_where_they_were_counted(rejected: int) -> None:
    counted = Outcome(JobResult.DONE, summary={"lines_in": 5, "rejected": rejected})
    assert attributes_of(counted) == {"outcome": "done", "rejected": str(rejected)}


@pytest.mark.parametrize("kind", [JobResult.DUPLICATE, JobResult.STALE, JobResult.FAILED])
def test_rejected_lines_are_not_told_where_nothing_was_counted(kind: JobResult) -> None:
    assert attributes_of(Outcome(kind)) == {"outcome": kind.value}
