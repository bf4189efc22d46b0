"""The policies allow each request of the code on the keys that it uses, and nothing on other keys."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from hypothesis import assume, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from runner.errors import SettingsError
from runner.job.keys import cancellation_key, checkpoint_key, is_reserved, output_key, rejects_folder
from runner.permissions import ACTIONS, OPERATOR_ACTIONS, Resources, policy
from runner.settings import Settings
from tests.support.iam import allows, matches

if TYPE_CHECKING:
    from collections.abc import Mapping

IN, OUT, QUEUE = "arn:aws:s3:::in", "arn:aws:s3:::out", "arn:aws:sqs:eu-central-1:111122223333:jobs"
GET, PUT, DELETE = "s3:GetObject", "s3:PutObject", "s3:DeleteObject"
TAGGING, ABORT = "s3:PutObjectTagging", "s3:AbortMultipartUpload"
ON_OBJECTS = {GET, PUT, DELETE, TAGGING, ABORT, "s3:GetObjectTagging", "s3:GetObjectVersion", "s3:PutObjectAcl"}

WORKER = {
    "inputs": {GET, "s3:GetObjectTagging"},
    "outputs": {GET, PUT, TAGGING, ABORT},  # PutObject is also for the parts of an upload, and to complete it
    "rejects": {PUT, DELETE},
    "index of rejects": {GET, PUT},
    "checkpoints": {GET, PUT, DELETE},
    "cancellations": set(),  # which are listed
}
OPERATOR = {
    "inputs": {GET},
    "outputs": {GET, ABORT},
    "rejects": {DELETE},
    "index of rejects": {GET},
    "checkpoints": {GET, DELETE},
    "cancellations": {PUT, DELETE},
}
"""What the code requests of the objects of each kind."""

PREFIXES = st.sampled_from(
    ["output/", "rejects/", "checkpoints/", "a", "b/c/", "*", "a*/", "?", "${*}/", "ä/"]
) | st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Z"]), min_size=1, max_size=6)
KEYS = st.sampled_from(["in.jsonl", "raw/2026/a b.jsonl", "*", "output/x", "rejects/x", "checkpoints/x"]) | st.text(
    min_size=1, max_size=20
)


def settings_of(output: str = "output/", rejects: str = "rejects/", checkpoints: str = "checkpoints/") -> Settings:
    least = {
        "S3_INPUT_BUCKET": "in-bucket",
        "S3_OUTPUT_BUCKET": "out-bucket",
        "SQS_BATCH_QUEUE": "q",
        "CALCULATION": "1 AS a",
    }
    prefixes = {"OUTPUT_PREFIX": output, "REJECTS_PREFIX": rejects, "CHECKPOINT_PREFIX": checkpoints}
    return Settings.read(least | prefixes)


def resources_of(settings: Settings, input_prefix: str = "") -> Resources:
    return Resources(
        IN,
        OUT,
        QUEUE,
        f"{QUEUE}-dead",
        input_prefix=input_prefix,
        output_prefix=settings.output_prefix,
        rejects_prefix=settings.rejects_prefix,
        checkpoint_prefix=settings.checkpoint_prefix,
    )


def objects_of(settings: Settings, key: str) -> dict[str, str]:
    """Return the ARNs of all objects that a job for an input has, by their kinds."""
    folder = rejects_folder(settings, "in-bucket", key, "0123")
    return {
        "inputs": f"{IN}/{key}",
        "outputs": f"{OUT}/{output_key(settings, 'in-bucket', key)}",
        "rejects": f"{OUT}/{folder}00000001.jsonl",
        "index of rejects": f"{OUT}/{folder}index.json",
        "checkpoints": f"{OUT}/{checkpoint_key(settings, '0123')}",
        "cancellations": f"{OUT}/{cancellation_key(settings, '4567')}",
    }


@hypothesis_settings(max_examples=50)
@given(st.just("") | PREFIXES, PREFIXES, PREFIXES, KEYS)
def test_what_is_needed_is_allowed(output: str, rejects: str, checkpoints: str, key: str) -> None:
    try:
        settings = settings_of(output, rejects, checkpoints)
    except SettingsError:
        assume(False)
    assume(not is_reserved(settings, "in-bucket", key))
    for actions, wanted in ((ACTIONS, WORKER), (OPERATOR_ACTIONS, OPERATOR)):
        document = policy(resources_of(settings), actions)
        for kind, arn in objects_of(settings, key).items():
            assert all(allows(document, action, arn) for action in wanted[kind]), (kind, arn)
        assert all(allows(document, "s3:ListBucket", bucket) for bucket in (IN, OUT)), (
            "HeadBucket, and 404 rather than 403"
        )
        assert allows(document, "s3:ListBucket", OUT, s3_prefix=settings.checkpoint_prefix)


@hypothesis_settings(max_examples=50)
@given(st.just("") | PREFIXES, PREFIXES, PREFIXES, KEYS)
def test_everything_else_is_denied(output: str, rejects: str, checkpoints: str, key: str) -> None:
    try:
        settings = settings_of(output, rejects, checkpoints)
    except SettingsError:
        assume(False)
    of_kind = {"rejects": settings.rejects_prefix, "checkpoints": settings.checkpoint_prefix}
    if settings.output_prefix:
        of_kind["outputs"] = settings.output_prefix
    for actions, wanted in ((ACTIONS, WORKER), (OPERATOR_ACTIONS, OPERATOR)):
        document = policy(resources_of(settings), actions)
        kind = next((kind for kind, prefix in of_kind.items() if key.startswith(prefix)), "others")
        may = {"others": set(), "checkpoints": wanted["checkpoints"] | wanted["cancellations"]} | {
            "outputs": wanted["outputs"],
            "rejects": wanted["rejects"] | wanted["index of rejects"],
        }
        allowed = may[kind] | (set() if settings.output_prefix else wanted["outputs"])
        assert {action for action in ON_OBJECTS if allows(document, action, f"{OUT}/{key}")} == allowed
        assert {action for action in ON_OBJECTS if allows(document, action, f"{IN}/{key}")} == wanted["inputs"]
        for stranger in ("arn:aws:s3:::outer", "arn:aws:s3:::inner"):
            assert not any(allows(document, action, f"{stranger}/{key}") for action in ON_OBJECTS)
            assert not allows(document, "s3:ListBucket", stranger)


@pytest.mark.parametrize("actions", [ACTIONS, OPERATOR_ACTIONS])
def test_outputs_are_never_deleted(actions: dict[str, tuple[str, ...]]) -> None:
    for output in ("", "output/"):
        document = policy(resources_of(settings_of(output)), actions)
        for key in ("output/a", "a", "rejects", "checkpoint", "rejects-of-another/a", "other/checkpoints/a"):
            assert not allows(document, DELETE, f"{OUT}/{key}")


def test_inputs_of_a_prefix() -> None:
    for actions in (ACTIONS, OPERATOR_ACTIONS):
        document = policy(resources_of(settings_of(), "raw/"), actions)
        assert allows(document, GET, f"{IN}/raw/a")
        assert not allows(document, GET, f"{IN}/other/a")
        assert allows(document, "s3:ListBucket", IN)


def test_several_buckets_and_prefixes() -> None:
    for actions in (ACTIONS, OPERATOR_ACTIONS):
        resources = Resources((IN, f"{IN}2"), OUT, QUEUE, f"{QUEUE}-dead", input_prefix=("raw/", "new/"))
        document = policy(resources, actions)
        for bucket in (IN, f"{IN}2"):
            assert allows(document, "s3:ListBucket", bucket)
            assert allows(document, GET, f"{bucket}/raw/a")
            assert allows(document, GET, f"{bucket}/new/a")
            assert not allows(document, GET, f"{bucket}/other/a")
        assert not allows(document, GET, f"{IN}3/raw/a")
    without = Resources((IN,), OUT, QUEUE, f"{QUEUE}-dead", input_prefix=())
    assert policy(without) == policy(Resources(IN, OUT, QUEUE, f"{QUEUE}-dead"))


def test_output_keys_need_no_other_permissions() -> None:
    settings = settings_of().model_copy(update={"output_key": "{date:%Y}/{stem}.jsonl"})
    document = policy(resources_of(settings))
    key = output_key(settings, "in-bucket", "raw/a.json", datetime(2026, 1, 31, tzinfo=UTC))
    assert all(allows(document, action, f"{OUT}/{key}") for action in WORKER["outputs"])


def test_the_prefixes_are_those_of_the_settings_unless_others_are_given() -> None:
    assert Resources(IN, OUT, QUEUE, f"{QUEUE}-dead") == resources_of(settings_of())


@pytest.mark.parametrize(("rejects", "checkpoints"), [("", "checkpoints/"), ("rejects/", "")])
def test_a_prefix_to_delete_under_is_never_empty(rejects: str, checkpoints: str) -> None:
    resources = Resources(IN, OUT, QUEUE, f"{QUEUE}-dead", rejects_prefix=rejects, checkpoint_prefix=checkpoints)
    with pytest.raises(ValueError, match="expected a rejects_prefix and a checkpoint_prefix"):
        policy(resources)


BACKFILL = f"{QUEUE}-backfill"


@pytest.mark.parametrize("actions", [ACTIONS, OPERATOR_ACTIONS], ids=["worker", "operator"])
def test_the_queue_of_backfills_takes_what_the_main_one_takes(actions: Mapping[str, tuple[str, ...]]) -> None:
    without = policy(Resources(IN, OUT, QUEUE, f"{QUEUE}-dead"), actions)
    shared = policy(Resources(IN, OUT, QUEUE, f"{QUEUE}-dead", backfill_queue=BACKFILL), actions)
    resources = Resources(
        IN, OUT, QUEUE, f"{QUEUE}-dead", backfill_queue=BACKFILL, backfill_dead_letter_queue=f"{BACKFILL}-dead"
    )
    apart = policy(resources, actions)
    for action in actions["queue"]:
        assert not allows(without, action, BACKFILL)
        assert allows(shared, action, BACKFILL)
    for action in actions["dead_letter_queue"]:
        assert allows(shared, action, f"{BACKFILL}-dead") is False
        assert allows(apart, action, f"{BACKFILL}-dead")


def test_what_decides() -> None:
    assert matches("a*c/?", "abc/d")
    assert matches("a${*}${?}${$}", "a*?$")
    assert not matches("a${*}", "ab")
    assert not matches("a.c", "abc")
    allowed = {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": [IN]}
    like, if_exists = ({"Condition": {f"StringLike{end}": {"s3:prefix": "a/*"}}} for end in ("", "IfExists"))
    for condition, answers in (
        ({}, (True, True, True)),
        (like, (False, True, False)),
        (if_exists, (True, True, False)),
    ):
        document = {"Statement": [allowed | condition]}
        found = [
            allows(document, "S3:LISTBUCKET", IN, **asked) for asked in ({}, {"s3_prefix": "a/b"}, {"s3_prefix": "b"})
        ]
        assert tuple(found) == answers
    with pytest.raises(ValueError, match="unknown in a statement"):
        allows({"Statement": [allowed | {"Effect": "Deny"}]}, "s3:ListBucket", IN)
