"""The outcome of a job that fails, with S3 in memory: whether it may be the fault of the input object alone."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import NoCredentialsError

from runner.errors import DeniedError, ObjectDeniedError
from runner.job.protocol import JobResult
from tests.support.memory import INPUT, KEY, OUTPUT, OUTPUT_KEY, MemoryJobs, refusal
from transform import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

GOOD = b'{"a":1}\n'
DENIED = "AccessDenied"


def refused(error: Callable[[], BaseException], operation: str, bucket: str) -> MemoryJobs:
    """Return jobs of a good object, of which one operation on one bucket fails."""
    jobs = MemoryJobs()
    jobs.s3.put(KEY, GOOD, TagCount=1)

    def before(requested: str, arguments: dict[str, Any]) -> None:
        if (requested, arguments["Bucket"]) == (operation, bucket):
            raise error()

    jobs.s3.before = before
    return jobs


@pytest.mark.parametrize("operation", ["get_object", "get_object_tagging"])
def test_a_denial_of_the_input_object_may_be_of_this_object_alone(operation: str) -> None:
    outcome = refused(lambda: refusal(403, DENIED), operation, INPUT).do()
    assert (outcome.kind, outcome.of_object) == (JobResult.DENIED, True)


def test_a_denial_of_the_last_look_at_the_input_may_be_of_this_object_alone() -> None:
    jobs = refused(lambda: refusal(403, DENIED), "head_object", INPUT)
    jobs.s3.put(OUTPUT_KEY, b"there", OUTPUT)
    outcome = jobs.do()
    assert (outcome.kind, outcome.of_object) == (JobResult.DENIED, True)


def test_a_denial_of_an_input_whose_event_has_no_etag_may_be_of_this_object_alone() -> None:
    jobs = refused(lambda: refusal(403, DENIED), "head_object", INPUT)
    outcome = jobs.do(jobs.event(etag=False))
    assert (outcome.kind, outcome.of_object) == (JobResult.DENIED, True)


@pytest.mark.parametrize(
    ("operation", "bucket"),
    [("put_object", OUTPUT), ("list_objects_v2", OUTPUT), ("head_object", OUTPUT), ("get_object", OUTPUT)],
)
def test_a_denial_of_the_output_bucket_is_of_the_deployment(operation: str, bucket: str) -> None:
    outcome = refused(lambda: refusal(403, DENIED), operation, bucket).do(again=True)
    assert (outcome.kind, outcome.of_object) == (JobResult.DENIED, False)


@pytest.mark.parametrize("operation", ["get_object", "get_object_tagging"])
def test_credentials_that_are_missing_are_of_the_deployment(operation: str) -> None:
    outcome = refused(NoCredentialsError, operation, INPUT).do()
    assert (outcome.kind, outcome.of_object) == (JobResult.DENIED, False)


def test_a_bucket_that_is_missing_is_of_the_deployment() -> None:
    outcome = refused(lambda: refusal(404, "NoSuchBucket"), "get_object", INPUT).do()
    assert (outcome.kind, outcome.of_object, outcome.unfit) == (JobResult.FAILED, False, False)


@pytest.mark.parametrize(
    ("content", "changes", "reason"),
    [
        (b"bad\n" * 3, {}, "every line was rejected"),
        (GOOD + b"bad\n", {"ON_ERROR": "fail"}, "was rejected"),
        (b'[{"a":1}]', {}, "JSON array"),
    ],
)
def test_a_failure_of_the_content_is_of_the_object(content: bytes, changes: dict[str, Any], reason: str) -> None:
    jobs = MemoryJobs()
    jobs.s3.put(KEY, content)
    outcome = jobs.do(**changes)
    assert (outcome.kind, outcome.of_object, outcome.unfit) == (JobResult.FAILED, True, False)
    assert reason in outcome.reason


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'{"b":1}\n', "there is no column `a`"),
        (b'{"a":1}\n{"a":"x"}\n', "mixed kinds"),
        (b'{"a":null}\n', "only null"),
        (b'{"a":' + b"[" * 150 + b"]" * 150 + b"}\n", "nested deeper"),
        (b'{"a":"x"}\n', "`a` is text"),
        (b'{"a":[1]}\n', "does arithmetic on"),
        (b'{"a":{"k":1}}\n', "has no single value"),
    ],
)
def test_a_calculation_that_does_not_fit_may_be_of_the_object_or_of_the_deployment(content: bytes, reason: str) -> None:
    jobs = MemoryJobs()
    jobs.s3.put(KEY, content)
    outcome = jobs.do(CALCULATION="a + 1 AS b", SCHEMA="")
    assert (outcome.kind, outcome.of_object, outcome.unfit) == (JobResult.FAILED, False, True)
    assert reason in outcome.reason


def test_content_that_cannot_be_read_is_of_the_object() -> None:
    def corrupt() -> BaseException:
        return InputError("in.gz: corrupt gzip data")

    outcome = refused(corrupt, "get_object", INPUT).do()
    assert (outcome.kind, outcome.of_object) == (JobResult.FAILED, True)


def test_a_key_that_is_too_long_is_of_the_object() -> None:
    jobs = MemoryJobs()
    jobs.s3.put(KEY, GOOD)
    outcome = jobs.do(replace(jobs.event(), key="k" * 1020))
    assert (outcome.kind, outcome.of_object) == (JobResult.FAILED, True)


@pytest.mark.parametrize("key", ["checkpoints/claim", "checkpoints/cancelled/a.json", "rejects/a/index.json"])
def test_an_output_among_the_objects_of_the_worker_is_impossible(key: str) -> None:
    """Whoever uploads inputs could stop all workers, cancel jobs and forge checkpoints."""
    jobs = MemoryJobs()
    jobs.s3.put(key, GOOD)
    event = jobs.event(key=key)
    outcome = jobs.do(event, OUTPUT_PREFIX="")
    assert (outcome.kind, outcome.of_object) == (JobResult.FAILED, True)
    assert "among the worker's own objects" in outcome.reason
    assert (jobs.s3.requests, jobs.s3.keys()) == ([], [])
    assert jobs.do(event).kind is JobResult.DONE, "with an OUTPUT_PREFIX it is a key like any other"
    assert jobs.s3.keys() == [f"output/{key}"]


def test_other_outputs_may_have_the_keys_of_their_inputs() -> None:
    jobs = MemoryJobs()
    jobs.s3.put(KEY, GOOD)
    assert jobs.do(OUTPUT_PREFIX="").kind is JobResult.DONE
    assert jobs.s3.keys() == [KEY]


@pytest.mark.parametrize("error", [lambda: refusal(503, "SlowDown"), lambda: ValueError("a bug")])
def test_what_may_succeed_later_is_of_nobody(error: Callable[[], BaseException]) -> None:
    outcome = refused(error, "put_object", OUTPUT).do()
    assert (outcome.kind, outcome.of_object) == (JobResult.RETRY, False)


def test_a_denial_of_the_object_is_a_denial() -> None:
    assert issubclass(ObjectDeniedError, DeniedError)
