"""The reasons for which lines are rejected, and what causes those that are not JSON objects.

The causes are known by the bytes around the place where the decoder stopped, and by its message.
"""

import functools
import re

import msgspec

from transform.io.chunks import BOM
from transform.native.binding import Fault


class LineError(Exception):
    """The reason for which a line is rejected.

    Attributes:
        kind: The reason without values of the line, so that equal reasons can be counted.
        detail: What was found in the line; may be empty.
    """

    def __init__(self, kind: str, detail: str = "") -> None:
        super().__init__(full_reason(kind, detail))
        self.kind = kind
        self.detail = detail


Reason = tuple[str, str]
"""The kind of a `LineError`, and its detail."""


def full_reason(kind: str, detail: str) -> str:
    """Return the text of a reason."""
    return f"{kind}: {detail}" if detail else kind


_UTF_16 = "text in UTF-16 or UTF-32 (`iconv -f UTF-16 -t UTF-8` converts it, or with UTF-32)"
_LATIN = "a byte of another encoding (if that is Latin-1, `iconv -f LATIN1 -t UTF-8` converts it)"
_CUT_CHARACTER = "a character of which bytes are missing (the line was cut off)"
_NULS = "NUL bytes, as a crash leaves them in a file"
_BOM = r"a byte order mark at its start, as in joined files (`sed 's/^\xef\xbb\xbf//'` removes it)"
_BOM_WITHIN = "a byte order mark within it, as in joined files of which the first had no newline at its end"
_RECORD = r"a record separator at its start (`tr -d '\036'` removes it)"
_CUT = "an object that is not closed (either the line was cut off, or the object goes on in the next line)"
_ONE_OBJECT = "JSON lines have one object on each line, as `jq -c '.[]'` makes them of an array"
_ARRAY = f"an array that is not closed ({_ONE_OBJECT})"
_COMMA = "a comma after the object (in JSON lines only line ends separate objects)"
_SEVERAL = "several objects on one line (which --format json reads)"
_RETURNS = r"lines that end with CR alone (`tr '\r' '\n'` converts them)"
_TEXT_AFTER = "text after the object"
_COMMENT = "a comment, which JSON does not have"
_QUOTES = 'quotes other than " (JSON has only double quotes)'
_NAME = "a name without double quotes"
_WORD = "text without double quotes"
_NOT_FINITE = "NaN or an infinity, which JSON does not have (write null)"
_LITERAL = "True, None or the like (JSON has true, false and null)"
_NO_ELEMENT = "a comma without a member or an element next to it"
_NO_VALUE = "a value is missing after a colon"
_SEPARATOR = r"a comma or a bracket is missing, or a quote within a string is not escaped as \""
_COLON = "a colon is missing after a name"
_NUMBER = "a number that JSON does not have, such as 01, +1, 1. or .5"
_ESCAPES = r"an escape that JSON does not have (a backslash is written as \\)"
_CONTROL = r"a control character in a string (write it as an escape such as \n or \u0000)"
CUT_KIND = f"not valid JSON: {_CUT}"
"""The kind of the reason for the first line of an object that is spread over several lines."""

_NOT_JSON = "not valid JSON"
_NO_OBJECT = "not a JSON object"
_IS_ARRAY = f"array; {_ONE_OBJECT}"

