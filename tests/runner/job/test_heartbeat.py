"""What keeps a checkpoint fresh, what it says of the input, and when an operator's note counts: with fakes, no S3."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from runner.aws.bucket import Store
from runner.errors import CancelledError, StoppedError, StoreError
from runner.job.cancellation import RESOLUTION_MS, Cancellation, Cancellations
from runner.job.checkpoint import Checkpoint, CheckpointHeartbeat, ProgressLog
from runner.job.progress import JobProgress
from tests.support.memory import MemoryS3
from transform import State, Stream, Summary

if TYPE_CHECKING:
    from runner.job.control import Control

BEAT_S = 0.01
WAIT_S = 20


@dataclass
class Touched:
    """A checkpoint and a control that note what they are asked for.

    Attributes:
        touches: What each touch raises, in order; after that, nothing.
        lease: What each look at the lease raises, likewise.
    """

    touches: list[Exception] = field(default_factory=list)
    lease: list[Exception] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    enough: threading.Event = field(default_factory=threading.Event)
    until: int = 4

    def touch(self) -> None:
        self._note("touch", self.touches)

    def check_lease(self) -> None:
        self._note("lease", self.lease)

    def _note(self, what: str, errors: list[Exception]) -> None:
        self.asked.append(what)
        if len(self.asked) >= self.until:
            self.enough.set()
        if errors:
            raise errors.pop(0)

    def beat(self) -> list[str]:
        """Let the heart beat until enough was asked; return what."""
        with CheckpointHeartbeat(cast("Checkpoint", self), cast("Control", self), 3 * BEAT_S):
            assert self.enough.wait(WAIT_S)
        return self.asked


def test_each_beat_looks_at_the_lease_and_then_touches() -> None:
    assert Touched().beat()[:4] == ["lease", "touch", "lease", "touch"]


def test_a_touch_that_fails_is_not_the_last() -> None:
    assert Touched(touches=[StoreError("S3 is away")]).beat().count("touch") >= 2


def test_without_the_lease_nothing_is_touched() -> None:
    lost = [StoppedError("the lease has run out")] * 1000
    assert set(Touched(lease=[*lost]).beat()) == {"lease"}


def test_the_heart_stops_with_the_job() -> None:
    fake = Touched()
    fake.beat()
    count = len(fake.asked)
    assert not any(thread.name == "checkpoint" for thread in threading.enumerate())
    assert len(fake.asked) == count


class SlowTask:
    """A thread whose touch is in flight until somebody waits for its end, however long that takes."""

    def __init__(self) -> None:
        self.in_flight = True

    def start(self, *_: object, **__: object) -> SlowTask:
        return self

    def event(self) -> threading.Event:
        return threading.Event()

    def join(self, timeout: float | None = None) -> None:
        self.in_flight = timeout is not None


def test_no_touch_is_in_flight_after_the_job() -> None:
    """It would change the ETag after the next job of this process has read the checkpoint."""
    tasks, fake = SlowTask(), Touched()
    with CheckpointHeartbeat(cast("Checkpoint", fake), cast("Control", fake), 60.0, cast("Any", tasks)):
        assert tasks.in_flight
    assert not tasks.in_flight


class Puts:
    """A bucket that holds each put until it is let go, and notes how many there are at a time."""

    def __init__(self) -> None:
        self.held = threading.Event()
        self.go_on = threading.Event()
        self.at_once = self.most_at_once = 0
        self.conditions: list[dict[str, str]] = []

    def call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        assert operation == "put_object"
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self.conditions.append({name: arguments[name] for name in ("IfMatch", "IfNoneMatch") if name in arguments})
        self.held.set()
        assert self.go_on.wait(WAIT_S)
        self.at_once -= 1
        return {"ETag": f'"{len(self.conditions)}"'}


def test_a_touch_waits_for_a_write_and_builds_on_it() -> None:
    bucket = Puts()
    checkpoint = Checkpoint(cast("Any", bucket), "checkpoints/a.json")
    bucket.go_on.set()
    checkpoint.write(JobProgress("upload"))
    bucket.go_on.clear()
    bucket.held.clear()
    writing = threading.Thread(target=checkpoint.write, args=(JobProgress("upload", rejects=("00000001-w.jsonl",)),))
    touching = threading.Thread(target=checkpoint.touch)
    writing.start()
    assert bucket.held.wait(WAIT_S)
    touching.start()
    touching.join(0.05)  # as long as it would take without a lock
    bucket.go_on.set()
    for thread in (writing, touching):
        thread.join(WAIT_S)
        assert not thread.is_alive()
    assert bucket.most_at_once == 1
    assert bucket.conditions == [{"IfNoneMatch": "*"}, {"IfMatch": '"1"'}, {"IfMatch": '"2"'}]


def test_the_age_of_a_checkpoint_is_by_the_clock_of_s3() -> None:
    """The clock of this machine may be wrong: that of S3 is years behind here."""
    s3 = MemoryS3()
    Checkpoint(Store("outgoing", s3), "checkpoints/a.json").write(JobProgress("upload", owner="one", lease_s=60))
    ages = []
    for seconds in (0, 59, 1):
        s3.clock.now += seconds
        reader = Checkpoint(Store("outgoing", s3), "checkpoints/a.json")
        progress = reader.read()
        assert progress is not None
        assert not reader.is_held(progress, "one")
        ages.append(reader.is_held(progress, "another"))
    assert ages == [True, True, False]


@pytest.mark.parametrize(("codec", "position"), [(None, (40, 1000)), ("gzip", (900, 1000))])
def test_the_position_is_what_was_transformed_where_that_is_known(
    codec: str | None, position: tuple[int, int | None]
) -> None:
    log = ProgressLog(cast("Checkpoint", None), "owner", 60, {"job": "j"})
    state = State(Summary(bytes_in=40), codec=codec)
    log.note_position(cast("Stream", SimpleNamespace(position=(900, 1000), state=state, summary=state.summary)))
    assert log.position == position
    assert {name: log.about("running")[name] for name in ("read", "size", "outcome", "job")} == {
        "read": str(position[0]),
        "size": "1000",
        "outcome": "running",
        "job": "j",
    }


class Notes:
    """A bucket with notes, or one that cannot be listed."""

    def __init__(self, times: dict[str, datetime] | None) -> None:
        self._times = times

    def call(self, operation: str, **_: Any) -> dict[str, Any]:
        assert operation == "list_objects_v2"
        if self._times is None:
            raise StoreError("S3 is away")
        return {"Contents": [{"Key": key, "LastModified": time} for key, time in self._times.items()]}


MADE = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)
MADE_MS = int(MADE.timestamp() * 1000)
"""S3 tells whole seconds: the note was made in the second that begins then."""


@pytest.mark.parametrize(
    ("sent", "cancelled"),
    [(MADE_MS - 1, True), (MADE_MS, True), (MADE_MS + RESOLUTION_MS - 1, True), (MADE_MS + RESOLUTION_MS, False)],
)
def test_a_note_is_about_messages_sent_up_to_its_second(sent: int, cancelled: bool) -> None:
    notes = Cancellations(cast("Any", Notes({"cancelled/a.json": MADE})), "cancelled/")
    job = Cancellation(notes, "cancelled/a.json", sent)
    if cancelled:
        with pytest.raises(CancelledError, match="cancelled by an operator at 2026-01-31T12:00:00Z"):
            job.check_at_start()
    else:
        job.check_at_start()
    Cancellation(notes, "cancelled/b.json", sent).check_at_start()


def test_a_job_goes_on_where_the_notes_cannot_be_listed() -> None:
    Cancellation(Cancellations(cast("Any", Notes(None)), "cancelled/"), "cancelled/a.json", MADE_MS).check(0.0)
