"""Where the rejected lines of a run are kept."""

import hashlib
import os
from contextlib import ExitStack
from typing import Self

from transform.s3 import is_uri
from transform.sinks import Output, Target, is_stream, remove

REJECTS_SUFFIX = ".rejects.jsonl"
_MAX_NAME_BYTES = 255


def default_target(target: Target) -> str | None:
    """Return where rejects go by default: beside an output that is a file or an object, else nowhere."""
    if is_stream(target):
        return None
    directory, name = os.path.split(str(target))
    if not is_uri(target) and len(os.fsencode(name + REJECTS_SUFFIX)) > _MAX_NAME_BYTES:
        name = f"{name[: _MAX_NAME_BYTES // 8]}~{hashlib.sha256(os.fsencode(name)).hexdigest()[:16]}"
    return os.path.join(directory, name + REJECTS_SUFFIX)  # noqa: PTH118 - a URI is no Path


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
        self._whole = True

    def write(self, line: bytes) -> None:
        """Keep a line, given as JSON."""
        self._count += 1
        if self._output:
            self._whole = False
            self._output.write(line)
            self._whole = True

    def publish(self) -> bool:
        """Make the file appear; return whether there is one."""
        if self._output is None or not self._count or not self._whole:
            return False
        self._output.publish()
        return True

    def remove_old(self) -> None:
        """Remove the file of an earlier run."""
        if self._target is not None and self._output is not None and not self._output.streams:
            remove(self._target)

    def __enter__(self) -> Self:
        if self._output:
            self._stack.enter_context(self._output)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()
