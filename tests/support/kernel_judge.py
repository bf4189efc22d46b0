"""Compares what the kernel finds in a chunk with `reference.py`, which shares no code with it.

A line that the kernel calls OK is an object whose members are where the kernel says; a BAD one is none. A SLOW one may
be anything but blank; if it is an object, its members are where the kernel says, since it may be written.
"""

from __future__ import annotations

import collections
import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from tests.support import reference
from transform.native.binding import MISSING, Column, Kernel, Kind, Scan, Spans, Status, emit, scan, strings
from transform.native.wanted import SLACK, MemberPath, Wanted, Way

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterable, Mapping, Sequence

NAMES = ("a", "b", "", "é", 'a"b', "n", "customer", "x" * 70, "\x01", "日本", "ab", "aé", "😀", "a" * 64, "\\", "/")
PATHS: tuple[MemberPath, ...] = (
    *(("a",), ("b",), ("customer", "a"), ("customer", "b", "x" * 70), ("é",), ('a"b',), ("customer",), ("a", "n")),
    *(("",), ("", ""), ("😀", "日本"), ("a" * 64,), ("\\",), ("b", "a", "b", "a")),
)


@dataclass(frozen=True)
class Case:
    """What is asked of the kernel.

    Attributes:
        wanted: As the kernel has it.
        paths: The members.
        types: The types of columns, as `reference.value_of` has them, by path.
        spec: Which members stay.
    """

    wanted: Wanted
    paths: Sequence[MemberPath]
    types: Mapping[MemberPath, str] = field(default_factory=dict)
    spec: reference.Spec = field(default_factory=lambda: reference.Spec({}))


_TYPES = {
    **dict.fromkeys(("Int64", "Int16"), Way.INT64),
    "UInt64": Way.WIDE,
    "float": Way.FLOAT64,
    "boolean": Way.BOOL,
    "string": Way.STRING,
}


def columns(types: Mapping[MemberPath, str]) -> Case:
    """Return a case with columns."""
    limits = {"Int16": (-(2**15), 2**15 - 1), "UInt64": (0, 2**63 - 1)}  # more than that is in an uint64
    bounds = {path: limits[kind] for path, kind in types.items() if kind in limits}
    wanted = Wanted(types, {path: _TYPES[kind] for path, kind in types.items()}, bounds)
    return Case(wanted, tuple(types), types)


def stays(paths: Sequence[MemberPath], *, drop: Sequence[str] = (), select: Sequence[str] | None = None) -> Case:
    """Return a case in which members are cut out."""
    keeps = dict.fromkeys(drop, False) if select is None else dict.fromkeys(select, True)
    spec = reference.Spec({}, drop=frozenset(drop), select=None if select is None else frozenset(select))
    return Case(Wanted(paths, keeps=keeps, others_stay=select is None), paths, spec=spec)


def cases() -> tuple[Case, ...]:
    """Return what is asked about hostile lines."""
    one_each = (("a",), ("b",), ("a",), ("customer", "a"), ("",), ("é",))
    return (
        Case(Wanted(PATHS), PATHS),
        *(columns({path: kind}) for path, kind in zip(one_each, _TYPES, strict=True)),
        columns({("a",): "float"}),
        columns({("a",): "string"}),
        stays([("b",), ("a", "n")], drop=("a", "", 'a"b')),
        stays([("a",)], select=("b", "customer", "é", "x" * 70)),
        stays([], select=()),
    )


@dataclass
class Tally:
    """How many lines were compared, by status, and what was wrong."""

    statuses: collections.Counter[Status] = field(default_factory=collections.Counter)
    wrong: list[str] = field(default_factory=list)

    @property
    def lines(self) -> int:
        return sum(self.statuses.values())


