"""What options of the operator's commands can be: functions from their text to their value, for click."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import click

_AGE = re.compile(r"([0-9]{1,5})\s*([smhdw])", re.IGNORECASE)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def age(text: str) -> timedelta:
    """Return a time that has passed.

    Raises:
        click.BadParameter: The text is none.

    Example:
        >>> age("2d")
        datetime.timedelta(days=2)
    """
    if not (found := _AGE.fullmatch(text.strip())):
        raise click.BadParameter(f"{text!r} is no age such as 90s, 30m, 12h, 2d or 1w")
    return timedelta(**{_UNITS[found[2].lower()]: int(found[1])})


def size(text: str) -> int:
    """Return a size in bytes, given as settings can have it.

    Raises:
        click.BadParameter: The text is none.

    Example:
        >>> size("64KiB")
        65536
    """
    from pydantic import TypeAdapter, ValidationError

    from runner.setting_types import Size

    try:
        return TypeAdapter[int](Size).validate_python(text)
    except ValidationError:
        raise click.BadParameter(f"{text!r} is no size such as 64KiB, 10MB or 5000") from None


def time(text: str) -> datetime:
    """Return a date, or a date and time; in UTC, unless it says otherwise.

    Raises:
        click.BadParameter: The text is none.

    Example:
        >>> print(time("2026-01-31"))
        2026-01-31 00:00:00+00:00
    """
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise click.BadParameter(f"{text!r} is no time such as 2026-01-31 or 2026-01-31T12:00:00+01:00") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
