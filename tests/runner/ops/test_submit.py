"""What is in the input bucket already is put on the queue, once, and does no harm beside what S3 puts there."""

from __future__ import annotations

import json
import subprocess
import tracemalloc
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from runner.aws.bucket import Store
from runner.aws.s3_events import ObjectCreated, parse
from runner.ops.deployment import Deployment as Operated
from runner.ops.submit import ObjectFilter, ResumeFile, Submission
from tests.support.deployment import Deployment, event_body, events_of
from tests.support.example import lines, transformed
from tests.support.operating import asked, command_of, environment_of, operate
from tests.support.proxy import Refuse
from tests.support.queues import answering, take_all

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.proxy import Fault, Proxy, Request

pytestmark = pytest.mark.slow  # all together

ODD = "in/a b+c %25 ü=1&x.jsonl"


@pytest.fixture(autouse=True)
def _silent(deployment: Deployment) -> None:
    """Let the objects of these tests be older than the notification: S3 says nothing of them."""
    deployment.s3.put_bucket_notification_configuration(Bucket=deployment.input, NotificationConfiguration={})


def queued(deployment: Deployment) -> list[ObjectCreated]:
    """Take everything off the queue; return what it is about."""
    found: list[ObjectCreated] = []
    for raw in take_all(deployment.sqs, deployment.queue):
        found += parse(raw["Body"]).created
        deployment.sqs.delete_message(QueueUrl=deployment.queue, ReceiptHandle=raw["ReceiptHandle"])
    return found


def keys(deployment: Deployment) -> list[str]:
    return sorted(event.key for event in queued(deployment))


def all_of(deployment: Deployment) -> str:
    return f"s3://{deployment.input}/"


