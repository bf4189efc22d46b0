"""A deployment for each test, on a real server, with worker processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import boto3
import pytest

from tests.runner.deployment import Deployment, deploy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


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
