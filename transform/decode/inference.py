"""Infers the types of undeclared columns from a sample, the first lines of an input, once for the whole input."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import msgspec
import polars as pl

from transform.decode.members import LineError, read_members
from transform.decode.schema import Column, MixedKindsError, kind_of, merge_types, near_names, type_of
from transform.errors import SchemaError
from transform.io.chunks import MAX_LINE_BYTES, Chunk, LongLine, copy_chunk

SAMPLE_LINES = 1000
SAMPLE_BYTES = 32 << 20

_ONE_KIND = ({"integer"}, {"float"}, {"integer", "float"}, {"string"}, {"boolean"}, {"array"}, {"object"})


@dataclass(frozen=True, slots=True)
class SampleSize:
    """The maximum size of a sample.

    Attributes:
        max_lines: Number of lines that are JSON objects.
        max_bytes: The sample ends with the first line that starts after this offset, because the sample of a pipe is
            kept in memory.
    """

    max_lines: int = SAMPLE_LINES
    max_bytes: int = SAMPLE_BYTES


SAMPLE_SIZE = SampleSize()


@dataclass(slots=True)
class Member:
    """A member in a sample.

    Attributes:
        present: In how many lines it is.
        kinds: How many of its values are of each kind.
        dtype: The type that holds all its values, None if there is no such type.
    """

    present: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    dtype: pl.DataType | None = field(default_factory=pl.Null)


@dataclass(slots=True)
class Sample:
    """The first lines that are JSON objects.

    Attributes:
        lines: How many there are.
        other_lines: How many lines among them are not JSON objects.
        members: By name, in order of appearance.
        whole: Whether the input has no more lines.
        first_error: Why the first of the other lines is not a JSON object.
        size: How large the sample may be.
    """

    lines: int = 0
    other_lines: int = 0
    members: dict[str, Member] = field(default_factory=dict)
    whole: bool = False
    first_error: str = ""
    size: SampleSize = SAMPLE_SIZE

    def check_holds_lines(self) -> None:
        """Check that at least one line is a JSON object, unless the input has no lines.

        Raises:
            SchemaError: No line is; the message says what is wrong with the first.
        """
        if not self.lines and (self.first_error or not self.whole):
            where = "the input" if self.whole else f"the first {self.size.max_bytes >> 20} MiB"
            found = self.first_error or "all are blank"
            raise SchemaError(f"no line of {where} holds a JSON object ({found}); is this JSON lines?")

    def add(self, values: Mapping[str, msgspec.Raw]) -> None:
        """Count the members of one line."""
        self.lines += 1
        for name, raw in values.items():
            member = self.members.get(name)
            if member is None:
                member = self.members[name] = Member()
            text = bytes(raw)
            kind = kind_of(text)
            member.present += 1
            is_new = kind not in member.kinds or kind in ("array", "object")  # otherwise the type holds it already
            member.kinds[kind] += 1
            try:
                if is_new and member.dtype is not None:
                    value = msgspec.json.decode(text) if kind in ("array", "object") else _EXAMPLES[kind]
                    member.dtype = merge_types([member.dtype, type_of(value)])
            except MixedKindsError:
                member.dtype = None
            except msgspec.ValidationError:
                pass  # it contains a number out of range: the line will be rejected if the column is read


_EXAMPLES: dict[str, object] = {"null": None, "boolean": True, "integer": 0, "float": 0.0, "string": ""}


def take_sample(
    chunks: Iterator[Chunk | LongLine], max_line_bytes: int = MAX_LINE_BYTES, size: SampleSize = SAMPLE_SIZE
) -> tuple[Sample, list[Chunk | LongLine]]:
    """Return the sample and the chunks it was taken from, which stay valid.

    Args:
        chunks: The input from its start.
        max_line_bytes: A longer line is not sampled.
        size: How much to sample at most.
    """
    sample, taken = Sample(size=size), list[Chunk | LongLine]()
    for chunk in chunks:
        taken.append(copy_chunk(chunk))
        if isinstance(chunk, LongLine):
            sample.first_error = sample.first_error or _too_long(max_line_bytes)
            complete = chunk.stop > size.max_bytes
        else:
            complete = _add_lines(sample, chunk, max_line_bytes)
        if complete:
            return sample, taken
    sample.whole = True
    return sample, taken


def _add_lines(sample: Sample, chunk: Chunk, max_line_bytes: int) -> bool:
    """Count the lines of a chunk; return whether the sample is complete."""
    offset = chunk.offset
    for line in bytes(chunk.data).split(b"\n"):
        if sample.lines == sample.size.max_lines or offset > sample.size.max_bytes:
            return True
        offset += len(line) + 1
        if not line.strip(b" \t\r"):
            continue
        if len(line) > max_line_bytes:
            sample.first_error = sample.first_error or _too_long(max_line_bytes)
            continue
        try:
            sample.add(read_members(line).values)
        except LineError as error:
            sample.other_lines += 1
            sample.first_error = sample.first_error or str(error)
    return sample.lines == sample.size.max_lines


def _too_long(max_line_bytes: int) -> str:
    return f"longer than {max_line_bytes} bytes"


def infer_columns(
    names: Iterable[str], declared: Mapping[str, pl.DataType], sample: Sample, widened: Mapping[str, pl.DataType]
) -> dict[str, Column]:
    """Return the type of each column: as declared, as the sample shows it, or as it was widened later.

    Raises:
        SchemaError: The sample does not show the type of a column.
    """
    columns = {name: Column(declared[name]) if name in declared else _infer(name, sample) for name in names}
    return columns | {name: Column(dtype, inferred=True) for name, dtype in widened.items()}


def _infer(name: str, sample: Sample) -> Column:
    sample.check_holds_lines()
    lines = f"{sample.lines} line{'s' if sample.lines != 1 else ''}"
    seen = f"in the first {lines}" if not sample.whole else f"in the input ({lines})"
    member = sample.members.get(name)
    if member is None:
        raise SchemaError(
            f"there is no column `{name}` {seen}.{near_names(name, sample.members) or _how_to_say(name)} "
            f"If it comes later, {_how_to_declare(name)}"
        )
    kinds = {kind: count for kind, count in member.kinds.items() if kind != "null"}
    if not kinds:
        raise SchemaError(f"column `{name}` is only null {seen}. D{_how_to_declare(name)[1:]}")
    if set(kinds) not in _ONE_KIND or member.dtype is None:
        counts = " and ".join(f"{count} {kind}{'s' if count > 1 else ''}" for kind, count in member.kinds.most_common())
        raise SchemaError(
            f"column `{name}` is of mixed kinds {seen}: {counts}. D{_how_to_declare(name)[1:]}; "
            "lines where it holds something else are then rejected."
        )
    return Column(member.dtype, inferred=True)


def _how_to_say(name: str) -> str:
    return f" If a text is meant, it is '{name}' in SQL, and pl.lit({name!r}) in Python."


def _how_to_declare(name: str) -> str:
    return f"declare its type: --schema {name}=TYPE, or .with_schema({{{name!r}: pl.TYPE}})"
