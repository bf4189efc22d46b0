"""The whole of it, minute by minute: a queue, the tasks of its service, the metrics of both, and what scales them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.cfn.autoscaling import AutoScaling
from tests.cfn.service import TICK_S, Service
from tests.cfn.templates import defaults, of_type

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.cfn.metric_math import Point

START_S = {"fargate": 60, "ec2": 240}
"""How long a task takes to start, on EC2 with an instance."""
QUEUE_METRICS_DELAY = 1
SERVICE_METRICS_DELAY = 2
"""How many minutes later metrics are there."""
ASLEEP_AFTER_MINUTES, WAKES_IN_MINUTES = 6 * 60, 15
"""A queue that nobody asks has no metrics after so long, and has them again only so long after somebody does."""


@dataclass
class Simulation:
    """What came of it.

    Attributes:
        service: How it ended.
        desired: How many tasks there should be, by minute.
        limits: The fewest and the most tasks.
    """

    service: Service
    desired: list[int] = field(default_factory=list)
    limits: tuple[int, int] = (0, 0)


class _Metrics:
    """What CloudWatch has."""

    def __init__(self) -> None:
        self._points: dict[str, list[Point]] = {
            name: []
            for name in (
                "ApproximateNumberOfMessagesVisible",
                "ApproximateNumberOfMessagesNotVisible",
                "DesiredTaskCount",
                "RunningTaskCount",
            )
        }
        self._quiet = 0
        self._awake_at = 0

    def note(self, minute: int, service: Service, now_s: float) -> None:
        """Take the numbers of a minute."""
        if not service.is_asked:
            self._quiet += 1
        else:
            if self._quiet > ASLEEP_AFTER_MINUTES:
                self._awake_at = minute + WAKES_IN_MINUTES
            self._quiet = 0
        there = self._quiet <= ASLEEP_AFTER_MINUTES and minute >= self._awake_at
        numbers = [len(service.waiting), service.in_flight] if there else [None, None]
        # Without tasks there are no metrics of them either, which is not documented but must be reckoned with.
        running = sum(task.ready_s <= now_s for task in service.tasks)
        counts = [service.desired, running] if service.tasks or service.desired else [None, None]
        for points, number in zip(self._points.values(), [*numbers, *counts], strict=True):
            points.append(number)

    def visible(self) -> dict[str, list[Point]]:
        """Return what is there by now."""
        seen = {}
        for name, points in self._points.items():
            late = SERVICE_METRICS_DELAY if name.endswith("TaskCount") else QUEUE_METRICS_DELAY
            seen[name] = [*points[: len(points) - late + 1], *([None] * (late - 1))]
        return seen


def may_protect(template: Mapping[str, Any]) -> bool:
    """Return whether the role of the tasks lets them protect themselves."""
    policies = of_type(template, "AWS::IAM::Policy").values()
    statements = [part for policy in policies for part in policy["PolicyDocument"]["Statement"]]
    return any("ecs:UpdateTaskProtection" in part.get("Action", []) for part in statements)


def simulate(
    kind: str, template: Mapping[str, Any], arrivals: Sequence[tuple[float, float]], minutes: int, **given: str
) -> Simulation:
    """Run it.

    Args:
        kind: Which template it is.
        template: The template, whose numbers are used.
        arrivals: When jobs arrive and how long they take, in seconds.
        minutes: For how long.
        given: Parameters of the template, where not the default.
    """
    scaling = AutoScaling(template, defaults(template, **given))
    service = Service(arrivals, START_S[kind], may_protect(template))
    metrics = _Metrics()
    found = Simulation(service, limits=(scaling.least, scaling.most))
    for minute in range(minutes):
        for tick in range(0, 60, TICK_S):
            service.tick(60 * minute + tick)
        metrics.note(minute, service, 60 * minute + 60)
        service.desired = scaling.decide(minute, service.desired, metrics.visible())
        found.desired.append(service.desired)
    return found
