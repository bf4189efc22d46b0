"""Checks where a run reads and writes: that places are given as they can be used, and that none overwrites another."""

import io
import os
import sys
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from stat import S_ISREG
from typing import Any

from transform.errors import OptionError, OutputError
from transform.io.s3 import S3Object, is_uri
from transform.terminal_text import has_lone_surrogate

_OTHER_FORMATS = frozenset((".parquet", ".csv", ".tsv", ".arrow", ".feather", ".avro", ".orc", ".xlsx", ".zip", ".tar"))


def located(role: str, location: Any, *, streams: bool = True) -> Any:
    """Return a location as the engine uses it: a path or URI as text, an `S3Object` or a stream as it is.

    Args:
        role: Its role, such as `input` or `output`, for the error.
        location: As it was given.
        streams: Whether it can be a binary file object.

    Raises:
        OptionError: It can be neither read nor written, or is a path in bytes.
    """
    if isinstance(location, S3Object):
        return location
    if not isinstance(location, str | os.PathLike):
        return _stream(role, location, streams=streams)
    text = os.fspath(location)
    if not isinstance(text, str):
        raise OptionError(f"the {role} is a path in bytes: {text!r:.80}; os.fsdecode(…) makes text of it")
    if not text or "\0" in text or not _can_name(text):
        raise OptionError(f"the {role} is not the name of a file or an object: {text!r:.80}")
    if not isinstance(location, str) and text.startswith("s3:/") and not text.startswith("s3://"):
        raise OptionError(
            f"the {role} is an S3 URI as a Path, which cannot hold one; give it as text: 's3://{text[4:]}'"
        )
    return text


def _can_name(text: str) -> bool:
    """Return whether a file or an object can have this name: that of a file can have bytes that are not UTF-8."""
    if is_uri(text):
        return not has_lone_surrogate(text)
    try:
        os.fsencode(text)
    except UnicodeEncodeError:  # a lone surrogate that does not stand for a byte
        return False
    return True


def _stream(role: str, location: Any, *, streams: bool) -> Any:
    if streams and isinstance(location, io.TextIOBase):
        raise OptionError(f"the {role} is a text stream; open it in binary mode, or give its `.buffer`")
    if not streams or not hasattr(location, "readinto" if role == "input" else "write"):
        raise _no_place(role, location, streams=streams)
    if getattr(location, "closed", False) is True:
        raise OptionError(f"the {role} is a file object that is closed")
    return location


def refuse_other_format(target: object) -> None:
    """Raise if an output has the name of something else than JSON lines.

    Raises:
        OptionError: It has.
    """
    suffix = Path(str(target)).suffix.lower() if isinstance(target, str) else ""
    if suffix in _OTHER_FORMATS:
        raise OptionError(
            f"the output is JSON lines, and {target} is named as something else: name it .jsonl or .json, or "
            "compressed .jsonl.gz, .jsonl.zst, .jsonl.bz2 or .jsonl.xz"
        )


def mode_at(path: str | os.PathLike[str]) -> int | None:
    """Return the type and permissions of the file at a path, None if no file can be reached there."""
    try:
        return Path(path).stat().st_mode
    except (OSError, ValueError):
        return None


def check_no_conflicts(locations: Mapping[str, object]) -> None:
    """Raise if two locations are the same file or object.

    Args:
        locations: Each by its role, such as `input` and `output`; None for a role that a run does not have.

    Raises:
        OutputError: Two are the same; the message names them.
        OptionError: One can be neither read nor written.
    """
    locations = {role: located(role, location) for role, location in locations.items() if location is not None}
    identities = {role: _identity(role, location) for role, location in locations.items()}
    for (role, identity), (other_role, other) in combinations(identities.items(), 2):
        if identity is not None and identity == other:
            name = locations[other_role] if str(locations[role]) == "-" else locations[role]
            raise OutputError(f"the {other_role} is the {role}: {name}. Give another place for one of them.")


def _identity(role: str, location: object) -> object:
    """Return a value that is equal for two names of one file or object; None if it can be used twice, as a pipe."""
    if is_uri(location):
        return str(location)
    try:
        status = Path(str(location)).stat() if _is_path(location) else os.fstat(_descriptor(role, location))
    except (OSError, AttributeError, ValueError):
        return os.path.realpath(str(location)) if _is_path(location) else None
    return (status.st_dev, status.st_ino) if S_ISREG(status.st_mode) else None


def _no_place(role: str, location: object, *, streams: bool) -> OptionError:
    """Return the error for a location that can be neither read nor written."""
    if isinstance(location, bytes | bytearray | memoryview):
        hint = "; io.BytesIO(…) is a file object of bytes" if streams else ""
    else:
        hint = "; write it to a file with .write_ndjson(…)" if hasattr(location, "write_ndjson") else ""
        if isinstance(location, list | tuple | set):
            hint = "; call it once for each of several"
    what = repr(location) if location is None or isinstance(location, int | float) else type(location).__name__
    allowed = "a path, a URI, `-` or a binary file object" if streams else "a path, a URI or `-`"
    return OptionError(f"the {role} is {allowed}, not {what}{hint}")


def _is_path(location: object) -> bool:
    return isinstance(location, str | os.PathLike) and str(location) != "-"


def _descriptor(role: str, location: object) -> int:
    if location == "-":
        return (sys.stdin if role == "input" else sys.stdout).fileno()
    return location.fileno()  # type: ignore[attr-defined,no-any-return]
