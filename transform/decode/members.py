"""Reads the members of a single line: strict and slow, for lines that could not be decoded together with others.

`read_members` decides whether a line is a JSON object, by the grammar of RFC 8259 in UTF-8. If it is not, the
`LineError` has the reason.
"""

import re
from dataclasses import dataclass

import msgspec
import numpy as np

MAX_DEPTH = 512
"""How deep objects and arrays may be nested; the braces of the line itself are the first level."""

_ANY_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
# Matches all escapes from the left, so that an escaped backslash is never taken for the start of another escape.
_ESCAPE = re.compile(rb"\\(?:u[dD][89abAB]..\\u[dD][c-fC-F]..|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL)


class LineError(Exception):
    """The reason for which a line is rejected.

    Attributes:
        kind: The reason without values of the line, so that equal reasons can be counted.
        detail: What was found in the line; may be empty.
    """

    def __init__(self, kind: str, detail: str = "") -> None:
        super().__init__(f"{kind}: {detail}" if detail else kind)
        self.kind = kind
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Members:
    """The top-level members of one line.

    Attributes:
        values: The text of each value by name; of duplicates, the last.
        text: The bytes that `values` are views of: the line, or a copy of equal length without lone surrogates.
        lone_surrogates: The names whose value holds a lone surrogate escape.
    """

    values: dict[str, msgspec.Raw]
    text: bytes
    lone_surrogates: frozenset[str] = frozenset()


def read_members(line: bytes) -> Members:
    r"""Return the members of a line that is one JSON object.

    A lone surrogate escape such as `"\ud83d"` is valid by the grammar, but no decoder accepts it. So it is replaced by
    a noncharacter of the same length, and the line is decoded a second time with another noncharacter: the values that
    differ contain a lone surrogate.

    Raises:
        LineError: The line is something else.
    """
    try:
        line.decode()
    except UnicodeDecodeError as error:
        raise LineError("not valid UTF-8", f"byte {error.start} of the line") from None
    if is_deep(line):
        raise LineError(f"nested deeper than {MAX_DEPTH} levels")
    try:
        return Members(_ANY_OBJECT.decode(line), line)
    except msgspec.ValidationError as error:
        raise _not_an_object(line, error) from None
    except msgspec.DecodeError as error:
        first = _ESCAPE.sub(lambda match: rb"\ufdd0" if match[1] else match[0], line)
        if first == line:
            raise _not_json(error) from None
    second = _ESCAPE.sub(lambda match: rb"\ufdd1" if match[1] else match[0], line)
    try:
        values, others = _ANY_OBJECT.decode(first), _ANY_OBJECT.decode(second)
    except msgspec.ValidationError as error:
        raise _not_an_object(first, error) from None
    except msgspec.DecodeError as error:
        raise _not_json(error) from None
    lone = frozenset(name for name, value in values.items() if value != others.get(name))
    return Members(values, first, lone)


def is_deep(line: bytes) -> bool:
    """Return whether the line is nested deeper than `MAX_DEPTH`."""
    if line.count(b"{") + line.count(b"[") <= MAX_DEPTH:
        return False
    text = np.frombuffer(_STRING.sub(b"", line), np.uint8)
    steps = np.isin(text, (0x5B, 0x7B)).view(np.int8) - np.isin(text, (0x5D, 0x7D)).view(np.int8)
    return int(np.cumsum(steps, dtype=np.int32).max(initial=0)) > MAX_DEPTH


def _not_json(error: msgspec.DecodeError) -> LineError:
    return LineError("not valid JSON", str(error).removeprefix("JSON is malformed: "))


def _not_an_object(line: bytes, error: msgspec.ValidationError) -> LineError:
    try:
        msgspec.json.Decoder(msgspec.Raw).decode(line)
    except msgspec.DecodeError as malformed:
        return _not_json(malformed)
    return LineError("not a JSON object", str(error).partition("got ")[2].replace("`", "") or str(error))
