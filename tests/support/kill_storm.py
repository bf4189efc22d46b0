"""A run again and again in one process, each time with a signal at another moment: `storm HOW SOURCE TARGET TIMES`.

How is `command`, or `library`: a call of `Calculation.run`, as in a notebook. A process of its own for each run would
spend nearly all of its time on importing, where a signal can do no harm. Prints what went wrong, a line each, and how
often which exit status came.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.example import ARGUMENTS, CALCULATION
from tests.support.places import OLD
from transform.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable

PUBLISHED, FAILED, INTERRUPTED = 0, 1, 130
_SIGNALS = {"command": (signal.SIGINT, signal.SIGTERM), "library": (signal.SIGINT,)}
_WARM_UP_RUNS = 3


def run_command(source: Path, target: Path) -> int:
    """Run the command in this process; return its exit status, 1 where it shows a traceback, as Python does."""
    sys.argv = ["transform", "run", str(source), str(target), *ARGUMENTS]
    try:
        main()
    except SystemExit as ended:
        return int(ended.code or 0)
    except Exception:  # noqa: BLE001 # all that Python would show as a traceback
        traceback.print_exc()
        return FAILED


def run_library(source: Path, target: Path) -> int:
    """Call the library; return the exit status that the command would have for what comes of it."""
    try:
        CALCULATION.run(source, target)
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception:  # noqa: BLE001 # as above
        traceback.print_exc()
        return FAILED
    return PUBLISHED


def interrupt(seconds: float, number: signal.Signals) -> None:
    """Send this process a signal in a while."""
    time.sleep(seconds)
    os.kill(os.getpid(), number)


def judge(status: int, target: Path, expected: bytes) -> str | None:
    """Return what is wrong with what a run has left, None if nothing is."""
    content = target.read_bytes()
    others = [path for path in target.parent.iterdir() if path != target]
    for path in others:
        path.unlink()
    if others:
        return f"{status}: left {len(others)} temporary files behind"
    if content not in (OLD, expected):
        return f"{status}: published something else: {content[:200]!r}"
    if status not in (PUBLISHED, INTERRUPTED):
        return f"{status}: is not an exit status for this"
    if content != (expected if status == PUBLISHED else OLD):
        return f"{status}: told the opposite of what it did"
    return None


def storm(how: str, source: Path, target: Path, times: int) -> None:
    """Run so many times."""
    run: Callable[[Path, Path], int] = {"command": run_command, "library": run_library}[how]
    for _ in range(_WARM_UP_RUNS):
        started = time.perf_counter()
        assert run(source, target) == PUBLISHED
        duration = time.perf_counter() - started
    expected, moments, statuses = target.read_bytes(), random.Random(1), Counter[int]()
    for _ in range(times):
        target.write_bytes(OLD)
        delay, number = moments.uniform(0, 1.3 * duration), moments.choice(_SIGNALS[how])
        thread = threading.Thread(target=interrupt, args=(delay, number))
        try:
            thread.start()
            status = run(source, target)
            thread.join()
        except KeyboardInterrupt:  # it came before the run or after, and so hit this function
            thread.join()
            continue
        statuses[status] += 1
        if wrong := judge(status, target, expected):
            print(wrong)
    print(dict(statuses))


if __name__ == "__main__":
    storm(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
