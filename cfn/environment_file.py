"""The file of an environment: one NAME=value a line, whose value is taken as it is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from cfn.messages import DeployError, did_you_mean

DIRECTORY = Path(__file__).parent / "environments"
ENDING = ".env"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,63}")
_LINE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)\s*=(.*)")
_QUOTES = ("'", '"')
_ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Value:
    """A value.

    Attributes:
        text: The value.
        place: Where it was found, for messages.
    """

    text: str
    place: str


def path_of(environment: str, directory: Path = DIRECTORY) -> Path:
    """Return the file of an environment.

    Raises:
        DeployError: There is no such file.
    """
    path = directory / f"{environment}{ENDING}"
    known = sorted(file.stem for file in directory.glob(f"*{ENDING}"))
    if not _NAME.fullmatch(environment):
        raise DeployError(
            f"ENV is expected to be a name of letters, digits and hyphens, such as prod, not {environment!r}"
        )
    if not path.is_file():
        raise DeployError(
            f"there is no {shown(path)}.{did_you_mean(environment, known)} To begin one: "
            f"cp {shown(directory)}/example{ENDING} {shown(path)}"
        )
    return path


def read_file(path: Path) -> dict[str, Value]:
    """Return the values of a file by their names.

    A value is what follows the first `=`, without white space around it. Nothing in it is expanded. Quotes around a
    whole value are removed. Empty lines, and lines that start with `#`, are skipped.

    Raises:
        DeployError: A line is not understood, or a name occurs twice.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")  # and not at other characters that a value may have
    except UnicodeDecodeError as error:
        raise DeployError(f"{shown(path)} is not UTF-8 ({error.reason} at byte {error.start})") from None
    found: dict[str, Value] = {}
    for number, raw in enumerate(lines, start=1):
        line, place = raw.strip(), f"{shown(path)}:{number}"
        if not line or line.startswith("#"):
            continue
        matched = _LINE.fullmatch(line)
        if not matched:
            hint = " Leave `export` out." if line.startswith("export ") else ""
            raise DeployError(f"{place}: expected NAME=value, found {line!r}.{hint}")
        name = matched[1]
        if name in found:
            raise DeployError(f"{place}: {name} was set before, at {found[name].place}; keep one of the two lines")
        found[name] = Value(_unquoted(matched[2].strip(), place), place)
    return found


def _unquoted(text: str, place: str) -> str:
    """Return a value without the quotes around it, if it has any; refuse what may be meant in two ways."""
    first = text[:1]
    if len(text) > 1 and first in _QUOTES and text.endswith(first):
        if first in text[1:-1]:
            other = _QUOTES[first == _QUOTES[0]]
            raise DeployError(
                f"{place}: the value starts and ends with {first} and contains it, so it is not clear whether these "
                f"are part of it; put all of it in {other}{other}"
            )
        return text[1:-1]
    if re.search(r"\s#", text):
        raise DeployError(
            f"{place}: `#` after white space may be meant as a comment, or as a part of the value. Put a comment in a "
            "line of its own, and a value with `#` in quotes"
        )
    return text


def shown(path: Path) -> str:
    """Return a path as it is written in messages: from the clone, if it is in there."""
    return str(path.relative_to(_ROOT) if path.is_relative_to(_ROOT) else path)
