"""Every message comes to its end: done, acknowledged, split, or a dead letter with its reason. None ends the worker."""

from __future__ import annotations

import json
import random
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from runner.aws.s3_events import parse
from runner.errors import EventError
from tests.runner.aws.test_s3_events import BRIDGED, MISSING, NOTIFICATION, TEST_EVENT, changed, wrap
from tests.support.deployment import events_of
from tests.support.example import lines, transformed

if TYPE_CHECKING:
    from tests.support.deployment import Deployment

FUZZED = 150
MALFORMED = [
    "hello",
    "{}",
    "[]",
    "null",
    '{"Records":[]}',
    '{"Records":{}}',
    '{"Type":"SubscriptionConfirmation","Message":"You have"}',
    '{"Type":"Notification"}',
    '{"x":' + "[" * 10_000 + "]" * 10_000 + "}",
    json.dumps(changed(NOTIFICATION, "Records", 0, "eventVersion", to="3.0")),
    json.dumps(changed(NOTIFICATION, "Records", 0, "eventName", to="ObjectMoved:Put")),
    json.dumps(changed(NOTIFICATION, "Records", 0, "s3", to=MISSING)),
    json.dumps(changed(NOTIFICATION, "Records", 0, "s3", "object", "key", to="%ff")),
    json.dumps(changed(NOTIFICATION, "Records", 0, "s3", "object", "size", to=-1)),
    json.dumps(changed(BRIDGED, "source", to="my.app")),
    json.dumps(TEST_EVENT | {"Event": "s3:Other"}),
    wrap("hello"),
    wrap(wrap(json.dumps(NOTIFICATION))),
]


@pytest.fixture
def quiet(deployment: Deployment) -> Deployment:
    """A deployment whose input bucket sends no events, so that all there are come from the test."""
    deployment.s3.put_bucket_notification_configuration(Bucket=deployment.input, NotificationConfiguration={})
    deployment.sqs.purge_queue(QueueUrl=deployment.queue)
    return deployment


def described(deployment: Deployment, key: str, count: int = 10) -> dict[str, Any]:
    """Put an object, and return its event as documented."""
    content = lines(count)
    etag = deployment.s3.put_object(Bucket=deployment.input, Key=key, Body=content)["ETag"].strip('"')
    told = {"key": key.replace(" ", "+"), "size": len(content), "eTag": etag, "sequencer": "00A1"}
    event = changed(NOTIFICATION, "Records", 0, "s3", "object", to=told)
    return changed(event, "Records", 0, "s3", "bucket", "name", to=deployment.input)


def bridged(deployment: Deployment, key: str) -> dict[str, Any]:
    """Put an object, and return its event as EventBridge sends it."""
    told = described(deployment, key)["Records"][0]["s3"]["object"]
    found = {"key": key, "size": told["size"], "etag": told["eTag"], "sequencer": "00A1"}
    event = changed(BRIDGED, "detail", "object", to=found)
    return changed(event, "detail", "bucket", "name", to=deployment.input)


def named(event: dict[str, Any], name: str) -> dict[str, Any]:
    return changed(event, "Records", 0, "eventName", to=name)


