"""Reads the members of a single line: strict and slow, for lines that could not be decoded together with others.

`read_members` decides whether a line is a JSON object, by the grammar of RFC 8259 in UTF-8. If it is not, the
`LineError` has the reason.
"""

import codecs
import functools
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from transform.decode.line_errors import LineError, not_an_object, not_json, not_utf8
from transform.decode.schema import MAX_TYPE_DEPTH, Path, Paths, TooDeepError, kind_of, within

Buffer = bytes | bytearray | memoryview | msgspec.Raw

ESCAPED = re.compile(r'["\\\x00-\x1f]')
"""The characters that a struct of msgspec cannot have in the names of its members."""


MAX_DEPTH = 512
"""How deep objects and arrays may be nested; the braces of the line itself are the first level."""

BLOCK_BYTES = 256 << 10
"""How much of a long line is looked at at a time: what is found out about each byte takes many times its size."""

_MAX_ARRAY_DEPTH = 6
"""How deep the elements of an array that is suggested as the rows are nested at most."""

_ANY_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ARRAY = msgspec.json.Decoder(list[msgspec.Raw])
# A pair, or in the group a lone one, behind an even number of backslashes, so that no backslash is taken for an escape.
_SURROGATES = re.compile(
    rb"(?<!\\)(?:\\\\)*+(?:\\u[dD][89abAB]..\\u[dD][c-fC-F]..|(\\u[dD][89a-fA-F][0-9a-fA-F]{2}))", re.DOTALL
)
_NONCHARACTERS = rb"\ufdd0", rb"\ufdd1"
_QUOTE, _COMMA, _COLON, _BACKSLASH = 0x22, 0x2C, 0x3A, 0x5C
_OPENING, _CLOSING = 0x7B, 0x7D  # `{` and `}`; `[` and `]` differ from them in one bit
_CASE_BIT = 0x20


@dataclass(frozen=True, slots=True)
class Members:
    """The top-level members of one line.

    Attributes:
        values: The text of each value by name; of duplicates, the last.
        text: The bytes that `values` are views of: the line, or a copy of equal length without lone surrogates.
        lone_surrogates: The names whose value holds a lone surrogate escape.
    """

    values: dict[str, msgspec.Raw]
    text: Buffer
    lone_surrogates: frozenset[str] = frozenset()


def read_members(line: bytes, names: Collection[str] | None = None) -> Members:
    r"""Return the members of a line that is one JSON object.

    A lone surrogate escape such as `"\ud83d"` is valid by the grammar, but no decoder accepts it. So it is replaced by
    a noncharacter of the same length, and the line is decoded a second time with another noncharacter: a member whose
    name has a lone surrogate is another member then.

    Args:
        line: The bytes of the line, without its `\n`.
        names: The names of the members to return; None for all, which may take many times the memory of the line.

    Raises:
        LineError: The line is something else.
    """
    if (start := first_invalid_utf8(line)) is not None:
        raise LineError(*not_utf8(line, start))
    if is_deep(line):
        raise LineError(f"nested deeper than {MAX_DEPTH} levels")
    try:
        return Members(_decode(line, names), line)
    except msgspec.ValidationError as error:
        raise LineError(*not_an_object(line, error)) from None
    except msgspec.DecodeError as error:
        if b"\\u" not in line or not any(True for _ in lone_surrogates(line)):
            raise LineError(*not_json(line, error)) from None
    text = bytearray(line)
    try:
        # Both are views of the same bytes, so of the first only the positions are used.
        first, second = (_decode(_patch(text, line, other), names) for other in _NONCHARACTERS)
    except msgspec.ValidationError as error:
        raise LineError(*not_an_object(bytes(text), error)) from None
    except msgspec.DecodeError as error:
        raise LineError(*not_json(line, error)) from None
    base = address(text)
    lone = set()
    for name, value in second.items():
        start = address(value) - base
        same_name = name in first and address(first[name]) - base == start
        if not same_name or any(True for _ in lone_surrogates(memoryview(line)[start : start + len(value)])):
            lone.add(name)
    return Members(second, text, frozenset(lone | (first.keys() - second.keys())))


