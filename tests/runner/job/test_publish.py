"""An output is published whole, and over nothing newer, whatever S3 and others do meanwhile."""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from runner.job.protocol import JobResult, Outcome
from tests.support.deployment import events_of
from tests.support.example import lines, transformed
from tests.support.jobs import KEY, OUTPUT, SENT, Jobs
from tests.support.proxy import Cut, Refuse

if TYPE_CHECKING:
    from collections.abc import Callable

    from runner.job.identity import Origin
    from tests.support.deployment import Deployment
    from tests.support.proxy import Fault, Proxy, Request

    Happening = Callable[[], Fault | None]

pytestmark = pytest.mark.slow  # all together, which takes minutes

OLDER, NEWER = "0055", "0056"  # than the sequencer of the job
OTHERS = b"somebody else's"
SIZES = {"small": (100, 0), "multipart": (1500, 8000)}
PUBLISHES = {"small": "PutObject", "multipart": "CompleteMultipartUpload"}
CONFLICT = Refuse(409, "ConditionalRequestConflict")
TRIES = 8
LATER = "a + 2 AS b"
STORMS = 4


@dataclass
class Case:
    """A job whose output is small, or has parts."""

    jobs: Jobs
    proxy: Proxy
    size: str

    @property
    def deployment(self) -> Deployment:
        return self.jobs.deployment

    @property
    def expected(self) -> bytes:
        return transformed(*SIZES[self.size])

    @property
    def publishes(self) -> str:
        return PUBLISHES[self.size]

    @property
    def published(self) -> int:
        """How often that was tried."""
        return sum(is_output(request) and request.operation == self.publishes for request in self.proxy.requests)

    def origin(self, **changes: Any) -> Origin:
        original = {"first_sent": changes["sent"]} if "sent" in changes else {}
        return replace(self.jobs.origin(), **original | changes)

    def before_publishing(self, *happenings: Happening) -> None:
        """Let things happen before the first try to publish, before the second, and so on."""
        left = list(happenings)

        def rule(request: Request) -> Fault | None:
            if not left or not is_output(request) or request.operation != self.publishes:
                return None
            return left.pop(0)()

        self.proxy.rule = rule

    def appears(self, content: bytes, origin: Origin | None = None) -> Happening:
        """Let somebody else publish."""

        def happen() -> None:
            self.jobs.put_output(content, origin)

        return happen

    def vanishes(self) -> None:
        self.deployment.s3.delete_object(Bucket=self.deployment.output, Key=OUTPUT)

    def ends(self, outcome: Outcome, *kinds: JobResult, output: bytes | None = None) -> None:
        """Check what has become of the job."""
        assert outcome.kind in kinds, outcome
        assert self.jobs.output() == (self.expected if output is None else output)
        assert self.jobs.left() == []


def is_output(request: Request) -> bool:
    return request.key == OUTPUT


def faulty(fault: Fault, *numbers: int, of: str) -> Callable[[Request], Fault | None]:
    """Return a rule under which some of the requests of an operation on the output fail, or all."""
    left = {*numbers}
    seen = iter(range(1, 1000))

    def rule(request: Request) -> Fault | None:
        if request.operation != of or not is_output(request):
            return None
        return fault if next(seen) in left or not left else None

    return rule


@pytest.fixture(params=[*SIZES])
def case(request: pytest.FixtureRequest, jobs: Jobs, proxy: Proxy) -> Case:
    """One for each way to publish."""
    jobs.deployment.put(KEY, lines(*SIZES[request.param]))
    return Case(jobs, proxy, request.param)


@pytest.fixture
def large(jobs: Jobs, proxy: Proxy) -> Case:
    jobs.deployment.put(KEY, lines(*SIZES["multipart"]))
    return Case(jobs, proxy, "multipart")


# What is there

THERE: dict[str, tuple[dict[str, Any] | None, JobResult]] = {
    "no output of ours": (None, JobResult.DONE),
    "that of an older input": ({"source": "0" * 32, "sequencer": OLDER}, JobResult.DONE),
    "one that claims to be newer than the current input": ({"source": "0" * 32, "sequencer": NEWER}, JobResult.DONE),
    "its own": ({"sent": SENT - 1}, JobResult.DUPLICATE),
    "that of a calculation asked for before": ({"digest": "0" * 32, "sent": SENT - 1}, JobResult.DONE),
    "that of a calculation asked for later": ({"digest": "0" * 32, "sent": SENT + 1}, JobResult.STALE),
    "that of the same content before": ({"sequencer": OLDER}, JobResult.DONE),
}
there = pytest.mark.parametrize(("changes", "kind"), THERE.values(), ids=THERE)