def compare(view: memoryview, case: Case, kernels: Sequence[Kernel], tally: Tally) -> None:
    """Compare what the kernels find in a chunk with each other and with the reference."""
    data = bytes(view)
    found = scan(view, case.wanted, kernels[0])
    outcome = _outcome(found)
    for kernel in kernels[1:]:
        if _outcome(scan(view, case.wanted, kernel)) != outcome:
            tally.wrong.append(f"{kernels[0].level} and {kernel.level} differ: {data!r}")
    lines = [line for _, line, _ in reference.split(data)] if not data.startswith(reference.BOM) else data.split(b"\n")
    if data.startswith(reference.BOM) and lines[-1] == b"":
        lines.pop()
    if len(lines) != len(found.status):
        tally.wrong.append(f"{len(found.status)} lines for {len(lines)}: {data!r}")
        return
    documents = list[reference.Document | None]()
    for index, line in enumerate(lines):
        status = Status(int(found.status[index]))
        tally.statuses[status] += 1
        documents.append(_document(line))
        start = int(found.bounds[index])
        if data[start : int(found.stops[index])] != line:
            tally.wrong.append(f"not where it is: {line!r}")
        if why := _disagrees(found, index, line, documents[index], status, case):
            tally.wrong.append(f"{status.name} line, {why}: {line!r}")
    _compare_texts(found, case, lines, kernels, tally)
    if case.wanted.cuts:
        _compare_output(found, case, lines, documents, kernels, tally)


def _outcome(found: Scan) -> tuple[bytes, ...]:
    """Return all that is certain in a scan; nothing is about values of lines that are not OK."""
    ok = found.status == Status.OK
    there = ok | (found.status == Status.SLOW)
    arrays = [
        found.bounds,
        found.stops,
        found.status,
        found.closes[there],
        found.empty[there],
        found.starts[1:],
        found.ends[1:],
    ]
    for node, values in found.values.items():
        valid = found.valid[node]
        arrays += [valid, values[ok & (valid != 0)]]
    if found.cuts is not None and found.cut_bounds is not None:
        arrays += [found.cut_bounds, found.cuts[: found.cut_bounds[-1]]]
    return tuple(array.tobytes() for array in (*arrays, found.listed[there]))


_ANY = reference.Spec({})


def _document(line: bytes) -> reference.Document | None:
    try:
        return reference.parse(line, _ANY)
    except reference.Rejected:
        return None


def _disagrees(
    found: Scan, index: int, line: bytes, document: reference.Document | None, status: Status, case: Case
) -> str:
    """Return what is wrong with what the kernel says of a line, nothing if it is right."""
    blank = not line.strip(reference.BLANK)
    if (status is Status.BLANK) is not blank:
        return "blank" if blank else "not blank"
    if status not in (Status.OK, Status.SLOW) and (found.starts[1:, index] != MISSING).any():
        return "with members"
    if status is Status.BLANK or (status is Status.SLOW and document is None):
        return ""
    if (status is Status.BAD) is not (document is None):
        return "no object" if document is None else "an object"
    if status is Status.OK and _has_lone_surrogates(line):
        return "with a lone surrogate"
    if status is Status.OK and not _accepted(line, case.paths):
        return "a path through no object"
    return "" if document is None else _misplaced(found, index, line, document, case)


def _has_lone_surrogates(line: bytes) -> bool:
    """Return whether there is an escape anywhere in a JSON text that no text has: that is for Python to look at."""
    if b"\\ud" not in line and b"\\uD" not in line:
        return False
    value = json.loads(line, object_pairs_hook=list, parse_int=float)
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


def _misplaced(found: Scan, index: int, line: bytes, document: reference.Document, case: Case) -> str:
    start = int(found.bounds[index])
    if start + document.close != found.closes[index]:
        return f"closes at {document.close}"
    if bool(found.empty[index]) is any(case.spec.stays(member.name) for member in document.members):
        return "emptiness"
    for path in case.paths:
        place, node = span(line, document, path), case.wanted.nodes[path]
        expected = (MISSING, MISSING) if place is None else (start + place[0], start + place[1])
        if expected != (found.starts[node, index], found.ends[node, index]):
            return f"{path} is at {place}"
        ok = found.status[index] == Status.OK
        if ok and node in found.values and (why := _value_differs(found, node, index, line, place, case.types[path])):
            return f"{path}: {why}"
    return ""


