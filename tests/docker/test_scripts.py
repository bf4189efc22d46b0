"""What the scripts of `make image`, `push`, `deploy-…`, `smoke` and `destroy` say when something is missing."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT

TOOLS = ["bash", "dirname", "git", "find", "sort", "cut"]


@pytest.fixture
def tools(tmp_path: Path) -> dict[str, str]:
    """An environment with neither Docker nor the AWS CLI."""
    directory = tmp_path / "bin"
    directory.mkdir()
    for name in TOOLS:
        found = shutil.which(name)
        assert found
        (directory / name).symlink_to(found)
    return {"PATH": str(directory), "HOME": str(tmp_path)}


def _run(script: str, env: dict[str, str], *, cwd: Path = ROOT) -> str:
    done = subprocess.run(
        ["bash", *script.split()], cwd=cwd, env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    return line


def _program(env: dict[str, str], name: str, body: str) -> None:
    program = Path(env["PATH"], name)
    program.write_text(f"#!/bin/bash\n{body}\n")
    program.chmod(0o755)


@pytest.mark.parametrize("kind", ["fargate", "ec2"])
def test_a_network_is_asked_for(tools: dict[str, str], kind: str) -> None:
    said = _run(f"cfn/stack.sh deploy {kind}", tools)
    assert said == (f"VPC is not set: the VPC to work in, as in make deploy-{kind} VPC=vpc-… SUBNETS=subnet-…,subnet-…")
    assert _run(f"cfn/stack.sh deploy {kind}", {**tools, "VPC": "vpc-1"}).startswith("SUBNETS is not set: ")


STACK_OF_ARM = """case $* in
    *pVPCId*) echo vpc-1 ;; *pSubnetIds*) echo subnet-1,subnet-2 ;; *pArchitecture*) echo ARM64 ;;
    *sts*) ;; *) exit 1 ;;
esac"""


def test_network_and_architecture_of_a_stack_stay(tools: dict[str, str]) -> None:
    _program(tools, "aws", STACK_OF_ARM)
    env = {**tools, "AWS_REGION": "eu-central-1"}
    said = _run("cfn/stack.sh deploy fargate", env)
    assert said.startswith("IMAGE is not set: "), "the last thing that is asked for"
    assert said == _run("cfn/stack.sh deploy fargate", {**env, "ARCHITECTURE": "ARM64"}), "whose image has that tag"
    assert said != _run("cfn/stack.sh deploy fargate", {**env, "ARCHITECTURE": "X86_64"})


@pytest.mark.parametrize("command", ["deploy fargate", "status", "smoke", "destroy"])
def test_the_aws_cli_is_asked_for(tools: dict[str, str], command: str) -> None:
    said = _run(f"cfn/stack.sh {command}", {**tools, "VPC": "vpc-1", "SUBNETS": "subnet-1,subnet-2"})
    assert said.startswith("there is no aws command here: install the AWS CLI")


def test_a_region_is_asked_for(tools: dict[str, str]) -> None:
    _program(tools, "aws", "exit 1")
    assert _run("cfn/stack.sh status", tools).startswith("AWS_REGION is not set: ")


def test_who_one_is_has_to_be_known(tools: dict[str, str]) -> None:
    _program(tools, "aws", "exit 1")
    said = _run("cfn/stack.sh smoke", {**tools, "AWS_REGION": "eu-central-1"})
    assert said.startswith("AWS does not know who you are: ")


@pytest.mark.parametrize("command", ["build", "push"])
def test_an_engine_is_asked_for(tools: dict[str, str], command: str) -> None:
    assert _run(f"docker/image.sh {command}", tools).startswith("there is no docker command here: install Docker")
    _program(tools, "docker", "exit 1")
    assert _run(f"docker/image.sh {command}", tools).startswith("docker does not answer: ")
    assert "expected X86_64 or ARM64" in _run(f"docker/image.sh {command}", {**tools, "ARCHITECTURE": "arm"})


def test_another_calculation_is_another_tag(tmp_path: Path) -> None:
    for name in ("docker", "transform", "runner"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "requirements-run.lock", "requirements-build.lock"):
        shutil.copy(ROOT / name, tmp_path)

    def tag() -> str:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", ". docker/common.sh; image_tag"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return done.stdout.strip()

    first = tag()
    assert len(first) == 12
    for name in ("runner/module.pyc", "transform/native/libkernel.so", "transform/native/powers.h"):
        (tmp_path / name).write_bytes(b"not part of it")
    assert tag() == first
    (tmp_path / "docker" / "calculation.py").write_text("calculation = None\n")
    second = tag()
    (tmp_path / "docker" / "regions.csv").write_text("state,region\n")
    assert len({first, second, tag()}) == 3
