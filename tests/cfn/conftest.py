"""A strict AWS for all tests of the templates."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import pytest

from tests.cfn.cloud import strict_cloud, without_what_is_unknown
from tests.cfn.templates import load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.cfn.cloud import Cloud
    from tests.cfn.stack import Stack


@pytest.fixture(scope="session")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """A server, one for each worker of pytest-xdist."""
    with strict_cloud(tmp_path_factory.mktemp("cloud")) as cloud:
        yield cloud


@pytest.fixture
def create(cloud: Cloud) -> Callable[..., Stack]:
    """Creates a stack of one of the templates, without what ministack has not, given its parameters.

    All that a test creates have one name, unless it adds to that.
    """
    prefix = f"Test-{uuid.uuid4().hex[:12]}"

    def make(kind: str, name: str = "", **given: str) -> Stack:
        template: dict[str, Any] = without_what_is_unknown(load(kind))
        return cloud.create(f"{prefix}-{name}" if name else prefix, template, **given)

    return make
