"""Workers of a stack, as ECS would start them: with the environment of the container, and the role of the task."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.deployment import Deployment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pytest

    from tests.cfn.cloud import Cloud
    from tests.cfn.stack import Stack


def deployment_of(cloud: Cloud, stack: Stack, directory: Path) -> Deployment:
    """Return the buckets and queues of a stack, and what its workers have in their environment.

    Args:
        cloud: Where it is.
        stack: The stack; of several input buckets, the first is the one to put objects into.
        directory: For temporary files of the workers, which do not exist on that machine.
    """
    told, where = stack.outputs, {"AWS_ENDPOINT_URL": cloud.endpoint, "AWS_CA_BUNDLE": str(cloud.authority)}
    directory.mkdir(exist_ok=True)
    here = {
        "HEALTH_FILE": str(directory / "health.json"),
        "TMPDIR": str(directory),
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    return Deployment(
        cloud.client("s3"),
        cloud.client("sqs"),
        told["oInputBucket"].partition(",")[0],
        told["oOutputBucket"],
        told["oQueueUrl"],
        told["oDeadLetterQueueUrl"],
        {**stack.environment, **stack.task_credentials(), **where, **here},
    )


def workers_of(cloud: Cloud, stack: Stack, directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    """Yield the deployment of a stack, and leave no worker."""
    without_own_account(monkeypatch)
    deployment = deployment_of(cloud, stack, directory)
    yield deployment
    end_all(deployment)


def end_all(*deployments: Deployment) -> None:
    """Leave no worker."""
    for process in (process for deployment in deployments for process in deployment.started):
        process.kill()
        process.communicate()


def without_own_account(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take out of the environment what names another account."""
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
