"""Whatever goes wrong on the way to S3 and SQS, there is exactly the right output in the end."""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from runner.job.protocol import JobResult
from tests.support.deployment import CLAIM, wait_for
from tests.support.example import lines, transformed
from tests.support.jobs import KEY, OUTPUT
from tests.support.proxy import Cut, Damage, Halt, Hold, Refuse, Reset, Shorten, proxy_of
from tests.support.watching import Watched

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.deployment import Deployment
    from tests.support.jobs import Jobs
    from tests.support.proxy import Fault, Proxy, Request

pytestmark = pytest.mark.slow

SIZES = {"small": (100, 0), "multipart": (1500, 8000)}
OUTAGE_S = 60
WORKER = {"WORKERS": "1", "VISIBILITY_TIMEOUT_S": "5", "PART_BYTES": "5MiB", "RANGE_BYTES": "1MiB"}


def once(fault: Fault, operation: str, number: int = 1) -> Any:
    """Return a rule under which one request of an operation fails; those for the claim do not count."""
    left = iter(range(1, 10_000))

    def rule(request: Any) -> Fault | None:
        counts = request.operation == operation and request.key != CLAIM
        return fault if counts and next(left) == number else None

    return rule


# Each request to S3, once: what `test_publish` has not


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "fault",
    [
        Reset(passed_on=False),
        Reset(passed_on=True),
        Refuse(503, "SlowDown"),
        Refuse(400, "ExpiredToken"),
        Shorten(honest=True),
        Shorten(honest=False),
    ],
    ids=str,
)
def test_whichever_request_fails_the_output_is_right(jobs: Jobs, proxy: Proxy, size: str, fault: Fault) -> None:
    jobs.deployment.put(KEY, lines(*SIZES[size]))
    which, failed = 0, True
    while failed:
        which, failed, before = which + 1, False, len(proxy.requests)

        def rule(_request: Request, at: int = before + which) -> Fault | None:
            nonlocal failed
            failed = failed or len(proxy.requests) >= at
            return fault if len(proxy.requests) == at else None

        proxy.rule = rule
        outcome, tries = jobs.try_(), 1
        while outcome is None or outcome.kind is JobResult.RETRY:
            assert tries < 4, outcome
            assert outcome is None or "Traceback" not in outcome.reason, outcome.reason
            outcome, tries = jobs.try_(again=True), tries + 1
        assert outcome.kind in (JobResult.DONE, JobResult.DUPLICATE), outcome
        assert jobs.output() == transformed(*SIZES[size])
        operation = proxy.requests[before + which - 1].operation if failed else ""
        for upload in jobs.deployment.uploads():
            assert operation == "CreateMultipartUpload", "that of which nobody has heard the name"
            jobs.deployment.s3.abort_multipart_upload(Bucket=jobs.deployment.output, Key=OUTPUT, UploadId=upload)
        assert jobs.left() == []
        jobs.deployment.s3.delete_object(Bucket=jobs.deployment.output, Key=OUTPUT)
    assert which > {"small": 5, "multipart": 12}[size]


@pytest.mark.parametrize("operation", ["GetObject", "UploadPart"])
def test_an_answer_that_never_ends_is_asked_for_again(jobs: Jobs, proxy: Proxy, operation: str) -> None:
    """S3 is waited for for 15 s."""
    until = threading.Event()
    proxy.rule = once(Halt(until) if operation == "GetObject" else Hold(threading.Event(), until), operation)
    jobs.deployment.put(KEY, lines(*SIZES["multipart"]))
    outcome = jobs.do()
    until.set()
    assert outcome.kind is JobResult.DONE, outcome
    assert jobs.output() == transformed(*SIZES["multipart"])
    assert jobs.left() == []


# A body that is not what was stored


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"])
def test_a_damaged_body_of_a_small_object_is_read_again(jobs: Jobs, proxy: Proxy, algorithm: str) -> None:
    jobs.deployment.put(KEY, lines(100), ChecksumAlgorithm=algorithm)
    proxy.rule = once(Damage(), "GetObject")
    assert jobs.do().kind is JobResult.DONE
    assert jobs.output() == transformed(100)
    assert proxy.count("GetObject") == 2


