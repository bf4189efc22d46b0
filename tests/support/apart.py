"""Functions that run in another process, so that a test goes on, and says what was computed, if that process dies."""

from __future__ import annotations

import multiprocessing
import resource
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess

_EXIT_TIMEOUT_S = 30


class DiedError(Exception):
    """The process ended within a call."""


class Apart:
    """A function in a process that is started by the first call, and again by the next one after it has died.

    Args:
        function: A function of a module.
        memory: The maximum number of bytes that the process allocates.
    """

    def __init__(self, function: Callable[..., Any], memory: int) -> None:
        self._function = function
        self._memory = memory
        self._process: BaseProcess | None = None
        self._pipe: Connection[Any, Any]

    def __call__(self, *arguments: Any) -> Any:
        """Return what the function returns, or raise what it raises.

        Raises:
            DiedError: The process died; the message has its exit code, which is the negative number of a signal.
        """
        if self._process is None:
            self._start()
        assert self._process is not None
        try:
            self._pipe.send(arguments)
            returned, found = self._pipe.recv()
        except (EOFError, ConnectionError):
            process, self._process = self._process, None
            self._pipe.close()
            process.join(_EXIT_TIMEOUT_S)
            raise DiedError(f"the process ended with exit code {process.exitcode}") from None
        except (
            BaseException
        ):  # such as a timeout of the test: the answer to this call would be taken for the next one's
            self._process.kill()
            self._process = None
            self._pipe.close()
            raise
        if not returned:
            raise found
        return found

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, self._function, self._memory), daemon=True)
        self._process.start()
        theirs.close()


def _serve(pipe: Connection[Any, Any], function: Callable[..., Any], memory: int) -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    while True:
        try:
            arguments = pipe.recv()
        except EOFError:
            return
        try:
            answer = True, function(*arguments)
        except Exception as error:  # noqa: BLE001 - the caller's process raises it
            answer = False, error
        pipe.send(answer)
