"""Where the rejected lines of a run are kept."""

import os
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from transform.rejects import Reject, to_json_line
from transform.s3 import is_uri
from transform.sinks import Output, Target, remove

REJECTS_SUFFIX = ".rejects.jsonl"


def default_target(target: Target) -> str | None:
    """Return where rejects go by default: beside an output that is a file or an object, else nowhere."""
    if not isinstance(target, str | os.PathLike) or str(target) == "-":
        return None
    if not is_uri(target) and Path(target).exists() and not Path(target).is_file():
        return None
    return f"{target}{REJECTS_SUFFIX}"


class RejectFile:
    """The rejects of a run; there is no file without rejects.

    Args:
        target: A path or URI, or None to keep none.

    Raises:
        OutputError: It cannot be written there; by every method.
    """

    def __init__(self, target: str | None) -> None:
        self._target = target
        self._stack = ExitStack()
        self._output = Output(target) if target is not None else None
        self._count = 0

    def write(self, reject: Reject, line: int) -> None:
        """Keep a line, `line` being its number in the input, from 1 on."""
        self._count += 1
        if self._output:
            self._output.write(to_json_line(reject, line))

    def publish(self) -> bool:
        """Make the file appear; return whether there is one."""
        if self._output is None or not self._count:
            return False
        self._output.publish()
        return True

    def remove_old(self) -> None:
        """Remove the file of an earlier run."""
        if self._target is not None:
            remove(self._target)

    def __enter__(self) -> Self:
        if self._output:
            self._stack.enter_context(self._output)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()
