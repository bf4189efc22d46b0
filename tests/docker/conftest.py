"""The image, built once for all tests; they are skipped where that cannot be done."""

from __future__ import annotations

import fcntl
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from tests.docker.engine import UnavailableError, build, find_engine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.docker.engine import Engine


@pytest.fixture(scope="session")
def engine() -> Engine:
    """What runs containers of the image."""
    with (Path(tempfile.gettempdir()) / "transform-image.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the other processes of pytest-xdist find the layers ready
        try:
            build()
            return find_engine()
        except UnavailableError as error:
            pytest.skip(str(error))


@pytest.fixture
def sqs(aws: str) -> Iterator[Any]:
    """A client of the server that shares nothing with what is tested."""
    client = boto3.client("sqs", endpoint_url=aws)
    yield client
    client.close()
