"""What is to be known of a calculation before it is deployed: how it fares on an input, without an output."""

from dataclasses import dataclass, field
from typing import Any

import polars as pl

from transform.engine.plan import ExpressionPlan
from transform.engine.run import Spec
from transform.engine.state import State
from transform.engine.summary import Policy, Summary
from transform.explore.preview import FirstLines, retry_widened
from transform.io.chunks import MAX_LINE_BYTES, Chunk, LongLine, read_chunks
from transform.io.sources import Source, open_source


@dataclass(frozen=True, slots=True)
class Check:
    """How a calculation fares on an input.

    Attributes:
        summary: What a run would count.
        whole: Whether that was the whole input.
        types: By result, its type; a function's are not known.
        nulls: By result, in how many lines it is null.
    """

    summary: Summary
    whole: bool = False
    types: dict[str, str] = field(default_factory=dict)
    nulls: dict[str, int] = field(default_factory=dict)

    def problems(self, max_rejects: str = "0", max_nulls: str | None = None) -> list[str]:
        """Return what is not as it should be, a sentence for each.

        Args:
            max_rejects: How many lines may be rejected: their number, or their share as `5%`.
            max_nulls: In how many lines a result may be null, likewise; by default in all but one.

        Raises:
            OptionError: A limit is none.
        """
        counted = self.summary
        lines = counted.lines_in - counted.blank
        if not lines:
            return ["there are no lines to check it on"]
        found = []
        if _exceeds(counted.rejected, lines, max_rejects):
            found.append(f"{counted.rejected:,} of {lines:,} lines are rejected")
        if not counted.lines_out and counted.filtered:
            found.append("the filters drop every line")
        for name, count in counted.nonfinite.items():
            found.append(f"`{name}` is NaN or infinite {count:,} times, which is written as null")
        for name, count in self.nulls.items():
            limit = str(counted.lines_out - 1) if max_nulls is None else max_nulls
            if counted.lines_out and _exceeds(count, counted.lines_out, limit):
                in_all = count == counted.lines_out
                found.append(f"`{name}` is null in {'every line' if in_all else f'{count:,} lines'}")
        return found

    def to_dict(self, problems: list[str]) -> dict[str, Any]:
        """Return it as plain data, for JSON, with what is not as it should be."""
        results = {name: {"type": dtype, "null": self.nulls[name]} for name, dtype in self.types.items()}
        told = {"ok": not problems, "problems": problems, "whole": self.whole, "results": results}
        return told | {"summary": self.summary.to_dict()}


def check(spec: Spec, source: Source, lines: int | None = None) -> Check:
    """Run a calculation on an input without an output.

    Args:
        spec: What the calculation does to the input; see `Runnable.spec_for`.
        source: As for `Calculation.run`.
        lines: How many of the first lines to take; None for all.

    Raises:
        TransformError: It does not fit the input, or that cannot be read.
    """
    return retry_widened(source, lambda state: _check(spec, source, lines, state))


def _check(spec: Spec, source: Source, lines: int | None, state: State) -> Check:
    nulls: dict[str, int] = {}
    with open_source(source) as reader:
        plan, chunks = spec.prepare(read_chunks(reader.read_into), MAX_LINE_BYTES, state.widened)
        types = plan.evaluator.types if isinstance(plan, ExpressionPlan) else {}
        summary = Summary(source=reader.name, schema=plan.describe_schema(), notes=list(spec.notes))
        looked_at = FirstLines(chunks, lines)
        for chunk in looked_at:
            summary.count(plan.transform(chunk))
            if isinstance(plan, ExpressionPlan):
                _count_nulls(plan, chunk, nulls)
        if looked_at.whole:
            reader.check_whole()
    names = {name: str(dtype) for name, dtype in types.items()}
    return Check(summary, looked_at.whole, names, {name: nulls.get(name, 0) for name in names})


def _count_nulls(plan: ExpressionPlan, chunk: Chunk | LongLine, nulls: dict[str, int]) -> None:
    if isinstance(chunk, LongLine):
        return
    texts = plan.evaluator.evaluate(plan.decoder.decode(chunk).frame).texts
    counts: dict[str, int] = texts.select((pl.all() == "null").sum()).to_dicts()[0] if texts.width else {}
    for name, count in counts.items():
        nulls[name] = nulls.get(name, 0) + count


def _exceeds(count: int, of: int, limit: str) -> bool:
    policy = Policy.from_options("reject", limit)
    return (
        count > policy.max_lines
        if policy.max_lines is not None
        else policy.max_share is not None and count > policy.max_share * of
    )
