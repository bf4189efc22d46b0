"""CloudWatch's alarms and Application Auto Scaling, simulated with the numbers of a template.

https://docs.aws.amazon.com/autoscaling/application/userguide/step-scaling-policy-overview.html
https://docs.aws.amazon.com/autoscaling/application/userguide/target-tracking-scaling-policy-overview.html
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.cfn.metric_math import evaluate
from tests.cfn.templates import of_type, resolved

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.cfn.metric_math import Point

TARGET_OUT_MINUTES, TARGET_IN_MINUTES = 3, 15
"""For how long target tracking wants its metric to be too high, or too low."""
TARGET_LOW = 0.9
"""Too low is below this share of the target."""
WINDOW_MINUTES = 30
"""How many of the last minutes are looked at: all that an alarm needs, and the number of tasks before them."""


@dataclass
class Policy:
    """A scaling policy, with what it remembers of its last activity."""

    properties: dict[str, Any]
    queries: list[dict[str, Any]]
    alarm: dict[str, Any] = field(default_factory=dict)
    acted_min: dict[bool, float] = field(default_factory=lambda: {True: -math.inf, False: -math.inf})
    before: int = 0

    def wanted(self, minute: int, desired: int, metrics: Mapping[str, Sequence[Point]]) -> int | None:
        """Return how many tasks it wants, None where it does not want anything else."""
        found = evaluate(self.queries, {name: points[-WINDOW_MINUTES:] for name, points in metrics.items()})
        target = self.properties.get("TargetTrackingScalingPolicyConfiguration")
        if target:
            return self._track(minute, desired, found, target)
        return self._step(minute, desired, found, self.properties["StepScalingPolicyConfiguration"])

    def _step(self, minute: int, desired: int, found: list[Point], step: Mapping[str, Any]) -> int | None:
        assert self.alarm["ComparisonOperator"] == "GreaterThanThreshold"
        assert self.alarm["TreatMissingData"] == "notBreaching"
        assert step["AdjustmentType"] == "ChangeInCapacity"
        periods, threshold = int(self.alarm["EvaluationPeriods"]), float(self.alarm["Threshold"])
        recent = found[-periods:]
        if len(recent) < periods or not all(point is not None and point > threshold for point in recent):
            return None
        value = next(point for point in reversed(recent) if point is not None) - threshold
        change = next(
            int(part["ScalingAdjustment"])
            for part in step["StepAdjustments"]
            if float(part.get("MetricIntervalLowerBound", -math.inf)) <= value
            and value < float(part.get("MetricIntervalUpperBound", math.inf))
        )
        cooldown = float(step["Cooldown"])
        return self._act(minute, desired, lambda base: base + change, up=change > 0, cooldown_s=cooldown)

    def _track(self, minute: int, desired: int, found: list[Point], target: Mapping[str, Any]) -> int | None:
        aim = float(target["TargetValue"])
        high, low = found[-TARGET_OUT_MINUTES:], found[-TARGET_IN_MINUTES:]
        if len(high) == TARGET_OUT_MINUTES and all(point is not None and point > aim for point in high):
            value, up, cooldown = float(high[-1] or 0), True, float(target["ScaleOutCooldown"])
        elif len(low) == TARGET_IN_MINUTES and all(point is not None and point < TARGET_LOW * aim for point in low):
            value, up, cooldown = float(low[-1] or 0), False, float(target["ScaleInCooldown"])
        else:
            return None

        def proportional(base: int) -> int:
            return math.ceil(base * value / aim) if base else int(up)  # from nothing, by as little as is possible

        return self._act(minute, desired, proportional, up=up, cooldown_s=cooldown)

    def _act(self, minute: int, desired: int, change: Any, *, up: bool, cooldown_s: float) -> int | None:
        """Return the new number; as it cools down, what was added is part of what is to be, and nothing goes."""
        cools = minute < self.acted_min[up] + cooldown_s / 60
        if cools and not up:
            return None
        wanted: int = change(self.before if cools else desired)
        if (wanted > desired) != up or wanted == desired:
            return None
        if not cools:
            self.before = desired
        self.acted_min[up] = minute
        return wanted


class AutoScaling:
    """What scales the service of a template, given its parameters."""

    def __init__(self, template: Mapping[str, Any], parameters: Mapping[str, str]) -> None:
        (target,) = of_type(template, "AWS::ApplicationAutoScaling::ScalableTarget").values()
        self.least = int(resolved(target["MinCapacity"], parameters))
        self.most = int(resolved(target["MaxCapacity"], parameters))
        alarms = of_type(template, "AWS::CloudWatch::Alarm").values()
        self._policies = []
        for name, properties in of_type(template, "AWS::ApplicationAutoScaling::ScalingPolicy").items():
            told = resolved(properties, parameters)
            if tracking := told.get("TargetTrackingScalingPolicyConfiguration"):
                self._policies.append(Policy(told, tracking["CustomizedMetricSpecification"]["Metrics"]))
            else:
                (alarm,) = (resolved(alarm, parameters) for alarm in alarms if {"Ref": name} in alarm["AlarmActions"])
                assert all(query.get("MetricStat", {}).get("Period", 60) == 60 for query in alarm["Metrics"])
                self._policies.append(Policy(told, alarm["Metrics"], alarm))

    def decide(self, minute: int, desired: int, metrics: Mapping[str, Sequence[Point]]) -> int:
        """Return how many tasks there should be: the most that a policy wants, some wanting more than there are."""
        asked = [policy.wanted(minute, desired, metrics) for policy in self._policies]
        wanted = [number for number in asked if number is not None]
        return min(self.most, max(self.least, *wanted)) if wanted else desired
