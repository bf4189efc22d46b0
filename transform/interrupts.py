"""Requests to stop: noted whenever they come, heeded where nothing is half done.

An exception that a signal raises wherever it lands can cut a rename, an upload or a clean-up in two. So once `install_interrupts`
has been called, signals are only noted; `check_interrupts` heeds them, and so does `interruptible`, in which a wait may be cut short. A
second one does not wait. `defer_interrupts` does the same for a run in a program of somebody else's, such as a notebook.
"""

import contextlib
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(slots=True)
class _State:
    requested: bool = False
    waiting: bool = False


_state = _State()  # signals are the process's, and so is this


def install_interrupts() -> None:
    """Have signals that ask to stop noted, but for those that were to be ignored (as by nohup)."""
    _state.requested = _state.waiting = False
    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _note)


@contextlib.contextmanager
def defer_interrupts() -> Iterator[None]:
    """Have Ctrl-C noted meanwhile, where Python would raise wherever it lands. What is done by then stays done."""
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
    """Raise KeyboardInterrupt at once if a stop is requested meanwhile."""
    if signal.getsignal(signal.SIGINT) is _note:
        # With the handler that polars puts before ours when it is imported, a wait would go on after Ctrl-C.
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
