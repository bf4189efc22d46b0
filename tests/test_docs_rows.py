"""The table of docs/calculations.md that says which options fit which data: each row, on a small file of its kind."""

from __future__ import annotations

import gzip
import json
import re
import shlex
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import ROOT
from tests.support.in_process import run_command
from tests.test_docs import rows_of

if TYPE_CHECKING:
    from pathlib import Path

SAMPLE = ROOT / "transform" / "data" / "cloudtrail.json"
A, B = {"n": 1}, {"n": 2}


def compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def log(group: str, *events: Any) -> str:
    return compact(
        {"messageType": "DATA_MESSAGE", "owner": "1", "logGroup": group, "logStream": "s", "logEvents": events}
    )


SEARCH = {"took": 1, "hits": {"total": {"value": 2}, "hits": [{"_id": "a", **A}, {"_id": "b", **B}]}}
PUSH = {"type": "PushEvent", "repo": {"name": "r"}, "payload": {"commits": [A, B]}, "created_at": "2024"}
CONFIG = {"fileVersion": "1.0", "configSnapshotId": "7", "configurationItems": [A, B]}
DATA: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "JSON lines": (f"{compact(A)}\n{compact(B)}\n", [A, B]),
    "CloudTrail": (SAMPLE.read_text(), json.loads(SAMPLE.read_text())["Records"]),
    "snapshots": (compact(CONFIG), [{"configSnapshotId": "7", **one} for one in (A, B)]),
    "what Firehose": (compact(A) + compact(B), [A, B]),
    "CloudWatch": (
        log("g", A) + log("h", B),
        [{"owner": "1", "logGroup": group, "logStream": "s", **one} for group, one in (("g", A), ("h", B))],
    ),
    "an array": (json.dumps([A, B]), [A, B]),
    "indented": ("\n".join(json.dumps(one, indent=2) for one in (A, B)), [A, B]),
    "answers of an API": ("\n".join(json.dumps({"items": [one], "next": None}, indent=1) for one in (A, B)), [A, B]),
    "an answer of Elasticsearch": (json.dumps(SEARCH, indent=1), SEARCH["hits"]["hits"]),  # type: ignore[index]
    "commits": (compact(PUSH), [{"repo": PUSH["repo"], "created_at": "2024", **one} for one in (A, B)]),
}
ROWS = rows_of(ROOT / "docs" / "calculations.md", "My data are not lines")


def test_every_row_has_data_of_its_kind() -> None:
    assert [data for data, use in ROWS if use != "not with this package" and not kind_of(data)] == []
    assert len(ROWS) == len(DATA) + 1


def kind_of(data: str) -> str | None:
    return next((kind for kind in DATA if data.startswith(kind)), None)


@pytest.mark.parametrize(("data", "use"), [row for row in ROWS if row[1] != "not with this package"])
def test_the_options_fit_the_data(data: str, use: str, tmp_path: Path) -> None:
    text, expected = DATA[kind_of(data) or ""]
    (tmp_path / "in.json.gz").write_bytes(gzip.compress(text.encode()))
    options = [] if use == "no option" else shlex.split(re.findall("`(.*)`", use)[0])
    done = run_command(tmp_path, "run", "in.json.gz", "-", "-q", "-e", "1 AS one", *options)
    assert (done.returncode, done.stderr) == (0, b"")
    assert [json.loads(line) for line in done.stdout.splitlines()] == [{**row, "one": 1} for row in expected]
    assert done.stdout.count(b"\n") == len(expected)
