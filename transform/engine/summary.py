"""The summary of a run in numbers, and its state, from which another process can resume it later."""

import copy
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

import msgspec
import polars as pl

from transform.decode.near_names import did_you_mean, nearest
from transform.decode.rejects import ChunkResult, Reject, Rejects
from transform.decode.schema import Column, read_type
from transform.io.object_checksum import check_text
from transform.io.sources import Position

_FIRST_REJECTS = 3
_MAX_AFTER = 3
MAX_REASONS = 100
"""How many different reasons of rejected lines are counted separately; a reason may have a name from the input."""
OTHER_REASONS = "other reasons"


@dataclass(slots=True)
class Reason:
    r"""How often lines were rejected for one reason.

    Attributes:
        count: The number of lines.
        first_offset: Where the first of them starts, in bytes after decompression.

    Example:
        >>> import io
        >>> from transform import Calculation
        >>> calculation = Calculation.from_sql("a AS b").with_schema({"a": "Int64"})
        >>> calculation.run(io.BytesIO(b'{"a":1} nope {"a":2}'.replace(b" ", b"\n")), io.BytesIO()).reject_reasons
        {'not valid JSON': Reason(count=1, first_offset=8)}
    """

    count: int
    first_offset: int


@dataclass(slots=True)
class Summary:
    """What a run has read, written, filtered and rejected.

    Attributes:
        source: The input.
        target: The output.
        lines_in: Lines read; always the sum of the next four.
        lines_out: Lines in the output.
        filtered: Lines that the filters dropped.
        rejected: Lines that were rejected.
        blank: Lines that are only white space.
        bytes_in: Content read, in bytes after decompression.
        bytes_out: Content written, in bytes before compression.
        reject_reasons: The number of rejected lines and the first of them, by reason.
        first_rejects: The first few rejected lines, as text.
        nonfinite: The number of NaN and infinite numbers that were written as null, by result.
        inexact: The number of integers beyond 2^53 that were computed with as floats, by column.
        schema: The type of each column read, and whether it was `declared` or `inferred`, by name.
        notes: Notes for the user on how the run was done.
        absent: The names to drop or select that no line in the output has had, and the columns with a declared type
            that no line has had a value for, each with the nearest names of members.
        rejects: Where the rejected lines are, None if no line was rejected or they were not kept.
        lines_read: Lines read, or JSON texts, if rows are elements of arrays in them; otherwise `lines_in`.
        rejects_left_out: How many rejected lines were counted but not kept, because the worker keeps a limited number.
        seconds: Time from the start until the output was published.

    Example:
        >>> summary = Summary(bytes_in=3_000_000, seconds=1.5)
        >>> summary.mb_per_s
        2.0
        >>> Summary.from_dict(summary.to_dict()) == summary
        True
    """

    source: str = ""
    target: str = ""
    lines_in: int = 0
    lines_out: int = 0
    filtered: int = 0
    rejected: int = 0
    blank: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    reject_reasons: dict[str, Reason] = field(default_factory=dict)
    first_rejects: list[str] = field(default_factory=list)
    nonfinite: dict[str, int] = field(default_factory=dict)
    inexact: dict[str, int] = field(default_factory=dict)
    schema: dict[str, tuple[str, str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    absent: dict[str, list[str]] = field(default_factory=dict)
    rejects: str | None = None
    lines_read: int = 0
    rejects_left_out: int = 0
    seconds: float = 0.0

    @property
    def mb_per_s(self) -> float:
        """Content read per second, in megabytes (10^6 bytes)."""
        return self.bytes_in / 1e6 / self.seconds if self.seconds else 0.0

    def add(self, result: ChunkResult) -> None:
        """Add the counts of a chunk, without its rejects."""
        self.lines_in += result.lines
        self.lines_read += result.lines if result.lines_read is None else result.lines_read
        self.lines_out += result.kept
        self.filtered += result.filtered
        self.blank += result.blank
        self.bytes_in = result.stop
        self.bytes_out += sum(len(part) for part in result.output)
        for counts, more in ((self.nonfinite, result.nonfinite), (self.inexact, result.inexact)):
            for name, count in more.items():
                counts[name] = counts.get(name, 0) + count
        for name in self.absent.keys() & result.seen:
            del self.absent[name]
        for name in self.absent.keys() & result.near.keys():
            self.absent[name] = nearest(name, [*self.absent[name], *result.near[name]])

    def expect(self, names: Iterable[str]) -> None:
        """Note the names to read, drop or select, before the first line."""
        self.absent = {name: [] for name in names}

    def notes_on_absent(self, named_members: Mapping[str, str]) -> list[str]:
        """Return a sentence for each name in `absent`, if there is a line that could have had it.

        Args:
            named_members: What was to be done, by name: `read`, `drop` or `select`.
        """
        notes = []
        for name, near in self.absent.items():
            what = named_members.get(name)
            if what == "read" and (self.lines_out or self.filtered):
                notes.append(f"no line has a value for `{name}`, which was read as null.{did_you_mean(near)}")
            elif what in ("drop", "select") and self.lines_out:
                notes.append(f"no line that was kept has a member `{name}` to {what}.{did_you_mean(near)}")
        return notes

    def count(self, result: ChunkResult) -> None:
        """Add the counts of a chunk, with its rejects."""
        self.count_rejects(result.rejects)
        self.add(result)

    def count_rejects(self, rejects: Rejects) -> None:
        """Add rejected lines of the chunk whose other counts are added next."""
        self.rejected += len(rejects)
        reasons = self.reject_reasons
        for reject in rejects[: max(_FIRST_REJECTS - len(self.first_rejects), 0)]:
            self.first_rejects.append(f"{self.describe_place(reject)}: {reject.reason}")
        for kind, count, first_offset in rejects.by_kind():
            if (reason := reasons.get(kind)) is None:
                name = kind if len(reasons) < MAX_REASONS else OTHER_REASONS
                reason = reasons.setdefault(name, Reason(0, first_offset))
            reason.count += count

    def describe_place(self, reject: Reject) -> str:
        """Return where a rejected line of the chunk is that is added next."""
        element = "" if reject.element is None else f", element {reject.element}"
        return f"line {self.lines_read + reject.line + 1}{element} (offset {reject.offset})"

    def rows(self) -> Iterator[tuple[str, str, str]]:
        """Yield the summary as rows of a table for people: a name, a number and a note."""
        yield "lines in", f"{self.lines_in:,}", f"{self.bytes_in:,} bytes"
        yield "lines out", f"{self.lines_out:,}", f"{self.bytes_out:,} bytes"
        for name, count in (("filtered", self.filtered), ("blank", self.blank)):
            if count:
                yield name, f"{count:,}", ""
        if self.rejected:
            yield "rejected", f"{self.rejected:,}", f"kept in {self.rejects}" if self.rejects else "not kept"
        for kind, reason in self.reject_reasons.items():
            yield "", f"{reason.count:,}", f"{kind} (first at offset {reason.first_offset:,})"
        for name, count in self.nonfinite.items():
            yield "not finite", f"{count:,}", f"in {name}, written as null"
        for name, count in self.inexact.items():
            yield "not exact", f"{count:,}", f"integers beyond 2^53 in {name}, computed with as floats"
        columns = ", ".join(f"{name} {dtype} ({origin})" for name, (dtype, origin) in self.schema.items())
        yield "columns read", "", columns or "none"
        for note in self.notes:
            yield "note", "", note
        yield "time", f"{self.seconds:.2f} s", f"{self.mb_per_s:.1f} MB/s"

    def __str__(self) -> str:
        rows = list(self.rows())
        widths = [max(len(row[column]) for row in rows) for column in range(2)]
        return "\n".join(f"{name:<{widths[0]}}  {number:>{widths[1]}}  {note}".rstrip() for name, number, note in rows)

    def _repr_html_(self) -> str:
        from transform import html  # noqa: PLC0415 - only notebooks need it

        rows = [(name, html.Number(number), note) for name, number, note in self.rows()]
        what = f"{self.source} → {self.target}" if self.target else self.source
        bad = [html.Bad(f"rejected {text}") for text in self.first_rejects]
        return html.render("Summary", what, html.Table(rows), *bad)

    def copy(self) -> Self:
        """Return a copy that does not change when this one does."""
        return replace(
            self,
            reject_reasons={kind: replace(reason) for kind, reason in self.reject_reasons.items()},
            first_rejects=[*self.first_rejects],
            nonfinite={**self.nonfinite},
            inexact={**self.inexact},
            schema={**self.schema},
            notes=[*self.notes],
            absent={name: [*near] for name, near in self.absent.items()},
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the summary as plain data, for JSON."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        plain["schema"] = {name: {"type": dtype, "from": origin} for name, (dtype, origin) in self.schema.items()}
        return plain | {"mb_per_s": self.mb_per_s}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """Return the summary from the plain data that `to_dict` returned."""
        values = {name: value for name, value in copy.deepcopy(dict(plain)).items() if name != "mb_per_s"}
        values.setdefault("lines_read", values["lines_in"])  # earlier versions had no other rows than lines
        values["schema"] = {name: (of["type"], of["from"]) for name, of in plain["schema"].items()}
        values["reject_reasons"] = {kind: Reason(**of) for kind, of in plain["reject_reasons"].items()}
        return cls(**values)


@dataclass(frozen=True, slots=True)
class State:
    """How far a run has come.

    Attributes:
        summary: What was done so far; `bytes_in` is where the run is to be resumed.
        widened: The types of the columns whose inferred type turned out too narrow.
        codec: The name of the compression of the input, None for none.
        checksum: The checksum of the input so far, as `ObjectChecksum.so_far` returns it; None if it is not known.
        source: What the results have of where their rows came from, as `SourceInfo.noted` returns it; None for nothing.
        after: How to go on reading rows, if they are not lines: 1 in an array, 2 after a broken row, 3 for both.

    Example:
        >>> State.from_dict(State().to_dict()) == State()
        True
    """

    summary: Summary = field(default_factory=Summary)
    widened: Mapping[str, pl.DataType] = field(default_factory=dict)
    codec: str | None = None
    checksum: str | None = None
    source: str | None = None
    after: int = 0

    @property
    def position(self) -> Position | None:
        """Where to continue reading, None for the start of the input."""
        return Position(self.summary.bytes_in, self.codec) if self.summary.bytes_in else None

    @property
    def columns(self) -> dict[str, Column] | None:
        """The columns read with their types, None if they are still to be inferred."""
        if self.position is None:
            return None
        schema = self.summary.schema
        return {
            name: Column(read_type(dtype), inferred=origin == "inferred") for name, (dtype, origin) in schema.items()
        }

    def restarted(self, name: str, dtype: Any) -> "State":
        """Return the state of the run started again, with a wider type for a column."""
        return State(widened={**self.widened, name: dtype})

    def to_dict(self) -> dict[str, Any]:
        """Return the state as plain data, for JSON."""
        widened = {name: str(dtype) for name, dtype in self.widened.items()}
        summary = self.summary.to_dict()
        plain = {"summary": summary, "widened": widened, "codec": self.codec, "checksum": self.checksum}
        return plain | {"source": self.source, "after": self.after}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """Return the state from the plain data that `to_dict` returned.

        Raises:
            ValueError, KeyError, TypeError: The data is not that of a state, or has an unknown type.
        """
        widened = {name: read_type(text) for name, text in plain["widened"].items()}
        checksum = check_text(plain.get("checksum"))  # states of earlier versions have none
        source = plain.get("source")  # absent in states of earlier versions, too
        if not isinstance(source, str | None):
            raise TypeError(f"not a source: {source!r:.80}")
        after = plain.get("after", 0)
        if type(after) is not int or not 0 <= after <= _MAX_AFTER:
            raise ValueError(f"nothing that rows can come after: {after!r:.80}")
        state = cls(Summary.from_dict(plain["summary"]), widened, plain["codec"], checksum, source, after)
        _ = state.columns  # raises here, rather than later, if a type is unknown
        return state
