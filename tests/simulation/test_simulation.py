"""The worker, simulated with faults: what must hold does, whatever happens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from tests.simulation.mutations import ROOT
from tests.simulation.scenario import Kind, scenario_of
from tests.simulation.simulate import report, simulate

CHUNKS = 8
FEW, MANY = 200, 10_000


def check(seeds: range) -> None:
    for seed in seeds:
        if simulate(scenario_of(seed)).problem:
            pytest.fail(report(seed), pytrace=False)


@pytest.mark.parametrize("chunk", range(2))
def test_what_must_hold_does(chunk: int) -> None:
    check(range(chunk, FEW, 2))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_what_must_hold_does_in_many_schedules(chunk: int) -> None:
    check(range(FEW + chunk, FEW + MANY, CHUNKS))


def test_a_seed_decides_everything() -> None:
    for seed in range(8):
        assert simulate(scenario_of(seed), traced=True) == simulate(scenario_of(seed), traced=True)


def test_a_seed_decides_everything_in_any_process() -> None:
    """Given a schedule that deletes several objects, in processes in which sets have different orders."""
    command = [sys.executable, "-m", "tests.simulation.simulate", "--seed", "20000071"]
    stories = [
        subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True)
        for seed in ("0", "1")
    ]
    assert b"delete_object rejects/a.jsonl" in stories[0].stdout
    assert stories[0].stdout == stories[1].stdout


def test_a_run_that_is_ended_prints_its_totals() -> None:
    options = ["--minutes", "60", "--processes", "1", "--no-coverage"]
    command = [sys.executable, "-m", "tests.simulation.simulate", *options]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        assert run.stdout.readline().startswith("simulates from seed 0 on")
        run.send_signal(signal.SIGTERM)
        printed, errors = run.communicate()
    assert (run.returncode, errors) == (128 + signal.SIGTERM, "")
    assert "schedules in" in printed.splitlines()[-1]
    assert "0 failed" in printed.splitlines()[-1]


def test_every_kind_of_action_is_drawn() -> None:
    drawn = {action.kind for seed in range(300) for action in scenario_of(seed).actions}
    assert drawn == set(Kind)


def test_what_is_left_out_of_a_scenario_does_not_happen() -> None:
    scenario = next(one for seed in range(100) if len((one := scenario_of(seed)).actions) > 3)
    assert len(scenario.without_actions([0, 2]).actions) == len(scenario.actions) - 2
