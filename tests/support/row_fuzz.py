"""Rows and elements of arrays made up at random, as the kernel and the reference find them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from tests.support.rows_reference import rows_of
from transform.native.each import Beside, Source, write_elements
from transform.native.rows import BEFORE_BYTES, RowFinder, write_rows

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from transform.native.binding import Kernel

PARTS = (
    *('{"a":1}', '{"a": [1,\n {"b": "x\\"y"}]}', '{"a" 1}', '{"a": "x', '{"k":{"m":[{},{}]}}', '{\n  "a": 1\n}'),
    *("[", "]", "{", "}", ",", ":", '"', "\\", "nope", "1", '"s"', "\n", "\n  ", "\r\n", " ", "\t" * 40, "x" * 70),
    *('{"a" \t: \r\n 1 }', '[{"a":1},\n{"b":2}]', '\n{"c":3}', "\x0c", "\x1a", "é\xa0"),
)
MUTATIONS = b'{}[],:"\\ \t\r\n\x0c\x1a0a'
LEAVES = (None, True, -1.5e3, 12, "", "x", 'a "b" \\', "é\t{[", "w" * 70)
ELEMENTS = ("{}", '{"a":1}', "7", '"x,]\\"y"', '{"a":[1,{"b":"]}"}]}', "null", "[1,[2]]", '{ "z":"' + "w" * 70 + '"}')


def check_rows(rng: random.Random, kernel: Kernel, room: Callable[[bytes, bytes], memoryview]) -> None:
    """Compare the rows of a text.

    Args:
        rng: Makes up the text.
        kernel: The functions.
        room: Returns a view of data that is in memory with other bytes after it, as `kernels.exact` does.
    """
    text = (
        _mutated(_indented(rng), rng)
        if rng.random() < 0.5
        else "".join(rng.choices(PARTS, k=rng.randrange(25))).encode()
    )
    data = room(b"\n" * BEFORE_BYTES + text, b"\n" + b'"' * 63)
    finder = RowFinder(BEFORE_BYTES, room=3, kernel=kernel)
    found = []
    while len(rows := finder.find(data, at_end=True)):
        lines = bytes(write_rows(data, rows, kernel)).splitlines()
        for line, start, fault in zip(lines, rows.starts.tolist(), rows.faults.tolist(), strict=True):
            found.append((start - BEFORE_BYTES, None if fault else line))
    assert found == [(row.start, row.line) for row in rows_of(text)], text


def _indented(rng: random.Random) -> bytes:
    """Return objects as programs write them for people: they are right, and longer than a block of the kernel."""
    indent, width = rng.choice((None, 0, 1, 4, "\t")), rng.choice((1, 2, 5))
    comma = rng.choice((",", ", ", " ,"))
    rows = [_value(rng, rng.randrange(3), width) for _ in range(rng.randrange(1, 5))]
    if rng.random() < 0.3:
        return json.dumps(rows, indent=indent, separators=(comma, ": ")).encode()
    texts = (json.dumps(row, indent=indent, separators=(comma, ": "), ensure_ascii=False) for row in rows)
    return rng.choice(("\n", "", " ")).join(texts).replace("\n", rng.choice(("\n", "\r\n", "\n\n", " \n"))).encode()


def _value(rng: random.Random, depth: int, width: int) -> Any:
    """Return an object of so many levels."""

    def inside() -> Any:
        if depth and rng.random() < 0.4:
            return _value(rng, depth - 1, width)
        return [inside() for _ in range(rng.randrange(width))] if depth and rng.random() < 0.2 else rng.choice(LEAVES)

    return {f"{'n' * rng.randrange(9)}{number}": inside() for number in range(rng.randrange(width + 1))}


def _mutated(text: bytes, rng: random.Random) -> bytes:
    """Return a text in which a few bytes may be missing, added or changed."""
    changed = bytearray(text)
    for _ in range(rng.choice((0, 1, 1, 2))):
        at = rng.randrange(len(changed))
        changed[at : at + rng.randrange(2)] = rng.choices(MUTATIONS, k=rng.randrange(2))
    return bytes(changed)


def check_elements(rng: random.Random, kernel: Kernel, room: Callable[[bytes, bytes], memoryview]) -> None:
    """Compare the elements of an array; see `check_rows`."""
    elements = rng.choices(ELEMENTS, k=rng.randrange(5))
    text = f"7[{rng.choice(['', ' '])}{rng.choice([',', ' , ']).join(elements)}]\n".encode()
    beside = Beside(b'"m":', np.array([0], np.uint32), np.array([1], np.uint32))
    data, kinds = np.frombuffer(room(text, b'"'), np.uint8), np.array([Source.ELEMENTS], np.uint8)
    sizes = rng.randrange(1, 4), rng.randrange(1, 30)
    parts = write_elements(data, kinds, np.array([1], np.uint32), [beside], *sizes, kernel)
    found = b"".join(bytes(part.data) for part in parts).decode().split("\n")[:-1]
    assert found == [_with_member(element) for element in elements], text


def _with_member(element: str) -> str:
    if not element.startswith("{"):
        return element
    return '{"m":7' + ("" if element == "{}" else ",") + element[1:]