def with_object(event: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return changed(event, "Records", 0, "s3", "object", to={**event["Records"][0]["s3"]["object"], **changes})


def test_every_kind_of_event_that_is_a_job_is_done(quiet: Deployment) -> None:
    bodies = [
        described(quiet, "as documented.jsonl"),
        named(described(quiet, "multipart"), "s3:ObjectCreated:CompleteMultipartUpload"),
        named(described(quiet, "copy"), "ObjectCreated:Copy"),
        changed(described(quiet, "version 2.9"), "Records", 0, "eventVersion", to="2.9"),
        changed(described(quiet, "no etag"), "Records", 0, "s3", "object", "eTag", to=MISSING),
        changed(described(quiet, "no size"), "Records", 0, "s3", "object", "size", to=MISSING),
        changed(described(quiet, "no sequencer"), "Records", 0, "s3", "object", "sequencer", to=MISSING),
        changed(described(quiet, "no time"), "Records", 0, "eventTime", to=MISSING),
        with_object(described(quiet, "null version"), versionId=None),
        bridged(quiet, "bridged + key"),
    ]
    wrapped = [described(quiet, "wrapped"), bridged(quiet, "wrapped bridged")]
    keys = quiet.s3.list_objects_v2(Bucket=quiet.input)["Contents"]
    for body in bodies:
        quiet.send(json.dumps(body))
    for body in wrapped:
        quiet.send(wrap(json.dumps(body)))
    log = quiet.drain()
    assert Counter(events_of(log))["done"] == len(keys) == len(bodies) + len(wrapped)
    for found in keys:
        assert quiet.output_of(found["Key"]) == transformed(10), found["Key"]
    assert (quiet.waiting(), quiet.dead()) == ((0, 0, 0), [])


def test_what_is_no_job_is_acknowledged(quiet: Deployment) -> None:
    event = described(quiet, "in")
    bodies = [
        json.dumps(TEST_EVENT),
        wrap(json.dumps(TEST_EVENT)),
        json.dumps(named(event, "ObjectRemoved:Delete")),
        json.dumps(named(event, "s3:ObjectRemoved:DeleteMarkerCreated")),
        json.dumps(named(event, "ObjectTagging:Put")),
        json.dumps(named(event, "LifecycleExpiration:Delete")),
        json.dumps(with_object(event, key="folder/", size=0)),
        json.dumps(changed(bridged(quiet, "in"), "detail-type", to="Object Deleted")),
    ]
    for body in bodies:
        quiet.send(body)
    log = quiet.drain()
    assert [line["reason"] != "" for line in log if line.get("event") == "ignored"] == [True] * len(bodies)
    assert (quiet.waiting(), quiet.dead(), quiet.stored_keys()) == ((0, 0, 0), [], [])


def test_a_message_of_several_events_is_split(quiet: Deployment) -> None:
    names = ["one", "two", "three"]
    records = [described(quiet, name, 10 + number)["Records"][0] for number, name in enumerate(names)]
    removed = named(described(quiet, "gone"), "ObjectRemoved:Delete")["Records"]
    folder = with_object(described(quiet, "gone"), key="folder/", size=0)["Records"]
    quiet.send(json.dumps({"Records": [records[0], *removed, *records[1:], *folder]}), colour="red")
    quiet.send(json.dumps({"Records": [*removed, *folder]}))
    log = quiet.drain()
    assert Counter(events_of(log)) & Counter(split=9, done=9, ignored=9) == Counter(split=1, done=3, ignored=1)
    assert [quiet.output_of(name) for name in names] == [transformed(10), transformed(11), transformed(12)]
    assert (quiet.waiting(), quiet.dead()) == ((0, 0, 0), [])


def test_what_cannot_be_understood_is_a_dead_letter_with_its_reason(quiet: Deployment) -> None:
    other = json.dumps(NOTIFICATION)
    two = json.dumps({"Records": [*described(quiet, "in")["Records"], *NOTIFICATION["Records"]]})
    for body in (*MALFORMED, other, two):
        quiet.send(body, colour="red")
    quiet.send(json.dumps(described(quiet, "in")))
    log = quiet.drain()
    assert quiet.output_of("in") == transformed(10)
    assert events_of(log).count("refused") == len(MALFORMED) + 2
    dead = {letter["body"]: letter for letter in quiet.dead()}
    assert dead.keys() == {*MALFORMED, other, two}
    for letter in dead.values():
        assert letter["reason"]
        assert (letter["attempts"], letter["colour"]) == ("0", "red")
        assert int(letter["first_sent"]) > 1e12
    assert "amzn-s3-demo-bucket, which is not in S3_INPUT_BUCKET" in dead[other]["reason"]
    assert quiet.waiting() == (0, 0, 0)


def test_what_the_worker_has_written_is_no_job_in_a_bucket_for_both(deployment: Deployment) -> None:
    own = [f"{prefix}in" for prefix in ("output/", "rejects/", "checkpoints/", "output/output/")]
    for key in ("in", "outputs/in", "a/output/in", *own):
        deployment.put(key, lines(10) + b"bad\n")
    log = deployment.drain(env={"s3OutputBucket": deployment.input})
    assert events_of(log).count("done") == 3
    found = [item["Key"] for item in deployment.s3.list_objects_v2(Bucket=deployment.input)["Contents"]]
    outputs = {key for key in found if key.startswith("output/")}
    assert outputs == {"output/in", "output/outputs/in", "output/a/output/in", "output/output/in"}
    assert deployment.waiting() == (0, 0, 0)
    assert deployment.dead() == []


def fuzzed(chance: random.Random, body: str) -> str:
    """Return a body with something changed, as text that SQS takes."""
    at, length = chance.randrange(len(body)), chance.choice([0, 1, 1, 2, 10, 100])
    inserted = "".join(chance.choice('"{}[],:\\ 0-9aZé\n%2F/null') for _ in range(chance.choice([0, 0, 1, 2, 5])))
    return body[:at] + inserted + body[at + length :] or "x"


def test_whatever_comes_nothing_stops_the_worker_and_the_good_is_done(quiet: Deployment) -> None:
    chance = random.Random(7)
    good = [f"good/{number}" for number in range(10)]
    events = [json.dumps(described(quiet, key)) for key in good]
    patterns = [*events, json.dumps(bridged(quiet, "good/0")), wrap(events[0]), json.dumps(TEST_EVENT)]
    bodies = [fuzzed(chance, chance.choice(patterns)) for _ in range(FUZZED)] + events
    chance.shuffle(bodies)
    for body in bodies:
        quiet.send(body)
    quiet.drain()
    for key in good:
        assert quiet.output_of(key) == transformed(10), key
    assert quiet.waiting() == (0, 0, 0)
    refused = [body for body in bodies if not is_understood(quiet, body)]
    assert FUZZED // 4 < len(refused) < FUZZED
    dead = quiet.dead()
    assert Counter(letter["body"] for letter in dead) == Counter(refused)
    assert all(letter["reason"] for letter in dead)


def is_understood(deployment: Deployment, body: str) -> bool:
    try:
        return all(event.bucket == deployment.input for event in parse(body).created)
    except EventError:
        return False
