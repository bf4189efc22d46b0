"""What the documents show: the command lines and the Python in them."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, NamedTuple

from tests.conftest import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DOCUMENTS = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", ".github/SECURITY.md")]
DOCUMENTS += sorted((ROOT / "docs").glob("*.md"))

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"(?<=\n\n)(?: {4,}.*\n|\n(?= {4}))+")
INLINE = re.compile(r"`([^`\n]+(?:\n[^`\n]+)?)`")
PROGRAMS = (
    *("transform", "runner", "make", "aws", "docker", "podman", "python", "python3", "pip", "pipx", "uv", "uvx"),
    *("output", "bash", "sh", "git", "curl", "export", "eval", "pytest", "ruff", "mypy", "npm", "sudo", "apt-get"),
)
"""What a command within a sentence begins with; `output` is a function that docs/operations.md defines."""
_COMMAND = re.compile(rf"(?:[A-Z_]+=\S* +)*(?:\S*/)?(?:{'|'.join(PROGRAMS)}) +\S")
_NO_COMMAND = re.compile(r"(?:import|from) \w|(?!\w+\(\) \{)\w+\(.*\)|\{\"")
"""Begins a block of Python or of data."""
_NAMES_ONE = re.compile(r"(?:transform|runner|make) [a-z0-9-]+|aws [a-z0-9]+ [a-z-]+")


class Line(NamedTuple):
    """A command as a document shows it."""

    document: Path
    section: str
    text: str
    in_sentence: bool

    @property
    def program(self) -> str:
        """What is run, wherever it is."""
        return next(word for word in self.text.split() if "=" not in word).rpartition("/")[2]

    @property
    def only_names(self) -> bool:
        """Whether a sentence speaks of a command, by its name alone."""
        return self.in_sentence and _NAMES_ONE.fullmatch(self.text) is not None


def blocks(document: Path) -> list[str]:
    """Return the indented blocks of a document."""
    return [block.strip("\n") for block in INDENTED.findall(FENCE.sub("", document.read_text()))]


def is_shell(block: str) -> bool:
    """Return whether a block is made of commands."""
    return _NO_COMMAND.match(block.strip()) is None


def lines(document: Path) -> Iterator[Line]:
    """Yield the commands of a document, in order; those that go on in the next line in one."""
    text = FENCE.sub("", document.read_text())
    for part in re.split(r"^(?=## )", text, flags=re.MULTILINE):
        section = part.partition("\n")[0].lstrip("# ")
        end = 0
        for block in INDENTED.finditer(part):
            yield from _in_sentences(document, section, part[end : block.start()])
            if is_shell(block[0]):
                for line in _whole_lines(block[0]):
                    shown = line.strip().removeprefix("$ ")
                    if not shown.startswith(("{", "#")):  # what is printed, or a comment
                        yield Line(document, section, shown, in_sentence=False)
            end = block.end()
        yield from _in_sentences(document, section, part[end:])


def _whole_lines(block: str) -> Iterator[str]:
    """Yield lines with those that they go on in: after a backslash, or within quotes."""
    begun = ""
    for line in re.findall(r"(?:.*\\\n)*.+", block):
        begun += line
        try:
            shlex.split(begun, comments=True)
        except ValueError:  # no closing quotation
            begun += "\n"
            continue
        yield begun
        begun = ""
    assert not begun


def _in_sentences(document: Path, section: str, text: str) -> Iterator[Line]:
    for span in INLINE.findall(text):
        if _COMMAND.match(span):
            yield Line(document, section, " ".join(span.split()), in_sentence=True)


LINES = [line for document in DOCUMENTS for line in lines(document)]
