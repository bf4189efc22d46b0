"""Inputs that nobody should have sent: each ends as it should, and none of them is felt by its neighbours."""

from __future__ import annotations

import gzip
import json
import random
import threading
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest

from tests.benchmarks.pss import FamilyPeak
from tests.support.deployment import logged, wait_for
from tests.support.example import lines, transformed
from tests.support.proxy import Hold
from tests.support.watching import Watched

if TYPE_CHECKING:
    from tests.support.deployment import Deployment
    from tests.support.proxy import Fault, Proxy, Request

pytestmark = pytest.mark.slow

MIB = 1 << 20
LINE_LIMIT_BYTES = 32 * MIB
BOMB_BYTES = 300 * MIB
REJECTS = 1_000_000
REJECTS_OBJECT_BYTES = 16 * MIB
NEIGHBOUR = "a neighbour"
WORKER = {"WORKERS": "2", "VISIBILITY_TIMEOUT_S": "5", "BREAKER_FAILURES": "100", "MAX_ATTEMPTS": "1"}
"""The first failure that is not for good would make a dead letter, with another reason."""


def wide(number: int, size: int) -> bytes:
    return b'{"a":%d,"pad":"%b"}\n' % (number, b"y" * size)


def wide_transformed(number: int, size: int) -> bytes:
    return b'{"a":%d,"pad":"%b","b":%d}\n' % (number, b"y" * size, number + 1)


LONGEST_KEY = "k" * 1024
LONG_KEY = "k" * (1024 - len("output/"))


@cache
def refused() -> dict[str, tuple[bytes, str]]:
    """Return contents, and what is said of them; made when they are needed, as the bombs take seconds."""
    return {
        "binary": (random.Random(1).randbytes(MIB), "every line was rejected"),
        "array": (b"[\n" + lines(10) + b"]", "that is a JSON array, not JSON lines"),
        "endless": (b'{"a":1,"pad":"' + b"x" * (LINE_LIMIT_BYTES + MIB), "longer than 33554432 bytes"),
        "bomb.gz": (gzip.compress(b"x" * BOMB_BYTES), "beyond 500 times as much (max_inflation)"),
        "bomb of lines.gz": (gzip.compress(wide(1, 100_000) * (BOMB_BYTES // 100_000)), "(max_inflation)"),
        LONGEST_KEY: (lines(10), "the output's key would have 1031 bytes, and S3 takes 1024"),
    }


@cache
def done() -> dict[str, tuple[bytes, bytes]]:
    """Return contents, and their outputs."""
    return {
        "tiny and wide": (
            lines(10_000) + wide(7, 30_000_000) + lines(10, first=10_000),
            transformed(10_000) + wide_transformed(7, 30_000_000) + transformed(10, first=10_000),
        ),
        LONG_KEY: (lines(10) + b"bad\n", transformed(10)),
        "after all": (lines(10), transformed(10)),
    }


def neighbour_waits(released: threading.Event) -> Any:
    """Return a rule under which a neighbour's output is under way until it is let go."""

    def rule(request: Request) -> Fault | None:
        if (request.operation, request.key) == ("GetObject", NEIGHBOUR) and not released.is_set():
            return Hold(threading.Event(), released)
        return None

    return rule


@pytest.mark.timeout(300)
def test_poison_ends_as_it_should_and_its_neighbour_keeps_its_message(deployment: Deployment, proxy: Proxy) -> None:
    """The neighbour is at work all the time, for several times as long as a message may be left alone."""
    contents = {**refused(), **done()}
    released = threading.Event()
    proxy.rule = neighbour_waits(released)
    deployment.env |= WORKER
    deployment.put(NEIGHBOUR, lines(20))
    worker = Watched(deployment)
    worker.logged("begun")
    for key, (content, _) in contents.items():
        deployment.put(key, content)
    wait_for(lambda: deployment.waiting() == (0, 1, 0), 120)
    pids = {child.pid for child in worker.children()}
    released.set()
    wait_for(lambda: deployment.waiting() == (0, 0, 0))
    assert {child.pid for child in worker.children()} == pids
    assert worker.stop() == 0
    assert [line["key"] for line in worker.log if line.get("event") == "begun"].count(NEIGHBOUR) == 1
    ends = {line["key"]: line for line in worker.log if "attempts" in line and "event" in line}
    assert ends.keys() == {NEIGHBOUR, *contents}
    assert {line["attempts"] for line in ends.values()} == {0}
    assert [line for line in worker.log if line.get("event") in ("lease lost", "a job process has died")] == []
    check_refused(deployment)
    for key, (_, output) in {**done(), NEIGHBOUR: (b"", transformed(20))}.items():
        assert deployment.output_of(key) == output, key[:20]
    assert deployment.stored_keys("checkpoints/") == deployment.uploads() == []


def check_refused(deployment: Deployment) -> None:
    """Each is a dead letter that says why, has no output, and its rejects are kept."""
    dead = {
        json.loads(letter["body"])["Records"][0]["s3"]["object"]["key"].replace("+", " "): letter["reason"]
        for letter in deployment.dead()
    }
    assert dead.keys() == refused().keys()
    for key, (_, reason) in refused().items():
        assert reason in dead[key], key[:20]
        assert len(key) == 1024 or deployment.output_of(key) is None
    (endless,) = (deployment.content(deployment.stored_keys("rejects/endless/")[0]) or b"").splitlines()
    told = json.loads(endless)
    assert (len(told["raw"]), told["truncated"], told["length"]) == (64 << 10, True, len(refused()["endless"][0]))
    assert len(deployment.stored_keys("rejects/k")) == 2, "of the long key that has an output: a line and the index"


@pytest.mark.timeout(300)
def test_a_million_rejects_take_no_more_memory_than_some(deployment: Deployment) -> None:
    peaks = []
    for count in (REJECTS // 4, REJECTS):
        key = f"rejects of {count}"
        deployment.put(key, lines(1) + b"x\n" * count)
        worker, peak = deployment.start("--drain", env={"WORKERS": "1"}), FamilyPeak()
        while worker.poll() is None:
            peak.sample(worker.pid)
            threading.Event().wait(0.1)
        peaks.append(peak.peak_bytes)
        (done,) = (line for line in logged(worker.communicate()[0]) if line.get("event") == "done")
        assert done["rejected"] == count
        assert deployment.output_of(key) == transformed(1)
        check_rejects(deployment, key, count)
    print([peak >> 20 for peak in peaks])
    assert peaks[1] < peaks[0] + 6 * REJECTS_OBJECT_BYTES, "one object of rejects, and its copies on the way"


def check_rejects(deployment: Deployment, key: str, count: int) -> None:
    *stored, index = sorted(deployment.stored_keys(f"rejects/{key}/"))
    told = json.loads(deployment.content(index) or b"")
    assert told["objects"] == stored
    assert (told["lines"], told["rejected"], told["outcome"]) == (count + 1, count, "published")
    assert sum(reason["count"] for reason in told["reasons"].values()) == count
    start, number = len(lines(1)), 0
    for one in stored:
        for line in (deployment.content(one) or b"").splitlines():
            found = json.loads(line)
            assert (found["line"], found["offset"], found["raw"]) == (number + 2, start + 2 * number, "x")
            number += 1
    assert number == count
