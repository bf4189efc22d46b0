"""The checksum of a whole object, put together from those of its pieces, and compared with the one that S3 has.

S3 sends no checksum with a range. But a CRC of a whole can be calculated from the CRCs of its pieces: so an object that
is read in ranges, by several threads or processes, is checked as well as one that is read in one request.
"""

import base64
from codecs import BOM_UTF8
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Self

from isal import isal_zlib

from transform.errors import DamagedError

Crc = Callable[[Any, int], int]
"""Returns the CRC of bytes that follow those whose CRC is given, 0 for none."""


def _crc64nvme(data: Any, before: int) -> int:
    from awscrt.checksums import crc64nvme  # type: ignore[import-untyped]  # noqa: PLC0415 - local runs need not pay

    return int(crc64nvme(data, before))


@dataclass(frozen=True, slots=True)
class _Algorithm:
    """A CRC that starts with all bits set and ends by flipping all bits, as these two do.

    Attributes:
        bits: Its width.
        polynomial: Its polynomial with the bits reversed, without the highest power.
        crc: Calculates it.
    """

    bits: int
    polynomial: int
    crc: Crc


_ALGORITHMS = {
    "CRC64NVME": _Algorithm(64, 0x9A6C9329AC4BC9B5, _crc64nvme),
    "CRC32": _Algorithm(32, 0xEDB88320, isal_zlib.crc32),
}
"""Those that S3 has of whole objects and that can be combined, by its names. It has CRC32C as well, which few use."""


@dataclass(frozen=True, slots=True)
class PieceChecksum:
    """The checksum of a piece of an object.

    Attributes:
        start: Offset of its first byte.
        stop: Offset of the first byte after it.
        value: The checksum.
    """

    start: int
    stop: int
    value: int


def checksum_of(algorithm: str, data: Any, before: int = 0) -> int:
    """Return the checksum of bytes, or of others, whose checksum is given, and these."""
    return _ALGORITHMS[algorithm].crc(data, before)


def checksums_of(data: Any, before: Mapping[str, int] | None = None) -> dict[str, int]:
    """Return the checksums of bytes by all algorithms, or of others, whose checksums are given, and these."""
    return {name: checksum_of(name, data, before[name] if before else 0) for name in _ALGORITHMS}


def combined(algorithm: str, first: int, second: int, second_bytes: int) -> int:
    """Return the checksum of two pieces, one after the other.

    Args:
        algorithm: The algorithm, as S3 calls it.
        first: The checksum of the first piece.
        second: The checksum of the second piece.
        second_bytes: The size of the second piece.

    Example:
        >>> combined("CRC32", checksum_of("CRC32", b"ab"), checksum_of("CRC32", b"cde"), 3)
        2240272485
        >>> checksum_of("CRC32", b"abcde")
        2240272485
    """
    power = 0
    while second_bytes:
        if second_bytes & 1:
            first = _product(algorithm, _after_zeros(algorithm, power), first)
        second_bytes >>= 1
        power += 1
    return first ^ second


@cache
def _after_zeros(algorithm: str, power: int) -> int:
    """Return the factor that a checksum is multiplied with if 2^power zero bytes follow: x^(8 · 2^power)."""
    if power == 0:
        return 1 << (_ALGORITHMS[algorithm].bits - 9)  # x^8; the lowest power is the highest bit
    half = _after_zeros(algorithm, power - 1)
    return _product(algorithm, half, half)


def _product(algorithm: str, left: int, right: int) -> int:
    """Return the product of two polynomials over GF(2), modulo that of the algorithm."""
    bits, polynomial = _ALGORITHMS[algorithm].bits, _ALGORITHMS[algorithm].polynomial
    product, bit = 0, 1 << (bits - 1)
    while left:
        if left & bit:
            product ^= right
            left ^= bit
        bit >>= 1
        right = (right >> 1) ^ polynomial if right & 1 else right >> 1
    return product


@dataclass(slots=True)
class ObjectChecksum:
    """The checksum that S3 has of a whole object, and that of its bytes so far.

    Attributes:
        algorithm: The algorithm, as S3 calls it.
        expected: The checksum that S3 has.
        value: The checksum of the bytes so far.
        position: How many bytes these are.
    """

    algorithm: str
    expected: int
    value: int = 0
    position: int = 0

    @classmethod
    def from_headers(cls, headers: Mapping[str, Any]) -> Self | None:
        """Return the checksum that a response has, by the names that boto3 uses; None if it has none of a whole object.

        Of an object uploaded in parts S3 may have only a checksum of the checksums of the parts, with their number.
        """
        for algorithm in _ALGORITHMS:
            text = headers.get(f"Checksum{algorithm}") or "-"
            if "-" not in text and headers.get("ChecksumType") in ("FULL_OBJECT", None):
                return cls(algorithm, int.from_bytes(base64.b64decode(text), "big"))
        return None

    def resumed(self, text: str | None, position: int) -> Self | None:
        """Return it as it was at a position, according to what `so_far` returned; None if that does not say it."""
        algorithm, _, value = (text or "").partition(":")
        if algorithm != self.algorithm:
            return None
        return type(self)(algorithm, self.expected, int(value, 16), position)

    @property
    def so_far(self) -> str:
        """The algorithm, and the checksum of the bytes so far."""
        return f"{self.algorithm}:{self.value:x}"

    def update(self, data: memoryview | bytes) -> None:
        """Add the next bytes."""
        self.value = checksum_of(self.algorithm, data, self.value)
        self.position += len(data)

    def add(self, piece: PieceChecksum) -> None:
        """Add the next piece."""
        self._add_bom(piece.start)
        self.value = combined(self.algorithm, self.value, piece.value, piece.stop - piece.start)
        self.position = piece.stop

    def _add_bom(self, start: int) -> None:
        """Add a BOM at the very start, which is in no chunk, if the next piece starts after it."""
        if self.position == 0 and start == len(BOM_UTF8):
            self.update(BOM_UTF8)

    def check(self, name: str, size: int) -> None:
        """Raise unless the bytes so far, which are all, have the checksum that S3 has.

        Args:
            name: The name of the object, for the message.
            size: Its size in bytes.

        Raises:
            DamagedError: They have another one.
        """
        self._add_bom(size)
        if self.value != self.expected:
            digits = _ALGORITHMS[self.algorithm].bits // 4
            raise DamagedError(
                f"{name}: the bytes that were read are not those that were stored: their {self.algorithm} is "
                f"{self.value:0{digits}x}, and S3 has {self.expected:0{digits}x}; nothing was published. If this "
                "happens on other machines, too, upload the object again; else suspect this one, or a proxy"
            )


def check_text(text: object) -> str | None:
    """Return what `ObjectChecksum.so_far` returned, or None.

    Raises:
        ValueError: It is neither.
    """
    if text is None:
        return None
    algorithm, _, value = str(text).partition(":")
    if algorithm not in _ALGORITHMS or not 0 <= int(value, 16) < 1 << _ALGORITHMS[algorithm].bits:
        raise ValueError(f"not a checksum: {text}")
    return str(text)
