"""A command run in this process, which saves the second that another one takes to import polars.

It has pipes for its standard streams, a current directory, an environment and signal handlers of its own, and leaves
all of those as they were. What is about processes, such as signals, terminals and memory, needs a real one.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import io
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

from transform.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

BUG = 1
"""The exit status of Python where an exception is not caught."""


class _Pipes:
    """Pipes for the three standard streams: what is to be read is written, and what is written read, by threads."""

    def __init__(self, stdin: bytes) -> None:
        self._stdin = stdin
        self.written: dict[str, bytes] = {}

    @contextlib.contextmanager
    def connected(self) -> Iterator[None]:
        """Give them to this process; `written` is complete afterwards."""
        ends = {name: os.pipe() for name in ("stdin", "stdout", "stderr")}
        threads = [threading.Thread(target=self._feed, args=(ends["stdin"][1],))]
        threads += [threading.Thread(target=self._drain, args=(name, ends[name][0])) for name in ("stdout", "stderr")]
        for thread in threads:
            thread.start()
        streams = {
            "stdin": io.TextIOWrapper(io.FileIO(ends["stdin"][0])),
            "stdout": io.TextIOWrapper(io.FileIO(ends["stdout"][1], "w"), encoding="utf-8", write_through=True),
            "stderr": io.TextIOWrapper(
                io.FileIO(ends["stderr"][1], "w"), encoding="utf-8", errors="backslashreplace", write_through=True
            ),
        }
        try:
            with contextlib.ExitStack() as replaced:
                for name, stream in streams.items():
                    replaced.enter_context(mock.patch.object(sys, name, stream))
                yield
        finally:
            for stream in streams.values():
                stream.close()
            for thread in threads:
                thread.join()

    def _feed(self, end: int) -> None:
        with contextlib.suppress(BrokenPipeError), open(end, "wb", buffering=0) as pipe:
            pipe.write(self._stdin)

    def _drain(self, name: str, end: int) -> None:
        with open(end, "rb") as pipe:
            self.written[name] = pipe.read()


@contextlib.contextmanager
def _left_as_it_was(directory: Path) -> Iterator[None]:
    """Give back what the command sets for its process, and forget the modules that it has loaded from the directory."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    threshold, modules = gc.get_threshold(), {*sys.modules}
    importlib.invalidate_caches()
    try:
        with contextlib.chdir(directory):
            yield
    finally:
        gc.set_threshold(*threshold)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for name in sys.modules.keys() - modules:
            file = getattr(sys.modules[name], "__file__", None)
            if file and Path(file).is_relative_to(directory):
                del sys.modules[name]


def run_command(
    directory: Path,
    *args: object,
    stdin: bytes = b"",
    env: Mapping[str, str | None] | None = None,
    program: Callable[[], object] = main,
) -> subprocess.CompletedProcess[bytes]:
    """Run a program in a directory, by default the command `transform`.

    A variable of `env` that is None is taken out of the environment.
    """
    environment = {name: value for name, value in {**os.environ, **(env or {})}.items() if value is not None}
    name = program.__module__.partition(".")[0]
    words = [name, *(os.fspath(arg) if isinstance(arg, Path) else str(arg) for arg in args)]
    pipes = _Pipes(stdin)
    status: object = 0
    with (
        _left_as_it_was(directory),
        mock.patch.dict(os.environ, environment, clear=True),
        mock.patch.multiple(sys, argv=words, path=[str(directory), *sys.path], excepthook=sys.excepthook),
        pipes.connected(),
    ):
        try:
            program()
        except SystemExit as end:
            status = end.code
        except Exception as error:  # noqa: BLE001 # as Python itself does
            sys.excepthook(type(error), error, error.__traceback__)
            status = BUG
    assert isinstance(status, int)
    return subprocess.CompletedProcess(words, status, pipes.written["stdout"], pipes.written["stderr"])
