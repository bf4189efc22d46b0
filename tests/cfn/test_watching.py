"""Alarms and the dashboard ask for metrics that there are, by the names that the worker gives them."""

from __future__ import annotations

import io
import json
import re
from typing import Any

import pytest

from runner.job.protocol import JobResult
from runner.metrics import JobNumbers, Metrics, denial_metric, input_metric, job_metrics, last_receive_metric
from runner.settings import Settings
from tests.cfn.metric_math import evaluate
from tests.cfn.templates import KINDS, load, of_type
from tests.conftest import ROOT

WORKER = ROOT / "runner" / "worker"
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

ONCE_A_MINUTE = {"OldestMessageAge", "OldestBackfillMessageAge", "BreakerOpen"}
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


def counted() -> set[str]:
    """Return the names of what a worker counts when it happens, by family."""
    stream = io.StringIO()
    metrics = Metrics("JsonlTransform", stream, {"Family": "f"})
    for name in re.findall(r'input_metric\(self._metrics, "(\w+)"', (WORKER / "job_log.py").read_text()):
        input_metric(metrics, name, job="j", key="k")
    denial_metric(metrics, "denied")
    last_receive_metric(metrics, "m")
    (untold,) = re.findall(r'emit\(\{"(\w+)"', (WORKER / "notifications.py").read_text())
    directives = [json.loads(line)["_aws"]["CloudWatchMetrics"][0] for line in stream.getvalue().splitlines()]
    assert all(directive["Dimensions"] == [[FAMILY]] for directive in directives)
    return {untold, *(metric["Name"] for directive in directives for metric in directive["Metrics"])}


def dashboard() -> list[dict[str, Any]]:
    """Return the widgets, what is filled in still being `${…}`."""
    (properties,) = of_type(load("monitoring"), "AWS::CloudWatch::Dashboard").values()
    widgets: list[dict[str, Any]] = json.loads(properties["DashboardBody"]["Fn::Sub"])["widgets"]
    return widgets


def check(namespace: str, name: str, dimensions: set[str]) -> None:
    """Check that there is such a metric."""
    own, names, sets = emitted()
    if namespace == own and name in ONCE_A_MINUTE | counted():
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


def test_dashboard() -> None:
    shown: set[str] = set()
    for widget in dashboard():
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
    assert {"InputsKept", "InputsNotFinished", "OutcomesNotTold", "QueueDenials", "LastReceives"} == counted() & shown
    assert "OldestBackfillMessageAge" in shown


def test_widgets_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for widget in dashboard():
        cells = {
            (widget["x"] + right, widget["y"] + down)
            for right in range(widget["width"])
            for down in range(widget.get("height", 6))
        }
        assert not cells & taken
        assert max(x for x, _ in cells) < 24
        taken |= cells


def check_metrics(alarm: dict[str, Any]) -> None:
    """Check that there is what an alarm looks at."""
    stats = [query["MetricStat"] for query in alarm.get("Metrics", []) if "MetricStat" in query]
    for metric in [stat["Metric"] for stat in stats] or [alarm]:
        check(metric["Namespace"], metric["MetricName"], {part["Name"] for part in metric["Dimensions"]})


def test_alarms() -> None:
    alarms = of_type(load("monitoring"), "AWS::CloudWatch::Alarm")
    names = ("DeadLetter", "MessageAge", "QueueAge", "BackfillAge", "FailedJobs", "Breaker", "Stalled")
    assert {f"r{name}Alarm" for name in (*names, "Outcomes", "Inputs")} == alarms.keys()
    for alarm in alarms.values():
        check_metrics(alarm)
        assert alarm["AlarmActions"] == [
            {"Fn::If": ["cAlarmTopic", {"Ref": "pAlarmTopicArn"}, {"Ref": "AWS::NoValue"}]}
        ]
    assert alarms["rFailedJobsAlarm"]["Dimensions"][1]["Value"] == JobResult.FAILED.value
    for name, metric in (("rOutcomesAlarm", "OutcomesNotTold"), ("rInputsAlarm", "InputsNotFinished")):
        assert alarms[name]["MetricName"] == metric
        assert (alarms[name]["Statistic"], alarms[name]["Threshold"]) == ("Sum", 0)


