"""The powers of five and ten that the kernel needs, as a header for its compiler."""

from fractions import Fraction

_FIVES = range(-342, 309)
_TENS = range(-292, 325)


def header() -> str:
    """Return the header: two tables of numbers of 128 bits, the high word first."""
    lines = ["// Made by powers.py.", "#pragma once", "#include <stdint.h>"]
    for name, exponents, word in (("FIVES", _FIVES, _five), ("TENS", _TENS, _ten)):
        lines.append(f"#define {name}_FIRST ({exponents[0]})")
        lines.append(f"#define {name}_LAST {exponents[-1]}")
        lines.append(f"static const uint64_t {name}[][2] = {{")
        lines += [f"    {{0x{value >> 64:016X}, 0x{value & 2**64 - 1:016X}}}," for value in map(word, exponents)]
        lines.append("};")
    return "\n".join([*lines, ""])


def _five(exponent: int) -> int:
    """Return the first 128 bits of a power of five: rounded up if it is a fraction, else cut off.

    So does Lemire, "Number parsing at a gigabyte per second", 2021, https://arxiv.org/abs/2101.11408
    """
    power: int = 5 ** abs(exponent)
    if exponent >= 0:
        by = power.bit_length() - 128
        return power >> by if by >= 0 else power << -by
    bits = (power - 1).bit_length()
    if exponent >= -27:
        return (1 << (bits + 127)) // power + 1
    reciprocal: int = (1 << (2 * bits + 128)) // power + 1
    return reciprocal >> (reciprocal.bit_length() - 128)


def _ten(exponent: int) -> int:
    """Return the first 128 bits of a power of ten, rounded up, as Schubfach needs them."""
    power = Fraction(10) ** exponent
    bits = (exponent * 1741647) >> 19  # the logarithm to base 2
    scaled = power * Fraction(2) ** (127 - bits)
    return -((-scaled.numerator) // scaled.denominator)
