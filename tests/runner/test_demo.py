"""The demo shows the worker to somebody without an account: on the sample, and on a file and calculation of theirs."""

from __future__ import annotations

import gzip
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import boto3
import pytest

from tests.conftest import environment_with
from tests.support.trial import lines

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow  # all together

TIMEOUT_S = 100
CALCULATION = (
    "import polars as pl\nfrom transform import Calculation\ncalculation = Calculation(twice=pl.col('stars') * 2)\n"
)


def demo(cwd: Path, *args: str, calculation: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "runner", "demo", *args], cwd=cwd, env=environment_with({"CALCULATION": calculation}),
        capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
    )  # fmt: skip


@pytest.fixture
def here(tmp_path: Path) -> Path:
    content = lines('{"name":"Café","stars":4}', "nope", '{"stars":5}')
    (tmp_path / "mine.jsonl").write_bytes(content)
    (tmp_path / "mine.jsonl.gz").write_bytes(gzip.compress(content))
    (tmp_path / "calc.py").write_text(CALCULATION)
    return tmp_path


def test_the_sample(here: Path) -> None:
    result = demo(here)
    assert (result.returncode, result.stderr) == (0, "")
    assert '"review_score":' in result.stdout
    assert "runner demo YOUR.jsonl" in result.stdout


@pytest.mark.parametrize("name", ["mine.jsonl", "mine.jsonl.gz"])
def test_a_file_and_a_calculation_of_ones_own(here: Path, name: str) -> None:
    result = demo(here, name, calculation="calc.py")
    assert (result.returncode, result.stderr) == (0, "")
    assert f"s3://demo-output/output/raw/{name} begins with" in result.stdout
    assert '{"name":"Café","stars":4,"twice":8}' in result.stdout
    assert "line 2 (offset 27): not valid JSON" in result.stdout
    assert f"run {name} output-{name} -c calc.py\n" in result.stdout


def test_a_calculation_that_does_not_fit_is_a_dead_letter(here: Path) -> None:
    result = demo(here, "mine.jsonl", calculation="starz * 2 AS twice")
    assert (result.returncode, result.stderr) == (1, "")
    assert "is a dead letter" in result.stdout
    assert "there is no column `starz`" in result.stdout


def test_it_stays_until_it_is_interrupted(here: Path) -> None:
    stays = subprocess.Popen(
        [sys.executable, "-u", "-m", "runner", "demo", "mine.jsonl", "--stay"], cwd=here,
        env=environment_with({"CALCULATION": "calc.py"}), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert stays.stdout
        said = ""
        while "runner status" not in said:
            line = stays.stdout.readline()
            assert line, said
            said += line
        exported = dict(re.findall(r"(\w+)=(\S+)", "".join(re.findall(r"export (.*\n)", said))))
        s3 = boto3.client(
            "s3",
            endpoint_url=exported["AWS_ENDPOINT_URL"],
            aws_access_key_id=exported["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=exported["AWS_SECRET_ACCESS_KEY"],
            region_name=exported["AWS_DEFAULT_REGION"],
        )
        assert "output/raw/mine.jsonl" in {
            found["Key"] for found in s3.list_objects_v2(Bucket=exported["s3OutputBucket"])["Contents"]
        }
        stays.send_signal(signal.SIGINT)
        _, errors = stays.communicate(timeout=TIMEOUT_S)
    finally:
        stays.kill()
    assert (stays.returncode, errors) == (0, "")


@pytest.mark.parametrize(
    ("args", "calculation", "error"),
    [
        (["mine.jsonl"], None, "CALCULATION: not set, expected what to do to mine.jsonl"),
        (["absent.jsonl"], "calc.py", "absent.jsonl: no such file"),
    ],
)
def test_what_is_missing_is_told(here: Path, args: list[str], calculation: str | None, error: str) -> None:
    result = demo(here, *args, calculation=calculation)
    assert result.returncode == 1
    assert result.stderr.startswith(f"runner: {error}")
    assert result.stderr.count("\n") == 1
