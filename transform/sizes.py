"""Sizes as people write them."""

import re

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]i?)?b?", re.IGNORECASE)


def parse_size(text: str) -> int | None:
    """Return the number of bytes that a text such as `64MiB`, `10 MB` or `5000` says, None if it is none.

    Example:
        >>> parse_size("2 MiB")
        2097152
    """
    match = _SIZE.fullmatch(text.strip())
    return int(float(match[1]) * _UNITS[(match[2] or "").lower()]) or None if match else None


def show_size(size: float) -> str:
    """Return a number of bytes in a unit that suits it.

    Example:
        >>> show_size(2_500_000_000)
        '2.5 GB'
    """
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:,.3g} {unit}"
    return f"{size:.0f} bytes"


def show_seconds(seconds: float) -> str:
    """Return a time in a unit that suits it.

    Example:
        >>> show_seconds(9000)
        '2 h 30 min'
    """
    if seconds < 10:
        return f"{seconds:.2g} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60:,} h {minutes % 60} min"
