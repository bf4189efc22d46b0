"""A calculation tried on bytes: what became of them, for a test to compare with what it has worked out itself."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from transform import Summary, TransformError
    from transform.runnable import Runnable

OLD = b"what an earlier run has published\n"


@dataclass(frozen=True)
class Outcome:
    """What a run left behind."""

    output: bytes
    rejects: list[dict[str, Any]]
    summary: Summary

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The lines of the output, decoded."""
        return [json.loads(line) for line in self.output.splitlines()]

    @property
    def reasons(self) -> list[str]:
        """Why lines were rejected, in order."""
        return [reject["reason"] for reject in self.rejects]

    def values(self, name: str = "r") -> list[Any]:
        """Return a result of each line."""
        return [row[name] for row in self.rows]


def attempt(data: bytes, calculation: Runnable, **options: Any) -> Outcome:
    """Run a calculation from file to file."""
    with tempfile.TemporaryDirectory() as directory:
        source, target = Path(directory, "in.jsonl"), Path(directory, "out.jsonl")
        source.write_bytes(data)
        summary = calculation.run(source, target, **options)
        kept = Path(directory, "out.jsonl.rejects.jsonl")
        rejects = [json.loads(line) for line in kept.read_bytes().splitlines()] if kept.exists() else []
        return Outcome(target.read_bytes(), rejects, summary)


def refusal(data: bytes, calculation: Runnable, error: type[TransformError], **options: Any) -> str:
    """Run a calculation that must fail, leaving an old output as it was and nothing beside it; return the message."""
    with tempfile.TemporaryDirectory() as directory:
        source, target = Path(directory, "in.jsonl"), Path(directory, "out.jsonl")
        source.write_bytes(data)
        target.write_bytes(OLD)
        with pytest.raises(error) as caught:
            calculation.run(source, target, **options)
        assert target.read_bytes() == OLD
        assert sorted(Path(directory).iterdir()) == [source, target]
        assert type(caught.value) is error
        message = str(caught.value)
        assert "\n" not in message, "an answer fits on a line"
        return message


def lines(*texts: str) -> bytes:
    """Return lines, each with its end."""
    return "".join(f"{text}\n" for text in texts).encode()


def column(values: Iterable[object], name: str = "v") -> bytes:
    """Return lines that have nothing but a member of these values, which `json` spells."""
    return lines(*(json.dumps({name: value}) for value in values))
