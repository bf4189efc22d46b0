"""The template of output keys, as OUTPUT_KEY has it: text with fields that are parts of the input's key."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC
from functools import lru_cache
from string import Formatter
from typing import TYPE_CHECKING, Self

from transform import codec_of_name

if TYPE_CHECKING:
    from datetime import datetime

WHOLE_KEY = "{key}"
_FIELDS = ("bucket", "key", "dir", "name", "stem", "suffix", "date")
_OF_ONE_INPUT = {"key", "dir", "name", "stem"}
"""Without any of these fields, inputs that have nothing to do with each other would have one output key."""
_DATE = re.compile(r"(?:[^%]|%[YmdHMSjGVuy%])*", re.DOTALL)  # the same in every locale and C library
_DIRECTIVE = re.compile("%[YmdHMSjGVuy]")
_DATE_WORDS = "a date such as {date:%Y/%m/%d}, of %Y %m %d %H %M %S %j %G %V %u %y and %%"


@dataclass(frozen=True, slots=True)
class KeyTemplate:
    """A template of output keys; `parse` it.

    Attributes:
        parts: Each text with the field that follows it, None for none, and the format of the field.
    """

    parts: tuple[tuple[str, str | None, str], ...]

    @classmethod
    @lru_cache(maxsize=64)
    def parse(cls, text: str) -> Self:
        """Return the template that a text means. `{{` and `}}` are braces.

        Raises:
            ValueError: It is not a template, or gives unrelated inputs the same key; the message says what is expected.

        Example:
            >>> KeyTemplate.parse("{dir}{stem}.scored.jsonl.zst").fill("in", "raw/day.jsonl.gz", None)
            'raw/day.scored.jsonl.zst'
        """
        try:
            found = [*Formatter().parse(text)]
            text.encode()
        except UnicodeEncodeError:
            raise ValueError("expected text in UTF-8") from None
        except ValueError:
            raise ValueError("expected braces in pairs; one that is not of a field is written twice, as {{") from None
        parts = [(literal, field, layout or "") for literal, field, layout, _ in found]
        for (_, field, layout), (*_, conversion) in zip(parts, found, strict=True):
            if field is not None:
                _check_field(field, layout, conversion)
        if not _OF_ONE_INPUT & {field for _, field, _ in parts}:
            raise ValueError(
                "expected one of {key}, {dir}, {name} and {stem}, as otherwise unrelated inputs would have the same"
                " output key"
            )
        if text.startswith("/"):
            raise ValueError("expected no `/` at the start: S3's keys have none")
        return cls(tuple(parts))

    @property
    def has_date(self) -> bool:
        """Whether a key depends on the time when the input was written."""
        return any(field == "date" for _, field, _ in self.parts)

    @property
    def start(self) -> str:
        """The text that all keys start with."""
        return self.parts[0][0]

    def fill(self, bucket: str, key: str, modified: datetime | None) -> str:
        """Return the key for an input.

        Args:
            bucket: The bucket of the input.
            key: Its key.
            modified: When it was written; None only if the template has no date.
        """
        name = key.rpartition("/")[2]
        stem, suffix = split_name(name)
        values = {
            "bucket": bucket,
            "key": key,
            "dir": key.removesuffix(name) if name else key,
            "name": name,
            "stem": stem,
            "suffix": suffix,
        }
        filled = []
        for literal, field, layout in self.parts:
            filled.append(literal)
            if field == "date":
                if modified is None:
                    raise ValueError("a template with a date needs the time of the input")
                filled.append(modified.astimezone(UTC).strftime(layout))
            elif field is not None:
                filled.append(values[field])
        return "".join(filled)


def _check_field(field: str, layout: str, conversion: str | None) -> None:
    if field not in _FIELDS:
        shown = ", ".join(f"{{{name}}}" for name in _FIELDS[:-1])
        raise ValueError(f"expected only the fields {shown} and {{date:…}}, not {{{field}}}")
    if conversion:
        raise ValueError(f"expected {{{field}}} without !{conversion}")
    if field != "date":
        if layout:
            raise ValueError(f"expected {{{field}}} without a format; only {{date:…}} has one")
    elif not (_DATE.fullmatch(layout) and _DIRECTIVE.search(layout.replace("%%", ""))) or "{" in layout:
        raise ValueError(f"expected {_DATE_WORDS}")


def split_name(name: str) -> tuple[str, str]:
    """Return a file name without its suffix, and the suffix: with that before it if the last is of a compression.

    Example:
        >>> split_name("day.1.jsonl.gz"), split_name("day.1.jsonl"), split_name(".hidden"), split_name("day")
        (('day.1', '.jsonl.gz'), ('day.1', '.jsonl'), ('.hidden', ''), ('day', ''))
    """
    stem, suffix = _split_once(name)
    if suffix and codec_of_name(suffix):
        stem, inner = _split_once(stem)
        suffix = inner + suffix
    return stem, suffix


def _split_once(name: str) -> tuple[str, str]:
    stem, dot, last = name.rpartition(".")
    return (stem, dot + last) if last and stem.strip(".") else (name, "")
