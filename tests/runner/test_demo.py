"""The demo with a calculation and a file of one's own, and an AWS that stays for other commands."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import boto3

from tests.conftest import COMMAND_TIMEOUT_S, ROOT

if TYPE_CHECKING:
    from pathlib import Path

FUNCTION = """
def calculation(json_obj):
    json_obj["double"] = json_obj["a"] * 2
    return json_obj
"""
ENVIRONMENT = {name: text for name, text in os.environ.items() if not name.startswith("AWS_")} | {
    "PYTHONPATH": str(ROOT),
    "PYTHONUNBUFFERED": "1",
}


def start(here: Path, *arguments: str) -> subprocess.Popen[str]:
    (here / "old.py").write_text(FUNCTION)
    (here / "mine.jsonl").write_text('{"a":1.50}\n')
    command = [sys.executable, "-m", "runner", "demo", "--input", "mine.jsonl", *arguments]
    return subprocess.Popen(
        command, cwd=here, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_a_calculation_and_a_file_of_ones_own(tmp_path: Path) -> None:
    demo = start(tmp_path, "--calculation", "old.py")
    said, errors = demo.communicate(timeout=COMMAND_TIMEOUT_S)
    assert demo.returncode == 0, errors
    assert "s3://demo-output/output/raw/mine.jsonl begins with:" in said
    assert '{"a":1.5,"double":3.0}' in said


def test_a_calculation_that_fails_is_told_without_an_output(tmp_path: Path) -> None:
    demo = start(tmp_path, "--calculation", "nothing AS b")
    said, errors = demo.communicate(timeout=COMMAND_TIMEOUT_S)
    assert demo.returncode == 1
    assert "there is no column `nothing`" in said
    assert "Traceback" not in said + errors


def test_it_stays_until_it_is_interrupted(tmp_path: Path) -> None:
    demo = start(tmp_path, "--calculation", "old.py", "--stay")
    try:
        assert demo.stdout
        said = ""
        while "runner status" not in said:
            line = demo.stdout.readline()
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
        assert s3.list_objects_v2(Bucket=exported["s3OutputBucket"])["KeyCount"] == 1
        demo.send_signal(signal.SIGINT)
        _, errors = demo.communicate(timeout=COMMAND_TIMEOUT_S)
    finally:
        demo.kill()
    assert demo.returncode == 0
    assert errors == ""
