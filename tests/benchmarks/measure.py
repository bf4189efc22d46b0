"""Measures whole processes: wall time, CPU time with their children's, peak resident memory."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import IO

ROOT = Path(__file__).parents[2]
HELPER = Path(__file__).with_name("rusage.py")
STDERR_SHOWN_CHARS = 2000
WATCH_INTERVAL_S = 0.05


class UnexpectedExitError(Exception):
    """A measured command ended with another status than it should have."""


@dataclass(frozen=True)
class Usage:
    """What one process used."""

    wall_s: float
    cpu_s: float  # user and system, with the children that it waited for
    peak_rss_bytes: int  # of the largest single process among these


def median_usage(usages: Sequence[Usage]) -> Usage:
    """Return the median of each number by itself."""
    return Usage(
        wall_s=median(usage.wall_s for usage in usages),
        cpu_s=median(usage.cpu_s for usage in usages),
        peak_rss_bytes=int(median(usage.peak_rss_bytes for usage in usages)),
    )


def measure(
    command: Sequence[str],
    *,
    stdin: IO[bytes] | None = None,
    expected_exit: int = 0,
    watch: Callable[[int], None] | None = None,
) -> Usage:
    """Run a command to its end and return what it used.

    Args:
        command: The command.
        stdin: What it reads; nothing by default.
        expected_exit: The status that it should end with.
        watch: Called every now and then while it runs, with the number of the process that it is a child of.

    Raises:
        UnexpectedExitError: it did not end with the expected status; the message shows what it said.
    """
    with tempfile.TemporaryDirectory(prefix="bench-report-") as folder:
        report, said = Path(folder, "report"), Path(folder, "stderr")
        helper = [sys.executable, "-I", "-S", str(HELPER), str(report), *command]
        # for `python -m transform` where it is not installed, and for rivals that are installed elsewhere
        python_path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        environment = {**os.environ, "PYTHONPATH": python_path}
        with said.open("wb") as stderr, session(helper, stdin, stderr, environment) as process:
            wait(process, watch)
        numbers = report.read_text().split() if report.exists() else ["0", "0", "0", str(process.returncode)]
        if int(numbers[3]) != expected_exit:
            complaint = said.read_text(errors="replace")[-STDERR_SHOWN_CHARS:]
            raise UnexpectedExitError(
                f"exit status {numbers[3]} where {expected_exit} was expected: {shlex.join(command)}\n{complaint}"
            )
    return Usage(wall_s=float(numbers[0]), cpu_s=float(numbers[1]), peak_rss_bytes=int(numbers[2]) * 1024)


def wait(process: subprocess.Popen[bytes], watch: Callable[[int], None] | None) -> None:
    """Wait for a process, and have it watched meanwhile."""
    while True:
        try:
            process.wait(WATCH_INTERVAL_S if watch else None)
        except subprocess.TimeoutExpired:
            assert watch is not None
            watch(process.pid)
        else:
            return


@contextmanager
def session(
    command: list[str], stdin: IO[bytes] | None, stderr: IO[bytes], environment: dict[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a process that takes its whole family with it when the benchmark is interrupted."""
    process = subprocess.Popen(
        command,
        stdin=stdin or subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=stderr,
        env=environment,
        start_new_session=True,
    )
    try:
        yield process
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
