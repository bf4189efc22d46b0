"""What a run did, in numbers; and the policy that says how many rejected lines fail it."""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from typing import Any, Self

from transform.decode.rejects import ChunkResult, Reject
from transform.errors import OptionError, RejectedError

_FIRST_REJECTS = 3


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
    """What a run did.

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
        schema: The type of each column read, and whether it was `declared` or `inferred`, by name.
        notes: Notes for the user on how the run was done.
        rejects: Where the rejected lines are, None if there are none or they were not kept.
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
    schema: dict[str, tuple[str, str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    rejects: str | None = None
    seconds: float = 0.0

    @property
    def mb_per_s(self) -> float:
        """Content read per second, in megabytes (10^6 bytes)."""
        return self.bytes_in / 1e6 / self.seconds if self.seconds else 0.0

    def add(self, result: ChunkResult) -> None:
        """Add the counts of a chunk, without its rejects."""
        self.lines_in += result.lines
        self.lines_out += result.kept
        self.filtered += result.filtered
        self.blank += result.blank
        self.bytes_in = result.stop
        self.bytes_out += sum(len(part) for part in result.output)
        for name, count in result.nonfinite.items():
            self.nonfinite[name] = self.nonfinite.get(name, 0) + count

    def count(self, result: ChunkResult) -> None:
        """Add the counts of a chunk, with its rejects."""
        for reject in result.rejects:
            self.count_reject(reject, self.lines_in + reject.line + 1)
        self.add(result)

    def count_reject(self, reject: Reject, line: int) -> None:
        """Add a rejected line, whose number in the input is `line`."""
        self.rejected += 1
        reason = self.reject_reasons.setdefault(reject.kind, Reason(0, reject.offset))
        reason.count += 1
        if len(self.first_rejects) < _FIRST_REJECTS:
            self.first_rejects.append(f"line {line} (offset {reject.offset}): {reject.reason}")

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
        """Return the summary as plain data, for JSON."""
        plain = asdict(self)
        plain["schema"] = {name: {"type": dtype, "from": origin} for name, (dtype, origin) in self.schema.items()}
        return plain | {"mb_per_s": self.mb_per_s}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """Return the summary that `to_dict` has made plain data of."""
        values = {name: value for name, value in copy.deepcopy(dict(plain)).items() if name != "mb_per_s"}
        values["schema"] = {name: (of["type"], of["from"]) for name, of in plain["schema"].items()}
        values["reject_reasons"] = {kind: Reason(**of) for kind, of in plain["reject_reasons"].items()}
        return cls(**values)


_NO_OBJECTS = {"not valid JSON", "not a JSON object"}
_NO_LINES = "; JSON lines have one object on each line: `jq -c .` makes them of an indented file"


@dataclass(frozen=True, slots=True)
class Policy:
    """When rejected lines fail a run.

    Attributes:
        max_lines: The maximum number of rejected lines; None for no limit.
        max_share: The maximum share of rejected lines, checked once all lines are counted; None for no limit.
    """

    max_lines: int | None = None
    max_share: Fraction | None = None

    @classmethod
    def from_options(cls, on_error: str, max_rejects: int | str | None) -> Self:
        """Return the policy that the options `on_error` and `max_rejects` describe.

        Raises:
            OptionError: An option has no valid value.
        """
        if on_error not in ("reject", "fail"):
            raise OptionError(f"on_error is `reject` or `fail`, not {on_error!r}")
        if on_error == "fail":
            return cls(max_lines=0)
        if max_rejects is None:
            return cls()
        text = str(max_rejects).strip()
        try:
            if not text.endswith("%"):
                max_lines = int(text)
                if max_lines >= 0:
                    return cls(max_lines=max_lines)
            elif 0 <= (share := Fraction(text[:-1]) / 100) <= 1:
                return cls(max_share=share)
        except ValueError:
            pass
        raise OptionError(f"max_rejects is a number of lines or a share such as 5%, not {max_rejects!r}")

    def check(self, summary: Summary, reject: Reject, line: int) -> None:
        """Raise if the line that was just rejected is one too many."""
        if self.max_lines is not None and summary.rejected > self.max_lines:
            limit = "the first one fails the run"
            if self.max_lines:
                several = self.max_lines > 1
                limit = f"more than {self.max_lines} line{'s' * several} fail{'s' * (not several)} the run"
            raise RejectedError(f"line {line} (offset {reject.offset}) was rejected, and {limit}: {reject.reason}")

    def check_all(self, summary: Summary) -> None:
        """Raise if too many lines were rejected; once all are counted."""
        lines = summary.lines_in - summary.blank
        reasons = "; ".join(f"{reason.count} × {kind}" for kind, reason in summary.reject_reasons.items())
        if summary.rejected and summary.rejected == lines:
            hint = _NO_LINES if summary.reject_reasons.keys() <= _NO_OBJECTS else ""
            raise RejectedError(f"every line was rejected ({reasons}){hint}")
        if self.max_share is not None and summary.rejected > self.max_share * lines:
            limit = f"{float(100 * self.max_share):g}%"
            raise RejectedError(f"{summary.rejected} of {lines} lines were rejected, more than {limit} ({reasons})")
