"""This process: interrupts, memory allocation, and the number of cores that it may use.

An exception that a signal raises at an arbitrary point can break off a rename, an upload or a clean-up halfway. So
after `install_interrupts`, signals are only recorded. `check_interrupts` acts on them, and so does `interruptible`,
which marks a wait that may be cut short. A second signal raises at once. `defer_interrupts` does the same for a run
inside another program, such as a notebook.
"""

import contextlib
import ctypes
import math
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(slots=True)
class _State:
    requested: bool = False
    waiting: bool = False


_state = _State()  # one for the process, as there is one set of signal handlers


def install_interrupts() -> None:
    """Record signals that ask to stop, except those that are ignored already (as by nohup)."""
    _state.requested = _state.waiting = False
    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _note)


@contextlib.contextmanager
def defer_interrupts() -> Iterator[None]:
    """Record Ctrl-C within the context, instead of raising at an arbitrary point.

    If the work ends before it checks for a request, the request is dropped.
    """
    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    _state.requested = _state.waiting = False
    signal.signal(signal.SIGINT, _note)
    try:
        yield
    finally:
        _state.requested = False
        signal.signal(signal.SIGINT, signal.default_int_handler)


def check_interrupts() -> None:
    """Raise KeyboardInterrupt if a stop was requested."""
    if _state.requested:
        raise KeyboardInterrupt


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Raise KeyboardInterrupt at once if a stop is requested within the context, in the main thread.

    In other threads it does nothing: signals are handled by the main thread, which may be busy with something else.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    if signal.getsignal(signal.SIGINT) is _note:
        # Importing polars puts a handler in front of ours, with which a wait would continue after Ctrl-C.
        signal.siginterrupt(signal.SIGINT, True)
    _state.waiting = True
    try:
        check_interrupts()
        yield
    finally:
        _state.waiting = False


def _note(_number: int, _frame: object) -> None:
    if _state.waiting or _state.requested:
        raise KeyboardInterrupt
    _state.requested = True


# From glibc's malloc.h, which mallopt(3) documents.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_TRIM_BYTES = 128 << 20
_MMAP_BYTES = 32 << 20


def keep_freed_memory() -> None:
    """Make the allocator keep the memory of a chunk for the next one.

    By default glibc returns large blocks to the system as soon as they are freed. A run then spends 5 % of its time on
    page faults to get them back, and reading from S3 takes three times as long. Other C libraries are left as they are.

    Example:
        >>> keep_freed_memory()  # once, when a process starts
    """
    with contextlib.suppress(AttributeError, OSError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, _MMAP_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _TRIM_BYTES)


_CGROUP = Path("/sys/fs/cgroup")


def available_cores(cgroup: Path = _CGROUP) -> int:
    """Return how many cores this process may use, by its affinity and by its container's quota (cgroup v2 or v1).

    Args:
        cgroup: Where the control group file system is mounted.

    Example:
        >>> available_cores() >= 1
        True
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(cgroup)
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


def _quota(cgroup: Path) -> float | None:
    try:
        if (cgroup / "cpu.max").exists():
            quota_us, period = (cgroup / "cpu.max").read_text().split()
        else:
            quota_us = (cgroup / "cpu" / "cpu.cfs_quota_us").read_text().strip()
            period = (cgroup / "cpu" / "cpu.cfs_period_us").read_text().strip()
        return float(quota_us) / float(period) if quota_us not in ("max", "-1") else None
    except (OSError, ValueError):
        return None
