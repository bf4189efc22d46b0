"""Runs simulations by their seeds, and reduces one that fails to what its failure needs.

`make simulate` runs it: `python -m tests.simulation.simulate --seeds 10000`. It prints how far it has come every half
minute, and its totals at the end, also if it is ended by SIGINT (Ctrl+C) or SIGTERM.
"""

from __future__ import annotations

import argparse
import gc
import os
import signal
import sys
import time
from collections import Counter
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import dataclass, field, replace
from itertools import islice
from multiprocessing import get_context
from typing import TYPE_CHECKING

from tests.simulation.invariants import Violation, check
from tests.simulation.kernel import Stuck
from tests.simulation.scenario import Scenario, scenario_of
from tests.simulation.trace import Trace
from tests.simulation.world import World

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_S = 6 * 3600.0
MAX_EVENTS = 60_000
_CHUNK = 20
_PROGRESS_S = 30.0
_LOOK_S = 1.0  # after a signal, no chunk is begun after this time
_SHRINK_S = 60.0
_COVERED_SEEDS = 400
PROTOCOL_MODULES = (
    *("runner/job/job.py", "runner/job/attempt.py", "runner/job/publish.py", "runner/job/identity.py"),
    *("runner/job/upload.py", "runner/job/rejects.py", "runner/job/cancellation.py", "runner/job/control.py"),
    *("runner/job/checkpoint.py", "runner/job/input_object.py", "runner/job/afterwards.py"),
    *("runner/worker/loop.py", "runner/worker/intake.py", "runner/worker/receiver.py", "runner/worker/leases.py"),
    *("runner/worker/crew.py", "runner/worker/active_job.py", "runner/worker/disposal.py"),
    *("runner/worker/settlement.py", "runner/worker/settlement_requests.py", "runner/worker/breaker.py"),
    "runner/worker/notifications.py",
    *("runner/aws/queue.py", "runner/aws/bucket.py", "runner/aws/ecs.py", "runner/aws/dead_letters.py"),
    *("runner/ops/submit.py", "runner/ops/cancel.py", "runner/ops/redrive.py", "runner/ops/sweep.py"),
    "transform/io/s3_writer.py",
)


@dataclass(frozen=True, slots=True)
class Result:
    """What has become of a simulation.

    Attributes:
        problem: What does not hold, "" if all does.
        events: How many events there were.
        faults: The faults that happened.
        story: The lines of the trace, if it was kept.
    """

    problem: str
    events: int
    faults: tuple[tuple[str, int], ...] = ()
    story: tuple[str, ...] = ()


def simulate(scenario: Scenario, *, traced: bool = False) -> Result:
    """Run one simulation."""
    world = World(scenario, Trace(kept=traced))
    problem = ""
    try:
        world.run(max_s=MAX_S, max_events=MAX_EVENTS)
        if world.kernel.failure is not None:
            process, error = world.kernel.failure
            problem = f"{process.name} has failed by a bug: {type(error).__name__}: {error}"
        else:
            check(world)
    except (Stuck, Violation) as error:
        problem = str(error)
    finally:
        world.close()
    return Result(problem, world.kernel.events, tuple(world.faults.happened), tuple(world.trace.lines()))


def shrink(scenario: Scenario, *, max_s: float = _SHRINK_S) -> Scenario:
    """Return a scenario that fails as well, with as few actions and faults as can be found in the time."""
    deadline = time.monotonic() + max_s

    def fails(one: Scenario) -> bool:
        return time.monotonic() < deadline and bool(simulate(one).problem)

    for simpler in (
        replace(scenario, workers=1),
        replace(scenario, jobs_at_once=1),
        replace(scenario, duplicates=0.0),
        replace(scenario, skew_s=0.0),
        replace(scenario, final_submit=False),
    ):
        scenario = simpler if simpler != scenario and fails(simpler) else scenario
    changed = True
    while changed and time.monotonic() < deadline:
        changed = False
        for at in reversed(range(len(scenario.actions))):
            if fails(fewer := scenario.without_actions([at])):
                scenario, changed = fewer, True
        for fault in reversed(simulate(scenario).faults):
            if fails(fewer := replace(scenario, left_out=scenario.left_out | {fault})):
                scenario, changed = fewer, True
    return scenario


def report(seed: int, scenario: Scenario | None = None) -> str:
    """Return a failure as a text: the seed, what does not hold, and the story of the reduced scenario."""
    scenario = shrink(scenario or scenario_of(seed))
    result = simulate(scenario, traced=True)
    facts = (
        f"{scenario.workers} workers with {scenario.jobs_at_once} jobs at once; ETags of outputs are "
        f"{'unique' if scenario.unique_etags else 'hashes of their content'}"
    )
    return "\n".join([f"seed {seed}: {result.problem}", facts, *result.story])


def run_seeds(start: int, stop: int) -> tuple[int, int, list[tuple[int, str]]]:
    """Return how many simulations and events there were, and the seeds that failed with their problems."""
    failed, events = [], 0
    for seed in range(start, stop):
        result = simulate(scenario_of(seed))
        events += result.events
        if result.problem:
            failed.append((seed, result.problem))
    return stop - start, events, failed


