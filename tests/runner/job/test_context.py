"""The identity of a calculation includes every setting that changes what is in outputs, and no other."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

import pytest

from runner.job.context import digest_of, load_calculation
from runner.settings import Settings
from transform import CalculationError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

LEAST = {
    "S3_INPUT_BUCKET": "incoming",
    "S3_OUTPUT_BUCKET": "outgoing",
    "SQS_BATCH_QUEUE": "jobs",
    "CALCULATION": "stars * 2 AS twice",
}
IN_OUTPUTS = {
    "calculation": {"CALCULATION": "stars * 3 AS twice"},
    "where": {"WHERE": "stars > 1"},
    "schema_": {"SCHEMA": "stars=Int64"},
    "reject": {"REJECT": "stars < 0"},
    "drop": {"DROP": "name"},
    "select": {"SELECT": "name"},
    "format_": {"FORMAT": "json"},
    "each": {"EACH": "Records"},
    "with_": {"EACH": "Records", "WITH": "account"},
    "max_line_bytes": {"MAX_LINE_BYTES": "1000"},
}
NOT_IN_OUTPUTS = {
    "input_buckets": {"S3_INPUT_BUCKET": "others"},  # the source, which an output has in its metadata, too
    "output_bucket": {"S3_OUTPUT_BUCKET": "others"},
    "queue": {"SQS_BATCH_QUEUE": "others"},
    "region": {"AWS_REGION": "eu-west-1"},
    "output_prefix": {"OUTPUT_PREFIX": "elsewhere/"},
    "input_prefixes": {"INPUT_PREFIX": "raw/"},  # whether there is an output
    "input_suffixes": {"INPUT_SUFFIX": ".jsonl"},
    "output_key": {"OUTPUT_KEY": "{stem}.jsonl"},  # where it is
    "rejects_prefix": {"REJECTS_PREFIX": "elsewhere/"},
    "checkpoint_prefix": {"CHECKPOINT_PREFIX": "elsewhere/"},
    "on_error": {"ON_ERROR": "fail"},  # whether there is an output, as the next two
    "max_rejects": {"MAX_REJECTS": "5"},
    "max_inflation": {"MAX_INFLATION": "5"},
    "part_bytes": {"PART_BYTES": "5MiB"},  # where compressed streams end, but not what is in them
    "range_bytes": {"RANGE_BYTES": "1MiB"},
    "workers": {"WORKERS": "3"},
    "dead_letter_queue": {"DEAD_LETTER_QUEUE": "others"},
    "backfill_queue": {"BACKFILL_QUEUE": "backfill"},
    "backfill_share": {"BACKFILL_QUEUE": "backfill", "BACKFILL_SHARE": "25%"},
    "after": {"AFTER": "delete"},  # what becomes of the input, once the output exists
    "after_tag": {"AFTER": "tag", "AFTER_TAG": "done=yes"},
    "outcome_topic": {"OUTCOME_TOPIC": "arn:aws:sns:eu-west-1:123456789012:topic"},
    "outcome_bus": {"OUTCOME_BUS": "bus"},
    "visibility_timeout_s": {"VISIBILITY_TIMEOUT_S": "60"},
    "max_lease_s": {"MAX_LEASE_S": "600"},
    "max_job_s": {"MAX_JOB_S": "60"},
    "max_attempts": {"MAX_ATTEMPTS": "2"},
    "retry_min_s": {"RETRY_MIN_S": "1"},
    "retry_max_s": {"RETRY_MAX_S": "800"},
    "breaker_failures": {"BREAKER_FAILURES": "9"},
    "poll_wait_s": {"POLL_WAIT_S": "1"},
    "stop_timeout_s": {"STOP_TIMEOUT_S": "9"},
    "progress_s": {"PROGRESS_S": "9"},
    "protect_max_s": {"PROTECT_MAX_S": "99"},
    "health_file": {"HEALTH_FILE": "/tmp/health"},
    "log_level": {"LOG_LEVEL": "debug"},
    "metrics_namespace": {"METRICS_NAMESPACE": "Others"},
}


def digest(variables: Mapping[str, str]) -> str:
    settings = Settings.read({**LEAST, **variables})
    return digest_of(load_calculation(settings), settings, "s3://incoming/a.jsonl")


def test_it_was_considered_for_every_setting() -> None:
    assert Settings.model_fields.keys() <= IN_OUTPUTS.keys() | NOT_IN_OUTPUTS.keys()


@pytest.mark.parametrize("name", IN_OUTPUTS)
def test_what_changes_outputs_changes_the_digest(name: str) -> None:
    assert digest(IN_OUTPUTS[name]) != digest({})


def test_what_does_not_change_outputs_does_not_change_the_digest() -> None:
    digests = {name: digest(NOT_IN_OUTPUTS[name]) for name in NOT_IN_OUTPUTS.keys() & Settings.model_fields.keys()}
    assert {name for name, found in digests.items() if found != digest({})} == set()


def test_rules_reject_lines() -> None:
    settings = Settings.read({**LEAST, "REJECT": "stars < 0: negative stars; stars > 5"})
    with load_calculation(settings).stream(io.BytesIO(b'{"stars":-1}\n{"stars":3}\n{"stars":6}\n')) as stream:
        parts = [(b"".join(part.output), *map(json.loads, b"".join(part.rejects).splitlines())) for part in stream]
    ((output, *rejects),) = parts
    assert output == b'{"stars":3,"twice":6}\n'
    assert [reject["reason"] for reject in rejects] == ["negative stars", "rejected by the rule `stars > 5`"]


def test_a_key_is_part_of_the_digest_and_its_lack_a_fault_of_the_deployment(monkeypatch: pytest.MonkeyPatch) -> None:
    keyed = {"CALCULATION": "HMAC_SHA256(name) AS name"}
    digests = []
    for letter in "ab":
        monkeypatch.setenv("HMAC_KEY", 40 * letter)
        digests.append(digest(keyed))
    assert len({*digests}) == 2
    monkeypatch.delenv("HMAC_KEY")
    with pytest.raises(CalculationError, match="HMAC_KEY"):
        load_calculation(Settings.read({**LEAST, **keyed}))


def test_a_changed_module_is_another_deployment(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("from helper import get\ndef calculation(line):\n    return get(line)\n")
    (tmp_path / "helper.py").write_text("def get(line):\n    return {'x': 1}\n")
    first = digest({"CALCULATION": f"{tmp_path}/mine.py"})
    assert digest({"CALCULATION": f"{tmp_path}/mine.py"}) == first
    (tmp_path / "helper.py").write_text("def get(line):\n    return {'x': 2}\n")
    assert digest({"CALCULATION": f"{tmp_path}/mine.py"}) != first
