"""Whatever ends a worker in the middle of a job, another goes on from there; who comes back too late does no harm."""

from __future__ import annotations

import gzip
import json
import random
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from runner.errors import StoppedError
from runner.job.protocol import JobResult
from tests.support.deployment import events_of, wait_for
from tests.support.example import lines, wait_until
from tests.support.jobs import KEY, PART_BYTES, Free, Jobs, Killed
from tests.support.proxy import Refuse, proxy_of
from tests.support.watching import Holding, Watched
from transform import PartSizes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.deployment import Deployment
    from tests.support.proxy import Fault, Proxy, Request

pytestmark = pytest.mark.slow  # all together, which takes minutes

LINES = 5700
PAD_BYTES = 8000
BAD = 190
"""After so many lines there is a bad one, and a blank one."""
WORKER = {"VISIBILITY_TIMEOUT_S": "5", "PART_BYTES": "5MiB", "RANGE_BYTES": "1MiB"}


@dataclass(frozen=True)
class Example:
    """An object, and what has to become of it.

    Attributes:
        content: Its content.
        output: The output's.
        rejects: Line, offset and content of each line that is rejected.
    """

    content: bytes
    output: bytes
    rejects: list[tuple[int, int, str]]


@cache
def example(count: int = LINES, *, decimal: bool = False) -> Example:
    """Return an object of more than eight parts; with `decimal`, a number late in it shows that all are."""
    chance = random.Random(count)
    content, output, rejects = bytearray(), bytearray(), []
    line = 0
    for number in range(count):
        pad = chance.randbytes(PAD_BYTES // 2).hex()
        a = f"{number}.5" if decimal and number == count * 4 // 5 else str(number)
        b = f"{number + 1}{'.5' if '.' in a else '.0'}" if decimal else str(number + 1)
        content += f'{{"a":{a},"pad":"{pad}"}}\n'.encode()
        output += f'{{"a":{a},"pad":"{pad}","b":{b}}}\n'.encode()
        line += 1
        if number % BAD == BAD - 1:
            rejects.append((line + 1, len(content), f"bad {number}"))
            content += f"bad {number}\n \n".encode()
            line += 2
    return Example(bytes(content), bytes(output), rejects)


def rejects_of(deployment: Deployment, key: str = KEY) -> list[tuple[int, int, str]]:
    """Return what was rejected, having checked that the index fits."""
    stored = deployment.stored_keys(f"rejects/{key}/")
    if not stored:
        return []
    *objects, index_key = sorted(stored)
    index = json.loads(deployment.content(index_key) or b"")
    assert index["objects"] == objects
    found = [json.loads(line) for name in objects for line in (deployment.content(name) or b"").splitlines()]
    assert index["rejected"] == len(found) == sum(reason["count"] for reason in index["reasons"].values())
    assert index["outcome"] == "published"
    return [(reject["line"], reject["offset"], reject["raw"]) for reject in found]


def check(deployment: Deployment, wanted: Example, key: str = KEY, read: Callable[[bytes], bytes] = bytes) -> None:
    """Check that all is as if nothing had happened, but for messages."""
    content = deployment.output_of(key)
    assert content is not None
    assert read(content) == wanted.output
    assert rejects_of(deployment, key) == wanted.rejects
    assert deployment.uploads() == deployment.stored_keys("checkpoints/") == []


def acknowledged(deployment: Deployment) -> None:
    """Check that there is no message any more."""
    assert deployment.waiting() == (0, 0, 0)
    assert deployment.dead() == []


def parts(proxy: Proxy) -> list[int]:
    """Return the sizes of the parts that were uploaded."""
    return [request.size for request in proxy.requests if request.operation == "UploadPart"]


def asked_for(proxy: Proxy, since: int = 0) -> list[int]:
    """Return where the ranges begin that were read of the input."""
    reads = [request for request in proxy.requests[since:] if (request.operation, request.key) == ("GetObject", KEY)]
    return [request.first_byte for request in reads]


# A job whose process is killed


@pytest.mark.parametrize("seed", range(3))
def test_a_job_killed_time_and_again_reads_and_uploads_nothing_twice(jobs: Jobs, proxy: Proxy, seed: int) -> None:
    wanted, chance = example(), random.Random(seed)
    jobs.deployment.put(KEY, wanted.content)
    outcome, offset, attempts = None, 0, 0
    while outcome is None:
        since, control = len(proxy.requests), Free(lives=chance.choice([1, 2, 3]) + (attempts > 0))
        with suppress(Killed):
            outcome = jobs.do(again=attempts > 0, control=control, workers=chance.choice([1, 2]), RANGE_BYTES="1MiB")
        assert min(asked_for(proxy, since)) >= offset - 1, (
            "only what is missing is read, and the end of the line before"
        )
        offset, attempts = max(control.offsets), attempts + 1
    assert (outcome.kind, attempts > 2) == (JobResult.DONE, True)
    check(jobs.deployment, wanted)
    assert len(parts(proxy)) >= 6
    assert sum(parts(proxy)) == len(wanted.output), "no part is uploaded twice"
    assert min(parts(proxy)[:-1]) >= PART_BYTES
    summary = outcome.summary
    assert (summary["lines_out"], summary["rejected"]) == (LINES, len(wanted.rejects))
    assert summary["bytes_in"] == len(wanted.content)


@pytest.mark.parametrize("kind", ["named", "encoded"])
@pytest.mark.parametrize("really", [True, False], ids=["compressed", "plain"])
def test_what_is_compressed_or_said_to_be_is_not_uploaded_again(
    jobs: Jobs, proxy: Proxy, kind: str, really: bool
) -> None:
    """What is compressed is inflated again; the output is compressed in any case."""
    wanted, chance = example(3200), random.Random(kind)
    key = f"{KEY}.gz" if kind == "named" else KEY
    options = {} if kind == "named" else {"ContentEncoding": "gzip"}
    jobs.deployment.put(key, gzip.compress(wanted.content, 1) if really else wanted.content, **options)
    outcome, attempts = None, 0
    while outcome is None:
        with suppress(Killed):
            control = Free(lives=chance.choice([1, 2]) + (attempts > 0))
            outcome = jobs.do(jobs.event(key=key), again=attempts > 0, control=control)
        attempts += 1
    assert (outcome.kind, attempts > 1) == (JobResult.DONE, True)
    check(jobs.deployment, wanted, key, gzip.decompress)
    stored = jobs.deployment.output_of(key) or b""
    assert sum(parts(proxy)) == len(stored), "no part is uploaded twice"
    assert min(parts(proxy)[:-1]) >= PART_BYTES


def test_parts_may_become_larger_on_the_way(jobs: Jobs) -> None:
    wanted = example()
    jobs.deployment.put(KEY, wanted.content)
    with pytest.raises(Killed):
        jobs.do(control=Free(lives=2))
    outcome = jobs.do(again=True, PART_BYTES="12MiB")
    assert outcome.kind is JobResult.DONE
    check(jobs.deployment, wanted)


def test_parts_are_as_large_as_all_of_it_needs_them(jobs: Jobs, proxy: Proxy) -> None:
    jobs.context["part_sizes"] = PartSizes(PART_BYTES, max_parts=10)  # as if the object was a thousand times as large
    wanted = example()
    jobs.deployment.put(KEY, wanted.content)
    with pytest.raises(Killed):
        jobs.do(control=Free(lives=3), RANGE_BYTES="1MiB")
    assert jobs.do(again=True, RANGE_BYTES="1MiB").kind is JobResult.DONE
    check(jobs.deployment, wanted)
    assert len(parts(proxy)) <= 10
    even = len(wanted.output) / 10
    assert 1.5 * even < max(parts(proxy)) < 3 * even
    assert 1.5 * even > PART_BYTES, "which they would be otherwise"


@pytest.mark.parametrize("lives", [2, 4])
def test_an_upload_that_was_swept_meanwhile_starts_again(jobs: Jobs, proxy: Proxy, lives: int) -> None:
    wanted, deployment = example(), jobs.deployment
    deployment.put(KEY, wanted.content)
    with pytest.raises(Killed):
        jobs.do(control=Free(lives=lives))
    (upload,) = deployment.uploads()
    deployment.s3.abort_multipart_upload(Bucket=deployment.output, Key=f"output/{KEY}", UploadId=upload)
    assert jobs.do(again=True).kind is JobResult.DONE
    check(deployment, wanted)
    assert proxy.count("CreateMultipartUpload") == 2


def test_a_checkpoint_that_is_garbage_is_not_gone_on_with(jobs: Jobs) -> None:
    wanted, deployment = example(), jobs.deployment
    deployment.put(KEY, wanted.content)
    with pytest.raises(Killed):
        jobs.do(control=Free(lives=2))
    (name,) = deployment.stored_keys("checkpoints/")
    deployment.s3.put_object(Bucket=deployment.output, Key=name, Body=b"garbage")
    (lost,) = deployment.uploads()
    assert jobs.do(again=True).kind is JobResult.DONE
    assert deployment.uploads() == [lost], "which only the garbage knew of"
    deployment.s3.abort_multipart_upload(Bucket=deployment.output, Key=f"output/{KEY}", UploadId=lost)
    check(deployment, wanted)


# A column that turns out to be wider


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.usefixtures("one_by_one")
def test_a_column_that_widens_late_starts_the_job_again(jobs: Jobs, proxy: Proxy, again: bool) -> None:
    wanted = example(decimal=True)
    jobs.deployment.put(KEY, wanted.content)
    jobs.changes["SCHEMA"] = ""

    def killed() -> None:
        done = [request.operation for request in proxy.requests]
        if "AbortMultipartUpload" in done[:-5] and done[done.index("AbortMultipartUpload") :].count("UploadPart") == 3:
            raise Killed

    if again:  # once before that is seen, and once after it
        with pytest.raises(Killed):
            jobs.do(control=Free(lives=2))
        with pytest.raises(Killed):
            jobs.do(again=True, control=Free(check=killed))
    outcome = jobs.do(again=again)
    assert outcome.kind is JobResult.DONE
    check(jobs.deployment, wanted)
    assert proxy.count("CreateMultipartUpload") == 2
    assert proxy.count("AbortMultipartUpload") == 1


def test_rejects_from_before_a_column_widened_are_gone(jobs: Jobs, proxy: Proxy) -> None:
    """Beyond 128 bits an integer is none, and a float all the same."""
    large = b'{"a":%d}\n' % 10**50
    content = lines(1000) + large + lines(3000, PAD_BYTES) + b'{"a":0.5}\n'
    jobs.deployment.put(KEY, content)
    outcome = jobs.do(SCHEMA="")
    stored = [request.operation for request in proxy.requests if request.key.startswith("rejects/")]
    assert stored[0] == "PutObject", "there was one before"
    assert (outcome.kind, outcome.summary["rejected"]) == (JobResult.DONE, 0)
    assert jobs.deployment.stored_keys("rejects/") == []
    assert jobs.left() == []


@pytest.mark.parametrize("lives", [None, 2, 4])
@pytest.mark.parametrize("kept", [0, 5, 29])
@pytest.mark.usefixtures("one_by_one")
def test_rejects_beyond_the_limit_are_counted_wherever_a_job_was_resumed(
    jobs: Jobs, lives: int | None, kept: int
) -> None:
    wanted = example()
    assert len(wanted.rejects) == 30
    jobs.deployment.put(KEY, wanted.content)
    jobs.context["max_reject_bytes"] = 1 << 30
    assert jobs.do().kind is JobResult.DONE
    first = b"".join(jobs.deployment.content(key) or b"" for key in jobs.deployment.stored_keys("rejects/")[:-1])
    every = first.splitlines(keepends=True)
    assert len(every) == len(wanted.rejects)
    jobs.deployment.s3.delete_object(Bucket=jobs.deployment.output, Key=f"output/{KEY}")
    for key in jobs.deployment.stored_keys("rejects/"):
        jobs.deployment.s3.delete_object(Bucket=jobs.deployment.output, Key=key)

    jobs.context["max_reject_bytes"] = sum(map(len, every[:kept])) + 1
    if lives is not None:
        with pytest.raises(Killed):
            jobs.do(control=Free(lives=lives))
    outcome = jobs.do(again=lives is not None)
    assert (outcome.kind, jobs.output()) == (JobResult.DONE, wanted.output)
    *objects, index_key = sorted(jobs.deployment.stored_keys("rejects/"))
    assert b"".join(jobs.deployment.content(key) or b"" for key in objects) == b"".join(every[:kept])
    index = json.loads(jobs.deployment.content(index_key) or b"")
    left_out = len(every) - kept
    for counts, name in ((index, "left_out"), (outcome.summary, "rejects_left_out")):
        assert (counts["rejected"], counts[name]) == (len(every), left_out)
    assert f"the last {left_out} of {len(every)} rejected lines were counted, but not kept" in str(
        outcome.summary["notes"]
    )


def test_one_column_after_another_may_widen(jobs: Jobs) -> None:
    names = "abcdefghij"
    rows: list[dict[str, Any]] = [dict.fromkeys(names, 1)] * 1000
    rows += [dict.fromkeys(names, 1) | {name: 0.5} for name in names]
    jobs.deployment.put(KEY, b"".join(json.dumps(row).encode() + b"\n" for row in rows))
    outcome = jobs.do(SCHEMA="", CALCULATION=" + ".join(names) + " AS sum")
    assert (outcome.kind, outcome.summary["lines_out"]) == (JobResult.DONE, len(rows))


# Two at once


@pytest.mark.parametrize("lives", [2, 4])
@pytest.mark.usefixtures("one_by_one")
def test_who_was_fenced_off_stops_and_touches_nothing(jobs: Jobs, lives: int) -> None:
    """Another takes over while the first works, and is killed in turn."""
    wanted, deployment = example(), jobs.deployment
    deployment.put(KEY, wanted.content)
    left = [lambda: jobs.do(again=True, control=Free(lives=lives))]

    def other() -> None:
        if left and len(control.offsets) == 2:
            with pytest.raises(Killed):
                left.pop()()

    control = Free(check=other)
    assert jobs.do(control=control).kind is JobResult.FENCED
    assert len(deployment.uploads()) == len(deployment.stored_keys("checkpoints/")) == 1
    assert len(control.offsets) == 2
    assert jobs.do(again=True).kind is JobResult.DONE
    check(deployment, wanted)


@pytest.mark.parametrize("parts_before", [0, 1, 3])
@pytest.mark.usefixtures("one_by_one")
def test_who_was_overtaken_finds_it_done(jobs: Jobs, parts_before: int) -> None:
    wanted, deployment = example(), jobs.deployment
    deployment.put(KEY, wanted.content)
    before: list[Any] = []

    def other() -> None:
        if not before and len(control.offsets) == parts_before:
            before.append(None)
            assert jobs.do(again=True).kind is JobResult.DONE
            before.append(stamp(deployment))

    control = Free(check=other)
    assert jobs.do(control=control).kind is JobResult.DUPLICATE
    assert before[1] == stamp(deployment)
    check(deployment, wanted)


def test_whose_lease_has_run_out_leaves_the_rejects_alone(jobs: Jobs) -> None:
    """Another has done the job while a part was on its way, and cut the rejects into other objects."""
    wanted, deployment = example(), jobs.deployment
    deployment.put(KEY, wanted.content)

    def lost() -> None:
        assert jobs.do(again=True, PART_BYTES="12MiB").kind is JobResult.DONE
        raise StoppedError("the lease has run out")

    assert jobs.do(control=Free(check_lease=lost)).kind is JobResult.STOPPED
    check(deployment, wanted)


def stamp(deployment: Deployment) -> dict[str, Any]:
    """Return what tells whether an output was published again."""
    found = deployment.s3.head_object(Bucket=deployment.output, Key=f"output/{KEY}")
    return {name: found[name] for name in ("ETag", "LastModified", "Metadata")}


def test_who_may_not_go_on_leaves_no_upload_that_nobody_knows_of(jobs: Jobs, proxy: Proxy) -> None:
    jobs.deployment.put(KEY, example().content)

    def stopped() -> None:
        if proxy.count("CreateMultipartUpload"):
            raise StoppedError("the lease has run out")

    assert jobs.do(control=Free(check=stopped)).kind is JobResult.STOPPED
    assert jobs.left() == []


# An input that is gone


def gone(deployment: Deployment) -> None:
    deployment.s3.delete_object(Bucket=deployment.input, Key=KEY)


def overwritten(deployment: Deployment) -> None:
    deployment.put(KEY, lines(10))


def marked(deployment: Deployment) -> None:
    deployment.s3.put_bucket_versioning(Bucket=deployment.input, VersioningConfiguration={"Status": "Enabled"})
    gone(deployment)


ends = pytest.mark.parametrize("end", [gone, overwritten, marked])


@ends
@pytest.mark.parametrize("count", [10, LINES])
def test_an_input_that_has_gone_before_is_superseded(jobs: Jobs, end: Callable[[Deployment], None], count: int) -> None:
    jobs.deployment.put(KEY, example(count).content)
    event = jobs.event()
    end(jobs.deployment)
    assert jobs.do(event).kind is JobResult.SUPERSEDED
    assert jobs.deployment.stored_keys() == jobs.left() == []


@ends
@pytest.mark.parametrize("workers", [1, 2])
def test_an_input_that_goes_in_the_middle_is_superseded(
    jobs: Jobs, proxy: Proxy, end: Callable[[Deployment], None], workers: int
) -> None:
    jobs.deployment.put(KEY, example().content)
    event = jobs.event()

    def rule(request: Request) -> None:
        if request.operation == "CreateMultipartUpload":  # a third of the input is read by then
            end(jobs.deployment)

    proxy.rule = rule
    assert jobs.do(event, workers=workers, RANGE_BYTES="1MiB").kind is JobResult.SUPERSEDED
    assert proxy.count("AbortMultipartUpload") == 1
    assert jobs.left() == []
    assert jobs.output() is None


@ends
def test_an_input_that_goes_before_the_next_attempt_is_superseded(
    jobs: Jobs, proxy: Proxy, end: Callable[[Deployment], None]
) -> None:
    jobs.deployment.put(KEY, example().content)
    event = jobs.event()
    with pytest.raises(Killed):
        jobs.do(event, control=Free(lives=2))
    end(jobs.deployment)
    assert jobs.do(event, again=True).kind is JobResult.SUPERSEDED
    assert proxy.count("AbortMultipartUpload") == 1
    assert jobs.left() == []


# Workers


@pytest.fixture
def given(deployment: Deployment) -> Example:
    """An object of many parts, with its message."""
    deployment.put(KEY, example().content)
    return example()


def kill(worker: Watched) -> None:
    """Kill a worker, and see that none of its processes is left."""
    family = worker.family()
    worker.process.kill()
    worker.end()
    assert psutil.wait_procs(family, timeout=40)[1] == [], "they end by themselves"


def checkpoint_of(deployment: Deployment) -> dict[str, Any]:
    (name,) = deployment.stored_keys("checkpoints/")
    found: dict[str, Any] = json.loads(deployment.content(name) or b"")
    return found


def offset_of_checkpoint(deployment: Deployment) -> int:
    return int(checkpoint_of(deployment)["offset"])


@pytest.mark.parametrize("noted", [True, False], ids=["before a part is there", "before it is noted"])
def test_the_job_of_a_worker_that_was_killed_is_gone_on_with(
    deployment: Deployment, given: Example, proxy: Proxy, noted: bool
) -> None:
    number = random.Random(noted).randrange(3, 7)
    # The first checkpoint notes the upload only.
    holding = Holding(
        "UploadPart" if noted else "PutObject", "output" if noted else "checkpoints", number, passed_on=False
    )
    proxy.rule = holding
    worker = Watched(deployment, env=WORKER)
    holding.wait()
    if noted:  # the parts before it may still be on their way
        wait_until(lambda: len(checkpoint_of(deployment)["parts"]) == number - 1)
    kill(worker)
    holding.released.set()
    offset, since = offset_of_checkpoint(deployment), len(proxy.requests)
    assert offset > 0
    said = events_of(deployment.drain(env=WORKER))
    assert said.count("done") == 1
    check(deployment, given)
    acknowledged(deployment)
    assert min(asked_for(proxy, since)) >= offset - 1, "only what is missing is read, and the end of the line before"
    assert sum(parts(proxy)) - len(given.output) in range(PART_BYTES, 3 * PART_BYTES), "one part is uploaded twice"


def test_several_workers_in_a_row_may_be_killed(deployment: Deployment, given: Example, proxy: Proxy) -> None:
    offsets = [0]
    for first in (2, 3, 2):
        proxy.rule = holding = Holding("UploadPart", "output", first, passed_on=False)
        worker = Watched(deployment, env=WORKER)
        holding.wait()
        wait_until(lambda: offset_of_checkpoint(deployment) > offsets[-1])
        kill(worker)
        holding.released.set()
        offsets.append(offset_of_checkpoint(deployment))
    assert offsets == sorted({*offsets}), "each has come farther"
    assert events_of(deployment.drain(env=WORKER)).count("done") == 1
    check(deployment, given)
    acknowledged(deployment)


@pytest.fixture
def frozen(deployment: Deployment) -> Iterator[list[psutil.Process]]:
    """Processes that are stopped; they go on before the deployment's workers are ended."""
    del deployment
    stopped: list[psutil.Process] = []
    yield stopped
    thaw(stopped)


def freeze(worker: Watched) -> list[psutil.Process]:
    processes = [psutil.Process(worker.process.pid), *worker.family()]
    for process in processes:
        process.suspend()
    return processes


def thaw(processes: list[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.resume()


@pytest.mark.parametrize(
    ("operation", "key", "first", "passed_on"),
    [
        ("UploadPart", "output", 3, True),
        ("PutObject", "checkpoints", 4, False),
        ("PutObject", "checkpoints", 4, True),
        ("CompleteMultipartUpload", "output", 1, False),
        ("CompleteMultipartUpload", "output", 1, True),
    ],
)
def test_a_worker_that_thaws_changes_nothing(
    deployment: Deployment,
    given: Example,
    proxy: Proxy,
    frozen: list[psutil.Process],
    operation: str,
    key: str,
    first: int,
    passed_on: bool,
) -> None:
    proxy.rule = holding = Holding(operation, key, first, passed_on=passed_on)
    worker = Watched(deployment, env=WORKER)
    holding.wait()
    frozen += freeze(worker)
    holding.released.set()
    said = events_of(deployment.drain(env=WORKER))
    done_before = (operation, passed_on) == ("CompleteMultipartUpload", True)
    assert Counter(said) & Counter(done=9, duplicate=9) == Counter(["duplicate" if done_before else "done"])
    check(deployment, given)
    acknowledged(deployment)
    before = stamp(deployment)
    thaw(frozen)
    wait_for(lambda: {line.get("event") for line in worker.log} & {"lease lost", *(kind.value for kind in JobResult)})
    assert worker.stop() == 0
    assert stamp(deployment) == before
    check(deployment, given)
    acknowledged(deployment)


def test_a_worker_that_cannot_renew_its_lease_stops_in_time(
    deployment: Deployment, given: Example, proxy: Proxy, aws: str
) -> None:
    """It lives, and S3 answers it; the queue does not."""
    proxy.rule = holding = Holding("UploadPart", "output", 3)
    with proxy_of(aws) as way_to_the_queue:
        worker = Watched(deployment, env={**WORKER, "AWS_ENDPOINT_URL_SQS": way_to_the_queue.endpoint})
        holding.wait()
        way_to_the_queue.rule = lambda _: Refuse(500, "InternalError")
        family = worker.children()
        worker.logged("lease lost")
        assert psutil.wait_procs(family, timeout=40)[1] == []
        holding.released.set()
        since = len(proxy.requests)
        assert events_of(deployment.drain(env=WORKER)).count("done") == 1
        way_to_the_queue.rule = lambda _: None
        assert worker.stop() == 0
    assert proxy.requests[since].operation != "UploadPart"
    check(deployment, given)
    acknowledged(deployment)


def test_a_worker_acknowledges_what_was_overwritten_and_does_the_new(
    deployment: Deployment, given: Example, proxy: Proxy
) -> None:
    del given
    new = example(LINES + 1)
    left = [new.content]

    def rule(request: Request) -> Fault | None:
        # By a later part, all of the object may have been read.
        if left and request.operation == "UploadPart" and request.number == 1:
            deployment.put(KEY, left.pop())
        return None

    proxy.rule = rule
    said = Counter(events_of(deployment.drain(env=WORKER)))
    assert (said["superseded"], said["done"]) == (1, 1)
    content = deployment.output_of(KEY)
    assert content == new.output
    assert deployment.uploads() == deployment.stored_keys("checkpoints/") == []
    acknowledged(deployment)


def test_a_worker_acknowledges_what_was_deleted_after_another_was_killed(
    deployment: Deployment, given: Example, proxy: Proxy
) -> None:
    del given
    proxy.rule = holding = Holding("UploadPart", "output", 3, passed_on=False)
    worker = Watched(deployment, env=WORKER)
    holding.wait()
    kill(worker)
    holding.released.set()
    assert len(wait_for(deployment.uploads)) == 1
    gone(deployment)
    assert events_of(deployment.drain(env=WORKER)).count("superseded") == 1
    assert deployment.uploads() == deployment.stored_keys("checkpoints/") == deployment.stored_keys("output/") == []
    acknowledged(deployment)
