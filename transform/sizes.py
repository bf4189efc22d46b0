"""Sizes in bytes and durations in seconds, read from text and written as text, for both packages.

Its import is cheap: the runner uses it in processes that do not import polars.
"""

import operator
import re
from fractions import Fraction
from typing import Any

from transform.errors import OptionError

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
_SIZE = re.compile(r"(\d{1,300}(?:\.\d{1,300})?)\s*([kmgt]i?)?b?", re.IGNORECASE)
_SHOWN_UNITS = (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3))
_EXACT_UNITS = (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10))

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_DURATION = re.compile(r"([0-9]{1,5})\s*([smhdw])", re.IGNORECASE)


def parse_size(text: str, units: str = "kmgt") -> int | None:
    """Return the number of bytes that a text means, None if it is not a size.

    Units are decimal (`k`, `MB`) or binary (`Ki`, `MiB`), in any case, and `B` may be left out. Fractions of a byte are
    cut off.

    Args:
        text: The size, such as `64MiB`, `10 MB` or `5000`.
        units: First letters of the units that are accepted.

    Example:
        >>> parse_size("2 MiB"), parse_size("1.5k"), parse_size("much")
        (2097152, 1500, None)
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        return None
    unit = (match[2] or "").lower()
    # Without regard to case, `i` also matches letters of other alphabets, which make no unit.
    return int(Fraction(match[1]) * _UNITS[unit]) if unit in _UNITS and unit[:1] in units else None


def size_option(name: str, value: Any, most: int | None = None) -> int:
    """Return the number of bytes that an option was given, as a number or as `parse_size` reads it.

    Args:
        name: The name of the option, for the error.
        value: What it was given.
        most: The largest size that is allowed.

    Raises:
        OptionError: It is not a size of at least one byte, or is too large.

    Example:
        >>> size_option("chunk_bytes", "64KiB")
        65536
    """
    size = parse_size(value) if isinstance(value, str) else _whole_number(value)
    if size is None or size < 1 or (most is not None and size > most):
        limit = "" if most is None else f", at most {format_exact_size(most)}"
        raise OptionError(f"{name} is a size such as 64MiB, 10MB or 5000{limit}, not {value!r:.80}")
    return size


def count_option(name: str, value: Any, least: int = 1, most: int | None = None) -> int:
    """Return the whole number that an option was given.

    Args:
        name: The name of the option, for the error.
        value: What it was given.
        least: The smallest number that is allowed.
        most: The largest number that is allowed, None for any.

    Raises:
        OptionError: It is not a whole number, or not one that is allowed.

    Example:
        >>> count_option("workers", 2)
        2
    """
    count = _whole_number(value)
    if count is None or count < least or (most is not None and count > most):
        limit = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise OptionError(f"{name} is a whole number {limit}, not {value!r:.80}")
    return count


def _whole_number(value: Any) -> int | None:
    """Return an integer, also of numpy, as one of Python; None for anything else, such as a float or a boolean."""
    try:
        return None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        return None


def format_size(size: float, *, fixed: bool = False) -> str:
    """Return a number of bytes in the largest decimal unit that it fills.

    Args:
        size: The number of bytes.
        fixed: Always one decimal, and `B` for bytes; otherwise up to three significant digits.

    Example:
        >>> format_size(2_500_000_000), format_size(20_000_000), format_size(999)
        ('2.5 GB', '20 MB', '999 bytes')
        >>> format_size(20_000_000, fixed=True), format_size(999, fixed=True)
        ('20.0 MB', '999 B')
    """
    for unit, factor in _SHOWN_UNITS:
        if size >= factor:
            return f"{size / factor:.1f} {unit}" if fixed else f"{size / factor:,.3g} {unit}"
    return f"{size:.0f} B" if fixed else f"{size:.0f} bytes"


def format_exact_size(size: int) -> str:
    """Return a number of bytes in the largest binary unit of which it is a multiple, as `parse_size` reads it back.

    Example:
        >>> format_exact_size(65536), format_exact_size(5000)
        ('64KiB', '5000')
    """
    for unit, factor in _EXACT_UNITS:
        if size and size % factor == 0:
            return f"{size // factor}{unit}"
    return str(size)


def parse_duration(text: str) -> int | None:
    """Return the number of seconds that a text such as `90s`, `12h` or `2d` means, None if it is not a duration.

    The text is a whole number and a unit: `s`, `m` (minutes), `h`, `d` or `w`, in any case.

    Example:
        >>> parse_duration("2d"), parse_duration("90 s"), parse_duration("soon")
        (172800, 90, None)
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        return None
    factor = _SECONDS.get(match[2].lower())  # without regard to case, `s` also matches the long s
    return None if factor is None else int(match[1]) * factor


def format_duration(seconds: float) -> str:
    """Return a duration in its two largest units, rounded to seconds.

    Example:
        >>> format_duration(59.6), format_duration(3600), format_duration(200_000)
        ('1 min', '1 h', '2 d 7 h')
    """
    left = round(seconds)
    counts = [(left // 86400, "d"), (left // 3600 % 24, "h"), (left // 60 % 60, "min"), (left % 60, "s")]
    largest = next((at for at, (count, _) in enumerate(counts) if count), 3)
    shown = [f"{count} {unit}" for count, unit in counts[largest : largest + 2] if count]
    return " ".join(shown) or "0 s"


def format_estimate(seconds: float) -> str:
    """Return a duration that is only roughly known: seconds with two digits, from two minutes on minutes and hours.

    Example:
        >>> format_estimate(0.123), format_estimate(150), format_estimate(9000)
        ('0.12 s', '2 min', '2 h 30 min')
    """
    if seconds < 10:
        return f"{seconds:.2g} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60:,} h {minutes % 60} min"