def first_names(line: bytes) -> Iterator[str]:
    """Yield the names of the members of a long line that begin within its first `BLOCK_BYTES`.

    Args:
        line: The bytes of a line that is one JSON object.
    """
    depth = 0
    for found in _TOKEN.finditer(line, 0, BLOCK_BYTES):
        token = found[0]
        if token == b'"':  # of a string that does not end there
            return
        if token in b"{[":
            depth += 1
        elif token in b"}]":
            depth -= 1
        elif depth == 1 and found[1] is not None:
            try:
                yield msgspec.json.decode(found[1], type=str)
            except msgspec.DecodeError:  # a lone surrogate
                continue


def first_arrays(line: bytes) -> dict[Path, set[str]]:
    """Return the arrays of objects within the first `BLOCK_BYTES` of a line, each with the names in its first object.

    Args:
        line: The bytes of a line that is one JSON object.

    Example:
        >>> first_arrays(b'{"Records":[{"a":1,"b":{"c":2}},{"d":3}]}')[("Records",)] == {"a", "b"}
        True
    """
    arrays: dict[Path, set[str]] = {}
    opened: list[tuple[bytes, str]] = []  # each with the name of the member that it is
    elements: dict[int, set[str]] = {}  # the names in an element, by how many brackets are open in it
    name = ""
    for found in _TOKEN.finditer(line, 0, BLOCK_BYTES):
        token = found[0]
        if token in b"{[":
            opened.append((token, name))
            depth, name = len(opened), ""
            elements.pop(depth, None)
            if 3 <= depth <= _MAX_ARRAY_DEPTH and b"".join(kind for kind, _ in opened) == b"[{".rjust(depth, b"{"):
                path = tuple(step for _, step in opened[1:-1])
                if path not in arrays:
                    arrays[path] = elements[depth] = set()
        elif token in b"}]" and opened:
            opened.pop()
        elif found[1] is not None:
            try:
                name = msgspec.json.decode(found[1], type=str)
            except msgspec.DecodeError:  # a lone surrogate
                continue
            elements.get(len(opened), set()).add(name)
    return arrays


_TOKEN = re.compile(rb'("(?:[^"\\]|\\.)*+")[ \t\r\n]*+:|"(?:[^"\\]|\\.)*+"|"|[{}\[\]]')


def read_path(values: Mapping[str, msgspec.Raw], path: Path) -> msgspec.Raw | None:
    """Return the text of the member at a path, None if it is missing or an object on the way to it is null or missing.

    Args:
        values: The texts of the members of the line.
        path: The names on the way to the member, and its own.

    Raises:
        LineError: Something else than an object is on the way.
    """
    text = values.get(path[0])
    for depth, name in enumerate(path[1:], 1):
        if text is None or (len(text) == 4 and bytes(text) == b"null"):
            return None
        if not _is_object(text):
            kind = kind_of(bytes(text))
            article = "an" if kind[0] in "aio" else "a"
            raise LineError(f"column `{'.'.join(path[:depth])}`: expected an object, found {article} {kind}")
        text = _decode(text, (name,)).get(name)
    return text


def decode_used(text: bytes, paths: Paths, depth: int = 0) -> Any:
    """Return a JSON value, or the part of it that is used: of objects, the members on the paths.

    Args:
        text: The text of the value.
        paths: The paths within objects and elements of arrays; None for the whole value.
        depth: How many arrays and objects it is in.

    Raises:
        TooDeepError: The part that is used is nested too deeply.
    """
    if depth > MAX_TYPE_DEPTH:
        raise TooDeepError
    kind = kind_of(text)
    if kind == "array" and paths is not None:
        return [decode_used(bytes(element), paths, depth + 1) for element in _ARRAY.decode(text)]
    if kind == "object" and paths is not None:
        members = _ANY_OBJECT.decode(text)
        names = dict.fromkeys(path[0] for path in sorted(paths))
        return {
            name: decode_used(bytes(members[name]), within(paths, name), depth + 1) if name in members else None
            for name in names
        }
    return msgspec.json.decode(text)