def test_the_first_output_appears(case: Case) -> None:
    case.ends(case.jobs.do(), JobResult.DONE)
    assert case.published == 1
    found = case.deployment.s3.head_object(Bucket=case.deployment.output, Key=OUTPUT)["Metadata"]
    assert {**found, "transform-modified": "0"} == case.origin().to_metadata()


@there
@pytest.mark.parametrize("again", [False, True])
def test_what_is_there_is_judged(case: Case, changes: dict[str, Any] | None, kind: JobResult, again: bool) -> None:
    case.jobs.put_output(OTHERS, None if changes is None else case.origin(**changes))
    case.ends(case.jobs.do(again=again), kind, output=None if kind is JobResult.DONE else OTHERS)
    if kind is not JobResult.DONE and (again or case.size != "small"):
        assert not any(request.key == KEY for request in case.proxy.requests), "nothing is read in vain"


@there
@pytest.mark.parametrize("before", [None, b"before"])
def test_what_appears_meanwhile_is_judged(
    case: Case, changes: dict[str, Any] | None, kind: JobResult, before: bytes | None
) -> None:
    if before is not None:
        case.jobs.put_output(before)
    case.before_publishing(case.appears(OTHERS, None if changes is None else case.origin(**changes)))
    case.ends(case.jobs.do(), kind, output=None if kind is JobResult.DONE else OTHERS)
    assert case.published == (2 if kind is JobResult.DONE else 1)


def test_what_vanishes_meanwhile_is_not_waited_for(case: Case) -> None:
    case.jobs.put_output(OTHERS)
    tries = [lambda: None] * (case.size == "small")  # which finds that something is there
    case.before_publishing(*tries, case.vanishes)
    case.ends(case.jobs.do(), JobResult.DONE)
    assert case.published == len(tries) + 2


def test_a_condition_on_what_is_gone_may_be_answered_by_404(case: Case) -> None:
    case.jobs.put_output(OTHERS)

    def happen() -> Fault:
        case.vanishes()
        return Refuse(404, "NoSuchKey")

    case.before_publishing(happen)
    case.ends(case.jobs.do(), JobResult.DONE)
    assert case.published == 2


def test_what_changes_all_the_time_is_left_for_later(case: Case) -> None:
    case.before_publishing(*(case.appears(b"%d" % number) for number in range(TRIES)))
    assert case.jobs.do().kind is JobResult.RETRY
    assert case.jobs.output() == b"%d" % (TRIES - 1)
    case.ends(case.jobs.do(again=True), JobResult.DONE)


def test_another_calculation_replaces_whoever_asked_before_and_nothing_later(case: Case) -> None:
    case.ends(case.jobs.do(sent=SENT), JobResult.DONE)
    case.ends(case.jobs.do(sent=SENT - 1, CALCULATION=LATER), JobResult.STALE)
    case.jobs.do(sent=SENT + 1, CALCULATION=LATER)
    output = case.jobs.output()
    assert output not in (None, case.expected)
    case.ends(case.jobs.do(sent=SENT), JobResult.STALE, output=output)
    case.ends(case.jobs.do(sent=SENT + 2), JobResult.DONE)


@pytest.mark.parametrize("again", [False, True])
def test_content_that_came_back_wins_over_what_was_between(case: Case, again: bool) -> None:
    first = case.jobs.event()
    case.jobs.do(first)
    case.deployment.put(KEY, b'{"a":1}\n')
    between = case.jobs.event(sequencer=f"{NEWER}01")

    looks = iter(["to see what is there"] * again + ["when the output is made"])

    def rule(request: Request) -> None:
        if request.operation == "HeadObject" and is_output(request) and next(looks, "").startswith("when"):
            case.deployment.put(KEY, lines(*SIZES[case.size]))
            case.proxy.rule = lambda _: None
            case.ends(case.jobs.do(case.jobs.event(sequencer=f"{NEWER}02")), JobResult.DONE)

    case.proxy.rule = rule
    case.ends(case.jobs.do(between, again=again), JobResult.STALE)


