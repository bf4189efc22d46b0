"""The operator's commands, in this process or as child processes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from click.testing import CliRunner

from runner.cli import cli, main
from tests.conftest import environment_with
from tests.support.in_process import run_command

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.support.deployment import Deployment

OPERATE_TIMEOUT_S = 90


def command_of(*arguments: str) -> list[str]:
    """Return what to execute."""
    return [sys.executable, "-m", "runner", *arguments]


def environment_of(deployment: Deployment, changes: Mapping[str, str | None] | None = None) -> dict[str, str]:
    """Return the environment of an operator, who knows of no calculation."""
    return environment_with({**deployment.env, "CALCULATION": None, "SCHEMA": None, **(changes or {})})


def operate(
    deployment: Deployment, *arguments: str, exit_status: int = 0, env: Mapping[str, str | None] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, in this process."""
    changes = {**deployment.env, "CALCULATION": None, "SCHEMA": None, **(env or {})}
    ended = run_command(Path.cwd(), *arguments, env=changes, program=main)
    done = subprocess.CompletedProcess(ended.args, ended.returncode, ended.stdout.decode(), ended.stderr.decode())
    return _as_expected(done, exit_status)


def operate_apart(
    deployment: Deployment, *arguments: str, exit_status: int = 0, env: Mapping[str, str | None] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end as a child process, which takes a second and a half."""
    done = subprocess.run(
        command_of(*arguments),
        env=environment_of(deployment, env),
        capture_output=True,
        text=True,
        timeout=OPERATE_TIMEOUT_S,
        check=False,
    )
    return _as_expected(done, exit_status)


def _as_expected(done: subprocess.CompletedProcess[str], exit_status: int) -> subprocess.CompletedProcess[str]:
    assert done.returncode == exit_status, (done.stdout[-3000:], done.stderr[-3000:])
    assert "Traceback" not in done.stderr
    return done


def asked(deployment: Deployment, *arguments: str) -> Any:
    """Run a command in this process, which is quicker, and return what it said as JSON."""
    env: dict[str, str | None] = {**deployment.env, "CALCULATION": None, "SCHEMA": None}
    result = CliRunner().invoke(cli, [*arguments, "--json"], env=env, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)