def test_what_is_damaged_each_time_is_not_published(jobs: Jobs, proxy: Proxy) -> None:
    jobs.deployment.put(KEY, lines(100), ChecksumAlgorithm="CRC64NVME")
    proxy.rule = lambda request: Damage() if request.operation == "GetObject" else None
    outcome = jobs.do()
    assert (outcome.kind, jobs.output()) == (JobResult.RETRY, None)
    assert "did not match calculated checksum" in outcome.reason


def test_a_size_that_is_wrong_does_no_harm(jobs: Jobs) -> None:
    """Anybody may put a message on the queue."""
    jobs.deployment.put(KEY, lines(100))
    event = jobs.event()
    for size in (0, 1, len(lines(100)) + 1, 1 << 40):
        assert jobs.do(type(event)(**{**_fields(event), "size": size})).kind in (JobResult.DONE, JobResult.DUPLICATE)
        assert jobs.output() == transformed(100)
        jobs.deployment.s3.delete_object(Bucket=jobs.deployment.output, Key=OUTPUT)


def _fields(event: Any) -> dict[str, Any]:
    return {name: getattr(event, name) for name in type(event).__slots__}


# The queue


@pytest.mark.parametrize(
    "fault", [Reset(passed_on=True), Cut(passed_on=False), Refuse(500, "InternalFailure"), Refuse(403, "ExpiredToken")]
)
def test_requests_to_the_queue_that_fail_lose_no_message(deployment: Deployment, aws: str, fault: Fault) -> None:
    """The first of each operation fails: what was received, given back, dead-lettered and acknowledged."""
    with proxy_of(aws) as way, proxy_of(aws) as store:
        deployment.env |= WORKER | {
            "AWS_ENDPOINT_URL_SQS": way.endpoint,
            "AWS_ENDPOINT_URL_S3": store.endpoint,
            "AWS_MAX_ATTEMPTS": "1",
            "BREAKER_FAILURES": "100",
        }
        operations = ["ReceiveMessage", "ChangeMessageVisibility", "DeleteMessage", "SendMessage"]
        way.rule = lambda request: fault if request.operation in operations and request.number == 1 else None
        store.rule = once(Refuse(409, "OperationAborted"), "GetObject")
        for number in range(3):
            deployment.put(f"in/{number}", lines(10 + number))
        deployment.send("nonsense")
        log = deployment.drain()
        assert [operation for operation in operations if not way.count(operation)] == []
        assert all("Traceback" not in str(line.get("reason")) for line in log)
    for number in range(3):
        assert deployment.output_of(f"in/{number}") == transformed(10 + number)
    assert deployment.waiting() == (0, 0, 0)
    assert {letter["body"] for letter in deployment.dead()} == {"nonsense"}


# Credentials


def test_expired_credentials_do_not_stop_the_worker(deployment: Deployment, proxy: Proxy) -> None:
    well = threading.Event()
    proxy.rule = lambda request: (
        None if well.is_set() or request.operation == "HeadBucket" else Refuse(400, "ExpiredToken")
    )
    deployment.put("in", lines(10))
    worker = Watched(deployment, "--drain")
    worker.logged("retry")
    well.set()
    assert worker.end() == 0
    assert worker.of("denied") == []
    assert deployment.output_of("in") == transformed(10)
    assert deployment.dead() == []


class Credentials:
    """What ECS tells a task: a key that is good for a while, and then the next.

    Attributes:
        uri: Where it is asked for.
        given: All keys, and until when each is good.
        late: Whether the last is told though it is good no more.
    """

    def __init__(self, lifetime_s: float) -> None:
        self._lifetime = timedelta(seconds=lifetime_s)
        self.given: dict[str, datetime] = {}
        self.late = False
        self.uri = ""

    def next(self) -> bytes:
        """Return what is told now."""
        now = datetime.now(UTC)
        soon = now + self._lifetime / 3
        if not self.given or (max(self.given.values()) <= soon and not self.late):
            self.given[f"KEY{len(self.given)}"] = now + self._lifetime
        key, until = [*self.given.items()][-1]
        told = {"AccessKeyId": key, "SecretAccessKey": "s", "Token": "t", "Expiration": until.isoformat()}
        return json.dumps(told).encode()

    def refuse_expired(self, request: Request) -> Fault | None:
        """Refuse what is signed with a key that is not good any more; a little later, as it travels."""
        grace = timedelta(seconds=3)  # on a machine with other things to do
        until = self.given.get(request.credential)
        return None if until is not None and datetime.now(UTC) < until + grace else Refuse(400, "ExpiredToken")


