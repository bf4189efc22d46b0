"""Infers the types of undeclared columns from a sample, the first lines of an input, once for the whole input."""

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import numpy as np
import polars as pl

from transform.decode.line_errors import LineError
from transform.decode.members import BLOCK_BYTES, decode_used, first_arrays, first_names, read_members
from transform.decode.near_names import listed_names, name_hint, near_names
from transform.decode.row_format import LINES, RowFormat
from transform.decode.schema import (
    Column,
    MixedKindsError,
    Path,
    Paths,
    Read,
    TooDeepError,
    Use,
    kind_of,
    merge_types,
    too_deep,
    type_of,
    used_type,
    within,
)
from transform.errors import SchemaError
from transform.io.chunks import MAX_LINE_BYTES, Chunk, LongLine, copy_chunk
from transform.native.binding import MISSING, Scan, Status, scan
from transform.native.wanted import Wanted

SAMPLE_LINES = 1000
SAMPLE_BYTES = 32 << 20
_MAX_BESIDE = 1000  # names that are kept for near names, for each member that is missing
MAX_NAMES = 10_000
"""Approximate number of names that are kept to find near names among them: each takes hundreds of bytes."""

PLAIN_PATH = re.compile(r"[A-Za-z_][\w.]{,99}", re.ASCII)
"""A path that a message can show as an argument, without quotes."""