def span(line: bytes, document: reference.Document, path: MemberPath) -> tuple[int, int] | None:
    """Return where a member is, by the reference."""
    start, end = 0, len(line)
    for at, name in enumerate(path):
        member = document.last(name)
        if member is None:
            return None
        start, end = start + member.start, start + member.end
        if at < len(path) - 1:
            document = reference.scan(line[start:end])
            if not document.is_object:
                return None
    return start, end


def _value_differs(found: Scan, node: int, index: int, line: bytes, place: tuple[int, int] | None, kind: str) -> str:
    try:
        expected = None if place is None else reference.value_of(line[slice(*place)], kind)
    except reference.Rejected as rejected:
        return f"no value, {rejected}"
    if (expected is None) is bool(found.valid[node][index]):
        return "validity"
    if expected is None:
        return ""
    values = found.values[node]
    value = values.view(np.uint64)[index] if found.valid[node][index] == 2 else values[index]
    if isinstance(expected, float):
        return "" if value.tobytes() == np.float64(expected).tobytes() else f"{value} for {expected}"
    return "" if value == expected else f"{value} for {expected}"


def _compare_texts(found: Scan, case: Case, lines: Sequence[bytes], kernels: Sequence[Kernel], tally: Tally) -> None:
    for path, kind in case.types.items():
        if kind != "string":
            continue
        node = case.wanted.nodes[path]
        ok = found.status == Status.OK
        starts, ends = np.where(ok, found.starts[node], np.uint32(MISSING)), found.ends[node]
        expected = []
        for index in range(len(lines)):
            value = bytes(found.data[starts[index] : ends[index]]) if starts[index] != MISSING else b"null"
            expected.append("" if value == b"null" else reference.string_of(value))
        for kernel in kernels:
            text, offsets = strings(found.data, starts, ends, kernel)
            places = zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)
            if [bytes(text[start:stop]) for start, stop in places] != [one.encode() for one in expected]:
                tally.wrong.append(f"{kernel.level}: texts of {path}: {lines!r}")


def _compare_output(
    found: Scan,
    case: Case,
    lines: Sequence[bytes],
    documents: Sequence[reference.Document | None],
    kernels: Sequence[Kernel],
    tally: Tally,
) -> None:
    rows = np.flatnonzero([document is not None for document in documents])
    if (found.status[rows] == Status.BAD).any():
        return  # which is wrong, and counted
    expected = reference.Expected()
    for index in rows.tolist():
        document = documents[index]
        assert document is not None
        reference.emit(expected, lines[index], document, [], case.spec)
        if int(found.stops[index]) < int(found.bounds[index + 1]):
            expected.output.append(b"\n")
    output = b"".join(piece for piece in expected.output if isinstance(piece, bytes))
    for kernel in kernels:
        if bytes(emit(found, rows, [], kernel)) != output:
            tally.wrong.append(f"{kernel.level}: output of {case.spec}: {lines!r}")


RESULTS = ("a", "b", "", "é", 'a"b', "customer", "new", "x" * 70, "\x01", "n", "😀")


