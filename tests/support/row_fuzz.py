"""Rows and elements of arrays made up at random, as the kernel and the reference find them."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
    *('{"a" \t: \r\n 1 }', '[{"a":1},\n{"b":2}]', '\n{"c":3}'),
)
ELEMENTS = ("{}", '{"a":1}', "7", '"x,]\\"y"', '{"a":[1,{"b":"]}"}]}', "null", "[1,[2]]", '{ "z":"' + "w" * 70 + '"}')


def check_rows(rng: random.Random, kernel: Kernel, room: Callable[[bytes, bytes], memoryview]) -> None:
    """Compare the rows of a text.

    Args:
        rng: Makes up the text.
        kernel: The functions.
        room: Returns a view of data that is in memory with other bytes after it, as `kernels.exact` does.
    """
    text = "".join(rng.choices(PARTS, k=rng.randrange(25))).encode()
    data = room(b"\n" * BEFORE_BYTES + text, b"\n" + b'"' * 63)
    finder = RowFinder(BEFORE_BYTES, room=3, kernel=kernel)
    found = []
    while len(rows := finder.find(data, at_end=True)):
        lines = bytes(write_rows(data, rows, kernel)).splitlines()
        for line, start, fault in zip(lines, rows.starts.tolist(), rows.faults.tolist(), strict=True):
            found.append((start - BEFORE_BYTES, None if fault else line))
    assert found == [(row.start, row.line) for row in rows_of(text)], text


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
