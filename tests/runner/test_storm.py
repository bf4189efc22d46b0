"""Whatever befalls the workers, every object ends with exactly its output, and no message is lost."""

from __future__ import annotations

import gzip
import json
import os
import random
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.deployment import Deployment, deploy, wait_for
from tests.support.operating import asked
from tests.support.proxy import proxy_of
from tests.support.queues import arn_of, create_queue, take_all
from tests.support.worker_storm import LEASE_S, Content, Slot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow

SEED = int(os.environ.get("STORM_SEED", "0")) or random.randrange(1, 1 << 31)
SETTINGS = {
    "PART_BYTES": "5MiB",
    "RANGE_BYTES": "64KiB",
    "VISIBILITY_TIMEOUT_S": str(LEASE_S),
    "STOP_TIMEOUT_S": "5",
    "MAX_ATTEMPTS": "100",  # each time that a worker is killed counts as one
    "RETRY_MAX_S": "2",
    "AWS_MAX_ATTEMPTS": "1",
}
SMALL, SMALL_ZIPPED, LARGE, LARGE_ZIPPED = 80, 14, 10, 2
OVERWRITTEN, DELETED, REPEATED = 24, 6, 60
STRIKE_CHANCE = 0.15  # at each step, beside those while a worker publishes or cleans up
STEP_S = 0.2
TIMEOUT_S = 240


@dataclass
class Thing:
    """An object that comes, and perhaps changes or goes.

    Attributes:
        key: Its key.
        versions: What is put there, one after the other.
        etag: Of what is there.
        deleted: Whether it was deleted in the end.
        late: Whether a message about its last version was sent when no worker had the old calculation any more.
    """

    key: str
    versions: list[Content] = field(default_factory=list)
    etag: str = ""
    deleted: bool = False
    late: bool = False

    def read(self, stored: bytes | None) -> bytes | None:
        return gzip.decompress(stored) if stored is not None and self.key.endswith(".gz") else stored


class Weather:
    """What happens, in order: `go_on` lets the next thing happen."""

    def __init__(self, deployment: Deployment, spy: str, chance: random.Random) -> None:
        self.deployment, self.chance, self._spy = deployment, chance, spy
        self.late = False
        self._events: list[dict[str, Any]] = []
        self._first = 0
        names = [f"in/{number}" for number in range(SMALL)]
        names += [f"in/{number}.gz" for number in range(SMALL_ZIPPED)]
        large = [f"large/{number}" for number in range(LARGE)]
        large += [f"large/{number}.gz" for number in range(LARGE_ZIPPED)]
        self.things = [Thing(name) for name in names + large]
        chance.shuffle(self.things)
        self.left: list[Callable[[], None]] = [lambda t=thing: self.put(t) for thing in self.things]  # type: ignore[misc]
        for thing in chance.sample(self.things, OVERWRITTEN):
            self._later(thing, lambda t=thing: self.put(t))  # type: ignore[misc]
        for thing in chance.sample(self.things, DELETED):
            self._later(thing, lambda t=thing: self.delete(t))  # type: ignore[misc]
        for _ in range(REPEATED):
            self.left.insert(chance.randrange(10, len(self.left) + 1), self.repeat)

    def _later(self, thing: Thing, what: Callable[[], None]) -> None:
        """Have something happen soon after an object was put, or long after."""
        start = self.things.index(thing) + 1
        soon = self.chance.random() < 0.7
        self.left.insert(self.chance.randrange(start, start + 12) if soon else len(self.left), what)

    def put(self, thing: Thing) -> None:
        count, pad_bytes = (1400, 8000) if thing.key.startswith("large") else (self.chance.randrange(1, 200), 20)
        thing.versions.append(Content(self._first, count, pad_bytes))
        self._first += count
        content = thing.versions[-1].lines()
        self.deployment.put(thing.key, gzip.compress(content, 1) if thing.key.endswith(".gz") else content)
        found = self.deployment.s3.head_object(Bucket=self.deployment.input, Key=thing.key)
        thing.etag, thing.late, thing.deleted = found["ETag"].strip('"'), self.late, False

    def delete(self, thing: Thing) -> None:
        self.deployment.s3.delete_object(Bucket=self.deployment.input, Key=thing.key)
        thing.deleted = True

    def repeat(self) -> None:
        """Deliver a message once more, as it came, at once or late."""
        self._events += [event for event in take_all(self.deployment.sqs, self._spy) if "Records" in event["Body"]]
        body = self.chance.choice(self._events)["Body"]
        self.deployment.sqs.send_message(
            QueueUrl=self.deployment.queue, MessageBody=body, DelaySeconds=self.chance.choice([0, 0, 0, 3, 8])
        )
        told = json.loads(body)["Records"][0]["s3"]["object"]
        thing = next(thing for thing in self.things if thing.key == told["key"])
        if told["eTag"] == thing.etag:
            thing.late = self.late or thing.late