_NEWLINE = re.compile(rb"\n")
_OK, _BLANK = int(Status.OK), int(Status.BLANK)  # numpy compares numbers faster than enums

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
        paths: The paths within it that are used, None for all of it.
        too_deep: Whether there is no type because a value is nested too deeply.
        reached: If it is missing in all lines: how many names of its path lead to objects.
        beside: The names of the members that are in the last of these objects, after the same number of names.
        within: The kinds of values that were found in place of objects, by the number of names of the path before them.
    """

    present: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    dtype: pl.DataType | None = field(default_factory=pl.Null)
    paths: Paths = None
    too_deep: bool = False
    reached: int = -1
    beside: dict[str, None] = field(default_factory=dict)
    within: Counter[tuple[int, str]] = field(default_factory=Counter)

    def add(self, text: bytes, count: int = 1) -> None:
        """Count a value, which may have been found several times."""
        kind = kind_of(text)
        self.present += count
        is_new = kind not in self.kinds or kind in ("array", "object")  # otherwise the type holds it already
        self.kinds[kind] += count
        if not is_new or self.dtype is None or self.paths == frozenset():
            return
        if (kinds := self.kinds.keys() - {"null"}) and kinds not in _ONE_KIND:
            self.dtype = None  # whatever is in it
            return
        try:
            value = decode_used(text, self.paths) if kind in ("array", "object") else _EXAMPLES[kind]
            self.dtype = merge_types([self.dtype, type_of(value)])
        except (MixedKindsError, RecursionError) as error:
            self.dtype, self.too_deep = None, isinstance(error, TooDeepError | RecursionError)
        except msgspec.ValidationError:
            pass  # it contains a number out of range: the line will be rejected


@dataclass(slots=True)
class Sample:
    """The first lines that are JSON objects.

    Attributes:
        reads: The members to look at, by name; None for all members of the lines.
        lines: How many lines there are.
        other_lines: How many lines among them are not JSON objects.
        members: The members that were looked at and found, by name, in order of appearance.
        names: If only some are looked at: the names of the members of the lines, in order of appearance.
        arrays: If only some are looked at: the arrays of objects in the first line, with the names in these.
        whole: Whether the input has no more lines.
        first_error: Why the first of the other lines is not a JSON object.
        size: How large the sample may be.
    """

    reads: Mapping[str, Read] | None = None
    lines: int = 0
    other_lines: int = 0
    members: dict[str, Member] = field(default_factory=dict)
    names: dict[str, None] = field(default_factory=dict)
    arrays: dict[Path, set[str]] = field(default_factory=dict)
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
            indented = " Indented JSON is read with --format json." if self.other_lines else ""
            raise SchemaError(f"no line of {where} holds a JSON object ({found}); is this JSON lines?{indented}")

    def wanted(self) -> frozenset[str] | None:
        """Return the names of the members of the lines that are looked at, or within; None for all."""
        return None if self.reads is None else frozenset(read.path[0] for read in self.reads.values())

    def add(self, values: Mapping[str, msgspec.Raw]) -> None:
        """Count the members of one line."""
        self.lines += 1
        if self.reads is None:
            for name, raw in values.items():
                if name not in self.members:
                    self.members[name] = Member()
                self.members[name].add(bytes(raw))
            return
        self.add_names(values)
        objects: dict[Path, Mapping[str, msgspec.Raw]] = {(): values}
        for name, read in self.reads.items():
            member = self._member(name, read)
            text = _look_for(member, objects, read.path)
            if text is not None:
                member.add(bytes(text))

    def add_names(self, names: Iterable[str]) -> None:
        """Note names of members of a line, unless there are many already."""
        if len(self.names) < MAX_NAMES:
            self.names.update(dict.fromkeys(names))

    def add_found(self, found: Scan, nodes: Mapping[Path, int]) -> None:
        """Count the members that are looked at, of lines that are JSON objects or blank."""
        lines = np.flatnonzero(found.status == _OK)
        self.lines += len(lines)
        for name, read in (self.reads or {}).items():
            node, view = nodes[read.path], found.data.data
            spans = zip(found.starts[node][lines].tolist(), found.ends[node][lines].tolist(), strict=True)
            texts = Counter(bytes(view[start:stop]) for start, stop in spans if start != MISSING)
            for text, count in texts.items():  # in order of appearance, which the types of objects keep
                self._member(name, read).add(text, count)

    def _member(self, name: str, read: Read) -> Member:
        if name not in self.members:
            self.members[name] = Member(paths=_paths(read))
        return self.members[name]


def _paths(read: Read) -> Paths:
    return read.elements if read.use is Use.VALUE else frozenset()


def _look_for(member: Member, objects: dict[Path, Mapping[str, msgspec.Raw]], path: Path) -> msgspec.Raw | None:
    """Return the text of a member, or note what there is in its place.

    Args:
        member: The member.
        objects: The members of the objects of the line that were decoded, by their path; others are added.
        path: The path of the member.
    """
    for depth, name in enumerate(path):
        values = objects[path[:depth]]
        text = values.get(name)
        if text is None:
            _note_absent(member, depth, values)
            return None
        if depth == len(path) - 1:
            return text
        if path[: depth + 1] not in objects:
            kind = kind_of(bytes(text))
            if kind != "object":
                member.within.update([(depth + 1, kind)])
                return None
            objects[path[: depth + 1]] = _OBJECT.decode(text)
    return None


def _note_absent(member: Member, depth: int, names: Mapping[str, object]) -> None:
    if member.present or depth < member.reached or (depth == member.reached and len(member.beside) >= _MAX_BESIDE):
        return
    if depth > member.reached:
        member.beside.clear()
    member.reached = depth
    member.beside.update(dict.fromkeys(itertools.islice(names, _MAX_BESIDE)))


_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_EXAMPLES: dict[str, object] = {"null": None, "boolean": True, "integer": 0, "float": 0.0, "string": ""}


def take_sample(
    chunks: Iterator[Chunk | LongLine],
    max_line_bytes: int = MAX_LINE_BYTES,
    size: SampleSize = SAMPLE_SIZE,
    reads: Mapping[str, Read] | None = None,
    rows: RowFormat = LINES,
) -> tuple[Sample, list[Chunk | LongLine]]:
    """Return the sample and the chunks it was taken from, which stay valid.

    Args:
        chunks: The input from its start.
        max_line_bytes: A longer line is not sampled.
        size: How much to sample at most.
        reads: The members to look at, by name; None for all members of the lines.
        rows: What the rows of the chunks are.
    """
    wanted = None if reads is None else Wanted(read.path for read in reads.values())
    sample, taken = Sample(reads, size=size), list[Chunk | LongLine]()
    for chunk in chunks:
        taken.append(copy_chunk(chunk))
        parts = rows.expanded([chunk], max_line_bytes)
        if any(_add_chunk(sample, part, max_line_bytes, wanted) for part in parts):
            break
    else:
        sample.whole = True
    if reads is None or all(name in sample.members and sample.members[name].present for name in reads):
        return sample, taken
    # The message about a member that no line has names those that are there, which only the slow way finds.
    with_names = Sample(reads, size=size, whole=sample.whole)
    for part in rows.expanded(taken, max_line_bytes):
        if _add_chunk(with_names, part, max_line_bytes, None):
            break
    return with_names, taken


def _add_chunk(sample: Sample, chunk: Chunk | LongLine, max_line_bytes: int, wanted: Wanted | None) -> bool:
    """Count the lines of a chunk; return whether the sample is complete.

    Args:
        sample: What is counted so far.
        chunk: The lines.
        max_line_bytes: A longer line is not counted.
        wanted: The members to look at, where the kernel may find them in lines of the input; None to look at each line
            alone.
    """
    if isinstance(chunk, LongLine):
        sample.first_error = sample.first_error or _too_long(max_line_bytes)
        return chunk.stop > sample.size.max_bytes
    if wanted is None or chunk.places is not None:
        return _add_lines(sample, chunk, max_line_bytes)
    complete, rest = sample.lines == sample.size.max_lines, chunk
    while len(rest.data) and not complete:
        size = _size_of_lines(rest.data, sample.size.max_lines - sample.lines)
        piece, rest = Chunk(rest.data[:size], rest.offset), Chunk(rest.data[size:], rest.offset + size)
        found = scan(piece.data, wanted)
        is_sure = found.status.max() <= _BLANK and (found.stops - found.bounds[:-1]).max() <= max_line_bytes
        if is_sure and piece.stop <= sample.size.max_bytes:
            sample.add_found(found, wanted.nodes)
            complete = sample.lines == sample.size.max_lines
        else:
            complete = _add_lines(sample, piece, max_line_bytes)
    return complete


def _size_of_lines(data: memoryview, count: int) -> int:
    """Return the size of the first lines, at most this number."""
    ends = (found.end() for found in _NEWLINE.finditer(data))
    return next(itertools.islice(ends, count - 1, None), len(data))


def _add_lines(sample: Sample, chunk: Chunk, max_line_bytes: int) -> bool:
    """Count the lines of a chunk; return whether the sample is complete."""
    offset = chunk.offset
    unfit = {one.row: one.reason for one in chunk.places.unfit} if chunk.places is not None else {}
    for index, line in enumerate(bytes(chunk.data).split(b"\n")):
        if sample.lines == sample.size.max_lines or offset > sample.size.max_bytes:
            return True
        offset += len(line) + 1
        if not line.strip(b" \t\r"):
            continue
        if index in unfit:
            sample.other_lines += 1
            sample.first_error = sample.first_error or unfit[index]
            continue
        if len(line) > max_line_bytes:
            sample.first_error = sample.first_error or _too_long(max_line_bytes)
            continue
        try:
            # A table of all members of a long line could take many times its size.
            is_long = len(line) > BLOCK_BYTES
            sample.add(read_members(line, sample.wanted() if is_long else None).values)
            if is_long:
                sample.add_names(first_names(line))
            if sample.lines == 1 and sample.reads is not None:
                sample.arrays = first_arrays(line)
        except LineError as error:
            sample.other_lines += 1
            sample.first_error = sample.first_error or str(error)
    return sample.lines == sample.size.max_lines


def _too_long(max_line_bytes: int) -> str:
    return f"longer than {max_line_bytes} bytes"


def infer_columns(
    reads: Mapping[str, Read], declared: Mapping[str, pl.DataType], sample: Sample, widened: Mapping[str, pl.DataType]
) -> dict[str, Column]:
    """Return the columns that are read, with their types: as declared, as the sample shows, or as they were widened.

    A member of which only the bytes are needed has a column only if its type is declared; its values are then checked.

    Raises:
        SchemaError: The sample does not show the type of a column, or does not have it; or a type is declared for an
            object, and does not have the member that is read.
    """
    columns = {}
    for name, read in reads.items():
        dtype = declared_type(name, read, declared)
        if name in widened:
            columns[name] = Column(widened[name], inferred=True, read=read)
        elif dtype is not None:
            columns[name] = Column(dtype, read=read)
        else:
            inferred = infer_type(name, read, sample)
            if read.use is not Use.BYTES:
                columns[name] = Column(inferred, inferred=True, read=read)
    return columns


def resume_columns(reads: Mapping[str, Read], known: Mapping[str, Column]) -> dict[str, Column] | None:
    """Return the columns of a run that is resumed, given those that have types.

    If one that needs a type has none, the input had no lines to infer it from, and there are no columns: None.
    """
    columns = {}
    for name, read in reads.items():
        if name in known:
            columns[name] = replace(known[name], read=read)
        elif read.use is Use.VALUE and read.elements != frozenset():
            return None
        elif read.use is not Use.BYTES:
            elements = pl.List(pl.Boolean()) if read.use is Use.VALUE else pl.Boolean()
            columns[name] = Column(elements, inferred=True, read=read)
    return columns


def declared_type(name: str, read: Read, declared: Mapping[str, pl.DataType]) -> pl.DataType | None:
    """Return the type that was declared for a member that is read, or that the type declared for an object gives it.

    Raises:
        SchemaError: The type declared for the object does not have the member.
    """
    if name in declared:
        return used_type(name, declared[name], read.elements)
    for size in range(len(read.path) - 1, 0, -1):
        prefix = ".".join(read.path[:size])
        if prefix in declared:
            dtype = used_type(prefix, declared[prefix], frozenset([read.path[size:]]))
            for _ in read.path[size:]:
                dtype = dtype.fields[0].dtype  # type: ignore[attr-defined]
            return used_type(name, dtype, read.elements)
    return None


def infer_type(name: str, read: Read, sample: Sample) -> pl.DataType:
    """Return the type that a sample shows for a member that is read.

    Raises:
        SchemaError: It does not show one, or does not have the member.
    """
    sample.check_holds_lines()
    lines = f"{sample.lines} line{'s' if sample.lines != 1 else ''}"
    seen = f"in the first {lines}" if not sample.whole else f"in the input ({lines})"
    member = sample.members.get(name) or Member()
    if not member.present:
        raise SchemaError(_describe_absent(name, read.path, member, sample, seen), column=name)
    if read.use is not Use.VALUE:
        return pl.Boolean()
    kinds = {kind: count for kind, count in member.kinds.items() if kind != "null"}
    if not kinds:
        raise SchemaError(_describe_unsettled(f"`{name}` is only null", name, seen), column=name)
    if member.too_deep:
        raise too_deep(name)
    if set(kinds) not in _ONE_KIND or member.dtype is None:
        each = [f"{count} {kind}{'s' if count > 1 else ''}" for kind, count in member.kinds.most_common()]
        counts = " and ".join(filter(None, (", ".join(each[:-1]), each[-1])))
        if len(kinds) == 1:
            counts += ", but what they contain has no common type"
        raise SchemaError(
            f"column `{name}` is of mixed kinds {seen}: {counts}. D{_how_to_declare(name)[1:]}; "
            "lines where it has another type are then rejected. The type json accepts any value, as its JSON text.",
            column=name,
        )
    if read.elements == frozenset():
        if "array" not in kinds:
            raise SchemaError(f"column `{name}` is no array {seen}, but its elements are counted", column=name)
        return pl.List(pl.Boolean())
    if (unsettled := _unsettled(member.dtype, name, read.elements)) is not None:
        raise SchemaError(_describe_unsettled(unsettled, name, seen), column=name)
    return member.dtype


def _describe_unsettled(what: str, name: str, seen: str) -> str:
    return f"column {what} {seen}. D{_how_to_declare(name)[1:]}"


def _unsettled(dtype: Any, name: str, paths: Paths, shown: str = "null") -> str | None:
    """Return which part of a value that is used has shown no type, and what it has shown; None if all have."""
    if isinstance(dtype, pl.Null):
        return f"`{name}` is only {shown}"
    if isinstance(dtype, pl.List):
        return _unsettled(dtype.inner, name if paths is None else f"{name}[]", paths, "[]" if paths is None else "null")
    if isinstance(dtype, pl.Struct):
        if not dtype.fields:
            return f"`{name}` is only {{}}"
        if paths is not None:
            parts = (_unsettled(f.dtype, f"{name}.{f.name}", within(paths, f.name)) for f in dtype.fields)
            return next((part for part in parts if part is not None), None)
    return None


def _describe_absent(name: str, path: Path, member: Member, sample: Sample, seen: str) -> str:
    """Return the message about a member that no line has."""
    later = f"If it comes later, {_how_to_declare(name)}"
    if len(path) > 1 and name in sample.names:
        return (
            f"there is no member `{path[-1]}` in `{'.'.join(path[:-1])}` {seen}, but a column has that name with a "
            f'dot: write "{name}" in double quotes in SQL, and pl.col({name!r}) in Python.'
        )
    if member.reached <= 0 and not member.within:
        advice = (
            _how_to_take_rows(path[0], sample.arrays)
            or name_hint(path[0], sample.names)
            or (_how_to_say(name) if len(path) == 1 else "")
        )
        there = listed_names(sample.names, "The lines have")
        return f"there is no column `{path[0]}` {seen}.{advice}{there} {later}"
    if member.reached > 0:
        inside = ".".join(path[: member.reached])
        near = near_names(path[member.reached], member.beside)
        there = listed_names(member.beside, "It has")
        return f"there is no member `{path[member.reached]}` in `{inside}` {seen}.{near}{there} {later}"
    size, kind = max(member.within, key=lambda found: (found[1] != "null", member.within[found]))
    inside, outside = ".".join(path[:size]), "".join(f".struct.field({name!r})" for name in path[1:size])
    if kind == "array":
        return (
            f"`{inside}` is an array {seen}, which has no members. For a member of its first element write "
            f"{inside}[1] -> '{path[size]}' in SQL, and pl.col({path[0]!r}){outside}"
            f".list.get(0, null_on_oob=True).struct.field({path[size]!r}) in Python."
        )
    return f"`{inside}` is no object {seen}, but {kind}. {later}"


def _how_to_take_rows(name: str, arrays: Mapping[Path, set[str]]) -> str:
    """Return that the name is one of the members of the elements of an array, "" if it is not."""
    for path, names in arrays.items():
        each = ".".join(path)
        if name in names and PLAIN_PATH.fullmatch(each):
            return (
                f" The objects in the array `{each}` have it: make them the rows with --each {each}, or "
                f".each('{each}') in Python (in the worker's settings: EACH={each})."
            )
    return ""


def _how_to_say(name: str) -> str:
    return f" If you mean a text, write '{name}' in SQL, and pl.lit({name!r}) in Python."


def _how_to_declare(name: str) -> str:
    with_schema = f".with_schema({{{name!r}: pl.TYPE}})"
    return f"declare its type: --schema {name}=TYPE, or {with_schema} (in the worker's settings: SCHEMA={name}=TYPE)"
