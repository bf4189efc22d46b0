"""The reasons for which lines are rejected, and what causes those that are not JSON objects.

The causes are known by the bytes around the place where the decoder stopped, and by its message.
"""

import re

import msgspec

from transform.io.chunks import BOM


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
_SEVERAL = "several objects on one line (`jq -c .` puts each on its own)"
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

_SPACES = b" \t\r"
_LOOKED_AT = 64  # bytes from the place on; the rest may be hundreds of megabytes
_OBJECT_AFTER, _COMMA_AFTER = re.compile(rb"[ \t\r,;]*+\{"), re.compile(rb"[ \t\r,]*+\Z")
_PLACE = re.compile(r"\(byte (\d+)\)$")
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


def not_utf8(line: bytes, start: int) -> LineError:
    """Return the reason for a line with a byte that is not UTF-8: the cause, if it shows."""
    if _WIDE.match(line.lstrip(_SPACES)):
        return LineError(f"not valid UTF-8: {_UTF_16}")
    found = f"byte {start} of the line is 0x{line[start]:02X}"
    cause = _CUT_CHARACTER if _is_cut(line[start : start + 4]) else _LATIN
    return LineError(f"not valid UTF-8: {cause}", found)


def _is_cut(character: bytes) -> bool:
    try:
        character.decode()
    except UnicodeDecodeError as error:
        return error.reason == "unexpected end of data"
    return False


def not_json(line: bytes, error: msgspec.DecodeError) -> LineError:
    """Return the reason for a line that is not JSON: its cause if that is known, else the decoder's message."""
    message = str(error).removeprefix("JSON is malformed: ")
    found = _PLACE.search(message)
    place = int(found[1]) - ("trailing characters" in message) if found else len(line)
    cause = _cause(line, message, place)
    if cause is None:
        return LineError("not valid JSON", message)
    return LineError(f"not valid JSON: {cause}", f"byte {place} of the line" if found else "")


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
    if "truncated" in message:
        return _CUT
    return _cause_after_object(line, place) if "trailing characters" in message else _cause_within(line, message, place)


def _cause_without_object(text: bytes, message: str) -> str | None:
    for start, cause in ((b"\0", _NULS), (b"\x1e", _RECORD)):
        if text.startswith(start):
            return cause
    if _COMMENT_START.match(text):
        return _COMMENT
    if text.startswith(b"[") and "truncated" in message:
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
    rest = line[place : place + _LOOKED_AT]
    if rest and rest[0] < ord(" "):
        return _CONTROL
    if rest.startswith(_OTHER_QUOTES):
        return _QUOTES
    if _COMMENT_START.match(rest):
        return _COMMENT
    if "expected ',' or" in message and _WITHIN_WORD.match(line, place - 1):
        return _WORD
    if "keys must be strings" in message and rest[:1] not in _MARKS:
        return _NAME if _LETTERS.match(rest) or rest[:1].isdigit() else None
    return next((cause for part, cause in _BY_MESSAGE.items() if part in message), None) or _cause_of_value(line, place)


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


def not_an_object(line: bytes, error: msgspec.ValidationError) -> LineError:
    """Return the reason for a line that is no JSON object."""
    try:
        msgspec.json.Decoder(msgspec.Raw).decode(line)
    except msgspec.DecodeError as malformed:
        return not_json(line, malformed)
    found = str(error).partition("got ")[2].replace("`", "") or str(error)
    return LineError("not a JSON object", f"array; {_ONE_OBJECT}" if found == "array" else found)
