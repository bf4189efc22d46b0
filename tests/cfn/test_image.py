"""The image's tag, and what `make image`, `push`, `deploy-…` and so on say when something is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cfn.__main__ import cli
from cfn.image import tag_of
from tests.conftest import ROOT
from tests.support.in_process import run_command

REGION = {"AWS_DEFAULT_REGION": "eu-central-1"}
KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
COMMANDS = [
    "push",
    "deploy fargate YES=1 VPC=vpc-1 SUBNETS=subnet-1",
    "status",
    "smoke",
    "destroy CONFIRM=jsonl-transform",
]


@pytest.fixture
def tools(tmp_path: Path) -> dict[str, str]:
    """An environment without Docker and without credentials."""
    directory = tmp_path / "bin"
    directory.mkdir()
    settings = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
    return {"PATH": str(directory), "HOME": str(tmp_path), "AWS_EC2_METADATA_DISABLED": "true", **settings}


def run(command: str, env: dict[str, str]) -> str:
    """Run a command that fails, in this process, and return what it says."""
    done = run_command(ROOT, *command.split(), env={**dict.fromkeys(os.environ), **env}, program=cli)
    assert (done.returncode, done.stdout) == (2, b""), done.stderr
    assert b"Traceback" not in done.stderr
    return done.stderr.decode()


def program(env: dict[str, str], name: str, body: str) -> None:
    path = Path(env["PATH"], name)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_region_is_asked_for(tools: dict[str, str], command: str) -> None:
    assert run(command, {**tools, **KEYS}).startswith("AWS_REGION is not set: ")


@pytest.mark.parametrize("command", COMMANDS)
def test_who_one_is_has_to_be_known(tools: dict[str, str], command: str) -> None:
    assert run(command, {**tools, **REGION}).startswith("AWS does not know who you are: log in first")


def test_profile_that_is_not_there(tools: dict[str, str]) -> None:
    said = run("status AWS_PROFILE=other", {**tools, **REGION})
    assert said.startswith("AWS does not know who you are")
    assert "(other)" in said


@pytest.mark.parametrize("command", ["image", "image ENGINE=podman"])
def test_an_engine_is_asked_for(tools: dict[str, str], command: str) -> None:
    engine = "podman" if "podman" in command else "docker"
    assert run(command, tools).startswith(f"there is no {engine} command here: install Docker")
    program(tools, engine, "exit 1")
    assert run(command, tools).startswith(f"{engine} does not answer: ")


@pytest.mark.parametrize(("architecture", "platform"), [("X86_64", "linux/amd64"), ("ARM64", "linux/arm64")])
def test_image_is_built(tools: dict[str, str], tmp_path: Path, architecture: str, platform: str) -> None:
    program(tools, "podman", f'echo "$*" >> {tmp_path}/asked')
    command = f"image ENGINE=podman ARCHITECTURE={architecture} BASE=mirror/python:3 REPOSITORY=mine"
    exported = {"PIP_INDEX_URL": "https://user:secret@index", "ARCHITECTURE": "exported", "BASE": "exported"}
    done = subprocess.run(
        [sys.executable, "-m", "cfn", *command.split()],
        cwd=ROOT,
        env={**tools, **exported},
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    _, build, tag = (tmp_path / "asked").read_text().splitlines()
    name = f"mine:{tag_of(architecture, 'mirror/python:3')}"
    assert build.startswith(f"build --platform {platform} --file docker/Dockerfile --tag {name} ")
    assert build.endswith("--build-arg BASE=mirror/python:3 --build-arg PIP_INDEX_URL --format docker .")
    assert tag == f"tag {name} mine:latest"
    assert "secret" not in done.stderr


def test_another_calculation_is_another_tag(tmp_path: Path) -> None:
    for name in ("docker", "transform", "runner"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "requirements-run.lock", "requirements-build.lock"):
        shutil.copy(ROOT / name, tmp_path)

    first = tag_of("X86_64", root=tmp_path)
    assert len(first) == 12
    for name in ("runner/module.pyc", "transform/native/libkernel.so", "transform/native/powers.h"):
        (tmp_path / name).write_bytes(b"not part of it")
    assert tag_of("X86_64", root=tmp_path) == first
    (tmp_path / "docker" / "calculation.py").write_text("calculation = None\n")
    second = tag_of("X86_64", root=tmp_path)
    (tmp_path / "docker" / "regions.csv").write_text("state,region\n")
    third = tag_of("X86_64", root=tmp_path)
    others = {tag_of("ARM64", root=tmp_path), tag_of("X86_64", "mirror/python:3", root=tmp_path)}
    assert len({first, second, third, *others}) == 5
