"""Splices the results of a chunk into the original bytes of its lines; members that do not stay are left out."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import polars as pl

from transform.decode.decoder import Decoded
from transform.decode.schema import Path
from transform.expressions.evaluate import Evaluated
from transform.native.binding import Bytes, Column, Kind, Spans, emit
from transform.native.wanted import SLACK

if TYPE_CHECKING:
    import pyarrow as pa


def splice(
    decoded: Decoded, evaluated: Evaluated, names: Sequence[str], unchanged: Mapping[str, Path], targets: frozenset[str]
) -> memoryview:
    """Return the output of a chunk: its lines that are kept, with the results in them.

    Each result replaces the value of the member of its name; if the line has no such member, it is appended before the
    closing brace.

    Args:
        decoded: The rows.
        evaluated: Their results.
        names: The names of the results, in order.
        unchanged: The paths of the results that are members as they are, by name.
        targets: The results that replace members.
    """
    columns = []
    for name in names:
        target = decoded.places((name,)) if name in targets else None
        prefix = msgspec.json.encode(name) + b":"
        if name in unchanged:
            columns.append(Column(Kind.MEMBER, prefix, member=decoded.places(unchanged[name]), target=target))
        else:
            columns.append(_column(evaluated.results[name], prefix, target))
    return emit(decoded.found, decoded.lines[evaluated.kept], columns).data


def _column(values: pl.Series, prefix: bytes, target: tuple[Spans, Spans] | None) -> Column:
    """Return a result as the kernel takes it: numbers as they are, all else as text."""
    values = values.alias("")  # Arrow has no names with NUL
    if values.dtype == pl.String:
        text = values.rechunk().to_arrow(compat_level=pl.CompatLevel.oldest())  # a large_string
        _, offsets, data = text.buffers()
        places = np.frombuffer(offsets, np.int64)[text.offset : text.offset + len(text) + 1]
        return Column(Kind.TEXT, prefix, _with_slack(data), places, target=target)
    kind = Kind.FLOAT64 if values.dtype == pl.Float64 else Kind.INT64
    valid = None if not values.null_count() else values.is_not_null().to_numpy().view(np.uint8)
    numbers = values.to_numpy() if valid is None else values.fill_null(0).to_numpy()
    return Column(kind, prefix, np.ascontiguousarray(numbers), valid=valid, target=target)


def _with_slack(data: "pa.Buffer | None") -> Bytes:
    """Return the bytes of a buffer, with as many after their end as the kernel may read."""
    size = data.size if data is not None else 0
    found = np.empty(size + SLACK, np.uint8)
    if data is not None:
        found[:size] = np.frombuffer(data, np.uint8)
    return found
