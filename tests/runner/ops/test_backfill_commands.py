"""Which queue a submission goes to, and what `status` says about both."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.support.operating import asked, operate

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.deployment import Deployment


@pytest.fixture
def backfill(deployment: Deployment) -> str:
    """The URL of the queue of backfills of the deployment, which has two objects and nothing on its queues."""
    deployment.s3.put_bucket_notification_configuration(Bucket=deployment.input, NotificationConfiguration={})
    deployment.sqs.purge_queue(QueueUrl=deployment.queue)
    for key in ("a", "b"):
        deployment.put(key, b"{}\n")
    return deployment.add_backfill()


@pytest.mark.parametrize(
    ("options", "main", "behind"), [([], 0, 2), (["--queue", "main"], 2, 0), (["--queue", "backfill"], 0, 2)]
)
def test_a_submission_goes_to_the_queue_that_is_named(
    deployment: Deployment, backfill: str, options: list[str], main: int, behind: int
) -> None:
    told = asked(deployment, "submit", f"s3://{deployment.input}/", *options)
    assert (told["objects"], told["queue"]) == (2, "main" if main else "backfill")
    assert (deployment.waiting()[0], deployment.waiting(backfill)[0]) == (main, behind)


def test_without_a_backfill_queue_it_goes_to_the_main_one(deployment: Deployment) -> None:
    uri = f"s3://{deployment.input}/"
    assert asked(deployment, "submit", uri)["queue"] == "main"
    said = operate(deployment, "submit", uri, "--queue", "backfill", exit_status=1).stderr
    assert "there is no backfill queue: set BACKFILL_QUEUE, or leave --queue out" in said


def test_an_interrupted_submission_goes_on_with_its_queue(
    deployment: Deployment, backfill: str, tmp_path: Path
) -> None:
    place = tmp_path / "place"
    command = ["submit", f"s3://{deployment.input}/", "--resume-file", str(place)]
    operate(deployment, *command, env={"BACKFILL_QUEUE": None})
    assert deployment.waiting()[0] == 2
    deployment.put("c", b"{}\n")
    operate(deployment, *command)
    assert (deployment.waiting()[0], deployment.waiting(backfill)[0]) == (3, 0)
    said = operate(deployment, *command, "--queue", "backfill", exit_status=1).stderr
    assert "is of a submission with queue" in said


def test_a_submission_to_the_backfill_queue_goes_on_there(
    deployment: Deployment, backfill: str, tmp_path: Path
) -> None:
    place = tmp_path / "place"
    command = ["submit", f"s3://{deployment.input}/", "--resume-file", str(place)]
    operate(deployment, *command)
    deployment.put("c", b"{}\n")
    operate(deployment, *command)
    assert (deployment.waiting()[0], deployment.waiting(backfill)[0]) == (0, 3)
    place.write_text(json.dumps([]))
    assert "is not the file of a submission" in operate(deployment, *command, exit_status=1).stderr


def test_status_shows_both_queues(deployment: Deployment, backfill: str) -> None:
    asked(deployment, "submit", f"s3://{deployment.input}/")
    deployment.send("x")
    found = asked(deployment, "status")
    name = deployment.env["SQSBatchQueue"]
    assert (found["queue"], found["waiting"]) == (name, 1)
    assert found["backfill"] == {
        "queue": f"{name}-backfill",
        "waiting": 2,
        "in_flight": 0,
        "delayed": 0,
        "oldest_age_s": None,
    }
    said = operate(deployment, "status").stdout.splitlines()
    assert said[:2] == [
        f"Queue {name}: 1 waiting, 0 in flight, 0 delayed",
        f"Backfill queue {name}-backfill: 2 waiting, 0 in flight, 0 delayed",
    ]
    deployment.sqs.delete_queue(QueueUrl=backfill)
    del deployment.env["BACKFILL_QUEUE"]
    assert asked(deployment, "status")["backfill"] is None
