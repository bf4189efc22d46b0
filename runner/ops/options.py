"""Types of the options of the operator's commands: functions from a text to a value, for click."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import click

from transform import parse_duration


def age(text: str) -> timedelta:
    """Return how long ago something is.

    Raises:
        click.BadParameter: The text is not a duration.

    Example:
        >>> age("2d")
        datetime.timedelta(days=2)
    """
    seconds = parse_duration(text)
    if seconds is None:
        raise click.BadParameter(f"{text!r} is not an age such as 90s, 30m, 12h, 2d or 1w")
    return timedelta(seconds=seconds)


def size(text: str) -> int:
    """Return a size in bytes; the same texts are accepted as in the settings.

    Raises:
        click.BadParameter: The text is not a size.

    Example:
        >>> size("64KiB")
        65536
    """
    from runner.setting_types import read_size

    try:
        return read_size(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is not a size such as 64KiB, 10MB or 5000") from None


def time(text: str) -> datetime:
    """Return a moment, in UTC unless the text has an offset; a date alone means its midnight.

    Raises:
        click.BadParameter: The text is not a date, or date and time.

    Example:
        >>> print(time("2026-01-31"))
        2026-01-31 00:00:00+00:00
    """
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise click.BadParameter(f"{text!r} is not a time such as 2026-01-31 or 2026-01-31T12:00:00+01:00") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
