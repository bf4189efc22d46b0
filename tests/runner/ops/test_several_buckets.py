"""Several input buckets, and output keys by a template: the worker and the commands mean the same objects."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from runner.ops.deployment import Deployment as Operated
from tests.runner.ops.test_status import put_dead
from tests.support.deployment import event_body, events_of
from tests.support.example import lines, transformed
from tests.support.operating import asked, operate

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.deployment import Deployment

pytestmark = pytest.mark.slow

DATED = "{bucket}/{date:%Y/%m/%d}/{stem}.done.jsonl.gz"


@pytest.fixture
def second(deployment: Deployment, s3: Any) -> str:
    """The name of the second input bucket of the deployment, of whose objects nobody is told."""
    s3.put_bucket_notification_configuration(Bucket=deployment.input, NotificationConfiguration={})
    name = f"{deployment.input}-2"
    s3.create_bucket(Bucket=name)
    deployment.env["s3InputBucket"] = f"{deployment.input},{name}"
    return name


def put(deployment: Deployment, bucket: str, *keys: str, rows: int = 10) -> None:
    for key in keys:
        deployment.s3.put_object(Bucket=bucket, Key=key, Body=lines(rows))


def submit(deployment: Deployment, *buckets: str, options: tuple[str, ...] = ()) -> dict[str, Any]:
    return dict(asked(deployment, "submit", *(f"s3://{bucket}/" for bucket in buckets), *options))


def ended(said: list[dict[str, Any]]) -> list[str]:
    return sorted(word for word in events_of(said) if word in {"done", "duplicate", "cancelled", "failed"})


def test_each_bucket_is_submitted_and_has_its_outputs(deployment: Deployment, second: str) -> None:
    put(deployment, deployment.input, "a", rows=10)
    put(deployment, second, "a", "b", rows=20)
    told = submit(deployment, deployment.input, second)
    assert (told["objects"], told["left_out"]) == (3, {})
    assert ended(deployment.drain()) == ["done"] * 3
    places = {f"{deployment.input}/a", f"{second}/a", f"{second}/b"}
    assert {*deployment.stored_keys("output/")} == {f"output/{place}" for place in places}
    assert deployment.content(f"output/{deployment.input}/a") == transformed(10)
    assert deployment.content(f"output/{second}/a") == transformed(20)
    assert submit(deployment, second)["objects"] == 2
    assert ended(deployment.drain()) == ["duplicate"] * 2


def test_keys_with_a_date_are_the_same_at_each_submission(deployment: Deployment, second: str) -> None:
    deployment.env["OUTPUT_KEY"] = DATED
    put(deployment, second, "in/a.jsonl", "in/b.jsonl.gz")
    modified = deployment.s3.head_object(Bucket=second, Key="in/a.jsonl")["LastModified"]
    submit(deployment, second)
    assert ended(deployment.drain()) == ["done"] * 2
    keys = deployment.stored_keys("output/")
    assert keys[0] == f"output/{second}/{modified:%Y/%m/%d}/a.done.jsonl.gz"
    submit(deployment, second)
    assert ended(deployment.drain()) == ["duplicate"] * 2
    assert deployment.stored_keys("output/") == keys
    uri = f"s3://{second}/in/a.jsonl"
    (told,) = asked(deployment, "cancel", uri)["cancelled"]
    assert (told["source"], told["published"]) == (uri, True)


def test_a_submission_goes_on_in_the_right_bucket(deployment: Deployment, second: str, tmp_path: Path) -> None:
    put(deployment, deployment.input, "a", "b")
    put(deployment, second, "a")
    file = tmp_path / "resume.json"
    options = ("--resume-file", str(file))
    submit(deployment, deployment.input, second, options=options)
    assert json.loads(file.read_text())["last"] == {f"s3://{deployment.input}/": "b", f"s3://{second}/": "a"}
    put(deployment, second, "b")
    assert submit(deployment, deployment.input, second, options=options)["objects"] == 1


def test_what_the_filter_excludes_is_left_out(deployment: Deployment, second: str) -> None:
    deployment.env["INPUT_PREFIX"] = "raw/"
    put(deployment, second, "raw/a", "other/a")
    told = submit(deployment, second)
    assert (told["objects"], told["left_out"]) == (1, {"without INPUT_PREFIX and INPUT_SUFFIX": 1})


def test_a_collision_is_a_dead_letter_that_can_be_moved_back(deployment: Deployment, second: str) -> None:
    """Given that an operator removes the output that is not wanted."""
    deployment.env["OUTPUT_KEY"] = "{key}"
    for bucket, rows in ((deployment.input, 10), (second, 20)):
        put(deployment, bucket, "a", rows=rows)
        submit(deployment, bucket)
        deployment.drain()
    assert deployment.content("output/a") == transformed(10)
    (cause,) = asked(deployment, "status")["causes"]
    assert cause["example"] == f"s3://{second}/a"
    assert cause["reason"].startswith(f"its output key is taken: s3://{deployment.output}/output/a is the output of")
    deployment.s3.delete_object(Bucket=deployment.output, Key="output/a")
    (moved,) = asked(deployment, "redrive", "--reason", "output key is taken")["moved"]
    assert moved["count"] == 1
    assert ended(deployment.drain()) == ["done"]
    assert deployment.content("output/a") == transformed(20)


def test_letters_of_each_bucket_are_moved_back_and_others_stay(deployment: Deployment, second: str) -> None:
    put_dead(deployment, "a", "some reason")
    for bucket in (second, "another"):
        put_dead(deployment, "a", "some reason", event_body(bucket, "a", "0", 5, "00A1"))
    told = asked(deployment, "redrive", "--all")
    assert [cause["count"] for cause in (*told["moved"], *told["foreign"])] == [2, 1]


def test_the_bucket_of_what_is_cancelled_is_named(deployment: Deployment, second: str) -> None:
    put(deployment, second, "a")
    names = f"{deployment.input}, {second}"
    for name in ("a", "s3://another/a", f"s3://{second}/"):
        said = operate(deployment, "cancel", name, exit_status=1).stderr
        assert f"{name}: expected s3://BUCKET/KEY: the input buckets are {names}" in " ".join(said.split())
    submit(deployment, second)
    (told,) = asked(deployment, "cancel", f"s3://{second}/a")["cancelled"]
    assert told["published"] is False
    assert ended(deployment.drain()) == ["cancelled"]


def test_what_is_submitted_is_of_an_input_bucket(deployment: Deployment, second: str) -> None:
    said = operate(deployment, "submit", "s3://another/", exit_status=1).stderr
    assert f"which is {deployment.input}, {second}" in " ".join(said.split())
    assert "expected s3://BUCKET/PREFIX" in operate(deployment, "submit", "raw/", exit_status=1).stderr


def test_a_bucket_that_is_not_there_ends_the_worker(deployment: Deployment) -> None:
    deployment.env["s3InputBucket"] += ",test-nowhere"
    process = deployment.start("--drain")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "there is no bucket test-nowhere" in errors


def test_the_commands_know_each_bucket(deployment: Deployment, second: str) -> None:
    operated = Operated.open({**deployment.env, "CALCULATION": "1 AS a"})
    assert [*operated.sources] == [deployment.input, second]