NEAR_BYTES = 4
"""How many bytes from the place of a fault on `kind_near` looks at."""
_SPACES = b" \t\r"
_LOOKED_AT = 3  # bytes from the place on; no mark that is looked for there is longer
_OBJECT_AFTER, _COMMA_AFTER = re.compile(rb"[ \t\r,;]*+\{"), re.compile(rb"[ \t\r,]*+\Z")
# A byte order mark, or two ASCII characters with NUL bytes between them.
_WIDE = re.compile(rb"\xff\xfe|\xfe\xff|[\t -~]\0{1,3}[\t -~]\0|\0{1,3}[\t -~]\0{1,3}[\t -~]")
_COMMENT_START = re.compile(rb"//|/\*|#|--")
_OTHER_QUOTES = (b"'", b"`", *(quote.encode() for quote in "“”„‘’«"))
_LITERALS = {
    **dict.fromkeys((b"nan", b"infinity", b"inf"), _NOT_FINITE),
    **dict.fromkeys((b"true", b"false", b"none", b"null", b"nil", b"undefined"), _LITERAL),
}
_WITHIN_WORD = re.compile(rb"\w[\w.:-]")
_LETTERS = re.compile(rb"[A-Za-z_$\x80-\xff][\w$\x80-\xff]*")
_MARKS = (b",", b"}", b"]")
# By a part of msgspec's message. If a later version words them differently, the reason is that message.
_BY_MESSAGE = {
    "trailing comma": _NO_ELEMENT,
    "expected ',' or": _SEPARATOR,
    "expected ':'": _COLON,
    "invalid number": _NUMBER,
    "escape": _ESCAPES,
}
_OF_VALUE = ""
_TRUNCATED, _TRAILING = "Input data was truncated", "trailing characters"
# What msgspec says of what the kernel finds.
_MESSAGES: dict[int, str] = {
    Fault.TRUNCATED: _TRUNCATED,
    Fault.TRAILING: _TRAILING,
    Fault.CHARACTER: "invalid character",
    Fault.UNICODE_ESCAPE: "invalid character in unicode escape",
    Fault.ESCAPE_IN_NAME: "invalid escape character in string",
    Fault.ESCAPE: "invalid escaped character",
    Fault.COMMA_IN_ARRAY: "expected ',' or ']'",
    Fault.COMMA_IN_OBJECT: "expected ',' or '}'",
    Fault.LAST_IN_ARRAY: "trailing comma in array",
    Fault.LAST_IN_OBJECT: "trailing comma in object",
    Fault.KEY: "object keys must be strings",
    Fault.INNER_KEY: "expected '\"'",
    Fault.COLON: "expected ':'",
    Fault.NUMBER: "invalid number",
}
NOT_OBJECTS: dict[int, Reason] = {
    Fault.IS_ARRAY: (_NO_OBJECT, _IS_ARRAY),
    Fault.IS_STRING: (_NO_OBJECT, "str"),
    Fault.IS_INTEGER: (_NO_OBJECT, "int"),
}
"""The reasons for lines that are JSON, but no objects, by their `Fault`."""
_ANY = msgspec.json.Decoder(msgspec.Raw)


def not_utf8(line: bytes, start: int) -> Reason:
    """Return the reason for a line with a byte that is not UTF-8: the cause, if it shows."""
    if _WIDE.match(line.lstrip(_SPACES)):
        return f"not valid UTF-8: {_UTF_16}", ""
    return _not_utf8(line[start : start + 4]), f"byte {start} of the line is 0x{line[start]:02X}"


@functools.lru_cache(1024)
def _not_utf8(character: bytes) -> str:
    """Return the kind of the reason, given the four bytes from the first on that is not UTF-8."""
    try:
        character.decode()
    except UnicodeDecodeError as error:
        if error.reason == "unexpected end of data":
            return f"not valid UTF-8: {_CUT_CHARACTER}"
    return f"not valid UTF-8: {_LATIN}"


def not_json(line: bytes, error: msgspec.DecodeError) -> Reason:
    """Return the reason for a line that is not JSON: its cause if that is known, else the decoder's message."""
    message, _, place = str(error).removeprefix("JSON is malformed: ").partition(" (byte ")
    if not place:
        return _not_json(line, message, None)
    return _not_json(line, message, int(place[:-1]) - (message == _TRAILING))


def reason_of_fault(line: bytes, fault: int, place: int) -> Reason | None:
    """Return the reason for a line with a `Fault` at a place; None if the line must be decoded to find it."""
    message = _MESSAGES.get(fault)
    if message is not None:
        return _not_json(line, message, None if message is _TRUNCATED else place)
    if fault == Fault.NOT_UTF8:
        return not_utf8(line, place)
    return NOT_OBJECTS.get(fault)


def kind_near(fault: int, before: bytes, rest: bytes) -> str | None:
    """Return the kind of the reason for a line that starts with `{`; None if the bytes near the fault do not show it.

    Args:
        fault: A `Fault` that has a place.
        before: The byte before that.
        rest: `NEAR_BYTES` from the place on, or less at the end of the line.
    """
    if fault == Fault.NOT_UTF8:
        return _not_utf8(rest)
    message = _MESSAGES[fault]
    if message != _TRAILING:
        cause = _cause_near(message, before, rest[:_LOOKED_AT])
    elif rest.startswith(BOM):
        cause = _BOM_WITHIN
    elif before in _SPACES or (len(rest) == NEAR_BYTES and rest[:1] != b"{"):
        return None
    else:
        cause = _cause_after_object(before + rest, len(before))
    return f"{_NOT_JSON}: {cause}" if cause else None  # `_OF_VALUE` is empty


