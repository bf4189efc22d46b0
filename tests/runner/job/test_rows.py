"""Jobs on objects whose rows are not lines: interrupted in the middle of an array, and continued."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from runner.errors import SettingsError
from runner.job.protocol import JobResult
from runner.settings import Settings
from tests.support.jobs import KEY, Free, Jobs, Killed

if TYPE_CHECKING:
    from tests.support.proxy import Proxy

PAD = "x" * 8000
ROWS = 3000  # 24 MB: four parts


@pytest.mark.parametrize("workers", [1, 2])
def test_a_job_goes_on_within_an_array(jobs: Jobs, proxy: Proxy, workers: int) -> None:
    rows = workers * ROWS  # several threads may finish parts together, which one checkpoint notes
    texts = [json.dumps({"a": number, "pad": PAD}, indent=2) for number in range(rows)]
    texts[2500] = '{"a": 1 "b": 2}'
    jobs.deployment.put(KEY, b"[\n" + ",\n".join(texts).encode() + b"\n]\n")
    jobs.changes |= {"CALCULATION": "a + 1 AS b", "SCHEMA": "a=Int64", "FORMAT": "json"}
    outcome, offset, attempts = None, 0, 0
    while outcome is None:
        since, control = len(proxy.requests), Free(lives=2)
        with suppress(Killed):
            outcome = jobs.do(again=attempts > 0, control=control, workers=workers)
        reads = [one for one in proxy.requests[since:] if (one.operation, one.key) == ("GetObject", KEY)]
        assert min(one.first_byte for one in reads) >= offset, "nothing before a checkpoint is read again"
        offset, attempts = max(control.offsets), attempts + 1
    assert (outcome.kind, attempts > 1) == (JobResult.DONE, True)
    lines = [f'{{"a": {number},"pad": "{PAD}","b":{number + 1}}}\n' for number in range(rows)]
    assert jobs.output() == "".join(lines[:2500] + lines[2501:]).encode()
    assert (outcome.summary["lines_in"], outcome.summary["rejected"]) == (rows, 1)


def test_a_job_takes_the_elements_of_arrays(jobs: Jobs) -> None:
    first, second = b'{"account": "7", "Records": [{"a": 1},\n {"a": 2}]}', b'{"account": "8", "Records": [{"a": 3}]}'
    jobs.deployment.put(KEY, first + second)
    jobs.changes |= {"CALCULATION": "a + 1 AS b", "SCHEMA": "a=Int64", "FORMAT": "json"}
    outcome = jobs.do(EACH="Records", WITH="account")
    assert outcome.kind is JobResult.DONE
    assert jobs.output() == (
        b'{"account":"7","a": 1,"b":2}\n{"account":"7","a": 2,"b":3}\n{"account":"8","a": 3,"b":4}\n'
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"FORMAT": "csv"}, "FORMAT: found 'csv', expected `lines` or `json`"),
        ({"EACH": "a,b"}, "EACH: found 'a,b', expected the path of an array"),
        ({"EACH": "a", "WITH": "a..b"}, "WITH: found 'a..b', expected paths of members"),
        ({"WITH": "a"}, "WITH: found 'a', expected EACH to be set, too"),
        (
            {"EACH": "r", "WITH": "a,b.a"},
            "WITH: found 'a,b.a', expected members with different names, and two would be",
        ),
    ],
)
def test_settings_of_rows_that_are_wrong(given: dict[str, str], message: str) -> None:
    least = {"S3_INPUT_BUCKET": "incoming", "S3_OUTPUT_BUCKET": "outgoing", "SQS_BATCH_QUEUE": "q"}
    with pytest.raises(SettingsError, match="^" + message.replace(".", r"\.")):
        Settings.read(least | {"CALCULATION": "1 AS a"} | given)