# What S3 answers


def test_on_a_conflict_the_upload_starts_again(large: Case) -> None:
    large.proxy.rule = faulty(CONFLICT, 1, of="CompleteMultipartUpload")
    large.ends(large.jobs.do(), JobResult.DONE)
    assert large.proxy.count("CreateMultipartUpload") == 2


def test_on_a_conflict_a_put_is_tried_again(jobs: Jobs, proxy: Proxy) -> None:
    jobs.deployment.put(KEY, lines(100))
    proxy.rule = faulty(CONFLICT, 1, 2, of="PutObject")
    case = Case(jobs, proxy, "small")
    case.ends(jobs.do(), JobResult.DONE)
    assert (case.published, proxy.count("GetObject")) == (3, 1)


def test_conflicts_without_end_are_left_for_later(case: Case) -> None:
    case.proxy.rule = faulty(CONFLICT, of=case.publishes)
    assert case.jobs.do().kind is JobResult.RETRY
    assert case.jobs.output() is None
    case.proxy.rule = lambda _: None
    case.ends(case.jobs.do(again=True), JobResult.DONE)


@pytest.mark.parametrize("code", ["InvalidPart", "InvalidPartOrder", "EntityTooSmall", "NoSuchUpload"])
def test_an_upload_of_no_use_starts_again(large: Case, code: str) -> None:
    large.proxy.rule = faulty(Refuse(404 if code == "NoSuchUpload" else 400, code), 1, of="CompleteMultipartUpload")
    large.ends(large.jobs.do(), JobResult.DONE)
    assert large.proxy.count("CreateMultipartUpload") == 2


@pytest.mark.parametrize("operation", ["UploadPart", "CompleteMultipartUpload"])
@pytest.mark.parametrize("number", [1, 2])
def test_an_upload_that_somebody_aborts_starts_again(large: Case, operation: str, number: int) -> None:
    aborted = False

    def rule(request: Request) -> None:
        nonlocal aborted
        if request.operation == operation and request.number >= min(number, 3) and not aborted:
            aborted = True
            abort_all(large.deployment)

    if (operation, number) == ("CompleteMultipartUpload", 2):
        large.jobs.put_output(b"before")  # and once it is there, and must be replaced
        number = 1
    large.proxy.rule = rule
    large.ends(large.jobs.do(), JobResult.DONE)
    assert aborted
    assert large.proxy.count("CreateMultipartUpload") == 2


def abort_all(deployment: Deployment) -> None:
    for upload in deployment.uploads():
        deployment.s3.abort_multipart_upload(Bucket=deployment.output, Key=OUTPUT, UploadId=upload)


def test_a_part_that_somebody_has_replaced_is_not_published(large: Case) -> None:
    deployment = large.deployment

    def replace_part() -> None:
        (upload,) = deployment.uploads()
        deployment.s3.upload_part(Bucket=deployment.output, Key=OUTPUT, UploadId=upload, PartNumber=1, Body=b"x")

    large.before_publishing(replace_part)
    large.ends(large.jobs.do(), JobResult.DONE)
    assert large.proxy.count("CreateMultipartUpload") == 2


@pytest.mark.parametrize("passed_on", [True, False])
@pytest.mark.parametrize("before", [None, b"before"])
@pytest.mark.parametrize("numbers", [(1,), ()], ids=["one answer", "all answers"])
def test_a_lost_answer_is_settled_by_looking(
    case: Case,
    passed_on: bool,
    before: bytes | None,
    numbers: tuple[int, ...],
) -> None:
    if before is not None:
        case.jobs.put_output(before)
    case.proxy.rule = faulty(Cut(passed_on=passed_on), *numbers, of=case.publishes)
    outcome = case.jobs.do()
    case.proxy.rule = lambda _: None
    in_vain = case.size == "small" and before is not None  # at first it is put as if nothing was there
    if not numbers and (in_vain or not passed_on):
        assert outcome.kind is JobResult.RETRY
        assert case.jobs.output() == before
        outcome = case.jobs.do(again=True)
    case.ends(outcome, JobResult.DONE, JobResult.DUPLICATE)


