"""A job process has the settings that its worker has read, without reading them again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from runner.errors import SettingsError
from runner.job.process import settings_of_job
from runner.setting_values import CheckedSettings
from runner.settings import Settings
from runner.worker.job_child import environ_of_jobs
from tests.support.fakes import LEAST

DERIVED = ("is_reference", "keeps_keys", "key_template")
VARIABLES: list[dict[str, str]] = [
    {},
    {"CALCULATION": "scores.py:scores", "s3InputBucket": "incoming,second", "MAX_JOB_S": "0.5"},
    {"INPUT_PREFIX": 'in/,"a,b"', "INPUT_SUFFIX": ".jsonl,.gz", "OUTPUT_KEY": "{dir}{stem}.scored.jsonl"},
    {"SCHEMA": "stars=Float64; ü=String", "WHERE": "stars > 3", "DROP": "a,b", "SELECT": "c", "OUTPUT_PREFIX": ""},
    {"CALCULATION": "'\U0001f600\n' AS face", "WORKERS": "7", "MAX_REJECTS": "5%", "HEALTH_FILE": "/run/health"},
    {"EACH": "Records", "WITH": "account, detail.region", "FORMAT": "JSON", "AFTER": "tag", "BACKFILL_SHARE": "30%"},
]


def plain(value: Any) -> Any:
    """Return a value as a job process has it."""
    return dict(value) if isinstance(value, Mapping) else str(value) if isinstance(value, Path) else value


@pytest.mark.parametrize("variables", VARIABLES)
def test_a_job_process_has_what_its_worker_has_read(variables: dict[str, str]) -> None:
    read = Settings.read({**LEAST, **variables})
    passed = settings_of_job(environ_of_jobs(read, {"WORKERS": "many"}))
    assert isinstance(passed, CheckedSettings)
    for name in Settings.model_fields:
        assert getattr(passed, name) == plain(getattr(read, name)), name
    assert [getattr(passed, name) for name in DERIVED] == [getattr(read, name) for name in DERIVED]
    assert passed.backfill_processes(10) == read.backfill_processes(10)


def test_settings_too_long_for_a_variable_are_read_again() -> None:
    environ = {**LEAST, "CALCULATION": f"'{'x' * 119_000}' AS x"}
    assert environ_of_jobs(Settings.read(environ), environ) == environ
    assert settings_of_job(environ) == Settings.read(environ)
    with pytest.raises(SettingsError, match=r"^WORKERS: found 'many'"):
        settings_of_job({**environ, "WORKERS": "many"})