def _not_json(line: bytes, message: str, place: int | None) -> Reason:
    """Return the reason for a line that is not JSON.

    Args:
        line: The line.
        message: The decoder's message.
        place: The index of the byte that the decoder refused, None if the line ended too early.
    """
    is_utf_16 = line[1:2] == b"\0"
    if place is None:
        cause = _CUT if line[:1] == b"{" and not is_utf_16 else _cause(line, message, len(line))
        return (f"{_NOT_JSON}: {cause}", "") if cause else (_NOT_JSON, message)
    fast = line[:1] == b"{" and not is_utf_16 and message != _TRAILING
    cause = _cause_within(line, message, place) if fast else _cause(line, message, place)
    if cause is None:
        return _NOT_JSON, f"{message} (byte {place + (message == _TRAILING)})"  # msgspec's place is one further
    return f"{_NOT_JSON}: {cause}", f"byte {place} of the line"


def _cause(line: bytes, message: str, place: int) -> str | None:
    """Return what is wrong with a line, None if that is not known.

    Args:
        line: The line.
        message: The decoder's message.
        place: The index of the byte that the decoder refused.
    """
    text, rest = line.lstrip(_SPACES), line[place : place + _LOOKED_AT]
    if _WIDE.match(text):
        return _UTF_16
    if text.startswith(BOM) or rest.startswith(BOM):
        return _BOM if text.startswith(BOM) else _BOM_WITHIN
    if not text.startswith(b"{"):
        return _cause_without_object(text, message)
    if message == _TRUNCATED:
        return _CUT
    return _cause_after_object(line, place) if message == _TRAILING else _cause_within(line, message, place)


def _cause_without_object(text: bytes, message: str) -> str | None:
    for start, cause in ((b"\0", _NULS), (b"\x1e", _RECORD)):
        if text.startswith(start):
            return cause
    if _COMMENT_START.match(text):
        return _COMMENT
    if text.startswith(b"[") and message == _TRUNCATED:
        return _ARRAY
    return _LITERALS.get(text.lstrip(b"+-").rstrip(_SPACES + b",").lower())


def _cause_after_object(line: bytes, place: int) -> str:
    start = place
    while start and line[start - 1] in _SPACES:
        start -= 1
    if b"\r" in line[start:place]:
        return _RETURNS
    if _OBJECT_AFTER.match(line, place):
        return _SEVERAL
    if _COMMA_AFTER.match(line, place):
        return _COMMA
    return _COMMENT if _COMMENT_START.match(line, place) else _TEXT_AFTER


def _cause_within(line: bytes, message: str, place: int) -> str | None:
    cause = _cause_near(message, line[place - 1 : place], line[place : place + _LOOKED_AT])
    return _cause_of_value(line, place) if cause == _OF_VALUE else cause


@functools.lru_cache(4096)
def _cause_near(message: str, before: bytes, rest: bytes) -> str | None:
    """Return what is wrong within an object by the bytes around the place; `_OF_VALUE` if more bytes are needed."""
    if rest and rest[0] < ord(" "):
        return _CONTROL
    if rest.startswith(BOM):
        return _BOM_WITHIN
    if rest.startswith(_OTHER_QUOTES):
        return _QUOTES
    if _COMMENT_START.match(rest):
        return _COMMENT
    if "expected ',' or" in message and _WITHIN_WORD.match(before + rest):
        return _WORD
    if "keys must be strings" in message and rest[:1] not in _MARKS:
        return _NAME if _LETTERS.match(rest) or rest[:1].isdigit() else None
    return next((cause for part, cause in _BY_MESSAGE.items() if part in message), _OF_VALUE)


def _cause_of_value(line: bytes, place: int) -> str | None:
    refused = line[place : place + 1]
    if refused in _MARKS:
        return {b":": _NO_VALUE, b"-": _NUMBER}.get(line[:place].rstrip(_SPACES)[-1:], _NO_ELEMENT)
    if refused in (b"+", b"."):
        return _NUMBER
    while line[place - 1 : place].isalpha():  # the decoder stops within a word that starts as `null` does
        place -= 1
    word = _LETTERS.match(line, place)
    return None if word is None else _LITERALS.get(word[0].lower(), _WORD)


def not_an_object(line: bytes, error: msgspec.ValidationError) -> Reason:
    """Return the reason for a line that is no JSON object."""
    try:
        _ANY.decode(line)
    except msgspec.DecodeError as malformed:
        return not_json(line, malformed)
    found = str(error).partition("got ")[2].replace("`", "") or str(error)
    return _NO_OBJECT, _IS_ARRAY if found == "array" else found