@pytest.mark.parametrize("kind", KINDS)
def test_alarms_of_the_service_only_scale_it(kind: str) -> None:
    template = load(kind)
    alarms = of_type(template, "AWS::CloudWatch::Alarm")
    assert "rWakeAlarm" in alarms
    for alarm in alarms.values():
        check_metrics(alarm)
        assert template["Resources"][alarm["AlarmActions"][0]["Ref"]]["Type"].endswith("::ScalingPolicy")


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_of_the_monitoring_are_outputs_of_the_service(kind: str) -> None:
    template, monitoring = load(kind), load("monitoring")
    outputs = template["Outputs"]
    assert {f"o{name[1:]}" for name in monitoring["Parameters"]} <= outputs.keys()
    for name in ("pAlarmTopicArn", "pMaxMessageAge", "pMaxBackfillAge"):
        assert template["Parameters"][name] == monitoring["Parameters"][name]
        assert outputs[f"o{name[1:]}"]["Value"] == {"Ref": name}


def test_old_messages_raise_an_alarm_wherever_they_are() -> None:
    template = load("monitoring")
    alarms = of_type(template, "AWS::CloudWatch::Alarm")
    in_hands, in_queue = alarms["rMessageAgeAlarm"], alarms["rQueueAgeAlarm"]
    assert (in_hands["Namespace"], in_hands["MetricName"]) == ("JsonlTransform", "OldestMessageAge")
    assert (in_queue["Namespace"], in_queue["MetricName"]) == ("AWS/SQS", "ApproximateAgeOfOldestMessage")
    in_backfill = alarms["rBackfillAgeAlarm"]
    assert in_queue["Dimensions"] == [{"Name": "QueueName", "Value": {"Ref": "pQueueName"}}]
    assert {**in_backfill, "AlarmDescription": ""} == {
        **in_queue,
        "AlarmDescription": "",
        "Dimensions": [{"Name": "QueueName", "Value": {"Ref": "pBackfillQueueName"}}],
        "Threshold": {"Ref": "pMaxBackfillAge"},
    }
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
    # A backfill may wait, but not until SQS deletes its messages.
    retention_s = of_type(load("fargate"), "AWS::SQS::Queue")["rBackfillQueue"]["MessageRetentionPeriod"]
    least_s, longest_s = 7 * 86400, retention_s - 3 * 86400
    assert least_s <= template["Parameters"]["pMaxBackfillAge"]["Default"] <= longest_s


STALLED = [  # visible and in flight in the queue, and in that of backfills
    ((3, 0, 0, 0), 1),
    ((0, 0, 3, 0), 1),
    ((3, 0, 0, 1), 0),
    ((0, 1, 3, 0), 0),
    ((0, 0, 0, 0), 0),
    ((0, 2, 0, 2), 0),
    ((None, None, 3, 0), 1),  # a queue that nobody asks has no metrics
    ((3, 1, None, None), 0),
]


@pytest.mark.parametrize(("numbers", "expected"), STALLED)
def test_either_queue_may_stall(numbers: tuple[float | None, ...], expected: float) -> None:
    queries = load("monitoring")["Resources"]["rStalledAlarm"]["Properties"]["Metrics"]
    names = [
        f"{lane}ApproximateNumberOfMessages{kind}" for lane in ("", "Backfill") for kind in ("Visible", "NotVisible")
    ]
    assert evaluate(queries, {name: [number] for name, number in zip(names, numbers, strict=True)}) == [expected]


@pytest.mark.parametrize("kind", KINDS)
def test_the_family_is_that_of_the_task_definition(kind: str) -> None:
    # Which ECS tells the worker, which tells its metrics apart by it.
    template = load(kind)
    family = template["Resources"]["rTaskDefinition"]["Properties"]["Family"]
    assert family == {"Ref": "AWS::StackName"} == template["Outputs"]["oTaskFamily"]["Value"]
    for name in ("rFailedJobsAlarm", "rBreakerAlarm", "rMessageAgeAlarm", "rOutcomesAlarm", "rInputsAlarm"):
        watched = load("monitoring")["Resources"][name]["Properties"]["Dimensions"]
        assert {"Name": FAMILY, "Value": {"Ref": "pTaskFamily"}} in watched
    (container,) = template["Resources"]["rTaskDefinition"]["Properties"]["ContainerDefinitions"]
    assert {"Name": "METRICS_NAMESPACE", "Value": "JsonlTransform"} in container["Environment"]
