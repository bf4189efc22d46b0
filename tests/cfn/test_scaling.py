"""What the numbers of the templates come to, as they act on each other."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.cfn.metric_math import evaluate
from tests.cfn.simulation import WAKES_IN_MINUTES, simulate
from tests.cfn.templates import KINDS, load

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cfn.simulation import Simulation

JOB_S = 600.0
HOUR_S = 3600.0
NIGHT_S = 10 * HOUR_S
"""After which there are no metrics of the queue any more."""

BURST = [(NIGHT_S, JOB_S)] * 1000
TRICKLE = [(NIGHT_S + 420 * number, JOB_S) for number in range(60)]  # one every 7 minutes
STRAGGLER = [(NIGHT_S, JOB_S)] * 9 + [(NIGHT_S, 3 * HOUR_S)]
"""Ten jobs, one of which goes on for hours after the others."""

SLOW_START_MINUTES = 5
"""What a task may take to start, with an instance."""


def without_in_flight(template: dict[str, Any]) -> dict[str, Any]:
    """Return a template that scales on what waits only."""
    text = json.dumps(template)
    both = "SUM([visible, inflight, later, doing])"
    assert both in text
    changed: dict[str, Any] = json.loads(text.replace(both, "SUM([visible, later])"))
    return changed


def without_backfills(template: dict[str, Any]) -> dict[str, Any]:
    """Return a template that scales on one of the queues only."""
    text = json.dumps(template)
    assert ", later" in text
    assert ", doing" in text
    changed: dict[str, Any] = json.loads(text.replace(", later", "").replace(", doing", ""))
    return changed


def with_sum_of_all(template: dict[str, Any]) -> dict[str, Any]:
    """Return a template that adds the numbers of both queues, which takes that both have metrics."""
    text = json.dumps(template)
    sums = {"SUM([visible, inflight, later, doing])": "(visible + inflight + later + doing)"}
    sums |= {
        f"SUM([{one}, {other}])": f"({one} + {other})" for one, other in (("visible", "later"), ("inflight", "doing"))
    }
    for written, added in sums.items():
        assert written in text
        text = text.replace(written, added)
    changed: dict[str, Any] = json.loads(text)
    return changed


def without_protection(template: dict[str, Any]) -> dict[str, Any]:
    """Return a template whose tasks may not protect themselves."""
    text = json.dumps(template)
    assert '"ecs:UpdateTaskProtection"' in text
    changed: dict[str, Any] = json.loads(text.replace('"ecs:UpdateTaskProtection"', '"ecs:DescribeTasks"'))
    return changed


def hours(simulation: Simulation, first: float, last: float) -> list[int]:
    """Return how many tasks there should have been, from an hour to another."""
    return simulation.desired[round(60 * first) : round(60 * last)]


@pytest.mark.parametrize("least", ["0", "2"])
@pytest.mark.parametrize("kind", KINDS)
def test_burst(kind: str, least: str) -> None:
    found = simulate(kind, load(kind), BURST, 60 * 10 + 1000 + 240, pMinTasks=least, pMaxTasks="10")
    service = found.service
    assert service.done == 1000
    assert service.interrupted == service.most_missing == 0
    assert max(found.desired) == 10
    lag = WAKES_IN_MINUTES if least == "0" else 0  # tasks that ask the queue keep its metrics awake
    reached = found.desired.index(10) - 600
    assert reached <= lag + SLOW_START_MINUTES + 10
    assert service.longest_wait_s <= 60 * (lag + SLOW_START_MINUTES + 15) + 1000 * JOB_S / 10
    assert set(hours(found, 9, 10)) == {int(least)}, "before"
    assert set(found.desired[-60:]) == {int(least)}, "after"


@pytest.mark.parametrize("most", ["40", "500"])
@pytest.mark.parametrize("kind", KINDS)
def test_no_more_tasks_than_messages(kind: str, most: str) -> None:
    found = simulate(kind, load(kind), [(NIGHT_S, HOUR_S)] * 30, 60 * 13, pMinTasks="0", pMaxTasks=most)
    assert max(found.desired) <= 31  # a job may be over when the last task is there
    assert max(found.desired) >= 29
    assert found.service.done == 30
    assert found.desired[-1] == 0


@pytest.mark.parametrize("kind", KINDS)
def test_many_small_jobs_share_tasks(kind: str) -> None:
    found = simulate(kind, load(kind), [(NIGHT_S, 5.0)] * 300, 60 * 12, pBacklogPerTask="100", pMaxTasks="50")
    assert max(found.desired) <= 4
    assert found.service.done == 300
    assert found.desired[-1] == 0


@pytest.mark.parametrize("kind", KINDS)
def test_trickle(kind: str) -> None:
    found = simulate(kind, load(kind), TRICKLE, 60 * 19, pMinTasks="0")
    service = found.service
    assert service.done == len(TRICKLE)
    assert service.interrupted == service.most_missing == 0
    assert set(hours(found, 11, 16)) <= {1, 2, 3}
    assert max(found.desired) <= 6  # what came while there were no metrics
    assert service.longest_wait_s <= 60 * (WAKES_IN_MINUTES + 2 * SLOW_START_MINUTES)
    assert set(found.desired[-30:]) == {0}


@pytest.mark.parametrize(("least", "kind"), [("0", "fargate"), ("0", "ec2"), ("1", "fargate"), ("3", "ec2")])
def test_silence(kind: str, least: str) -> None:
    found = simulate(kind, load(kind), [], 60 * 24, pMinTasks=least)
    assert max(found.desired) == max(1, int(least))  # a new service has one task
    assert set(found.desired[60:]) == {int(least)}
    assert found.service.interrupted == 0


@pytest.mark.parametrize("kind", KINDS)
def test_last_job_goes_on_alone(kind: str) -> None:
    found = simulate(kind, load(kind), STRAGGLER, 60 * 15, pMinTasks="0")
    assert found.service.interrupted == found.service.most_missing == 0
    assert found.service.done == 10
    assert set(hours(found, 12, 13)) == {1}, "the others are gone, and it is there"
    assert set(found.desired[-30:]) == {0}


@pytest.mark.parametrize(
    ("take_out", "what"), [(without_in_flight, "most_missing"), (without_protection, "interrupted")]
)
@pytest.mark.parametrize("kind", KINDS)
def test_what_keeps_busy_tasks_is_needed(
    kind: str, take_out: Callable[[dict[str, Any]], dict[str, Any]], what: str
) -> None:
    found = simulate(kind, take_out(load(kind)), STRAGGLER, 60 * 15, pMinTasks="0")
    assert getattr(found.service, what) > 0
    assert found.service.done == 10 or what == "interrupted"


@pytest.mark.parametrize("least", ["0", "2"])
@pytest.mark.parametrize("kind", KINDS)
def test_backfill_alone(kind: str, least: str) -> None:
    found = simulate(kind, load(kind), [], 60 * 15, backfill=BURST[:200], pMinTasks=least, pMaxTasks="10")
    service = found.service
    assert service.done == 200
    assert service.interrupted == service.most_missing == 0
    lag = WAKES_IN_MINUTES if least == "0" else 0
    assert found.desired.index(10) - 600 <= lag + SLOW_START_MINUTES + 10
    assert set(hours(found, 9, 10)) == {int(least)}, "before"
    assert set(found.desired[-30:]) == {int(least)}, "after"


@pytest.mark.parametrize("kind", KINDS)
def test_new_objects_pass_a_backfill(kind: str) -> None:
    late = [(NIGHT_S + 2 * HOUR_S, JOB_S)] * 20
    found = simulate(kind, load(kind), late, 60 * 24, backfill=[(NIGHT_S, JOB_S)] * 400, pMaxTasks="10")
    service = found.service
    assert service.done == 420
    assert service.interrupted == service.most_missing == 0
    assert service.longest_wait_s <= 3 * JOB_S  # of ten tasks, each of which has a backfill to end
    assert found.desired[-1] == 0


@pytest.mark.parametrize("kind", KINDS)
def test_last_backfill_goes_on_alone(kind: str) -> None:
    found = simulate(kind, load(kind), [], 60 * 15, backfill=STRAGGLER, pMinTasks="0")
    assert found.service.interrupted == found.service.most_missing == 0
    assert found.service.done == 10
    assert set(hours(found, 12, 13)) == {1}, "the others are gone, and it is there"
    assert set(found.desired[-30:]) == {0}


@pytest.mark.parametrize("kind", KINDS)
def test_backfill_beside_a_job_of_hours(kind: str) -> None:
    found = simulate(kind, load(kind), [(NIGHT_S, 9 * HOUR_S)], 60 * 24, backfill=BURST[:30], pMinTasks="0")
    assert found.service.interrupted == found.service.most_missing == 0
    assert found.service.done == 31
    assert set(hours(found, 14, 18)) == {1}
    assert found.desired[-1] == 0


@pytest.mark.parametrize("kind", KINDS)
def test_both_queues_have_to_be_counted(kind: str) -> None:
    unseen = simulate(kind, without_backfills(load(kind)), [], 60 * 15, backfill=BURST[:200], pMinTasks="0")
    assert unseen.service.done == 0
    # The other queue has had no request for hours, and so no metrics.
    added = simulate(kind, with_sum_of_all(load(kind)), [], 60 * 15, backfill=BURST[:200], pMinTasks="0")
    assert added.service.done == 0


def test_metric_math() -> None:
    # By hand, so that what is simulated with is not only what it is checked with.
    names = {"v": "Visible", "d": "Desired"}
    stats = [{"Id": i, "ReturnData": False, "MetricStat": {"Metric": {"MetricName": n}}} for i, n in names.items()]
    metrics: dict[str, list[float | None]] = {"Visible": [4, 5, None, 9], "Desired": [2, None, 3, None]}

    def result(expression: str) -> list[float | None]:
        return evaluate([{"Id": "x", "Expression": expression}, *stats], metrics)

    assert result("v") == [4, 5, None, 9]
    assert result("v / d") == [2, None, None, None]
    assert result("v / FILL(d, REPEAT)") == [2, 2.5, None, 3]
    assert result("CEIL(v / 2) - 1") == [1, 2, None, 4]
    assert result("IF(v < 5, v, v / 0)") == [4, None, None, None]
    assert result("FILL(FILL(v, REPEAT) + d, REPEAT)") == [6, 6, 8, 8]
    assert result("SUM([v, d])") == [6, 5, 3, 9]
    with pytest.raises(ValueError, match="unknown in metric math: SUM"):
        result("SUM(v)")