def start_process() -> None:
    """Let this process of a pool leave signals to the one that started it, and spare the collector its work."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    # Without this, what was imported is looked at in every collection, which takes a tenth of the time.
    gc.collect()
    gc.freeze()


def _chunks(start: int, seeds: int | None) -> Iterator[tuple[int, int]]:
    at = start
    while seeds is None or at < start + seeds:
        stop = at + _CHUNK if seeds is None else min(at + _CHUNK, start + seeds)
        yield at, stop
        at = stop


def _covered() -> str:
    """Return how much of the branches of the protocol's modules some simulations go through."""
    from coverage import Coverage  # noqa: PLC0415 - only here

    cover = Coverage(data_file=None, branch=True, include=list(PROTOCOL_MODULES), concurrency=["greenlet", "thread"])
    with cover.collect():
        run_seeds(0, _COVERED_SEEDS)
    lines = []
    for module in PROTOCOL_MODULES:
        numbers = cover._analyze(module).numbers
        if numbers.n_branches:
            share = numbers.n_executed_branches / numbers.n_branches
            lines.append(f"  {module:<37} {numbers.n_executed_branches:4} of {numbers.n_branches:4} {share:5.0%}")
    return "\n".join(lines)


@dataclass
class _Run:
    """A run of many simulations.

    Attributes:
        begun: When it began, by the monotonic clock.
        done: How many simulations there were.
        events: How many events there were in them.
        failed: The seeds that have failed, with their problems.
        signal: The signal that ends the run, 0 for none.
    """

    begun: float = field(default_factory=time.monotonic)
    done: int = 0
    events: int = 0
    failed: list[tuple[int, str]] = field(default_factory=list)
    signal: int = 0

    def run(self, chunks: Iterator[tuple[int, int]], processes: int, seconds: float) -> None:
        """Run chunks of simulations in several processes, until the last one, the end of the time or a signal."""
        told_s = self.begun
        with ProcessPoolExecutor(processes, get_context("spawn"), initializer=start_process) as pool:
            running = {pool.submit(run_seeds, *chunk) for chunk in islice(chunks, 2 * processes)}
            while running:
                finished, running = wait(running, _LOOK_S, FIRST_COMPLETED)
                is_over = self.signal or self.seconds >= seconds
                for future in finished:
                    self._add(*future.result())
                    if not is_over and (chunk := next(chunks, None)):
                        running.add(pool.submit(run_seeds, *chunk))
                if self.signal:
                    running = {future for future in running if not future.cancel()}
                if time.monotonic() - told_s >= _PROGRESS_S:
                    told_s = time.monotonic()
                    print(self, flush=True)

    def _add(self, done: int, events: int, failed: list[tuple[int, str]]) -> None:
        self.done, self.events, self.failed = self.done + done, self.events + events, self.failed + failed
        for seed, problem in failed:
            print(f"seed {seed}: {problem}", flush=True)

    @property
    def seconds(self) -> float:
        """How long it has run."""
        return time.monotonic() - self.begun

    def end(self, number: int, _frame: object = None) -> None:
        """Begin no more simulations, because of a signal."""
        self.signal = number

    def __str__(self) -> str:
        """Return how far it has come."""
        each_s = f"{self.done / self.seconds:,.0f} a second"
        return f"{self.done:,} schedules in {self.seconds:,.0f} s: {each_s}, {len(self.failed)} failed"


def main() -> int:
    """Run simulations on all cores, and print the failures and the numbers."""
    parser = argparse.ArgumentParser(description="Simulate the worker, with faults.")
    parser.add_argument("--seeds", type=int, help="how many simulations; by default as many as fit the minutes")
    parser.add_argument("--minutes", type=float, default=0.0, help="how long")
    parser.add_argument("--start", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="run this one alone, and print its story")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="by default one for each core")
    parser.add_argument("--no-coverage", action="store_true", help="leave the coverage out")
    options = parser.parse_args()
    if options.seed is not None:
        result = simulate(scenario_of(options.seed), traced=True)
        print("\n".join(result.story), result.problem or "all holds", sep="\n")
        return bool(result.problem)
    seeds = options.seeds or (None if options.minutes else 1000)
    run = _Run()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, run.end)
    print(f"simulates from seed {options.start} on, in {options.processes} processes", flush=True)
    run.run(_chunks(options.start, seeds), options.processes, 60 * options.minutes or float("inf"))
    if not run.signal:
        for seed, _ in run.failed[:1]:
            print(f"\n{report(seed)}\n")
    kinds = Counter(problem.split(" of ")[0][:60] for _, problem in run.failed)
    print(f"{run}, {run.events:,} events" + "".join(f"\n  {count} × {kind}" for kind, count in kinds.most_common()))
    if run.signal:
        return 128 + run.signal
    if not options.no_coverage:
        print(f"branches that {_COVERED_SEEDS} schedules go through:\n{_covered()}")
    return bool(run.failed)


if __name__ == "__main__":
    sys.exit(main())