def open_in_process(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> Operated:
    """Return the deployment as the commands have it, in this process."""
    for name, value in deployment.env.items():
        monkeypatch.setenv(name, value)
    return Operated.open({**environment_of(deployment)})


def test_objects_are_described_as_s3_does_but_for_the_sequencer(deployment: Deployment) -> None:
    deployment.put(ODD, lines(3))
    deployment.put("folder/", b"")
    told = asked(deployment, "submit", all_of(deployment))
    assert (told["objects"], told["bytes"], told["left_out"]) == (1, len(lines(3)), {"folder markers": 1})
    head = deployment.s3.head_object(Bucket=deployment.input, Key=ODD)
    (event,) = queued(deployment)
    etag = head["ETag"].strip('"')
    assert replace(event, time=None) == ObjectCreated(deployment.input, ODD, None, etag, len(lines(3)), None, None)
    assert event.time is not None
    assert event.time.replace(microsecond=0) == head["LastModified"]


@pytest.mark.parametrize("suspended", [False, True])
def test_the_latest_version_is_told_where_there_are_versions(deployment: Deployment, suspended: bool) -> None:
    versioning = {"Status": "Enabled"}
    deployment.s3.put_bucket_versioning(Bucket=deployment.input, VersioningConfiguration=versioning)
    for count in (1, 2, 3):
        deployment.put("a.jsonl", lines(count))
        deployment.put("gone.jsonl", lines(count))
    deployment.s3.delete_object(Bucket=deployment.input, Key="gone.jsonl")
    if suspended:
        versioning = {"Status": "Suspended"}
        deployment.s3.put_bucket_versioning(Bucket=deployment.input, VersioningConfiguration=versioning)
    asked(deployment, "submit", all_of(deployment))
    head = deployment.s3.head_object(Bucket=deployment.input, Key="a.jsonl")
    (event,) = queued(deployment)
    assert (event.key, event.version_id, event.etag) == ("a.jsonl", head["VersionId"], head["ETag"].strip('"'))


FILTERS = {
    "": ["a.jsonl", "b/c.jsonl", "b/d.csv", "b/large.jsonl"],
    "--suffix .jsonl": ["a.jsonl", "b/c.jsonl", "b/large.jsonl"],
    "--min-size 1KiB": ["b/large.jsonl"],
    "--max-size 1KiB": ["a.jsonl", "b/c.jsonl", "b/d.csv"],
    "--max-size 1KiB --suffix .csv": ["b/d.csv"],
    "--since YESTERDAY": ["a.jsonl", "b/c.jsonl", "b/d.csv", "b/large.jsonl"],
    "--since TOMORROW": [],
    "--until TOMORROW": ["a.jsonl", "b/c.jsonl", "b/d.csv", "b/large.jsonl"],
    "--until YESTERDAY": [],
}


@pytest.mark.parametrize("options", FILTERS)
def test_filters(deployment: Deployment, options: str) -> None:
    for key, content in {"a.jsonl": b"{}", "b/c.jsonl": b"{}", "b/d.csv": b"1", "b/large.jsonl": b" " * 5000}.items():
        deployment.put(key, content)
    now = datetime.now(UTC)
    days = {"YESTERDAY": now - timedelta(days=1), "TOMORROW": now + timedelta(days=1)}
    given = [days[word].isoformat() if word in days else word for word in options.split()]
    told = asked(deployment, "submit", all_of(deployment), *given)
    assert keys(deployment) == FILTERS[options]
    assert (told["objects"], sum(told["left_out"].values())) == (len(FILTERS[options]), 4 - len(FILTERS[options]))


def test_prefixes_that_overlap_are_listed_once(deployment: Deployment) -> None:
    for key in ("a/1", "a/b/2", "c/3", "d"):
        deployment.put(key, b"{}")
    uri = all_of(deployment)
    asked(deployment, "submit", f"{uri}a/b/", f"{uri}a", f"{uri}c/", f"{uri}a/b/")
    assert keys(deployment) == ["a/1", "a/b/2", "c/3"]


def test_nothing_is_sent_by_a_dry_run(deployment: Deployment, tmp_path: Path) -> None:
    for number in range(15):
        deployment.put(f"{number:02}", b"{}")
    place = tmp_path / "place"
    said = operate(deployment, "submit", all_of(deployment), "--dry-run", "--resume-file", str(place)).stdout
    assert said.splitlines()[0] == "The first objects:"
    assert said.splitlines()[-1] == "15 objects of 30 B would be put on the queue"
    assert said.count("s3://") == 10
    assert keys(deployment) == []
    assert not place.exists()


def test_archived_objects_are_left_out(deployment: Deployment) -> None:
    """A worker that may not read one would take that for a denial, and stop."""
    deployment.put("cold", b"{}", StorageClass="GLACIER")
    deployment.put("cool", b"{}", StorageClass="STANDARD_IA")
    told = asked(deployment, "submit", all_of(deployment))
    assert told["left_out"] == {"archived, to be restored first": 1}
    assert keys(deployment) == ["cool"]


def test_archived_objects_that_are_restored_are_not() -> None:
    found = {"Key": "a", "Size": 1, "LastModified": datetime.now(UTC), "StorageClass": "GLACIER"}
    restored = {"RestoreStatus": {"IsRestoreInProgress": False, "RestoreExpiryDate": datetime.now(UTC)}}
    assert ObjectFilter().reason_against(found) is not None
    assert ObjectFilter().reason_against({**found, "RestoreStatus": {"IsRestoreInProgress": True}}) is not None
    assert ObjectFilter().reason_against({**found, **restored}) is None


def test_what_the_worker_has_written_is_left_out(deployment: Deployment) -> None:
    deployment.env["s3OutputBucket"] = deployment.input
    for key in ("in/a", "output/in/a", "rejects/in/a/1/index.json", "checkpoints/1.json"):
        deployment.put(key, b"{}")
    assert asked(deployment, "submit", all_of(deployment))["left_out"] == {"written by the worker": 3}
    assert keys(deployment) == ["in/a"]


def test_what_would_replace_objects_of_the_worker_is_left_out(deployment: Deployment) -> None:
    deployment.env["OUTPUT_PREFIX"] = ""
    for key in ("in/a", "rejects/in/a", "checkpoints/claim", "checkpoints"):
        deployment.put(key, b"{}")
    told = asked(deployment, "submit", all_of(deployment))
    assert told["left_out"] == {"with an output among the worker's own objects": 2}
    assert keys(deployment) == ["checkpoints", "in/a"]


# Going on


def test_an_interrupted_submission_goes_on_where_it_was(deployment: Deployment, tmp_path: Path) -> None:
    """It is killed in the middle, at any batch."""
    names = [f"{number:04}" for number in range(200)]
    for name in names:
        deployment.put(name, b"{}")
    place = tmp_path / "place"
    process = subprocess.Popen(
        [*command_of("submit", all_of(deployment), "--resume-file", str(place))],
        env=environment_of(deployment),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    while not place.exists() and process.poll() is None:
        pass
    process.kill()
    process.communicate()
    before = keys(deployment)
    last = json.loads(place.read_text())["last"][""]
    said = operate(deployment, "submit", all_of(deployment), "--resume-file", str(place))
    assert "going on" in said.stderr
    after = keys(deployment)
    assert after == [name for name in names if name > last], "nothing that was noted is sent again"
    assert sorted({*before, *after}) == names, "nothing is left out"


def test_what_sqs_does_not_take_is_not_noted(
    deployment: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"{number:04}" for number in range(100)]
    for name in names:
        deployment.put(name, b"{}")
    place = tmp_path / "place"
    operated = open_in_process(deployment, monkeypatch)
    command = ["submit", all_of(deployment), "--resume-file", str(place)]
    resume = ResumeFile(place, {"queue": deployment.queue, "prefixes": all_of(deployment)})
    running = Submission(operated, [all_of(deployment)], ObjectFilter(), resume, dry_run=False).run()
    next(running)
    with (
        answering(operated.queue.client, "SendMessageBatch", "InternalFailure", status=400),
        pytest.raises(Exception, match="InternalFailure"),
    ):
        next(running)
    assert json.loads(place.read_text())["last"] == {"": names[79]}
    assert len(keys(deployment)) == 80
    operate(deployment, *command)
    assert keys(deployment) == names[80:]


def test_messages_that_sqs_refuses_are_sent_again(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"{number:02}" for number in range(10)]
    for name in names:
        deployment.put(name, b"{}")
    operated = open_in_process(deployment, monkeypatch)
    sent: list[int] = []

    def refuse_some(parsed: dict[str, Any], **_: object) -> None:
        """Answer that every second of the messages was not taken; ministack has taken them, so they come twice."""
        ids = [one["Id"] for one in parsed["Successful"]]
        sent.append(len(ids))
        failed = ids[1::2]
        parsed["Successful"] = [one for one in parsed["Successful"] if one["Id"] not in failed]
        if failed:
            parsed["Failed"] = [{"Id": one, "Code": "InternalError", "SenderFault": False} for one in failed]

    operated.queue.client.meta.events.register("after-call.sqs.SendMessageBatch", refuse_some)
    (*_, tally) = Submission(operated, [all_of(deployment)], ObjectFilter(), None, dry_run=False).run()
    assert (tally.objects, sent) == (10, [10, 5, 2, 1])
    assert sorted(set(keys(deployment))) == names


def test_a_resume_file_is_of_one_submission(deployment: Deployment, tmp_path: Path) -> None:
    place = tmp_path / "place"
    deployment.put("a.jsonl", b"{}")
    same = ["submit", all_of(deployment), "--resume-file", str(place)]
    operate(deployment, *same, "--suffix", ".jsonl")
    said = operate(deployment, *same, exit_status=1).stderr
    assert "of a submission with --suffix .jsonl, and this one has it not set" in said
    place.write_text("[]")
    assert "is not the file of a submission" in operate(deployment, *same, exit_status=1).stderr
    said = operate(deployment, *same[:-1], str(tmp_path / "none" / "place"), exit_status=1).stderr
    assert "cannot be written" in said


# Beside live events


def test_what_is_there_already_is_a_duplicate(deployment: Deployment) -> None:
    deployment.put(ODD, lines(10))
    deployment.send_event(ODD)  # as S3 has sent it, with a sequencer
    deployment.drain()
    before = deployment.s3.head_object(Bucket=deployment.output, Key=f"output/{ODD}")
    operate(deployment, "submit", all_of(deployment))
    said = events_of(deployment.drain())
    assert [word for word in said if word in {"done", "duplicate"}] == ["duplicate"]
    after = deployment.s3.head_object(Bucket=deployment.output, Key=f"output/{ODD}")
    assert {name: before[name] for name in ("ETag", "LastModified", "Metadata")} == {
        name: after[name] for name in ("ETag", "LastModified", "Metadata")
    }
    assert deployment.waiting() == (0, 0, 0)


def test_a_new_calculation_makes_all_outputs_anew(deployment: Deployment) -> None:
    names = [f"in/{number}" for number in range(4)]
    for name in names:
        deployment.put(name, lines(10))
        deployment.send_event(name)
    deployment.drain()
    operate(deployment, "submit", all_of(deployment))
    said = events_of(deployment.drain(env={"CALCULATION": "a + 2 AS b"}))
    assert said.count("done") == 4
    for name in names:
        assert json.loads((deployment.output_of(name) or b"").splitlines()[0])["b"] == 2
    deployment.send_event(names[0])  # late, once more, by S3: the calculation that was asked for last stays
    deployment.drain(env={"CALCULATION": "a + 2 AS b"})
    assert json.loads((deployment.output_of(names[0]) or b"").splitlines()[0])["b"] == 2


@pytest.mark.slow
@pytest.mark.parametrize("backfill_first", [False, True])
def test_an_object_that_was_overwritten_meanwhile_is_transformed_as_it_is_now(
    deployment: Deployment, backfill_first: bool
) -> None:
    deployment.put("a", lines(10))
    operate(deployment, "submit", all_of(deployment))
    if backfill_first:
        deployment.drain()
    deployment.put("a", lines(20))
    deployment.send_event("a", "00B2")
    deployment.drain()
    assert deployment.output_of("a") == transformed(20)
    assert (deployment.waiting(), deployment.dead()) == ((0, 0, 0), [])


@pytest.mark.slow
def test_a_backfill_of_the_newest_stands_against_a_late_event_of_an_older(deployment: Deployment) -> None:
    deployment.put("a", lines(10))
    old = deployment.s3.head_object(Bucket=deployment.input, Key="a")["ETag"].strip('"')
    deployment.put("a", lines(20))
    operate(deployment, "submit", all_of(deployment))
    deployment.drain()
    deployment.send(event_body(deployment.input, "a", old, len(lines(10)), "00A1"))
    said = events_of(deployment.drain())
    assert "superseded" in said
    assert deployment.output_of("a") == transformed(20)


# What goes wrong


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["s3://another-bucket/a"], 1, "S3_INPUT_BUCKET only"),
        (["in/a"], 1, "'in/a' is no prefix: expected s3://"),
        (["BUCKET", "--min-size", "many"], 2, "'many' is not a size such as 64KiB"),
        (["BUCKET", "--since", "soon"], 2, "'soon' is not a time such as 2026-01-31"),
        ([], 2, "Missing argument"),
    ],
)
def test_what_is_wrong_is_told(deployment: Deployment, arguments: list[str], status: int, words: str) -> None:
    given = [all_of(deployment) if word == "BUCKET" else word for word in arguments]
    assert words in operate(deployment, "submit", *given, exit_status=status).stderr