def test_a_small_job_that_fails_is_a_duplicate_where_its_output_stands(jobs: Jobs) -> None:
    """It has not looked before."""
    jobs.deployment.put(KEY, b"bad\n")
    assert jobs.do(ON_ERROR="fail").kind is JobResult.FAILED
    jobs.put_output(OTHERS, jobs.origin(ON_ERROR="fail"))
    outcome = jobs.do(ON_ERROR="fail")
    assert (outcome.kind, outcome.reason, jobs.output()) == (JobResult.DUPLICATE, "", OTHERS)
    event = jobs.event()
    jobs.deployment.put(KEY, lines(1))
    assert jobs.do(event, ON_ERROR="fail").kind is JobResult.DUPLICATE, "its input is another by now"


@pytest.mark.parametrize("fault", [Refuse(500, "InternalError"), Refuse(503, "SlowDown")])
def test_what_s3_fails_to_do_is_left_for_later(case: Case, fault: Refuse) -> None:
    is_left_for_later(case, fault)


def test_the_end_of_an_upload_may_fail_after_it_has_begun_with_200(large: Case) -> None:
    is_left_for_later(large, Refuse(200, "InternalError"))


def is_left_for_later(case: Case, fault: Refuse) -> None:
    case.jobs.put_output(b"before")
    case.proxy.rule = faulty(fault, of=case.publishes)
    assert case.jobs.do().kind is JobResult.RETRY
    assert case.jobs.output() == b"before"
    case.proxy.rule = lambda _: None
    case.ends(case.jobs.do(again=True), JobResult.DONE)


def test_a_last_part_that_is_not_taken_at_first_is_not_left_out(large: Case) -> None:
    large.jobs.do()
    parts = large.proxy.count("UploadPart")
    large.deployment.s3.delete_object(Bucket=large.deployment.output, Key=OUTPUT)
    large.proxy.rule = faulty(Refuse(412, "PreconditionFailed"), parts, of="UploadPart")
    assert large.jobs.do().kind is JobResult.RETRY
    large.ends(large.jobs.do(again=True), JobResult.DONE)
    assert large.proxy.count("UploadPart") == 2 * parts + 1


def test_what_is_denied_is_said_to_be(case: Case) -> None:
    case.proxy.rule = faulty(Refuse(403, "AccessDenied"), of=case.publishes)
    assert case.jobs.do().kind is JobResult.DENIED
    case.proxy.rule = lambda _: None
    case.ends(case.jobs.do(again=True), JobResult.DONE)


FAULTS: list[Fault] = [
    Refuse(500, "InternalError"),
    Refuse(409, "OperationAborted"),
    Cut(passed_on=False),
    Cut(passed_on=True),
]


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_whichever_request_fails_the_next_attempt_leaves_nothing(case: Case, fault: Fault) -> None:
    which, failed = 0, True
    while failed:
        which, failed, before = which + 1, False, len(case.proxy.requests)

        def rule(_request: Request, at: int = before + which) -> Fault | None:
            nonlocal failed
            failed = failed or len(case.proxy.requests) >= at
            return fault if len(case.proxy.requests) == at else None

        case.proxy.rule = rule
        outcome, tries = case.jobs.try_(), 1
        while outcome is None or outcome.kind is JobResult.RETRY:
            assert tries < 4, outcome
            outcome, tries = case.jobs.try_(again=True), tries + 1
        operations = [request.operation for request in case.proxy.requests[before:]]
        if fault == Cut(passed_on=True) and operations[which - 1 : which] == ["CreateMultipartUpload"]:
            assert len(case.deployment.uploads()) == 1, "that of which nobody has heard the name"
            abort_all(case.deployment)
        case.ends(outcome, JobResult.DONE, JobResult.DUPLICATE)
        case.vanishes()
    assert which > {"small": 5, "multipart": 12}[case.size]


# Several at a time


def test_delivered_twice_at_a_time_it_is_done_once(case: Case) -> None:
    """The second comes while the first publishes; it takes over what the first has noted."""
    kinds: list[JobResult] = []
    case.before_publishing(lambda: kinds.append(case.jobs.do().kind))
    case.ends(case.jobs.do(), JobResult.DONE, JobResult.DUPLICATE)
    assert kinds == [JobResult.DONE]
    case.ends(case.jobs.do(again=True), JobResult.DUPLICATE)