@pytest.fixture
def deployed(s3: Any, sqs: Any, tmp_path: Path) -> Iterator[tuple[Deployment, str]]:
    """A deployment, and a queue that gets all that its own does from S3."""
    made = deploy(s3, sqs, receives=1000, HEALTH_FILE=str(tmp_path / "health.json"), **SETTINGS)
    spy = create_queue(sqs)
    sqs.set_queue_attributes(
        QueueUrl=spy,
        Attributes={
            "Policy": json.dumps(
                {"Statement": [{"Effect": "Allow", "Principal": "*", "Action": "sqs:SendMessage", "Resource": "*"}]}
            )
        },
    )
    s3.put_bucket_notification_configuration(
        Bucket=made.input,
        NotificationConfiguration={
            "QueueConfigurations": [
                {"QueueArn": arn_of(sqs, url), "Events": ["s3:ObjectCreated:*"]} for url in (made.queue, spy)
            ]
        },
    )
    yield made, spy
    for process in made.started:
        process.kill()
        process.communicate()


@pytest.mark.timeout(2 * TIMEOUT_S)
def test_a_storm(deployed: tuple[Deployment, str], aws: str) -> None:
    print(f"STORM_SEED={SEED}")
    deployment, spy = deployed
    chance = random.Random(SEED)
    weather = Weather(deployment, spy, chance)
    deadline = time.monotonic() + TIMEOUT_S
    with ExitStack() as stack:
        slots = [Slot(deployment, stack.enter_context(proxy_of(aws)), chance, workers) for workers in (1, 1, 2)]
        old = list(slots)
        half = len(weather.left) // 2
        while weather.left or old:
            if weather.left:
                weather.left.pop(0)()
            if len(weather.left) < half and old and deploys(old[0]):
                old.pop(0)
            weather.late = not old
            for slot in slots:
                slot.step()
            if chance.random() < STRIKE_CHANCE and (slot := chance.choice(slots)).is_old_enough():
                slot.strike()
            time.sleep(STEP_S)
            assert time.monotonic() < deadline
        calm_down(deployment, slots)
        stack.callback(lambda: [slot.life.worker.stop() for slot in slots])
        told = told_of(slots)
        print(told)
        check_outputs(deployment, weather)
        assert deployment.dead() == []
        assert told["harmed"] >= 8
        assert told["stopped"] >= 3
        check_leftovers(deployment, slots)


def deploys(slot: Slot) -> bool:
    """Have a slot's worker replaced by one with another calculation; return whether it was."""
    slot.plus = 2
    if slot.life.plus == 1 and not slot.life.asked and not slot.life.processes:
        slot.stop()
    return slot.life.plus == 2


def calm_down(deployment: Deployment, slots: list[Slot]) -> None:
    """Let nothing befall the workers any more, until they have done everything."""
    for slot in slots:
        slot.stormy = False

    def is_done() -> bool:
        for slot in slots:
            slot.step()
        thawed = not any(slot.life.processes for slot in slots)
        return thawed and deployment.waiting() == (0, 0, 0)

    wait_for(is_done, 90)


def told_of(slots: list[Slot]) -> dict[str, int]:
    """Return how often what has happened."""
    lives = [life for slot in slots for life in slot.lives]
    names = ["done", "duplicate", "stale", "superseded", "fenced", "busy", "stopped", "retry", "lease lost"]
    lines = [line for life in lives for line in life.worker.log if "message" in line]
    told = {name: sum(line.get("event") == name for line in lines) for name in names}
    return {
        **told,
        "lives": len(lives),
        "harmed": sum(life.harmed for life in lives),
        "stopped": sum(life.asked for life in lives),
    }


def check_outputs(deployment: Deployment, weather: Weather) -> None:
    digests: dict[int, set[str]] = {1: set(), 2: set()}
    for thing in weather.things:
        content = thing.read(deployment.output_of(thing.key))
        if content is None:
            assert thing.deleted, thing
            continue
        versions = thing.versions if thing.deleted else thing.versions[-1:]
        numbers = [number for number in (1, 2) if content in [version.plus(number) for version in versions]]
        assert numbers, thing
        assert not thing.late or thing.deleted or numbers == [2], thing
        digests[numbers[0]].add(deployment.metadata_of(thing.key)["transform-digest"])
    assert [len(found) for found in digests.values()] == [1, 1]
    assert digests[1] != digests[2]
    others = {key.removeprefix("output/") for key in deployment.stored_keys("output/")}
    assert others <= {thing.key for thing in weather.things}
    assert deployment.stored_keys("rejects/") == []


def check_leftovers(deployment: Deployment, slots: list[Slot]) -> None:
    """Those of workers that were harmed, or had the old calculation, whose jobs nobody goes on with; nothing else."""
    touched = {
        request.key.removeprefix("output/")
        for slot in slots
        for life in slot.lives
        if life.harmed or life.plus == 1
        for request in slot.requests_of(life)
        if request.operation == "CreateMultipartUpload"
    }
    listed = deployment.s3.list_multipart_uploads(Bucket=deployment.output).get("Uploads", [])
    notes = deployment.stored_keys("checkpoints/")
    left = {upload["Key"].removeprefix("output/") for upload in listed}
    for note in notes:
        about = json.loads(deployment.content(note) or b"")["about"]
        left.add(about["source"].removeprefix(f"s3://{deployment.input}/"))
    print(f"left: {len(listed)} uploads, {len(notes)} checkpoints")
    assert left <= touched
    asked(deployment, "sweep", "--older-than", "0s")
    assert deployment.uploads() == deployment.stored_keys("checkpoints/") == []
