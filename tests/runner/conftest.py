"""A deployment for each test, on a real server, with worker processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import boto3
import pytest

from tests.support.deployment import Deployment, deploy
from tests.support.jobs import Jobs
from tests.support.proxy import proxy_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.proxy import Proxy


@pytest.fixture
def sqs(aws: str) -> Iterator[Any]:
    """A client of the server that shares nothing with what is tested."""
    client = boto3.client("sqs", endpoint_url=aws)
    yield client
    client.close()


@pytest.fixture
def deployment(s3: Any, sqs: Any, tmp_path: Path) -> Iterator[Deployment]:
    """A deployment of the worker; whatever it started is gone at the end of the test."""
    made = deploy(s3, sqs, HEALTH_FILE=str(tmp_path / "health.json"))
    yield made
    for process in made.started:
        process.kill()
        process.communicate()


@pytest.fixture
def proxy(aws: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy that workers reach S3 through, and the test's own client does not."""
    with proxy_of(aws) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.endpoint)
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")  # s3fs tries again as well, and waits for less long
        yield proxy


@pytest.fixture
def jobs(deployment: Deployment, proxy: Proxy) -> Jobs:  # noqa: ARG001 # through which they reach S3
    """What does jobs in this process."""
    return Jobs(deployment)


@pytest.fixture
def one_by_one(jobs: Jobs) -> None:
    """Each part is noted before the job goes on, so that a test that looks in between knows how far it has come."""
    jobs.context["max_parts_in_flight"] = 0
