"""An object is never published beside the rejects of another run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.example import CALCULATION, lines, transformed
from tests.support.places import OLD, ObjectPlace
from tests.support.proxy import Refuse
from transform import OutputError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.proxy import Fault, Proxy, Request

SUFFIX = ".rejects.jsonl"
BAD = b"no JSON\n"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tmp_path / "input.jsonl"


@pytest.fixture
def rejects(place: ObjectPlace) -> ObjectPlace:
    """The rejects of an earlier run."""
    rejects = ObjectPlace(place.s3, place.bucket, place.scratch, place.key + SUFFIX)
    rejects.put(OLD)
    return rejects


@pytest.mark.parametrize("bad", [b"", BAD], ids=["clean", "with rejects"])
def test_old_rejects_are_gone_when_the_object_appears_and_not_earlier(
    bad: bytes, place: ObjectPlace, rejects: ObjectPlace, source: Path, proxy: Proxy
) -> None:
    source.write_bytes(lines(3) + bad)
    when_published: list[bytes | None] = []

    def rule(request: Request) -> Fault | None:
        if (request.operation, request.key) == ("PutObject", place.key):
            when_published.append(rejects.content())
        return None

    def progress(_done: int, _total: int | None) -> None:
        assert (place.content(), rejects.content()) == (OLD, OLD)

    proxy.rule = rule
    CALCULATION.run(source, place.target, progress=progress)
    assert when_published == [rejects.content()]
    assert (when_published == [None]) == (bad == b"")
    assert rejects.content() != OLD
    assert place.content() == transformed(3)


def test_a_clean_run_without_old_rejects_deletes_nothing(place: ObjectPlace, source: Path, proxy: Proxy) -> None:
    source.write_bytes(lines(3))
    CALCULATION.run(source, place.target)
    assert [request.operation for request in proxy.requests if request.key] == ["HeadObject", "PutObject"]


def test_old_rejects_that_cannot_be_deleted_fail_the_run(
    place: ObjectPlace, rejects: ObjectPlace, source: Path, proxy: Proxy
) -> None:
    source.write_bytes(lines(3))
    proxy.rule = lambda request: Refuse(403, "AccessDenied") if request.operation == "DeleteObject" else None
    with pytest.raises(OutputError, match=f"^{rejects.target}: access denied"):
        CALCULATION.run(source, place.target)
    assert (place.content(), rejects.content()) == (OLD, OLD)


def test_old_rejects_are_deleted_without_permission_to_look_for_them(
    place: ObjectPlace, rejects: ObjectPlace, source: Path, proxy: Proxy
) -> None:
    source.write_bytes(lines(3))
    proxy.rule = lambda request: Refuse(403, "AccessDenied") if request.operation == "HeadObject" else None
    CALCULATION.run(source, place.target)
    assert (place.content(), rejects.content()) == (transformed(3), None)
