"""A run that is stopped on the way, again and again, and gone on with from what its state is as JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from transform import State, TransformError, WidenError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from transform import Summary
    from transform.io.sources import Source
    from transform.runnable import Runnable

_NOT_OF_A_STREAM = {"mb_per_s", "rejects", "seconds", "target"}


@dataclass(frozen=True)
class Outcome:
    """What came of a run.

    Attributes:
        output: None where it failed, as nothing is published then.
        rejects: The lines that were kept.
        numbers: Of its summary; None where it failed.
        error: How it failed, if it did.
    """

    output: bytes | None
    rejects: bytes
    numbers: dict[str, Any] | None
    error: tuple[type[TransformError], str] | None = None


def through_json(state: State) -> State:
    """Return a state as another process would find it."""
    return State.from_dict(json.loads(json.dumps(state.to_dict())))


def stopped(calculation: Runnable, source: Source, stops: Iterable[int], **options: Any) -> Outcome:
    """Run as many times as it takes: each time but the last is stopped after so many parts, or starts again.

    It is stopped where a line ends, which may be some parts later.
    """
    output, rejects, state, still = b"", b"", State(), list(stops)
    while True:
        most = still.pop(0) if still else None
        try:
            with calculation.stream(source, state, **options) as stream:
                for number, part in enumerate(stream):
                    if most is not None and number >= most and part.resumable:  # the parts before are done
                        break
                    output += b"".join(part.output)
                    for line in part.rejects:
                        rejects += line
                state = through_json(stream.state)
                if most is None:
                    return Outcome(output, rejects, numbers_of(stream.summary))
        except WidenError as error:
            output, rejects, state = b"", b"", through_json(state.restarted(error.name, error.dtype))
        except TransformError as error:
            return Outcome(None, rejects, None, (type(error), str(error)))


def uninterrupted(calculation: Runnable, source: Source, directory: Path, **options: Any) -> Outcome:
    """Run once."""
    target, kept = directory / "out.jsonl", directory / "rejects.jsonl"
    for path in (target, kept):
        path.unlink(missing_ok=True)
    try:
        summary = calculation.run(source, target, rejects=kept, **options)
    except TransformError as error:
        message = str(error).removesuffix(f". The rejected lines are in {kept}")
        return Outcome(None, kept.read_bytes() if kept.exists() else b"", None, (type(error), message))
    return Outcome(target.read_bytes(), kept.read_bytes() if kept.exists() else b"", numbers_of(summary))


def numbers_of(summary: Summary) -> dict[str, Any]:
    """Return what a summary says, but for what only somebody who publishes knows."""
    return {name: value for name, value in summary.to_dict().items() if name not in _NOT_OF_A_STREAM}
