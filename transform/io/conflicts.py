"""Checks that a run overwrites neither its input nor one of its outputs with another."""

import io
import os
import sys
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from stat import S_ISREG

from transform.errors import OptionError, OutputError
from transform.io.s3 import is_uri


def check_no_conflicts(locations: Mapping[str, object]) -> None:
    """Raise if two locations are the same file or object.

    Args:
        locations: Each by its role, such as `input` and `output`; None for a role that a run does not have.

    Raises:
        OutputError: Two are the same; the message names them.
        OptionError: One can be neither read nor written.
    """
    identities = {role: _identity(role, location) for role, location in locations.items() if location is not None}
    for (role, identity), (other_role, other) in combinations(identities.items(), 2):
        if identity is not None and identity == other:
            name = locations[other_role] if str(locations[role]) == "-" else locations[role]
            raise OutputError(f"the {other_role} is the {role}: {name}. Give another place for one of them.")


def _identity(role: str, location: object) -> object:
    """Return a value that is equal for two names of one file or object; None if it can be used twice, as a pipe."""
    if is_uri(location):
        return str(location)
    is_named = isinstance(location, str | os.PathLike)
    if not is_named and not hasattr(location, "readinto" if role == "input" else "write"):
        raise no_place(role, location)
    if isinstance(location, io.TextIOBase):
        raise OptionError(f"the {role} is a text stream; open it in binary mode, or give its `.buffer`")
    try:
        status = Path(str(location)).stat() if _is_path(location) else os.fstat(_descriptor(role, location))
    except (OSError, AttributeError, ValueError):
        return os.path.realpath(str(location)) if _is_path(location) else None
    return (status.st_dev, status.st_ino) if S_ISREG(status.st_mode) else None


def no_place(role: str, location: object) -> OptionError:
    """Return the error for a location that can be neither read nor written."""
    hint = "; write it to a file with .write_ndjson(…)" if hasattr(location, "write_ndjson") else ""
    return OptionError(f"the {role} is a path, a URI, `-` or a binary file object, not {type(location).__name__}{hint}")


def _is_path(location: object) -> bool:
    return isinstance(location, str | os.PathLike) and str(location) != "-"


def _descriptor(role: str, location: object) -> int:
    if location == "-":
        return (sys.stdin if role == "input" else sys.stdout).fileno()
    return location.fileno()  # type: ignore[attr-defined,no-any-return]
