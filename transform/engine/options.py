"""The options of a run: `RunOptions` as a caller gives them, and `EngineOptions` checked and complete."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal, Self, TypedDict

from transform._process import available_cores
from transform.decode.inference import SAMPLE_SIZE, SampleSize
from transform.decode.line_errors import CUT_KIND
from transform.decode.rejects import Reject, Rejects
from transform.engine.summary import Summary
from transform.errors import OptionError, RejectedError
from transform.io.chunks import CHUNK_BYTES, MAX_LINE_BYTES
from transform.io.ranges import RANGE_BYTES
from transform.sizes import count_option, size_option

Progress = Callable[[int, int | None], None]
"""Called after each chunk with the number of bytes read so far and the size of the input, None if that is unknown."""


class RunOptions(TypedDict, total=False):
    """Options of `Calculation.run` and `Calculation.stream`; the documentation of `run` says what each one means."""

    on_error: Literal["reject", "fail"]
    max_rejects: int | str | None
    max_line_bytes: int | str
    max_inflation: int | None
    workers: int | None
    chunk_bytes: int | str
    range_bytes: int | str


MAX_WORKERS = 1024
_MAX_CHUNK_BYTES = 1 << 30  # a chunk is held in memory, several times over
_CHUNK_BYTES_PER_THREAD = 2 << 20
_MAX_REJECTS = re.compile(r"[0-9]+|(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)%")


_FIRST = re.compile(r"line ([0-9]+) \(offset ([0-9]+)\): (.*)", re.DOTALL)
_NO_OBJECTS = {"not valid JSON", "not a JSON object", CUT_KIND}
_NO_LINES = "; JSON lines have one object on each line: indented JSON is read with --format json"


@dataclass(frozen=True, slots=True)
class Policy:
    """When rejected lines fail a run.

    Attributes:
        max_lines: The maximum number of rejected lines; None for no limit.
        max_share: The maximum share of rejected lines, checked once all lines are counted; None for no limit.
    """

    max_lines: int | None = None
    max_share: Fraction | None = None

    @classmethod
    def from_options(cls, on_error: str, max_rejects: int | str | None) -> Self:
        """Return the policy that the options `on_error` and `max_rejects` describe.

        Raises:
            OptionError: An option has no valid value.
        """
        if on_error not in ("reject", "fail"):
            raise OptionError(f"on_error is `reject` or `fail`, not {on_error!r:.80}")
        if on_error == "fail":
            return cls(max_lines=0)
        if max_rejects is None:
            return cls()
        text = str(max_rejects).strip()
        try:
            if not _MAX_REJECTS.fullmatch(text):
                raise ValueError
            if not text.endswith("%"):
                max_lines = int(text)
                if max_lines >= 0:
                    return cls(max_lines=max_lines)
            elif 0 <= (share := Fraction(text[:-1]) / 100) <= 1:
                return cls(max_share=share)
        except ValueError:
            pass
        raise OptionError(f"max_rejects is a number of lines or a share such as 5%, not {max_rejects!r:.80}")

    def up_to_failure(self, summary: Summary, rejects: Rejects) -> Rejects:
        """Return the next rejects, up to the first that is one too many."""
        return rejects if self.max_lines is None else rejects[: max(self.max_lines - summary.rejected, 0) + 1]

    def check(self, summary: Summary, reject: Reject) -> None:
        """Raise RejectedError if the reject that was counted last is one too many."""
        if self.max_lines is not None and summary.rejected > self.max_lines:
            limit = "the first one fails the run"
            if self.max_lines:
                several = self.max_lines > 1
                limit = f"more than {self.max_lines} line{'s' * several} fail{'s' * (not several)} the run"
            line = summary.lines_read + reject.line + 1
            message = f"{summary.describe_place(reject)} was rejected, and {limit}: {reject.reason}"
            raise RejectedError(message, line=line, offset=reject.offset, reason=reject.reason)

    def check_all(self, summary: Summary, *, in_lines: bool = True) -> None:
        """Raise RejectedError if too many lines were rejected; to be called once all are counted.

        Args:
            summary: The counts.
            in_lines: Whether a row ends with its line, so that another format may be what is missing.
        """
        lines = summary.lines_in - summary.blank
        reasons = "; ".join(f"{reason.count} × {kind}" for kind, reason in summary.reject_reasons.items())
        if summary.rejected and summary.rejected == lines:
            hint = _NO_LINES if in_lines and summary.reject_reasons.keys() <= _NO_OBJECTS else ""
            raise _rejected_error(f"every line was rejected ({reasons}){hint}", summary)
        if self.max_share is not None and summary.rejected > self.max_share * lines:
            limit = f"{float(100 * self.max_share):g}%"
            raise _rejected_error(
                f"{summary.rejected} of {lines} lines were rejected, more than {limit} ({reasons})", summary
            )


def _rejected_error(message: str, summary: Summary) -> RejectedError:
    """Return the error about all rejected lines, with the first of them."""
    if not summary.first_rejects:
        return RejectedError(message)
    first = summary.first_rejects[0]
    message = f"{message}. The first is {first}"
    found = _FIRST.fullmatch(first)  # a run that was resumed has the text only
    if found is None:
        return RejectedError(message)
    return RejectedError(message, line=int(found[1]), offset=int(found[2]), reason=found[3])


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How to read and transform an input: the `RunOptions`, checked and complete, and options that users cannot change.

    Attributes:
        policy: When rejected lines fail the run.
        max_line_bytes: A longer line is rejected.
        max_inflation: The largest ratio of content to compressed input, None for no limit.
        workers: The maximum number of threads; for Python functions, of other processes.
        chunk_bytes: How much to read at a time.
        range_bytes: The size of the ranges that threads take.
        progress: Called after each chunk.
        sample_size: How much of the input types are inferred from.
        only_processes: Whether other processes transform everything, expressions and short inputs, too; for tests.
        fixed_chunks: Whether `chunk_bytes` was chosen by the user, so that threads read no more at a time either.
    """

    policy: Policy = field(default_factory=Policy)
    max_line_bytes: int = MAX_LINE_BYTES
    max_inflation: int | None = None
    workers: int = 1
    chunk_bytes: int = CHUNK_BYTES
    range_bytes: int = RANGE_BYTES
    progress: Progress | None = None
    sample_size: SampleSize = SAMPLE_SIZE
    only_processes: bool = False
    fixed_chunks: bool = False

    @property
    def thread_chunk_bytes(self) -> int:
        """How much a thread reads at a time, where it reads the input itself.

        Each chunk takes 1 to 2 ms of Python code, during which no other thread can run any: a seventh of all that 4 MiB
        take. So chunks are larger if there are more threads.
        """
        if self.fixed_chunks:
            return self.chunk_bytes
        return max(self.chunk_bytes, min(self.workers * _CHUNK_BYTES_PER_THREAD, self.range_bytes, RANGE_BYTES))

    @classmethod
    def from_run_options(
        cls, options: RunOptions, caller: str = "Runnable.run", progress: Progress | None = None
    ) -> Self:
        """Check the options of a run, and fill in the defaults.

        Args:
            options: The keyword arguments that the caller was given.
            caller: The name of the function that was called with them, for the error.
            progress: Called after each chunk.

        Raises:
            OptionError: An option has no valid value.
            TypeError: There is no such option.
        """
        for name in options:
            if name not in RunOptions.__annotations__:
                raise TypeError(f"{caller}() got an unexpected keyword argument {name!r}")
        if progress is not None and not callable(progress):
            raise OptionError(f"progress is True, False or a function, not {progress!r:.80}")
        inflation, workers = options.get("max_inflation"), options.get("workers")
        return cls(
            policy=Policy.from_options(options.get("on_error", "reject"), options.get("max_rejects")),
            max_line_bytes=size_option("max_line_bytes", options.get("max_line_bytes", MAX_LINE_BYTES)),
            max_inflation=None if inflation is None else count_option("max_inflation", inflation),
            workers=available_cores() if workers is None else count_option("workers", workers, most=MAX_WORKERS),
            chunk_bytes=size_option("chunk_bytes", options.get("chunk_bytes", CHUNK_BYTES), _MAX_CHUNK_BYTES),
            range_bytes=size_option("range_bytes", options.get("range_bytes", RANGE_BYTES)),
            progress=progress,
            fixed_chunks="chunk_bytes" in options,
        )