def test_settings_are_needed_but_for_the_calculation(deployment: Deployment) -> None:
    env = {"SQSBatchQueue": None}
    said = operate(deployment, "submit", all_of(deployment), exit_status=1, env=env).stderr
    assert "SQS_BATCH_QUEUE: not set" in said
    assert "CALCULATION" not in said


def test_a_denial_is_told(deployment: Deployment, proxy: Proxy) -> None:
    def rule(request: Request) -> Fault | None:
        return Refuse(403, "AccessDenied") if request.operation == "GetBucket" else None

    proxy.rule = rule
    said = operate(deployment, "submit", all_of(deployment), exit_status=1).stderr
    assert said.splitlines()[-1].startswith("runner: ")


class StoreOfManyObjects(Store):
    """A bucket with 200,000 objects, in pages of 100."""

    def call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        if operation != "list_objects_v2":
            return super().call(operation, **arguments)
        first, moment = int(arguments.get("ContinuationToken", 0)), datetime.now(UTC)
        last = first + 100
        found = [
            {"Key": f"{number:012}", "Size": 1, "ETag": '"0"', "LastModified": moment} for number in range(first, last)
        ]
        return {"Contents": found, "IsTruncated": last < 200_000, "NextContinuationToken": str(last)}


@pytest.mark.slow
def test_memory_stays_flat(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    """A listing of many objects is never held as a whole."""
    operated = open_in_process(deployment, monkeypatch)
    sources = {name: StoreOfManyObjects(name, source.requests) for name, source in operated.sources.items()}
    operated = replace(operated, sources=sources)
    peaks = []
    tracemalloc.start()
    for at, _ in enumerate(Submission(operated, [all_of(deployment)], ObjectFilter(), None, dry_run=True).run()):
        if at in (10, 2000):
            peaks.append(tracemalloc.get_traced_memory()[1])
    tracemalloc.stop()
    assert peaks[1] < peaks[0] + 500_000
