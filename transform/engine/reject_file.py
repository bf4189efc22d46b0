"""The rejected lines of a run: `RejectFile` writes them to a file, `read_rejects` reads them as a frame.

They are read from the file beside an output, or from the numbered objects that the runner writes.
"""

import hashlib
import itertools
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from stat import S_ISDIR
from typing import Any, Self

import msgspec
import polars as pl

from transform.errors import InputError
from transform.io.chunks import Chunk, read_chunks
from transform.io.conflicts import located, mode_at
from transform.io.outputs import Output, Target, is_stream, remove
from transform.io.s3 import filesystem, is_uri, translate_errors
from transform.io.sources import open_source
from transform.sizes import count_option

REJECTS_SUFFIX = ".rejects.jsonl"
_MAX_NAME_BYTES = 255


def default_target(target: Target) -> str | None:
    """Return the default target of rejects: beside an output that is a file or an object, else None."""
    if is_stream(target):
        return None
    directory, name = os.path.split(str(target))
    if not is_uri(target) and len(os.fsencode(name + REJECTS_SUFFIX)) > _MAX_NAME_BYTES:
        name = f"{name[: _MAX_NAME_BYTES // 8]}~{hashlib.sha256(os.fsencode(name)).hexdigest()[:16]}"
    return os.path.join(directory, name + REJECTS_SUFFIX)  # noqa: PTH118 - a URI is not a Path


class RejectFile:
    """Writes the rejected lines of a run to a file; a run without any leaves no file.

    Args:
        target: A path or URI, or None to keep no rejected lines.

    Raises:
        OutputError: The target cannot be written; by every method.

    Attributes:
        target: As given.
    """

    def __init__(self, target: str | None) -> None:
        self.target = target
        self._stack = ExitStack()
        self._output = Output(target) if target is not None else None
        self._any = False
        self._whole = True

    def write(self, lines: bytes) -> None:
        """Keep one or more lines, given as JSON."""
        self._any = True
        if self._output:
            self._whole = False
            self._output.write(lines)
            self._whole = True

    def publish(self) -> bool:
        """Make the file appear, if there are rejected lines; return whether it did."""
        if self._output is None or not self._any or not self._whole:
            return False
        self._output.publish()
        return True

    @property
    def sent(self) -> bool:
        """Whether rejected lines were written to a pipe, from which they cannot be taken back."""
        return self._output is not None and self._output.streams and self._any

    def remove_old(self) -> None:
        """Remove the file of an earlier run."""
        if self.target is not None and self._output is not None and not self._output.streams:
            remove(self.target)

    def __enter__(self) -> Self:
        if self._output:
            self._stack.enter_context(self._output)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()


_NUMBERED = re.compile(r"\d{8}(-\w+)?\.jsonl")
_SHOWN_FOLDERS = 5


class _Reject(msgspec.Struct):
    """A line of rejects, as `Rejects.to_json_blocks` writes it."""

    offset: int
    line: int
    reason: str
    raw: str | None = None
    raw_base64: str | None = None
    truncated: bool = False
    length: int | None = None
    element: int | None = None


_SCHEMA: dict[str, Any] = {
    "line": pl.Int64,
    "offset": pl.Int64,
    "reason": pl.String,
    "raw": pl.String,
    "raw_base64": pl.String,
    "truncated": pl.Boolean,
    "length": pl.Int64,
}
_DECODER = msgspec.json.Decoder(_Reject)


def read_rejects(path: str | os.PathLike[str], rows: int | None = None) -> pl.DataFrame:
    r"""Return rejected lines as a frame, in the order of the input.

    The columns are `line` (its number, from 1 on), `offset` (in bytes), `reason`, `raw` (the line as it was), and for
    the few that need it `raw_base64` (of a line that is not UTF-8), `truncated` and `length` (of one over the limit).
    If rows were elements of arrays, `element` is the number of the element, from 1 on.

    Args:
        path: A file of rejects, as `OUTPUT.rejects.jsonl`, or an object of them; or the folder of one job's numbered
            objects, as `s3://bucket/rejects/KEY/JOB/`, which may be copied to a directory.
        rows: How many of the first to return; None for all.

    Raises:
        InputError: There is nothing to read, or its lines are not rejected lines.
        OptionError: The path or the number of rows is nothing of the kind.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from transform import Calculation
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     _ = Path(directory, "in.jsonl").write_text('{"a":1}\nnope\n')
        ...     summary = Calculation.from_sql("a + 1 AS b").run(f"{directory}/in.jsonl", f"{directory}/out.jsonl")
        ...     read_rejects(summary.rejects).select("line", "raw").to_dicts()
        [{'line': 2, 'raw': 'nope'}]
    """
    if rows is not None:
        rows = count_option("rows", rows, 0)
    found = [reject for place in _places(path) for reject in itertools.islice(_rejects(place), rows)][:rows]
    schema = _SCHEMA | ({"element": pl.Int64} if any(reject.element is not None for reject in found) else {})
    columns = {name: [getattr(reject, name) for reject in found] for name in schema}
    return pl.DataFrame(columns, schema=schema)


def _places(path: str | os.PathLike[str]) -> list[str]:
    """Return the files or objects to read, in order."""
    text = str(located("rejects", path, streams=False))
    if is_uri(text):
        return _objects(text) if text.endswith("/") else [text]
    mode = mode_at(text)
    if not S_ISDIR(mode or 0):
        if mode is None:
            raise InputError(f"{text}: no such file (a run without rejected lines writes none)")
        return [text]
    names = sorted(entry.name for entry in Path(text).iterdir())
    folders = sorted(entry.name for entry in Path(text).iterdir() if entry.is_dir())
    return [str(Path(text, name)) for name in _numbered(text, names, folders)]


def _objects(prefix: str) -> list[str]:
    with translate_errors(prefix, InputError):
        try:
            entries = filesystem().ls(prefix, detail=True)
        except FileNotFoundError:
            entries = []
    folders = [_name(entry) for entry in entries if entry["type"] == "directory"]
    names = sorted(_name(entry) for entry in entries if entry["type"] != "directory")
    return [prefix + name for name in _numbered(prefix, names, folders)]


def _name(entry: dict[str, Any]) -> str:
    return str(entry["name"]).rstrip("/").rpartition("/")[2]


def _numbered(place: str, names: list[str], folders: list[str]) -> list[str]:
    found = [name for name in names if _NUMBERED.fullmatch(name)]
    if not found:
        more = f", and {len(folders) - _SHOWN_FOLDERS} more" if len(folders) > _SHOWN_FOLDERS else ""
        hint = f"; it has folders, one of which may: {', '.join(folders[:_SHOWN_FOLDERS])}{more}" if folders else ""
        raise InputError(f"{place}: there are no rejected lines, as 00000001.jsonl, in this folder{hint}")
    return found


def _rejects(place: str) -> Iterator[_Reject]:
    with open_source(place) as reader:
        number = 0
        for chunk in read_chunks(reader.read_into):
            for line in bytes(chunk.data).splitlines() if isinstance(chunk, Chunk) else [chunk.head]:
                number += 1
                try:
                    yield _DECODER.decode(line)
                except (msgspec.DecodeError, UnicodeDecodeError) as error:
                    raise InputError(f"{place}: line {number} is no rejected line: {error}") from None
