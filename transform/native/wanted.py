"""The members of lines that a calculation needs, as the kernel takes them: a tree of names, in arrays of numbers."""

import ctypes
import enum
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
MemberPath = tuple[str, ...]

SLACK = 64
"""Number of bytes after the end of a buffer that must exist: the kernel reads and writes whole blocks."""
_INT64 = (-(2**63), 2**63 - 1)


class Way(enum.IntEnum):
    """What is made of a value: nothing but its place, or a column. Text is read by `strings`.

    Wide integers have 64 bits with a sign or, where they are larger, without one.
    """

    SPAN = 0
    STRING = 1
    INT64 = 2
    FLOAT64 = 3
    BOOL = 4
    WIDE = 5


class WantedStructure(ctypes.Structure):
    """`Wanted` in members.h."""

    _fields_ = (
        ("count", ctypes.c_int32),
        ("mask", ctypes.c_int32),
        *((name, ctypes.c_void_p) for name in ("first", "next", "parent", "last", "name_start", "name_sizes", "names")),
        *((name, ctypes.c_void_p) for name in ("way", "lowest", "highest", "listed", "keeps")),
        ("words", ctypes.c_int32),
        ("cuts", ctypes.c_uint8),
        ("others_stay", ctypes.c_uint8),
        ("scratch", ctypes.c_void_p),
        ("longest", ctypes.c_int64),
        ("sizes", ctypes.c_uint64),
    )


def _hash(parent: int, name: bytes) -> int:
    """Return the hash of a member, as the kernel has it."""
    found = parent << 32 | len(name)
    for at in range(0, len(name), 8):
        found = (found ^ int.from_bytes(name[at : at + 8], "little")) * 0x9E3779B97F4A7C15 & 2**64 - 1
        found ^= found >> 32
    return (found ^ found >> 32) & 2**32 - 1


def _hash_table(parent: Sequence[int], names: Sequence[bytes]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Return the first node in each slot of a table of hashes, and the node that follows each in its slot; -1 for none.

    Args:
        parent: The node that each node is in.
        names: The name of each.
    """
    count = len(parent)
    size = 1 << (2 * count).bit_length()
    first, following = np.full(size, -1, np.int32), np.full(count, -1, np.int32)
    for node in range(1, count):
        slot = _hash(parent[node], names[node]) & (size - 1)
        following[node], first[slot] = first[slot], node
    return first, following


class Wanted:
    """The members of lines that a calculation needs.

    Args:
        paths: Where they are.
        ways: What is made of them, by path; by default only their place is found.
        bounds: The lowest and the highest integer of a column, by path.
        keeps: Whether the members of a name stay in the line, by name.
        others_stay: Whether members of other names do.

    Attributes:
        nodes: The number of each member, by path.
    """

    def __init__(
        self,
        paths: Iterable[MemberPath],
        ways: Mapping[MemberPath, Way] = {},
        bounds: Mapping[MemberPath, tuple[int, int]] = {},
        keeps: Mapping[str, bool] = {},
        *,
        others_stay: bool = True,
    ) -> None:
        tree: dict[str, Any] = {}
        for path in (*paths, *((name,) for name in keeps)):
            place = tree
            for name in path:
                place = place.setdefault(name, {})
        self.nodes: dict[MemberPath, int] = {(): 0}
        parent, last = [-1], [0]
        self._number(tree, (), parent, last)
        count = len(parent)
        names = [b"", *(_encoded(path[-1]) for path in self.nodes if path)]
        stops = np.cumsum([len(name) for name in names])
        first, following = _hash_table(parent, names)
        kept: list[npt.NDArray[Any]] = [
            first,
            following,
            np.array(parent, np.int32),
            np.array(last, np.int32),
            np.array(stops - [len(name) for name in names], np.int64),
            np.array([len(name) for name in names], np.int32),
            np.frombuffer(b"".join(names) + bytes(SLACK), np.uint8),
            np.array([ways.get(path, Way.SPAN) for path in self.nodes], np.uint8),
            np.array([bounds.get(path, _INT64)[0] for path in self.nodes], np.int64),
            np.array([bounds.get(path, _INT64)[1] for path in self.nodes], np.int64),
            np.full(count, -1, np.int32),
            np.full(count, others_stay, np.uint8),
        ]
        for index, (name, stays) in enumerate(keeps.items()):
            node = self.nodes[(name,)]
            kept[-2][node], kept[-1][node] = index, stays
        self._kept = kept
        self.count = count
        self.ways = {self.nodes[path]: way for path, way in ways.items()}
        self.cuts = bool(keeps) or not others_stay
        self.words = -(-len(keeps) // 64)
        self._longest = max(len(name) for name in names)
        self._sizes = sum({1 << len(name) % 64 for name in names[1:]})
        pointers = [array.ctypes.data for array in kept]
        flags = self.words, self.cuts, others_stay
        self._structure = WantedStructure(count, len(first) - 1, *pointers, *flags, None, self._longest, self._sizes)

    def _number(self, tree: dict[str, Any], path: MemberPath, parent: list[int], last: list[int]) -> None:
        """Number the nodes of a tree so that those of each subtree follow each other."""
        here = self.nodes[path]
        for name, inside in tree.items():
            self.nodes[(*path, name)] = len(parent)
            parent.append(here)
            last.append(0)
            self._number(inside, (*path, name), parent, last)
        last[here] = len(parent)

    def structure(self, scratch: Bytes) -> WantedStructure:
        """Return what the kernel gets; scratch is as long as `scratch_bytes`."""
        made = WantedStructure.from_buffer_copy(self._structure)
        made.scratch = scratch.ctypes.data
        return made

    @property
    def scratch_bytes(self) -> int:
        """How much scratch the kernel needs for names."""
        return self._longest + SLACK


def _encoded(name: str) -> bytes:
    """Return a name as it is in UTF-8; one with a lone surrogate is in no line."""
    try:
        return name.encode()
    except UnicodeEncodeError:
        return b"\xff"
