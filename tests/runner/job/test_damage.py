"""An object that is read in ranges is compared with its checksum before its output is published, resumed or not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from runner.job.protocol import JobResult
from tests.support.example import BIG, BIG_TRANSFORMED
from tests.support.jobs import KEY, Free, Jobs, Killed
from tests.support.proxy import Damage

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.proxy import Proxy, Request


def damage(which: Callable[[int], bool]) -> Callable[[Request], Damage | None]:
    """Return a rule under which ranges are damaged, by their first bytes; where, only the checksum shows it."""
    return lambda request: Damage() if is_read(request) and which(request.first_byte) else None


def is_read(request: Request) -> bool:
    return request.operation == "GetObject" and request.key == KEY


@pytest.fixture(params=[1, 2], ids=["one thread", "two threads"])
def workers(request: pytest.FixtureRequest, jobs: Jobs) -> int:
    """How many threads work; there is an object of two ranges."""
    jobs.deployment.put(KEY, BIG, ChecksumAlgorithm="CRC64NVME")
    jobs.context["max_parts_in_flight"] = 0  # so that each part has its checkpoint
    return int(request.param)


@pytest.mark.parametrize("which", ["first", "last"])
def test_what_is_damaged_is_not_published_and_done_again(which: str, workers: int, jobs: Jobs, proxy: Proxy) -> None:
    proxy.rule = damage(lambda start: (start > 0) is (which == "last"))
    for _ in range(2):
        outcome = jobs.do(workers=workers, again=True)
        assert (outcome.kind, jobs.output()) == (JobResult.RETRY, None)
        assert f"{KEY}: the bytes that were read are not those that were stored" in outcome.reason
        assert "CRC64NVME" in outcome.reason
    proxy.rule = lambda _request: None
    assert jobs.do(workers=workers, again=True).kind is JobResult.DONE
    assert jobs.output() == BIG_TRANSFORMED
    assert jobs.left() == []


def killed_after_a_part(jobs: Jobs, workers: int) -> None:
    with pytest.raises(Killed):
        jobs.do(workers=workers, control=Free(lives=2))
    assert jobs.left() != []


def test_a_checkpoint_of_damaged_bytes_is_not_gone_on_with_twice(workers: int, jobs: Jobs, proxy: Proxy) -> None:
    proxy.rule = damage(lambda start: start == 0)
    killed_after_a_part(jobs, workers)
    proxy.rule = lambda _request: None
    outcome = jobs.do(workers=workers, again=True)
    assert (outcome.kind, jobs.output()) == (JobResult.RETRY, None)
    assert "not those that were stored" in outcome.reason
    assert jobs.do(workers=workers, again=True).kind is JobResult.DONE
    assert jobs.output() == BIG_TRANSFORMED
    assert jobs.left() == []


@pytest.mark.parametrize("is_damaged", [False, True])
def test_what_was_read_before_a_checkpoint_need_not_be_read_again(
    is_damaged: bool, workers: int, jobs: Jobs, proxy: Proxy
) -> None:
    killed_after_a_part(jobs, workers)
    before = len(proxy.requests)
    proxy.rule = damage(lambda _: is_damaged)
    outcome = jobs.do(workers=workers, again=True)
    assert outcome.kind is (JobResult.RETRY if is_damaged else JobResult.DONE), outcome.reason
    assert jobs.output() == (None if is_damaged else BIG_TRANSFORMED)
    reads = [request.first_byte for request in proxy.requests[before:] if is_read(request)]
    assert min(reads) > 8 << 20
