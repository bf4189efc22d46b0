"""Reads libraries: what they are for, what they offer, and what they need."""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass, field

X86_64, ARM64 = "x86_64", "aarch64"
_ELF_MACHINES = {62: X86_64, 183: ARM64}
_MACH_O_MACHINES = {0x1000007: X86_64, 0x100000C: ARM64}
_DYNAMIC, _DYNSYM, _NEEDED = 6, 11, 1  # kinds of sections, and of an entry of the first one


class _Command(enum.IntEnum):
    """The kinds of load commands of Mach-O that matter here."""

    SYMTAB = 0x2
    LOAD_DYLIB = 0xC
    ID_DYLIB = 0xD
    CODE_SIGNATURE = 0x1D
    BUILD_VERSION = 0x32


@dataclass
class Binary:
    """What a shared library says of itself; what only macOS has is at the end."""

    system: str
    machine: str
    offered: set[str] = field(default_factory=set)
    undefined: set[str] = field(default_factory=set)
    libraries: list[str] = field(default_factory=list)
    name: str = ""
    is_signed: bool = False
    oldest_system: tuple[int, int] | None = None


def read_binary(content: bytes) -> Binary:
    """Read a shared library for Linux or macOS, of 64 bits."""
    return _read_elf(content) if content.startswith(b"\x7fELF") else _read_mach_o(content)


def _text(content: bytes, start: int) -> str:
    return content[start : content.index(b"\0", start)].decode()


def _read_elf(content: bytes) -> Binary:
    assert content[4:6] == b"\x02\x01", "64 bits, little endian"
    kind, machine = struct.unpack_from("<2H", content, 16)
    assert kind == 3, "a shared object"
    found = Binary("linux", _ELF_MACHINES[machine])
    (table,) = struct.unpack_from("<Q", content, 40)
    size, count = struct.unpack_from("<2H", content, 58)
    sections = [struct.unpack_from("<2I4Q2I2Q", content, table + size * index) for index in range(count)]
    for _, section, _, _, start, length, link, *_ in sections:
        names = sections[link][4]
        if section == _DYNSYM:
            for at in range(start + 24, start + length, 24):  # the first symbol is none
                name, _, _, place = struct.unpack_from("<I2BH", content, at)
                (found.offered if place else found.undefined).add(_text(content, names + name))
        if section == _DYNAMIC:
            for at in range(start, start + length, 16):
                tag, value = struct.unpack_from("<2Q", content, at)
                if tag == _NEEDED:
                    found.libraries.append(_text(content, names + value))
    assert found.offered, "there are no symbols"
    return found


def _read_mach_o(content: bytes) -> Binary:
    magic, machine, _, kind, count, *_ = struct.unpack_from("<8I", content)
    assert (magic, kind) == (0xFEEDFACF, 6), "a shared library of 64 bits"
    found = Binary("macos", _MACH_O_MACHINES[machine])
    at = 32
    for _ in range(count):
        command, size, first = struct.unpack_from("<3I", content, at)
        match command:
            case _Command.SYMTAB:
                symbols, number, names, _ = struct.unpack_from("<4I", content, at + 8)
                for symbol in range(symbols, symbols + 16 * number, 16):
                    name, flags, _, _, _ = struct.unpack_from("<I2BHQ", content, symbol)
                    if flags & 0x1:  # visible to others
                        (found.offered if flags & 0xE else found.undefined).add(_text(content, names + name))
            case _Command.ID_DYLIB:
                found.name = _text(content, at + first)
            case _Command.LOAD_DYLIB:
                found.libraries.append(_text(content, at + first))
            case _Command.CODE_SIGNATURE:
                found.is_signed = True
            case _Command.BUILD_VERSION:
                (oldest,) = struct.unpack_from("<I", content, at + 12)
                found.oldest_system = (oldest >> 16, oldest >> 8 & 0xFF)
        at += size
    return found
