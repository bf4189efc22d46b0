"""Alarms and the dashboard ask for metrics that there are, by the names that the worker gives them."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from runner.job.protocol import JobResult
from runner.metrics import JobNumbers, Metrics, job_metrics
from runner.settings import Settings
from tests.cfn.templates import KINDS, load, of_type

FAMILY, OUTCOME = "Family", "Outcome"
OF_AWS = {
    "AWS/SQS": (
        {
            "ApproximateNumberOfMessagesVisible",
            "ApproximateNumberOfMessagesNotVisible",
            "ApproximateAgeOfOldestMessage",
        },
        {"QueueName"},
    ),
    "AWS/ECS": ({"CPUUtilization", "MemoryUtilization"}, {"ClusterName", "ServiceName"}),
    "ECS/ContainerInsights": (
        {"DesiredTaskCount", "RunningTaskCount", "PendingTaskCount"},
        {"ClusterName", "ServiceName"},
    ),
}
"""Metrics of AWS by namespace, and their dimensions."""

ONCE_A_MINUTE = {"OldestMessageAge", "BreakerOpen"}
"""What a worker emits every minute, by family.

While it has messages, the largest age in seconds since the first sending of all that it has had since it last did,
including those that it has settled meanwhile. And 1 while the circuit breaker is not closed.
"""


def emitted() -> tuple[str, set[str], list[set[str]]]:
    """Return the namespace, the names and the dimensions of what a worker emits of a job."""
    stream = io.StringIO()
    numbers = JobNumbers(seconds=1.0, message_age_s=1.0)
    job_metrics(Metrics("JsonlTransform", stream, {"Family": "f"}), "done", numbers)
    (told,) = json.loads(stream.getvalue())["_aws"]["CloudWatchMetrics"]
    return (
        told["Namespace"],
        {metric["Name"] for metric in told["Metrics"]},
        [set(names) for names in told["Dimensions"]],
    )


def dashboard(kind: str) -> list[dict[str, Any]]:
    """Return the widgets, what is filled in still being `${…}`."""
    (properties,) = of_type(load(kind), "AWS::CloudWatch::Dashboard").values()
    widgets: list[dict[str, Any]] = json.loads(properties["DashboardBody"]["Fn::Sub"])["widgets"]
    return widgets


def check(namespace: str, name: str, dimensions: set[str]) -> None:
    """Check that there is such a metric."""
    own, names, sets = emitted()
    if namespace == own and name in ONCE_A_MINUTE:
        assert dimensions == {FAMILY}
    elif namespace == own:
        assert name in names
        assert dimensions in sets
    else:
        known, by = OF_AWS[namespace]
        assert name in known
        assert dimensions == by


def test_the_worker_emits_what_is_checked_with() -> None:
    namespace, names, sets = emitted()
    assert namespace == "JsonlTransform"
    assert {"Jobs", "LinesIn", "BytesOut", "Rejects", "MessageAge"} <= names
    assert sets == [{FAMILY}, {FAMILY, OUTCOME}]


@pytest.mark.parametrize("kind", KINDS)
def test_dashboard(kind: str) -> None:
    shown: set[str] = set()
    for widget in dashboard(kind):
        above: list[str] = []
        for metric in widget["properties"].get("metrics", []):
            if isinstance(metric[0], dict):
                expression = metric[0]["expression"]
                assert "{JsonlTransform,Family,Outcome}" in expression
                assert 'MetricName="Jobs"' in expression
                shown.add("Jobs")
                continue
            parts = [part for part in metric if isinstance(part, str)]
            above = [above[place] if part == "." else part for place, part in enumerate(parts)]
            namespace, name, *rest = above
            check(namespace, name, set(rest[::2]))
            shown.add(name)
    _, names, _ = emitted()
    assert {"Jobs", "LinesIn", "LinesOut", "BytesIn", "BytesOut", "Rejects"} <= shown & names
    assert all(names <= shown for names, _ in OF_AWS.values())


@pytest.mark.parametrize("kind", KINDS)
def test_widgets_do_not_overlap(kind: str) -> None:
    taken: set[tuple[int, int]] = set()
    for widget in dashboard(kind):
        cells = {
            (widget["x"] + right, widget["y"] + down)
            for right in range(widget["width"])
            for down in range(widget.get("height", 6))
        }
        assert not cells & taken
        assert max(x for x, _ in cells) < 24
        taken |= cells


@pytest.mark.parametrize("kind", KINDS)
def test_alarms(kind: str) -> None:
    template = load(kind)
    alarms = of_type(template, "AWS::CloudWatch::Alarm")
    told = {f"r{name}Alarm" for name in ("DeadLetter", "MessageAge", "QueueAge", "FailedJobs", "Breaker", "Stalled")}
    assert told <= alarms.keys()
    for name, properties in alarms.items():
        stats = [query["MetricStat"] for query in properties.get("Metrics", []) if "MetricStat" in query]
        for metric in [stat["Metric"] for stat in stats] or [properties]:
            check(metric["Namespace"], metric["MetricName"], {part["Name"] for part in metric["Dimensions"]})
        if name in told:
            assert properties["AlarmActions"] == [
                {"Fn::If": ["cAlarmTopic", {"Ref": "pAlarmTopicArn"}, {"Ref": "AWS::NoValue"}]}
            ]
        else:
            assert properties["AlarmActions"][0]["Ref"] in template["Resources"]
    assert alarms["rFailedJobsAlarm"]["Dimensions"][1]["Value"] == JobResult.FAILED.value


@pytest.mark.parametrize("kind", KINDS)
def test_old_messages_raise_an_alarm_wherever_they_are(kind: str) -> None:
    template = load(kind)
    alarms = of_type(template, "AWS::CloudWatch::Alarm")
    in_hands, in_queue = alarms["rMessageAgeAlarm"], alarms["rQueueAgeAlarm"]
    assert (in_hands["Namespace"], in_hands["MetricName"]) == ("JsonlTransform", "OldestMessageAge")
    assert (in_queue["Namespace"], in_queue["MetricName"]) == ("AWS/SQS", "ApproximateAgeOfOldestMessage")
    for alarm in (in_hands, in_queue):
        assert (alarm["Statistic"], alarm["TreatMissingData"]) == ("Maximum", "notBreaching")
        assert alarm["Threshold"] == {"Ref": "pMaxMessageAge"}
    # One that goes round is in a worker's hands at least so often; once in that time is enough.
    settings = Settings.model_fields
    longest_s = max(settings["retry_max_s"].default, settings["visibility_timeout_s"].default)
    assert in_hands["DatapointsToAlarm"] == 1
    assert in_hands["EvaluationPeriods"] * in_hands["Period"] > longest_s
    # The default leaves room for a job that was handed over once.
    assert template["Parameters"]["pMaxMessageAge"]["Default"] >= 2 * settings["max_lease_s"].default


@pytest.mark.parametrize("kind", KINDS)
def test_the_family_is_that_of_the_task_definition(kind: str) -> None:
    # Which ECS tells the worker, which tells its metrics apart by it.
    template = load(kind)
    family = template["Resources"]["rTaskDefinition"]["Properties"]["Family"]
    assert family == {"Ref": "AWS::StackName"} == template["Outputs"]["oTaskFamily"]["Value"]
    for name in ("rFailedJobsAlarm", "rBreakerAlarm", "rMessageAgeAlarm"):
        assert {"Name": FAMILY, "Value": family} in template["Resources"][name]["Properties"]["Dimensions"]
    (container,) = template["Resources"]["rTaskDefinition"]["Properties"]["ContainerDefinitions"]
    assert {"Name": "METRICS_NAMESPACE", "Value": "JsonlTransform"} in container["Environment"]
