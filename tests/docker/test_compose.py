"""docker/compose.yaml, its services run here as plain processes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.conftest import ROOT, environment_with, ministack
from tests.support.deployment import WORKER_TIMEOUT_S

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

DOCKER = ROOT / "docker"
SAMPLE = ROOT / "sample_data" / "yelp_businesses.json"


@pytest.fixture
def services() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())
    return dict(loaded["services"])


@pytest.fixture
def emulator(scratch: Path) -> Iterator[str]:
    with ministack(scratch / "log") as endpoint:
        assert endpoint
        yield endpoint


def test_the_emulator_is_that_of_the_tests(services: dict[str, Any]) -> None:
    locked = re.search(r"^ministack==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert locked
    assert services["aws"]["image"] == f"${{EMULATOR:-ministackorg/ministack:{locked[1]}}}"


def test_an_object_that_is_uploaded_is_transformed(services: dict[str, Any], emulator: str) -> None:
    setup, worker = services["setup"], services["worker"]
    (mounted,) = setup["volumes"]
    script, inside, _ = mounted.split(":")
    assert setup["entrypoint"] == ["python3", inside]
    for _ in range(2):  # `up` runs it again
        _run([sys.executable, str(DOCKER / script)], _environment(setup, emulator))
    environment = _environment(worker, emulator)
    bucket, output = environment["S3_INPUT_BUCKET"], environment["S3_OUTPUT_BUCKET"]
    content = SAMPLE.read_bytes()
    for part in (
        f"curl --upload-file {SAMPLE.relative_to(ROOT)}",
        f"/{bucket}/yelp.json",
        f"/{output}/output/yelp.json",
    ):
        assert part in (DOCKER / "compose.yaml").read_text()
    put = urllib.request.Request(f"{emulator}/{bucket}/yelp.json", data=content, method="PUT")
    urllib.request.urlopen(put, timeout=30).close()
    _run([sys.executable, "-m", "runner", "worker", "--drain"], environment | {"POLL_WAIT_S": "1"})
    with urllib.request.urlopen(f"{emulator}/{output}/output/yelp.json", timeout=30) as found:
        assert found.read().count(b',"review_score":') == content.count(b"\n")


def _environment(service: Mapping[str, Any], endpoint: str) -> dict[str, str]:
    """Return what a service has in its environment, the image's own variables included."""
    told = {name: str(value) for name, value in service["environment"].items()}
    assert told["AWS_ENDPOINT_URL"] == "http://aws:4566"
    unset: dict[str, str | None] = {name: None for name in os.environ if name.startswith("AWS_")}
    given = {"CALCULATION": str(DOCKER / "calculation.py"), **told, "AWS_ENDPOINT_URL": endpoint}
    return environment_with(unset | given)


def _run(command: list[str], environment: dict[str, str]) -> None:
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=WORKER_TIMEOUT_S, check=False
    )
    assert done.returncode == 0, (done.stdout, done.stderr)