@contextmanager
def credentials(lifetime_s: float) -> Iterator[Credentials]:
    """Run the endpoint."""
    made = Credentials(lifetime_s)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(made.next())

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        made.uri = f"http://127.0.0.1:{server.server_port}/role"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield made
        finally:
            server.shutdown()
            thread.join()


def test_new_credentials_are_used_as_they_come(deployment: Deployment, proxy: Proxy, aws: str) -> None:
    """Those of a task are renewed while one process is at one job; S3 and SQS take none that have expired."""
    with credentials(lifetime_s=2) as role, proxy_of(aws) as queue:

        def rule(request: Request) -> Fault | None:
            if (refused := role.refuse_expired(request)) or request.operation != "UploadPart":
                return refused
            time.sleep(1.5)
            return None

        proxy.rule, queue.rule = rule, role.refuse_expired
        deployment.env |= WORKER | {"AWS_ENDPOINT_URL_SQS": queue.endpoint}
        deployment.put(KEY, lines(*SIZES["multipart"]))
        nobody = dict.fromkeys(["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
        worker = Watched(deployment, "--drain", env={**nobody, "AWS_CONTAINER_CREDENTIALS_FULL_URI": role.uri})
        assert worker.end() == 0
        used = {request.credential for request in proxy.requests if request.operation == "UploadPart"}
        assert len(used) >= 2
        assert len({request.credential for request in queue.requests}) >= 2
    ends = [(line["event"], line["reason"]) for line in worker.log if "attempts" in line and "event" in line]
    assert ends == [("done", "")]
    assert deployment.output_of(KEY) == transformed(*SIZES["multipart"])


def test_credentials_that_come_late_are_waited_for(deployment: Deployment, proxy: Proxy, aws: str) -> None:
    """For some seconds all that is told is a key that is good no more."""
    with credentials(lifetime_s=3) as role, proxy_of(aws) as queue:
        proxy.rule = queue.rule = role.refuse_expired
        deployment.env |= WORKER | {"AWS_ENDPOINT_URL_SQS": queue.endpoint}
        deployment.put("before", lines(10))
        nobody = dict.fromkeys(["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
        worker = Watched(deployment, env={**nobody, "AWS_CONTAINER_CREDENTIALS_FULL_URI": role.uri})
        worker.logged("done")
        role.late = True
        worker.logged("no message could be received")
        deployment.put("after", lines(20))
        role.late = False
        worker.logged("done", 2)
        assert worker.stop() == 0
    assert deployment.output_of("after") == transformed(20)
    assert deployment.dead() == []


# Away for a while


@pytest.mark.timeout(300)
def test_an_outage_of_a_minute_costs_a_delay(deployment: Deployment, proxy: Proxy) -> None:
    """S3 cannot be reached, and so each attempt fails; the worker tries as often as it does by default."""
    away, back = threading.Event(), threading.Event()

    def be_back() -> None:
        away.clear()
        back.set()

    def rule(request: Request) -> Fault | None:
        if request.operation == "UploadPart" and request.number == 2:
            away.set()
            timer = threading.Timer(OUTAGE_S, be_back)
            timer.daemon = True
            timer.start()
        return Reset(passed_on=False) if away.is_set() else None

    proxy.rule = rule
    deployment.env |= WORKER
    for name in ("VISIBILITY_TIMEOUT_S", "RETRY_MIN_S", "RETRY_MAX_S"):
        del deployment.env[name]
    for number in range(3):
        deployment.put(f"in/{number}", lines(*SIZES["multipart"], first=number))
    worker = Watched(deployment)
    assert back.wait(OUTAGE_S + 40)
    wait_for(lambda: sum(deployment.waiting()) == 0, 200)
    assert worker.stop() == 0
    for number in range(3):
        assert deployment.output_of(f"in/{number}") == transformed(*SIZES["multipart"], first=number)
    assert deployment.dead() == []
    assert deployment.stored_keys("checkpoints/") == deployment.uploads() == []
    assert len(worker.of("done")) == 3
