"""A check of a calculation before it is deployed: run on an input, without an output."""

from dataclasses import dataclass, field
from typing import Any

from transform.decode.near_names import unread_types
from transform.decode.rejects import ChunkResult
from transform.engine.options import EngineOptions, Policy
from transform.engine.plan import ExpressionPlan
from transform.engine.run import Plan, Spec, retry_widened
from transform.engine.spec import ExpressionSpec
from transform.engine.summary import State, Summary
from transform.explore.describe import type_name
from transform.explore.preview import FirstLines
from transform.io.chunks import MAX_LINE_BYTES, Chunk, LongLine
from transform.io.sources import Source, open_source
from transform.sizes import count_option


@dataclass(frozen=True, slots=True)
class Check:
    """The results of a check.

    Attributes:
        summary: What a run would count.
        whole: Whether the whole input was read.
        types: The type of each result, by name; those of a function are not known.
        nulls: The number of lines in which each result is null, by name.
        found: A sentence for each problem that all lines show: a name to drop or select that none has had, say.
        closed: The columns read whole, whose objects may have no other members than their type.
        unread: A sentence for each column that is declared and that no expression or filter reads.
    """

    summary: Summary
    whole: bool = False
    types: dict[str, str] = field(default_factory=dict)
    nulls: dict[str, int] = field(default_factory=dict)
    found: tuple[str, ...] = ()
    closed: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()

    def problems(self, max_rejects: str = "0", max_nulls: str | None = None) -> list[str]:
        """Return the problems found, a sentence for each.

        Args:
            max_rejects: Maximum number of rejected lines, or their maximum share as `5%`.
            max_nulls: Maximum number or share of lines in which a result is null; by default all but one.

        Raises:
            OptionError: A limit is not a number or a share.
        """
        counted = self.summary
        lines = counted.lines_in - counted.blank
        if not lines:
            return [*self.unread, "there are no lines to check it on"]
        found = [*self.unread]
        if _exceeds(counted.rejected, lines, max_rejects):
            found.append(f"{counted.rejected:,} of {lines:,} lines are rejected")
        if not counted.lines_out and counted.filtered and not self.found:
            found.append("the filters drop every line")
        found += self.found
        for name, count in counted.nonfinite.items():
            found.append(f"`{name}` is NaN or infinite {count:,} times, which is written as null")
        for name, count in counted.inexact.items():
            found.append(f"`{name}` holds {count:,} integers beyond 2^53, which are computed with as floats")
        for name, count in self.nulls.items():
            limit = str(counted.lines_out - 1) if max_nulls is None else max_nulls
            if counted.lines_out and _exceeds(count, counted.lines_out, limit):
                in_all = count == counted.lines_out
                found.append(f"`{name}` is null in {'every line' if in_all else f'{count:,} lines'}")
        return found

    def to_dict(self, problems: list[str]) -> dict[str, Any]:
        """Return the check as plain data, for JSON, with the problems found."""
        results = {name: {"type": dtype, "null": self.nulls[name]} for name, dtype in self.types.items()}
        told = {"ok": not problems, "problems": problems, "whole": self.whole, "results": results}
        return told | {"summary": self.summary.to_dict()}


def check(
    spec: Spec,
    source: Source,
    lines: int | None = None,
    *,
    max_line_bytes: int = MAX_LINE_BYTES,
    max_inflation: int | None = None,
) -> Check:
    """Run a calculation on an input without an output.

    Args:
        spec: What the calculation does to the input; see `Runnable.spec_for`.
        source: As for `Calculation.run`.
        lines: How many of the first lines to read; None for all.
        max_line_bytes: A longer line is rejected.
        max_inflation: Maximum size of compressed content, as a multiple of its compressed size; None for no limit.

    Raises:
        TransformError: The calculation does not fit the input, or the input cannot be read.
    """
    at_most = None if lines is None else count_option("lines", lines)
    options = EngineOptions(max_line_bytes=max_line_bytes, max_inflation=max_inflation)
    return retry_widened(source, lambda state: _check(spec, source, at_most, options, state))


def _check(spec: Spec, source: Source, lines: int | None, options: EngineOptions, state: State) -> Check:
    nulls: dict[str, int] = {}
    with open_source(source, max_inflation=options.max_inflation) as reader:
        read = spec.rows.read(reader.read_into, max_line_bytes=options.max_line_bytes)
        plan, chunks = spec.prepare(read, options.max_line_bytes, state.widened, info=reader.info)
        types = plan.result_types if isinstance(plan, ExpressionPlan) else {}
        summary = Summary(source=reader.name, schema=plan.describe_schema(), notes=[*reader.notes, *spec.notes])
        summary.expect(spec.named_members)
        looked_at = FirstLines(chunks, lines)
        for chunk in looked_at:
            summary.count(_transform(plan, chunk, nulls))
        if looked_at.whole:
            reader.check_whole()
    found = spec.final_notes(summary)
    summary.notes += found
    # A column is declared also because it may be absent.
    declared = {name: verb for name, verb in spec.named_members.items() if verb == "read"}
    harmless = summary.notes_on_absent(declared)
    unread = unread_types(spec.schema, spec.declarable) if isinstance(spec, ExpressionSpec) else ()
    names = {name: type_name(dtype) for name, dtype in types.items()}
    closed = plan.closed if isinstance(plan, ExpressionPlan) else []
    summary.notes += [
        f"objects in `{name}` are used as a whole: a line where one has a member that is not in its type "
        f"({summary.schema[name][0]}) is rejected, as the member would be lost"
        for name in closed
    ]
    counts = {name: nulls.get(name, 0) for name in names}
    return Check(
        summary,
        looked_at.whole,
        names,
        counts,
        tuple(note for note in found if note not in harmless),
        tuple(closed),
        tuple(unread),
    )


def _transform(plan: Plan, chunk: Chunk | LongLine, nulls: dict[str, int]) -> ChunkResult:
    """Return what a chunk becomes, and count the nulls among its results."""
    if isinstance(plan, ExpressionPlan) and isinstance(chunk, Chunk):
        evaluated = plan.evaluate(chunk)
        for name, count in plan.count_nulls(evaluated).items():
            nulls[name] = nulls.get(name, 0) + count
        return plan.splice(evaluated)
    return plan.transform(chunk)


def _exceeds(count: int, of: int, limit: str) -> bool:
    policy = Policy.from_options("reject", limit)
    return (
        count > policy.max_lines
        if policy.max_lines is not None
        else policy.max_share is not None and count > policy.max_share * of
    )
