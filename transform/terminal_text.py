"""Text of keys and data as it is safe to show: control characters become visible escapes.

Names and values in the input, keys of objects and texts of messages are other people's. Written raw to a terminal, they
could move the cursor, change its title, or show text in another order than it has.
"""

import re
import shutil
import sys
import textwrap
import unicodedata


def printable(text: str, keep: str = "") -> str:
    r"""Return a text with the characters that are not shown, or change how others are shown, as escapes of Python.

    These are the characters that `str.isprintable` and `repr` treat so, without spaces: control characters, marks of
    direction and other invisible format characters, separators of lines and paragraphs, lone surrogates, and characters
    that Unicode has not assigned. Backslashes stay as they are, so the text is for people, not to be read back.

    Args:
        text: The text.
        keep: Characters to leave as they are, such as line breaks of the caller.

    Example:
        >>> print(printable("a\x1b[2J\n\u202eb é"))
        a\x1b[2J\n\u202eb é
    """
    if text.isprintable():
        return text
    return "".join(one if _is_shown(one) or one in keep else one.encode("unicode_escape").decode() for one in text)


def has_lone_surrogate(text: str) -> bool:
    r"""Return whether a text has half of a surrogate pair, so that it is not Unicode and has no UTF-8.

    Python makes such characters of bytes of an argument that are not UTF-8, and of escapes such as `"\ud83d"` in JSON.

    Example:
        >>> has_lone_surrogate("caf\udce9"), has_lone_surrogate("café")
        (True, False)
    """
    return _LONE_SURROGATE.search(text) is not None


_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def printable_json(text: str) -> str:
    r"""Return JSON with the same characters as escapes of JSON; it means the same.

    Line breaks stay as they are: they can only be between values.

    Example:
        >>> print(printable_json('{"a": "\x7f\u202e é"}'))
        {"a": "\u007f\u202e é"}
    """
    if text.isprintable():
        return text
    return "".join(one if _is_shown(one) or one == "\n" else _json_escape(one) for one in text)


def _is_shown(character: str) -> bool:
    return character.isprintable() or unicodedata.category(character) == "Zs"


def _json_escape(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))


def fit_to_terminal(text: str) -> str:
    """Return a text for standard error: broken between words if that is a terminal, otherwise as it is.

    A program, or a search in a log, finds a message on one line.

    Example:
        >>> fit_to_terminal("in.jsonl: no such file")
        'in.jsonl: no such file'
    """
    if not sys.stderr.isatty():
        return text
    width = shutil.get_terminal_size().columns
    return textwrap.fill(text, width, break_long_words=False, break_on_hyphens=False)
