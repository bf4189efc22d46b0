"""What tests of S3 share: an object of an earlier run, and a proxy to refuse, delay and change answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support.places import OLD, ObjectPlace
from tests.support.proxy import proxy_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.proxy import Proxy


@pytest.fixture
def place(s3: Any, bucket: str, scratch: Path) -> ObjectPlace:
    """Where an output goes, with one of an earlier run."""
    place = ObjectPlace(s3, bucket, scratch)
    place.put(OLD)
    return place


@pytest.fixture
def proxy(aws: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy that what is tested goes through, and the test's own client does not."""
    with proxy_of(aws) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        yield proxy
