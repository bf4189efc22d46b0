"""Which events a worker makes jobs of: those of its buckets, with the prefixes and suffixes that it is to take."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.job.keys import is_wanted
from runner.settings import Settings
from tests.support.fakes import LEAST
from tests.support.whole_worker import WholeWorker

if TYPE_CHECKING:
    from collections.abc import Iterable

FILTER: dict[str, Any] = {"INPUT_PREFIX": "raw/,landing/", "INPUT_SUFFIX": ".jsonl, .jsonl.gz"}
TAKEN = ("raw/a.jsonl", "landing/b.jsonl.gz", "raw/.jsonl", "raw/x/c.jsonl")
LEFT = ("raw/a.csv", "other/a.jsonl", "Raw/a.jsonl", "raw/a.JSONL", "raw", "xraw/a.jsonl")


def body_of(*events: tuple[str, str]) -> str:
    return json.dumps({"Records": [record(*event) for event in events]})


def record(bucket: str, key: str) -> dict[str, Any]:
    described = {"bucket": {"name": bucket}, "object": {"key": key, "size": 100, "eTag": "e", "sequencer": "0"}}
    return {"eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "s3": described}


def work(whole: WholeWorker, bodies: Iterable[tuple[str, str]]) -> None:
    """Have a worker take messages, each with the key that they are known by."""
    for key, body in bodies:
        whole.queue.put(key, body=body)
    with whole:
        whole.wait_until_empty()


def ignored(whole: WholeWorker) -> list[str]:
    return [line["reason"] for line in whole.log() if line["event"] == "ignored"]


def counted(whole: WholeWorker) -> int:
    return sum(int(line.get("ObjectsIgnored", 0)) for line in whole.metrics())


def test_what_is_not_to_be_taken_is_acknowledged_and_counted() -> None:
    whole = WholeWorker(**FILTER)
    for key in (*TAKEN, *LEFT):
        whole.queue.put(key)
    with whole:
        whole.wait_until_empty()
    assert whole.done() == {*whole.orders} == {*TAKEN}
    assert sorted(ignored(whole)) == sorted(
        f"s3://incoming/{key} does not have INPUT_PREFIX and INPUT_SUFFIX" for key in LEFT
    )
    assert (counted(whole), whole.queue.dead, whole.status) == (len(LEFT), {}, 0)


def test_without_a_filter_nothing_is_counted() -> None:
    whole = WholeWorker()
    for key in LEFT:
        whole.queue.put(key)
    with whole:
        whole.wait_until_empty()
    assert whole.done() == {*LEFT}
    assert not any("ObjectsIgnored" in line for line in whole.metrics())


def test_of_a_message_with_several_events_only_those_to_be_taken_become_jobs() -> None:
    whole = WholeWorker(**FILTER)
    work(whole, [("raw/a.jsonl", body_of(("incoming", "raw/a.jsonl"), ("incoming", "other")))])
    assert (whole.done(), counted(whole), whole.queue.dead) == ({"raw/a.jsonl"}, 1, {})


def test_events_of_each_bucket_become_jobs() -> None:
    whole = WholeWorker(s3InputBucket="incoming,second")
    work(whole, [("a", body_of(("incoming", "a"))), ("b", body_of(("second", "b"))), ("c", body_of(("third", "c")))])
    assert whole.done() == {"a", "b"}
    assert whole.queue.dead == {"c": "an event of the bucket third, which is not in S3_INPUT_BUCKET"}


def test_a_filter_is_no_excuse_for_another_bucket() -> None:
    whole = WholeWorker(**FILTER)
    work(whole, [("c", body_of(("third", "c")))])
    assert [*whole.queue.dead] == ["c"]


@pytest.mark.parametrize("name", ["INPUT_PREFIX", "INPUT_SUFFIX"])
def test_one_filter_alone(name: str) -> None:
    settings = Settings.read(LEAST | {name: 'a, "b,c"'})
    is_first = name == "INPUT_PREFIX"
    for key, taken in (("a", True), ("ax", is_first), ("xa", not is_first), ("b,c", True), ("b", False), ("c", False)):
        assert is_wanted(settings, key) == taken


@given(st.text(max_size=8))
def test_without_filters_all_is_taken(key: str) -> None:
    assert is_wanted(Settings.read(LEAST), key)
