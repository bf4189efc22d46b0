"""A bad deployment, before a backlog: it stops itself, and the next one does all there is to do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.runner.test_permissions import allow, guarded, strict
from tests.runner.test_retries import health
from tests.support.deployment import wait_for
from tests.support.example import lines, transformed
from tests.support.watching import Watched

if TYPE_CHECKING:
    from tests.support.deployment import Deployment

pytestmark = pytest.mark.slow
__all__ = ["guarded", "strict"]  # fixtures: a server that enforces IAM, and a deployment there

BACKLOG = 50
MOST_DEAD = 3
GOOD = {"BREAKER_FAILURES": "3", "MAX_ATTEMPTS": "5", "WORKERS": "2"}
TYPO = {"CALCULATION": "aa + 1 AS b", "SCHEMA": None}


def put_backlog(deployment: Deployment) -> None:
    for number in range(BACKLOG):
        deployment.put(f"in/{number}", lines(5 + number))


def moved_back(deployment: Deployment) -> int:
    """Put the dead letters on the queue again, as an operator does; return how many there were."""
    dead = deployment.dead()
    for letter in dead:
        deployment.send(**letter)
    return len(dead)


def check_done(deployment: Deployment) -> None:
    for number in range(BACKLOG):
        assert deployment.output_of(f"in/{number}") == transformed(5 + number)
    assert deployment.waiting() == (0, 0, 0)
    assert deployment.dead() == []


def fails(deployment: Deployment, env: dict[str, str | None], reason: str) -> None:
    """Run a worker that fails its health check, and takes no message any more; a restart does not do more harm."""
    Path(deployment.env["HEALTH_FILE"]).unlink(missing_ok=True)
    worker = Watched(deployment, env=env)
    worker.logged("started")
    wait_for(lambda: health(deployment)[0] == 1 and "failing: " in health(deployment)[1])
    assert reason in health(deployment)[1]
    wait_for(lambda: deployment.waiting()[1] == 0)
    assert worker.process.poll() is None, "it goes on to fail its health check, until it is stopped"
    assert worker.stop() == 1


@pytest.mark.parametrize(
    "typo",
    [TYPO, {**TYPO, "CALCULATION": "a + (1 AS b"}, {"SCHEMA": "a=Int64; aa=Int64"}],
    ids=["a column", "no SQL", "a declared column"],
)
def test_a_typo_costs_three_dead_letters_that_can_be_moved_back(
    deployment: Deployment, typo: dict[str, str | None]
) -> None:
    deployment.env |= GOOD
    put_backlog(deployment)
    if typo == TYPO:
        fails(deployment, typo, "there is no column `aa`")
        assert sum(deployment.waiting()) == BACKLOG - MOST_DEAD
        assert moved_back(deployment) == MOST_DEAD
    else:  # it does not start
        worker = Watched(deployment, env=typo)
        assert worker.end() == 1
        assert worker.errors
        assert "Traceback" not in "".join(worker.errors)
        assert "CALCULATION" in typo or "the schema declares `aa`" in "".join(worker.errors)
        assert sum(deployment.waiting()) >= BACKLOG
        assert deployment.dead() == []
    deployment.drain()
    check_done(deployment)


def test_a_role_that_may_not_read_costs_no_dead_letters(guarded: Deployment, strict: str) -> None:  # fixtures
    """Each of its tasks costs a few objects one attempt: it could be their own policy."""
    guarded.env |= {**GOOD, "RETRY_MIN_S": "10", "RETRY_MAX_S": "10"}  # so that no task has one of them twice
    put_backlog(guarded)
    allow(guarded, strict, without=("input_objects", "s3:GetObject"))
    for _ in range(3):
        fails(guarded, {}, "access denied")
        assert sum(guarded.waiting()) == BACKLOG
    assert moved_back(guarded) == 0
    allow(guarded, strict)
    log = guarded.drain()
    probe = 1
    assert sum(line["attempts"] for line in log if line.get("event") == "done") <= 3 * (MOST_DEAD + 1 + probe)
    check_done(guarded)
