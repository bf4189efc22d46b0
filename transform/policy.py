"""How many rejected lines a run bears."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Self

from transform.errors import OptionError, RejectedError
from transform.rejects import Reject
from transform.summary import Summary

_NO_OBJECTS = {"not valid JSON", "not a JSON object"}
_NO_LINES = "; JSON lines have one object on each line: `jq -c .` makes them of an indented file"


@dataclass(frozen=True, slots=True)
class Policy:
    """When rejected lines fail a run.

    Attributes:
        max_lines: More lines than this do.
        max_share: A larger share of the lines than this does, once all are counted.
    """

    max_lines: int | None = None
    max_share: Fraction | None = None

    @classmethod
    def from_options(cls, on_error: str, max_rejects: int | str | None) -> Self:
        """Return the policy that the options `on_error` and `max_rejects` stand for.

        Raises:
            OptionError: They stand for none.
        """
        if on_error not in ("reject", "fail"):
            raise OptionError(f"on_error is `reject` or `fail`, not {on_error!r}")
        if on_error == "fail":
            return cls(max_lines=0)
        if max_rejects is None:
            return cls()
        text = str(max_rejects).strip()
        try:
            if not text.endswith("%"):
                max_lines = int(text)
                if max_lines >= 0:
                    return cls(max_lines=max_lines)
            elif 0 <= (share := Fraction(text[:-1]) / 100) <= 1:
                return cls(max_share=share)
        except ValueError:
            pass
        raise OptionError(f"max_rejects is a number of lines or a share such as 5%, not {max_rejects!r}")

    def check(self, summary: Summary, reject: Reject, line: int) -> None:
        """Raise if the line just rejected was one too many."""
        if self.max_lines is not None and summary.rejected > self.max_lines:
            limit = "the first one fails the run"
            if self.max_lines:
                several = self.max_lines > 1
                limit = f"more than {self.max_lines} line{'s' * several} fail{'s' * (not several)} the run"
            raise RejectedError(f"line {line} (offset {reject.offset}) was rejected, and {limit}: {reject.reason}")

    def check_all(self, summary: Summary) -> None:
        """Raise if too many lines were rejected, now that all are counted."""
        lines = summary.lines_in - summary.blank
        reasons = "; ".join(f"{reason.count} × {kind}" for kind, reason in summary.reject_reasons.items())
        if summary.rejected and summary.rejected == lines:
            hint = _NO_LINES if summary.reject_reasons.keys() <= _NO_OBJECTS else ""
            raise RejectedError(f"every line was rejected ({reasons}){hint}")
        if self.max_share is not None and summary.rejected > self.max_share * lines:
            limit = f"{float(100 * self.max_share):g}%"
            raise RejectedError(f"{summary.rejected} of {lines} lines were rejected, more than {limit} ({reasons})")
