"""The values of the settings, and what follows from them, without what reads and checks them.

Job processes get the settings of their worker, which has checked them. pydantic, which does that, takes an eighth of
the time in which a job process starts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Protocol

from runner.key_template import WHOLE_KEY, KeyTemplate

_VARIABLE = "RUNNER_CHECKED_SETTINGS"
_MAX_TEXT_BYTES = 120_000
"""Linux starts no process with a variable of 128 KiB; see execve(2)."""

_REFERENCE = re.compile(r".*\.py(:\w+)?|[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*", re.DOTALL)


class _Values(Protocol):
    @property
    def input_buckets(self) -> tuple[str, ...]: ...
    @property
    def calculation(self) -> str: ...
    @property
    def output_key(self) -> str | None: ...
    @property
    def backfill_share(self) -> str: ...


class DerivedSettings:
    """What follows from the values of settings."""

    def backfill_processes(self: _Values, workers: int) -> int:
        """Return how many of a number of processes may work on messages of the backfill queue at a time.

        Example:
            >>> from runner.settings import Settings
            >>> Settings.read({"S3_INPUT_BUCKET": "incoming", "S3_OUTPUT_BUCKET": "outgoing", "SQS_BATCH_QUEUE": "jobs",
            ...                "CALCULATION": "a + 1 AS b", "BACKFILL_SHARE": "50%"}).backfill_processes(5)
            2
        """
        return max(1, int(workers * Fraction(self.backfill_share.removesuffix("%")) / 100))

    @property
    def is_reference(self: _Values) -> bool:
        """Whether the calculation is a reference to Python code, rather than SQL text."""
        return is_reference(self.calculation)

    @property
    def key_template(self: _Values) -> KeyTemplate:
        """The template of output keys, after the prefix."""
        return KeyTemplate.parse(self.output_key or ("{bucket}/{key}" if len(self.input_buckets) > 1 else WHOLE_KEY))

    @property
    def keeps_keys(self: _Values) -> bool:
        """Whether the key of an output is OUTPUT_PREFIX and the key of its input, of which there is one bucket."""
        return len(self.input_buckets) == 1 and self.output_key in (None, WHOLE_KEY)


class CheckedSettings(DerivedSettings):
    """Settings that another process has checked: the attributes of `Settings`, with a text for a path.

    Args:
        values: The values by the names of the fields, as JSON has them.
    """

    def __init__(self, values: Mapping[str, object]) -> None:
        for name, value in values.items():
            setattr(self, name, tuple(value) if isinstance(value, list) else value)


def pass_on(values: Mapping[str, object]) -> dict[str, str]:
    """Return the variable with which a job process gets settings, by their names; none if they are too long for one."""
    text = json.dumps(values, default=_plain)
    return {_VARIABLE: text} if len(text) <= _MAX_TEXT_BYTES else {}


def _plain(value: object) -> object:
    return dict(value) if isinstance(value, Mapping) else str(value)


def passed_on(environ: Mapping[str, str]) -> CheckedSettings | None:
    """Return the settings that the worker has passed on; None if it has not."""
    text = environ.get(_VARIABLE)
    return CheckedSettings(json.loads(text)) if text else None


def is_reference(calculation: str) -> bool:
    """Return whether a calculation is a reference to Python code."""
    return _REFERENCE.fullmatch(calculation) is not None
