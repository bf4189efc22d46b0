"""Whatever breaks the protocol is noticed: by simulations within a stated number of schedules, or by a test."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.mutation_list import BY_SIMULATION, MUTATIONS
from tests.simulation.mutations import ROOT, Mutation

NAMES = [mutation.name for mutation in MUTATIONS]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=NAMES)
def test_a_change_can_be_made(mutation: Mutation) -> None:
    source = Path(ROOT / mutation.file).read_text()
    changed = mutation.apply(source)
    assert changed != source
    compile(changed, mutation.file, "exec")
    assert bool(mutation.seeds) != bool(mutation.test)


def test_there_are_enough() -> None:
    assert len(set(NAMES)) == len(NAMES) >= 45
    assert len(BY_SIMULATION) >= 18


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", NAMES)
def test_a_change_is_noticed(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.simulation.mutations", name],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
