"""The reasons for lines that are not JSON objects, found for many lines at once.

The kernel has found what is wrong with each of them, and where. In most lines, the bytes around that place show the
cause, and in many they are the same. `line_errors.reason_of_fault` finds the same reasons line by line; what is not
certain here is left to it.
"""

import numpy as np

from transform.decode.line_errors import CUT_KIND, NEAR_BYTES, NOT_OBJECTS, kind_near, reason_of_fault
from transform.decode.reasons import Form, Reasons, rows_by_value, whole_form
from transform.native.binding import Bytes, Fault, Positions

_WORD_BEFORE, _WORD_AFTER = 8, 12
"""How many bytes before the place of a fault and from there on may be a word whose reason is found in bulk."""
_IS_LETTER = np.array([bytes([byte]).isalpha() for byte in range(256)])
_IS_WORD = np.array([bytes([byte]).isalnum() or byte in b"_$" or byte >= 0x80 for byte in range(256)])


def find_reasons(
    data: Bytes, starts: Positions, stops: Positions, faults: Bytes, places: Positions, reasons: Reasons
) -> None:
    """Note the reasons for lines that are not JSON objects.

    Args:
        data: The chunk.
        starts: Where each line starts; none is blank.
        stops: Where it ends.
        faults: What is wrong with it, as a `Fault`.
        places: At which of its bytes.
        reasons: Where the reasons are noted. A line without one must be looked at by itself.
    """
    for fault, reason in NOT_OBJECTS.items():
        reasons.add(np.flatnonzero(faults == fault), whole_form(*reason))
    last = len(data) - 1
    is_plain = (data[starts] == ord("{")) & (data[np.minimum(starts + 1, last)] != 0)  # and not UTF-16
    reasons.add(np.flatnonzero(is_plain & (faults == Fault.TRUNCATED)), whole_form(CUT_KIND))
    rows = np.flatnonzero(is_plain & ~np.isin(faults, (Fault.NONE, Fault.UNSURE, Fault.TRUNCATED)))
    at = starts[rows] + places[rows]
    left = np.minimum(stops[rows] - at, NEAR_BYTES)
    around = np.zeros((len(rows), 8), np.uint8)
    around[:, 0], around[:, 1] = faults[rows], left
    around[:, 2 : 3 + NEAR_BYTES] = data[np.minimum(at[:, None] + np.arange(-1, NEAR_BYTES), last)]
    around[:, 3 : 3 + NEAR_BYTES][np.arange(NEAR_BYTES) >= left[:, None]] = 0
    _, first, groups = np.unique(around.view(np.uint64)[:, 0], return_index=True, return_inverse=True)
    near = [_form_near(bytes(around[row])) for row in first.tolist()]
    for form, alike in rows_by_value(near).items():
        of = rows[np.isin(groups, alike)]
        reasons.add_with_numbers(of, form, places[of])
    in_values = ~np.isin(faults, (Fault.NONE, Fault.UNSURE, Fault.TRUNCATED, Fault.TRAILING, Fault.NOT_UTF8))
    _add_words(data, starts, stops, faults, places, np.flatnonzero(is_plain & in_values & ~reasons.known), reasons)
    rows = np.flatnonzero(~reasons.known & ~np.isin(faults, (Fault.NONE, Fault.UNSURE)))
    view, columns = data.data, (column[rows].tolist() for column in (starts, stops, faults, places))
    others = (_kind_of_line(bytes(view[start:stop]), *fault) for start, stop, *fault in zip(*columns, strict=True))
    for kind, of in rows_by_value(others).items():
        reasons.add_with_numbers(rows[of], _form(kind), places[rows[of]])


def _add_words(
    data: Bytes,
    starts: Positions,
    stops: Positions,
    faults: Bytes,
    places: Positions,
    rows: Positions,
    reasons: Reasons,
) -> None:
    """Note the reasons for lines with a word such as NaN in the place of a value: the same word is one of many lines.

    Args:
        data: The chunk.
        starts: Where each line starts.
        stops: Where it ends.
        faults: What is wrong with it.
        places: At which of its bytes.
        rows: The lines to look at. Where the fault is not in a short word, nothing is noted.
        reasons: Where the reasons are noted.
    """
    if not len(rows):
        return
    at, offsets = starts[rows] + places[rows], np.arange(-_WORD_BEFORE, _WORD_AFTER)
    around = at[:, None] + offsets
    inside = (around >= starts[rows, None]) & (around < stops[rows, None])
    near = np.where(inside, data[np.clip(around, 0, len(data) - 1)], 0).astype(np.uint8)
    is_letter, is_word = _IS_LETTER[near], _IS_WORD[near]
    before = np.argmin(is_letter[:, _WORD_BEFORE - 1 :: -1], axis=1)  # letters of the word before the fault
    behind = np.argmin(is_word[:, _WORD_BEFORE:], axis=1)  # and its bytes from there on
    is_short = is_letter[:, _WORD_BEFORE] & ~is_letter[:, :_WORD_BEFORE].all(axis=1)
    is_short &= ~is_word[:, _WORD_BEFORE:].all(axis=1)
    # `kind_near` looks at one byte before the place and some from there on, whatever the word is.
    of_word = (offsets >= -np.maximum(before, 1)[:, None]) & (offsets <= np.maximum(behind, NEAR_BYTES)[:, None])
    key = np.zeros((len(rows), _WORD_BEFORE + _WORD_AFTER + 1), np.uint8)
    key[:, :-1], key[:, -1] = np.where(of_word, near, 0), faults[rows]
    key, rows = key[is_short], rows[is_short]
    _, first, groups = np.unique(key.view(f"V{key.shape[1]}")[:, 0], return_index=True, return_inverse=True)
    one_of_each = (column[rows[first]].tolist() for column in (starts, stops, faults, places))
    kinds = [_kind_of_line(bytes(data[start:stop]), *fault) for start, stop, *fault in zip(*one_of_each, strict=True)]
    for kind, alike in rows_by_value(kinds).items():
        of = rows[np.isin(groups, alike)]
        reasons.add_with_numbers(of, _form(kind), places[of])


def _kind_of_line(line: bytes, fault: int, place: int) -> str | None:
    """Return the kind of a reason of which the detail is the place, else None."""
    reason = reason_of_fault(line, fault, place)
    return None if reason is None or reason[1] != f"byte {place} of the line" else reason[0]


def _form_near(around: bytes) -> Form | None:
    fault, left = around[:2]
    before, rest = around[2:3], around[3 : 3 + left]
    kind = kind_near(fault, before, rest)
    if kind is None:
        return None
    if fault == Fault.NOT_UTF8:
        return Form(kind, f"{kind}: byte ", f" of the line is 0x{rest[0]:02X}", binary=True)
    return _form(kind)


def _form(kind: str) -> Form:
    return Form(kind, f"{kind}: byte ", " of the line")
