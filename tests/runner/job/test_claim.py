"""Two deployments with the same prefixes in one output bucket: the second one refuses to work."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from runner.aws.bucket import Store
from runner.errors import SettingsError
from runner.job.claim import Claim, find_owner
from runner.job.keys import claim_key
from runner.job.process import do
from runner.job.protocol import JobResult, Order, Outcome
from runner.settings import Settings
from tests.simulation.s3_model import S3Model
from tests.support.fakes import LEAST, FakeClock
from tests.support.jobs import Free
from tests.support.memory import KEY as INPUT_KEY
from tests.support.memory import OUTPUT, OUTPUT_KEY, MemoryJobs, refusal

if TYPE_CHECKING:
    from collections.abc import Callable

DAY_S = 24 * 3600.0
ARN = "arn:aws:sqs:eu-central-1:111122223333:queue"
URL = "https://sqs.eu-central-1.amazonaws.com/111122223333/queue"
KNOWN = {"queue": "queue", "region": "eu-central-1", "account": "111122223333"}
KEY = claim_key(Settings.read(LEAST))


class Bucket:
    """An output bucket, and how often it was written to."""

    def __init__(self) -> None:
        self.clock = FakeClock(1_800_000_000.0)
        self.model = S3Model(self.clock.time)
        self.model.create_bucket("outgoing")
        self.store = Store("outgoing", self)
        self.writes = 0
        self.before_write: Callable[[], object] = bool

    def call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        if operation == "put_object":
            self.writes += 1
            act, self.before_write = self.before_write, bool
            act()
        return self.model.request(operation, **arguments)

    def read(self, bucket: str, key: str) -> tuple[dict[str, Any], bytes]:
        answer = self.model.request("get_object", Bucket=bucket, Key=key)
        return answer, answer["Body"]

    def prepare_part(self) -> None:
        raise AssertionError

    def claim(self, queue: str = "queue", **settings: str) -> None:
        """Check the claim as a new job process does."""
        Claim(self.store, Settings.read({**LEAST, "SQSBatchQueue": queue, **settings}), self.clock).check()

    @property
    def content(self) -> Any:
        return json.loads(self.model.objects("outgoing")[KEY].body)

    def set(self, content: bytes) -> None:
        self.model.request("put_object", Bucket="outgoing", Key=KEY, Body=content)


def test_a_claim_is_written_once_and_again_after_a_day() -> None:
    bucket = Bucket()
    for _ in range(3):
        bucket.claim()
    assert bucket.writes == 1
    bucket.clock.now += DAY_S + 1
    bucket.claim()
    bucket.claim()
    assert bucket.writes == 2, "or the lifecycle rule of the templates would remove it"


def test_the_prefixes_of_another_queue_are_refused() -> None:
    bucket = Bucket()
    bucket.claim()
    with pytest.raises(SettingsError, match="belong to the queue queue, and this worker has other:"):
        bucket.claim("other")
    bucket.claim()
    assert bucket.writes == 1


@pytest.mark.parametrize("queue", ["queue", ARN, URL])
def test_a_queue_may_be_named_in_any_way(queue: str) -> None:
    bucket = Bucket()
    bucket.claim()
    bucket.claim(queue)


def test_other_prefixes_are_another_claim() -> None:
    bucket = Bucket()
    bucket.claim()
    bucket.claim("other", CHECKPOINT_PREFIX="other/", OUTPUT_PREFIX="o/", REJECTS_PREFIX="r/")


@pytest.mark.parametrize("content", [b"", b"\xff", b"[]", b'{"queue":5}', b"[" * 100_000])
def test_a_claim_that_cannot_be_understood_is_refused(content: bytes) -> None:
    bucket = Bucket()
    bucket.set(content)
    with pytest.raises(SettingsError, match="delete that object"):
        bucket.claim()


@pytest.mark.parametrize("winner", ["queue", "other"])
def test_of_two_that_start_at_the_same_moment_one_has_the_claim(winner: str) -> None:
    bucket = Bucket()
    content = json.dumps({"queue": winner}).encode()
    bucket.before_write = lambda: bucket.set(content)
    if winner == "queue":
        bucket.claim()
    else:
        with pytest.raises(SettingsError):
            bucket.claim()
    assert bucket.content == {"queue": winner}


@pytest.mark.parametrize(
    ("status", "code", "tries"),
    [
        (412, "PreconditionFailed", 5),
        (409, "ConditionalRequestConflict", 5),
        (503, "SlowDown", 1),
        (403, "AccessDenied", 1),
        (403, "ExpiredToken", 1),
    ],
)
def test_a_claim_that_s3_does_not_accept_stops_no_worker(status: int, code: str, tries: int) -> None:
    bucket = Bucket()

    def refuse() -> None:
        bucket.before_write = refuse
        raise refusal(status, code)

    bucket.before_write = refuse
    bucket.claim()
    assert bucket.writes == tries
    bucket.before_write = bool
    bucket.claim()
    with pytest.raises(SettingsError):
        bucket.claim("other")


# Queues of one name


@pytest.mark.parametrize(
    "queue",
    [
        ARN,
        URL,
        f"{URL}/",
        "https://eu-central-1.queue.amazonaws.com/111122223333/queue",
        "https://vpce-0a1b-0c2d.sqs.eu-central-1.vpce.amazonaws.com/111122223333/queue",
        "https://sqs.eu-central-1.api.aws/111122223333/queue",
        "arn:aws-cn:sqs:eu-central-1:111122223333:queue",
        "https://sqs.eu-central-1.amazonaws.com.cn/111122223333/queue",
    ],
)
def test_the_region_and_account_are_those_of_the_arn_or_url(queue: str) -> None:
    assert find_owner(queue, "eu-west-1") == KNOWN


@pytest.mark.parametrize(
    "queue",
    [
        "http://localhost:4566/000000000000/queue",
        "http://localhost:9324/queue/queue/",
        "http://sqs.us-east-1.localhost.localstack.cloud:4566/000000000000/queue",
        "https://sqs.eu-central-1.amazonaws.com.example.org/111122223333/queue",
    ],
)
def test_those_of_other_urls_are_unknown(queue: str) -> None:
    assert find_owner(queue, "eu-west-1") == {"queue": "queue"}


def test_a_queue_with_a_name_is_in_the_region_of_the_worker() -> None:
    assert find_owner("queue", "eu-west-1") == {"queue": "queue", "region": "eu-west-1"}


@pytest.mark.parametrize(
    ("queue", "region"),
    [
        (ARN.replace("eu-central-1", "us-east-1"), ""),
        (ARN.replace("111122223333", "999999999999"), ""),
        (URL.replace("eu-central-1", "us-east-1"), ""),
        ("queue", "us-east-1"),
    ],
)
def test_a_queue_of_the_same_name_in_another_region_or_account_is_another_one(queue: str, region: str) -> None:
    bucket = Bucket()
    bucket.claim(ARN)
    with pytest.raises(SettingsError, match="queue in eu-central-1 of the account 111122223333, and this worker has"):
        bucket.claim(queue, AWS_REGION=region)
    assert (bucket.content, bucket.writes) == (KNOWN, 1)


@pytest.mark.parametrize("queue", [ARN, URL])
def test_the_claim_of_an_earlier_version_is_completed_at_once(queue: str) -> None:
    bucket = Bucket()
    bucket.set(b'{"queue": "queue"}')
    for _ in range(2):
        bucket.claim(queue)
    assert (bucket.content, bucket.writes) == (KNOWN, 1)
    bucket.claim("queue")
    bucket.claim("http://localhost:4566/000000000000/queue")
    assert (bucket.content, bucket.writes) == (KNOWN, 1), "who knows less changes nothing"
    bucket.clock.now += DAY_S
    bucket.claim("queue")
    assert (bucket.content, bucket.writes) == (KNOWN, 2)


# A job process that runs for weeks


class Process:
    """A job process with S3 in memory."""

    def __init__(self) -> None:
        self.jobs = MemoryJobs()
        self.s3 = self.jobs.s3
        self.s3.put(INPUT_KEY, b'{"a":1}\n')
        context = self.jobs.context()
        self.context = replace(context, claim=Claim(context.store, context.settings, self.s3.clock))
        self.context.check_claim()

    def do(self) -> tuple[Outcome, list[str]]:
        """Do a new small job; return its outcome and requests."""
        self.s3.objects.pop((OUTPUT, OUTPUT_KEY), None)
        self.s3.requests.clear()
        sent = int(self.s3.clock.now * 1000)
        order = Order(self.jobs.event(), sent, 1, tried_before=False, first_sent=sent)
        return do(self.context, order, Free()), [*self.s3.requests]


JOB = ["get_object in", "put_object output"]
RENEWAL = ["get_object checkpoints", "put_object checkpoints"]


def test_a_process_renews_the_claim_once_a_day_before_a_job() -> None:
    process = Process()
    for requests in ([], [], RENEWAL, [], RENEWAL):
        process.s3.clock.now += DAY_S if requests else 60
        outcome, requested = process.do()
        assert (outcome.kind, requested) == (JobResult.DONE, [*requests, *JOB])


def test_a_process_without_jobs_for_weeks_refuses_to_work_if_another_has_the_claim() -> None:
    """The claim has expired by the lifecycle rule of the templates."""
    process = Process()
    process.s3.clock.now += 16 * DAY_S
    process.s3.put(KEY, b'{"queue": "other"}', OUTPUT)
    for _ in range(2):
        outcome, requested = process.do()
        assert (outcome.kind, outcome.of_object) == (JobResult.DENIED, False), "the breaker opens"
        assert "belong to the queue other" in outcome.reason
        assert requested == RENEWAL[:1]
    process.s3.objects.pop((OUTPUT, KEY))
    assert process.do()[0].kind is JobResult.DONE


@pytest.mark.parametrize(("status", "code"), [(503, "SlowDown"), (403, "AccessDenied")])
def test_a_renewal_that_s3_does_not_accept_is_tried_again_a_day_later(status: int, code: str) -> None:
    process = Process()
    process.s3.clock.now += DAY_S

    def refuse(operation: str, arguments: dict[str, Any]) -> None:
        if operation == "put_object" and arguments["Key"] == KEY:
            raise refusal(status, code)

    process.s3.before = refuse
    for requests in (RENEWAL, [], RENEWAL):
        process.s3.clock.now += DAY_S if requests else 60
        outcome, requested = process.do()
        assert (outcome.kind, requested) == (JobResult.DONE, [*requests, *JOB])
