"""The reasons for which many lines of a chunk are rejected, as columns."""

from collections.abc import Iterable
from typing import NamedTuple, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from transform.decode.columns import SHORT_CHARACTERS, shorten
from transform.decode.line_errors import full_reason
from transform.decode.rejects import Rejects
from transform.native.binding import Bytes, Positions, RejectedLines, Spans, Wording, write_rejects

T = TypeVar("T")
_NONE = -1
_NUMBER = -1


class Form(NamedTuple):
    """What is the same in the reasons for several lines; each has a detail in addition, which may be empty.

    Attributes:
        kind: The reason without values of the line, so that equal reasons can be counted.
        before: The reason up to the detail.
        after: What comes after that.
        binary: Whether the lines are not UTF-8.
    """

    kind: str
    before: str
    after: str = ""
    binary: bool = False


def whole_form(kind: str, detail: str = "") -> Form:
    """Return the form of a reason that is the same for all its lines."""
    return Form(kind, full_reason(kind, detail))


class Reasons:
    """The reasons to reject some lines of a chunk.

    Args:
        data: The chunk.
        starts: Where each of these lines starts.
        stops: Where it ends, before its newline.
    """

    def __init__(self, data: Bytes, starts: Positions, stops: Positions) -> None:
        self._data = data
        self._starts = starts
        self._stops = stops
        self._forms: dict[Form, int] = {}
        self._reasons = np.full(len(starts), _NONE, np.int32)
        self._details = np.zeros(len(starts), np.int64)
        self._detail_stops = np.zeros(len(starts), np.int64)

    @property
    def known(self) -> npt.NDArray[np.bool_]:
        """Which lines have a reason, by row."""
        known: npt.NDArray[np.bool_] = self._reasons != _NONE
        return known

    def add(self, rows: Positions, form: Form) -> None:
        """Note the reason for the lines in some rows, without details."""
        self._reasons[rows] = self._forms.setdefault(form, len(self._forms))

    def add_with_numbers(self, rows: Positions, form: Form, numbers: Positions) -> None:
        """Note the reason for some lines, of which each has a number in it."""
        self.add(rows, form)
        self._details[rows], self._detail_stops[rows] = numbers, _NUMBER

    def add_with_texts(self, rows: Positions, form: Form, starts: Spans, stops: Spans) -> None:
        """Note the reason for some lines, of which each has bytes of the chunk in it, shortened."""
        self.add(rows, form)
        self._details[rows], self._detail_stops[rows] = starts, stops

    def reason(self, row: int) -> tuple[str, str] | None:
        """Return the kind of the reason for a line and its text, None if it has no reason."""
        if self._reasons[row] == _NONE:
            return None
        form = [*self._forms][self._reasons[row]]
        start, stop = int(self._details[row]), int(self._detail_stops[row])
        detail = str(start) if stop == _NUMBER else shorten(bytes(self._data[start:stop]).decode())
        return form.kind, f"{form.before}{detail}{form.after}"

    def rejects(self, rows: Positions, indices: Positions, offsets: Positions) -> Rejects:
        """Return lines that have a reason as rejects.

        Args:
            rows: Their rows.
            indices: The index of each in the chunk.
            offsets: Where it starts in the input.
        """
        lines = RejectedLines(
            starts=self._starts[rows],
            stops=self._stops[rows],
            reasons=self._reasons[rows],
            details=self._details[rows],
            detail_stops=self._detail_stops[rows],
        )
        wordings = [wording(form) for form in self._forms]
        texts, bounds = write_rejects(self._data, lines, wordings, SHORT_CHARACTERS)
        kinds = {kind: number for number, kind in enumerate(dict.fromkeys(form.kind for form in self._forms))}
        numbers = np.array([kinds[form.kind] for form in self._forms], np.int64)
        return Rejects(indices, offsets, tuple(kinds), numbers[lines.reasons], texts, bounds[:-1], bounds[1:])


def wording(form: Form) -> Wording:
    """Return a form as the kernel takes it."""
    before, after = (msgspec.json.encode(text)[1:-1] for text in (form.before, form.after))
    return Wording(b',"reason":"' + before, after + b'","raw%b":"' % (b"_base64" * form.binary), form.binary)


def rows_by_value(values: Iterable[T | None]) -> dict[T, Positions]:
    """Return at which places each value is, without None."""
    rows = dict[T, list[int]]()
    for row, value in enumerate(values):
        if value is not None:
            rows.setdefault(value, []).append(row)
    return {value: np.array(of) for value, of in rows.items()}