def compare_edits(lines: Sequence[bytes], rng: random.Random, kernels: Sequence[Kernel], end: bytes = b"\n") -> None:
    """Write lines with results of every kind, without some members, and compare with the reference.

    Args:
        lines: The lines.
        rng: Chooses the results, and which lines are written.
        kernels: The functions that write.
        end: What the last line ends with.

    Raises:
        AssertionError: The output is not what it should be.
    """
    names = rng.sample(RESULTS, k=rng.randint(0, len(RESULTS)))
    drop = frozenset(rng.sample(NAMES, k=rng.choice((0, 1, 3, 8))))
    select = frozenset(rng.sample(NAMES, k=rng.choice((0, 1, 3, 8)))) if rng.random() < 0.4 else None
    if select is not None:
        drop = frozenset()
    members = {name: rng.choice(PATHS) for name in names if rng.random() < 0.25}
    keeps = dict.fromkeys(drop, False) if select is None else dict.fromkeys(select, True)
    wanted = Wanted([*((name,) for name in names), *members.values()], keeps=keeps, others_stay=select is None)
    data = b"\n".join([b"{}", *lines]) + end
    memory = np.frombuffer(data + bytes(rng.choices(b'"{}\\\n09', k=SLACK)), np.uint8)
    for kernel in kernels:
        found = scan(memory.data[: len(data)], wanted, kernel)
        rows = np.flatnonzero([_accepted(line, members.values()) for line in [b"{}", *lines]])
        kept = np.array([rng.random() < 0.8 for _ in rows], bool)
        rows = rows[kept]
        columns, results = list[Column](), list[tuple[str, Any]]()
        spec = reference.Spec({}, drop=drop, select=select)
        for name in names:
            node = wanted.nodes[(name,)]
            target = (found.starts[node], found.ends[node]) if spec.stays(name) else None
            if name in members:
                node = wanted.nodes[members[name]]
                places = found.starts[node], found.ends[node]
                columns.append(Column(Kind.MEMBER, _prefix(name), member=places, target=target))
                results.append((name, reference.Unchanged(members[name])))
            else:
                column, values = _column(name, len(rows), target, rng)
                columns.append(column)
                results.append((name, _one_after_the_other(values)))
        spec = reference.Spec({}, tuple(results), _one_after_the_other(kept.tolist()), drop=drop, select=select)
        reference.match(reference.transform(data, spec), bytes(emit(found, rows, columns, kernel)))


def _accepted(line: bytes, paths: Iterable[MemberPath]) -> bool:
    document = _document(line)
    try:
        return document is not None and all(reference.Unchanged(path).text(line, document) for path in paths)
    except reference.Rejected:
        return False


def _prefix(name: str) -> bytes:
    return json.dumps(name, ensure_ascii=False).encode() + b":"


def _one_after_the_other(values: Sequence[Any]) -> Callable[[dict[str, object]], Any]:
    left = iter(values)
    return lambda _: next(left)


def _column(
    name: str, rows: int, target: tuple[Spans, Spans] | None, rng: random.Random
) -> tuple[Column, list[object]]:
    """Return a result, and its values as the reference has them."""
    kind = rng.choice((Kind.TEXT, Kind.INT64, Kind.FLOAT64))
    valid = None if rng.random() < 0.5 else np.array([rng.random() < 0.7 for _ in range(rows)], np.uint8)
    values: list[Any]
    if kind is Kind.TEXT:
        values = [json.dumps("é" * rng.choice((0, 1, 20, 40, 3000)), ensure_ascii=False).encode() for _ in range(rows)]
        offsets = np.cumsum([0, *map(len, values)]) + 3
        given = np.frombuffer(b"xyz" + b"".join(values) + bytes(SLACK), np.uint8)
    elif kind is Kind.INT64:
        values = [rng.choice((-(2**63), 2**63 - 1, 0, rng.getrandbits(rng.randint(1, 63)))) for _ in range(rows)]
        offsets, given = None, np.array(values, np.int64)
    else:
        values = [rng.choice((-1.7976931348623157e308, math.inf, 0.5, rng.random(), 1e22)) for _ in range(rows)]
        offsets, given = None, np.array(values, np.float64)
    if valid is not None:
        values = [value if there else None for value, there in zip(values, valid.tolist(), strict=True)]
    return Column(kind, _prefix(name), given, offsets, valid, target=target), values
