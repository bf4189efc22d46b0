"""What a run did, in numbers."""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from transform.piece import ChunkResult
from transform.rejects import Reject

_FIRST_REJECTS = 3


@dataclass(slots=True)
class Reason:
    r"""How often lines were rejected for one reason.

    Attributes:
        count: How many.
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
    """What a run did.

    Attributes:
        source: The input.
        target: The output.
        lines_in: Lines that came in; always the sum of the next four.
        lines_out: Lines in the output.
        filtered: Lines that the filters dropped.
        rejected: Lines that are among the rejects.
        blank: Lines of nothing but white space.
        bytes_in: Content read, in bytes after decompression.
        bytes_out: Content written, in bytes before compression.
        reject_reasons: By reason, how often and where first.
        nonfinite: By result, how many NaN and infinite numbers were written as null.
        first_rejects: The first few rejected lines, as text.
        schema: By column read, its type and whether it was `declared` or `inferred`.
        notes: What the user should know of how it was done.
        rejects: Where the rejected lines are, None if there are none or they were not kept.
        seconds: From start to published.

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
    schema: dict[str, tuple[str, str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    rejects: str | None = None
    seconds: float = 0.0

    @property
    def mb_per_s(self) -> float:
        """Content read per second, in megabytes (10^6 bytes)."""
        return self.bytes_in / 1e6 / self.seconds if self.seconds else 0.0

    def add(self, result: ChunkResult) -> None:
        """Count in what a chunk became, but for its rejects."""
        self.lines_in += result.lines
        self.lines_out += result.kept
        self.filtered += result.filtered
        self.blank += result.blank
        self.bytes_in = result.stop
        self.bytes_out += sum(len(part) for part in result.output)
        for name, count in result.nonfinite.items():
            self.nonfinite[name] = self.nonfinite.get(name, 0) + count

    def count(self, result: ChunkResult) -> None:
        """Count in what a chunk became, its rejects among it."""
        for reject in result.rejects:
            self.count_reject(reject, self.lines_in + reject.line + 1)
        self.add(result)

    def count_reject(self, reject: Reject, line: int) -> None:
        """Count in a rejected line."""
        self.rejected += 1
        reason = self.reject_reasons.setdefault(reject.kind, Reason(0, reject.offset))
        reason.count += 1
        if len(self.first_rejects) < _FIRST_REJECTS:
            self.first_rejects.append(f"line {line} (offset {reject.offset}): {reject.reason}")

    def rows(self) -> Iterator[tuple[str, str, str]]:
        """Yield it as rows of a table for people: what, a number, and what there is to say of it."""
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
        columns = ", ".join(f"{name} {dtype} ({origin})" for name, (dtype, origin) in self.schema.items())
        yield "columns read", "", columns or "none"
        for note in self.notes:
            yield "note", "", note
        yield "time", f"{self.seconds:.2f} s", f"{self.mb_per_s:.1f} MB/s"

    def _repr_html_(self) -> str:
        from transform import html  # noqa: PLC0415 - only notebooks need it

        rows = [(name, html.Number(number), note) for name, number, note in self.rows()]
        what = f"{self.source} → {self.target}" if self.target else self.source
        bad = [html.Bad(f"rejected {text}") for text in self.first_rejects]
        return html.render("Summary", what, html.Table(rows), *bad)

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data, for JSON."""
        plain = asdict(self)
        plain["schema"] = {name: {"type": dtype, "from": origin} for name, (dtype, origin) in self.schema.items()}
        return plain | {"mb_per_s": self.mb_per_s}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """Return what `to_dict` has made plain data of."""
        values = {name: value for name, value in copy.deepcopy(dict(plain)).items() if name != "mb_per_s"}
        values["schema"] = {name: (of["type"], of["from"]) for name, of in plain["schema"].items()}
        values["reject_reasons"] = {kind: Reason(**of) for kind, of in plain["reject_reasons"].items()}
        return cls(**values)