def without_duplicates(text: bytes, depth: int = 0) -> bytes:
    """Return a JSON value of which each object has only the last of the members that have the same name.

    Args:
        text: The text of the value.
        depth: How many arrays and objects it is in; what is nested deeper than a type may be is left as it is.
    """
    kind = kind_of(text[:1])
    if depth > MAX_TYPE_DEPTH or kind not in ("array", "object"):
        return text
    if kind == "array":
        return b"[%b]" % b",".join(without_duplicates(bytes(value), depth + 1) for value in _ARRAY.decode(text))
    values = _ANY_OBJECT.decode(text).items()
    members = (msgspec.json.encode(name) + b":" + without_duplicates(bytes(of), depth + 1) for name, of in values)
    return b"{%b}" % b",".join(members)


def _is_object(text: msgspec.Raw) -> bool:
    return memoryview(text)[0] == _OPENING


def without_lone_surrogates(text: bytes) -> tuple[bytes, bytes] | None:
    """Return a JSON text twice, with different noncharacters in place of lone surrogates; None if it has none.

    The values that differ hold a lone surrogate.
    """
    if not any(True for _ in lone_surrogates(text)):
        return None
    first, second = (bytes(_patch(bytearray(text), text, other)) for other in _NONCHARACTERS)
    return first, second


def _decode(text: Buffer, names: Collection[str] | None) -> dict[str, msgspec.Raw]:
    """Return the members of these names, all of them for None; of duplicates, the last."""
    if names is None or any(not _is_plain(name) for name in names):
        every: dict[str, msgspec.Raw] = _in_new_stack(_ANY_OBJECT.decode, text)
        return every if names is None else {name: every[name] for name in names if name in every}
    found = _in_new_stack(_decoder_of(tuple(names)).decode, text)
    values = ((name, getattr(found, f"m{index}")) for index, name in enumerate(names))
    return {name: value for name, value in values if value is not msgspec.UNSET}


def _is_plain(name: str) -> bool:
    """Return whether a struct of msgspec can have a member of this name."""
    return ESCAPED.search(name) is None


@functools.lru_cache(maxsize=64)
def _decoder_of(names: tuple[str, ...]) -> msgspec.json.Decoder[Any]:
    fields = [
        (f"m{index}", msgspec.Raw | msgspec.UnsetType, msgspec.field(name=name, default=msgspec.UNSET))
        for index, name in enumerate(names)
    ]
    return msgspec.json.Decoder(msgspec.defstruct("Members", fields, gc=False))


def _in_new_stack(decode: Callable[[Buffer], Any], text: Buffer) -> Any:
    """Decode; if the stack of the caller leaves no room for `MAX_DEPTH` levels, in a thread with a stack of its own."""
    try:
        return decode(text)
    except RecursionError:
        with ThreadPoolExecutor(1) as threads:
            return threads.submit(decode, text).result()


def _patch(text: bytearray, line: bytes, other: bytes) -> bytearray:
    """Replace all lone surrogates of a line in its copy, which stays where it is."""
    for start in lone_surrogates(line):
        text[start : start + len(other)] = other
    return text


def lone_surrogates(text: Buffer) -> Iterator[int]:
    r"""Yield where the escapes of lone surrogates such as `\ud83d` start, in JSON that starts outside an escape."""
    return (found.start(1) for found in _SURROGATES.finditer(text) if found[1])


def address(text: Buffer) -> int:
    """Return the address of the first byte."""
    return int(np.frombuffer(text, np.uint8).ctypes.data)


def first_invalid_utf8(text: Buffer) -> int | None:
    """Return the position of the first byte that is not UTF-8, None if all of it is."""
    if isinstance(text, bytes) and text.isascii():  # which takes no time
        return None
    view, position = memoryview(text), 0
    while position < len(view):
        block = view[position : position + BLOCK_BYTES]
        try:
            position += codecs.utf_8_decode(block, "strict", position + len(block) == len(view))[1]
        except UnicodeDecodeError as error:
            return position + error.start
    return None


def is_deep(line: Buffer) -> bool:
    """Return whether the line is nested deeper than `MAX_DEPTH`."""
    if len(line) <= MAX_DEPTH:
        return False
    return count_openers(line) > MAX_DEPTH and any((marks.depths > MAX_DEPTH).any() for marks in scan_line(line))


