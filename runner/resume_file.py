"""A file that says how far a submission has come, so that one that was interrupted goes on from there."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from runner.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_VERSION = 1


class ResumeFile:
    """How far a submission has come: the last key of each prefix, all before which are on the queue.

    Args:
        path: The file, which need not be there yet.
        asked: What the submission is, by names; a file of another one is refused, as it would leave things out.

    Raises:
        SettingsError: The file is none of ours, is of another submission, or cannot be read.
    """

    def __init__(self, path: Path, asked: Mapping[str, str]) -> None:
        self._path = path
        self._asked = dict(asked)
        self._last: dict[str, str] = {}
        try:
            text = path.read_text()
        except FileNotFoundError:
            return
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"{path} cannot be read: {error}") from None
        self._last = self._read(text)

    @property
    def is_new(self) -> bool:
        """Whether nothing has been submitted yet."""
        return not self._last

    def last(self, prefix: str) -> str:
        """Return the last key of a prefix that is on the queue, "" for none."""
        return self._last.get(prefix, "")

    def note(self, prefix: str, key: str) -> None:
        """Note that a key of a prefix, and all before it, are on the queue.

        Raises:
            SettingsError: The file cannot be written.
        """
        self._last[prefix] = key
        temporary = self._path.with_name(f".{self._path.name}.tmp")
        plain = {"version": _VERSION, "asked": self._asked, "last": self._last}
        try:
            temporary.write_text(json.dumps(plain, indent=1))
            temporary.replace(self._path)
        except OSError as error:
            raise SettingsError(f"{self._path} cannot be written: {error}; the keys up to {key!r} are sent") from None

    def _read(self, text: str) -> dict[str, str]:
        try:
            plain = json.loads(text)
            if plain["version"] != _VERSION:
                raise ValueError
            asked, last = dict(plain["asked"]), {str(prefix): str(key) for prefix, key in plain["last"].items()}
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise SettingsError(f"{self._path} is not the file of a submission: name another one") from None
        for name in sorted(asked.keys() | self._asked.keys()):
            if asked.get(name, "") != self._asked.get(name, ""):
                raise SettingsError(
                    f"{self._path} is of a submission with {name} {asked.get(name) or 'not set'}, and this one has"
                    f" {self._asked.get(name) or 'it not set'}: name another file, or remove this one to start over"
                )
        return last