def test_who_did_not_look_for_a_checkpoint_leaves_the_job_to_whoever_has_it(jobs: Jobs, proxy: Proxy) -> None:
    """An object that is so small that nobody expects its output to have parts."""
    count, pad_bytes = 640, 8000
    jobs.deployment.put(KEY, lines(count, pad_bytes))
    jobs.changes |= {"CALCULATION": "pad || pad || pad AS c", "SCHEMA": "pad=String"}
    case = Case(jobs, proxy, "multipart")
    outcomes: list[Outcome] = []
    case.before_publishing(lambda: outcomes.append(jobs.do()))
    made = b"".join(
        line[:-1] + b',"c":"%b"}\n' % (b"x" * 3 * pad_bytes) for line in lines(count, pad_bytes).split(b"\n")[:-1]
    )
    case.ends(jobs.do(), JobResult.DONE, output=made)
    assert [outcome.kind for outcome in outcomes] == [JobResult.FENCED]


@pytest.mark.parametrize("seed", range(STORMS))
def test_a_storm_ends_with_the_newest_input_and_the_calculation_asked_for_last(case: Case, seed: int) -> None:
    """Everything delivered several times, in parallel and in any order, and a tenth of all requests going wrong."""
    chance = random.Random(seed)
    lock = threading.Lock()
    calculations = ["a + 3 AS b", "a + 1 AS b"]
    old = case.jobs.event(sequencer=OLDER)
    case.deployment.put(KEY, lines(*SIZES[case.size]) + b"\n")
    new = case.jobs.event(sequencer=NEWER)
    left = [(event, number) for event in (old, new) for number in range(len(calculations))] * 2
    chance.shuffle(left)

    def rule(request: Request) -> Fault | None:
        with lock:
            # What is not aborted at the first try may stay open, where nobody has noted it.
            if request.operation in {"HeadBucket", "AbortMultipartUpload"} or chance.random() > 0.1:
                return None
            return chance.choice(FAULTS[:3] if request.operation == "CreateMultipartUpload" else FAULTS)

    def deliver(event: Any, number: int) -> JobResult:
        return case.jobs.do(event, sent=SENT + number, again=True, CALCULATION=calculations[number]).kind

    case.proxy.rule = rule
    for delivery in range(30):
        if delivery == 5:
            case.proxy.rule = lambda _: None
        with ThreadPoolExecutor(3) as pool:
            kinds = [*pool.map(lambda job: deliver(*job), left)]
        assert {*kinds} <= {
            JobResult.DONE,
            JobResult.DUPLICATE,
            JobResult.STALE,
            JobResult.SUPERSEDED,
            JobResult.RETRY,
            JobResult.FENCED,
        }
        left = [job for job, kind in zip(left, kinds, strict=True) if kind in (JobResult.RETRY, JobResult.FENCED)]
        if not left:
            break
    assert not left
    case.ends(Outcome(JobResult.DONE), JobResult.DONE)


# Through a worker


def test_a_worker_acknowledges_what_was_asked_for_before_what_is_there(case: Case) -> None:
    asked_later = int(time.time() * 1000) + 3_600_000
    case.jobs.put_output(OTHERS, case.origin(digest="0" * 32, sent=asked_later))
    assert "stale" in events_of(case.deployment.drain(env={"PART_BYTES": "5MiB"}))
    case.ends(Outcome(JobResult.STALE), JobResult.STALE, output=OTHERS)
    assert (case.deployment.waiting(), case.deployment.dead()) == ((0, 0, 0), [])


def test_a_worker_tries_again_what_s3_fails_to_do(case: Case) -> None:
    case.proxy.rule = faulty(Refuse(500, "InternalError"), 1, of=case.publishes)
    said = events_of(case.deployment.drain(env={"PART_BYTES": "5MiB"}))
    assert [word for word in said if word in {"retry", "done"}] == ["retry", "done"]
    case.ends(Outcome(JobResult.DONE), JobResult.DONE)
    assert (case.deployment.waiting(), case.deployment.dead()) == ((0, 0, 0), [])