def count_openers(text: Buffer) -> int:
    """Return the number of opening brackets and braces, in strings too."""
    data = np.frombuffer(text, np.uint8)
    starts = range(0, len(data), BLOCK_BYTES)
    return sum(int(np.count_nonzero((data[i : i + BLOCK_BYTES] & 0xDF) == 0x5B)) for i in starts)  # they differ by 0x20


@dataclass(frozen=True, slots=True)
class Marks:
    """The marks of a block of a line: quotes that begin or end a string, and outside strings brackets, commas, colons.

    Attributes:
        positions: Where they are in the line.
        kinds: Their bytes.
        depths: How many brackets are open after each.
        backslashes: Where backslashes are in the line.
    """

    positions: npt.NDArray[np.int64]
    kinds: npt.NDArray[np.uint8]
    depths: npt.NDArray[np.int32]
    backslashes: npt.NDArray[np.int64]


def scan_line(line: Buffer, block_bytes: int = BLOCK_BYTES) -> Iterator[Marks]:
    """Yield the marks of a line block by block; for a line that is not valid JSON they are arbitrary.

    Args:
        line: The bytes of the line.
        block_bytes: The size of a block.
    """
    data = np.frombuffer(line, np.uint8)
    in_string, escaped, depth = False, False, 0
    for start in range(0, len(data), block_bytes):
        block = data[start : start + block_bytes]
        found, backslashes = find_marks(block, escaped=escaped)
        escaped = _ends_escaped(backslashes, len(block), escaped=escaped)
        kinds = block[found]
        quotes = kinds == _QUOTE
        within = np.cumsum(quotes, dtype=np.int32) + in_string & 1
        in_string = bool(within[-1]) if len(within) else in_string
        there = quotes | (within == 0)
        positions, kinds = found[there] + start, kinds[there]
        depths = depth + np.cumsum(depth_steps(kinds), dtype=np.int32)
        depth = int(depths[-1]) if len(depths) else depth
        yield Marks(positions, kinds, depths, backslashes + start)


def depth_steps(kinds: npt.NDArray[np.uint8]) -> npt.NDArray[np.int8]:
    """Return by how much each mark changes the depth: 1 for opening brackets, -1 for closing ones."""
    folded = kinds | _CASE_BIT
    steps: npt.NDArray[np.int8] = (folded == _OPENING).view(np.int8) - (folded == _CLOSING).view(np.int8)
    return steps


def find_marks(
    data: npt.NDArray[np.uint8], *, escaped: bool = False
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the positions of quotes that no backslash escapes, brackets, commas and colons, and those of backslashes.

    Args:
        data: Bytes of JSON.
        escaped: Whether a backslash before the first byte escapes it.
    """
    folded = data | _CASE_BIT
    found = (folded == _OPENING) | (folded == _CLOSING)
    found |= data == _COMMA
    found |= data == _COLON
    quotes = data == _QUOTE
    if (backslashes := np.flatnonzero(data == _BACKSLASH)).size:
        quotes[_after_odd_runs(backslashes, len(data), escaped=escaped)] = False
    if escaped and len(data):
        quotes[0] = False
    found |= quotes
    return np.flatnonzero(found), backslashes


def _after_odd_runs(backslashes: npt.NDArray[np.int64], size: int, *, escaped: bool) -> npt.NDArray[np.int64]:
    """Return the positions that a backslash escapes: those after a run of backslashes of odd length."""
    run_starts = np.flatnonzero(np.diff(backslashes, prepend=-2) != 1)
    lengths = np.diff(run_starts, append=len(backslashes))
    after = backslashes[run_starts] + lengths
    if escaped and backslashes[0] == 0:  # the first backslash is a character itself
        lengths[0] -= 1
    found: npt.NDArray[np.int64] = after[(lengths % 2 == 1) & (after < size)]
    return found


def _ends_escaped(backslashes: npt.NDArray[np.int64], size: int, *, escaped: bool) -> bool:
    """Return whether the byte after a block is escaped by a backslash that ends it."""
    gaps = np.flatnonzero(np.diff(backslashes, prepend=-2, append=size) != 1)
    run = len(backslashes) - int(gaps[-1])
    return bool((run - (escaped and run == size)) % 2)
