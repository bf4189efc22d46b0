"""What can be run on an input."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from transform import _process
from transform.io.chunks import CHUNK_BYTES, MAX_LINE_BYTES, RANGE_BYTES

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator
    from typing import Self

    import polars as pl

    from transform.engine.run import Progress, Spec, Stream
    from transform.engine.state import State
    from transform.engine.summary import Summary
    from transform.io.outputs import Target
    from transform.io.sources import Source


class Runnable(ABC):
    """What can be run on an input: a `Calculation`, or one of the other things that `load` finds.

    Example:
        >>> import io
        >>> from transform import Calculation, LineFunction
        >>> def calculation(json_obj):
        ...     return {**json_obj, "b": json_obj["a"] + 1}
        >>> for runnable in (Calculation.from_sql("a + 1 AS b"), LineFunction(calculation)):
        ...     print(runnable.preview(io.BytesIO(b'{"a":1}')).to_dicts())
        [{'a': 1, 'b': 2}]
        [{'a': 1, 'b': 2}]
    """

    __slots__ = ()

    def run(
        self,
        source: Source,
        target: Target,
        *,
        rejects: str | os.PathLike[str] | None = None,
        on_error: str = "reject",
        max_rejects: int | str | None = None,
        max_line_bytes: int = MAX_LINE_BYTES,
        max_inflation: int | None = None,
        workers: int | None = None,
        chunk_bytes: int = CHUNK_BYTES,
        range_bytes: int = RANGE_BYTES,
        progress: Progress | None = None,
    ) -> Summary:
        """Transform an input into an output, which appears whole or not at all.

        Args:
            source: A path, an `s3://bucket/key` URI, `-` for standard input, or a binary file object.
            target: Likewise, `-` being standard output. What is not a file or an object is written to as it comes.
            rejects: Where rejected lines are kept; by default beside a file or object, as `TARGET.rejects.jsonl`.
            on_error: `reject` keeps a bad line among the rejects and goes on, `fail` stops at the first.
            max_rejects: More rejected lines than this fail the run: their number, or their share as `5%`.
            max_line_bytes: A longer line is rejected.
            max_inflation: A compressed input that holds more than so many times its size fails the run, once that is
                more than 256 MiB; by default there is no limit.
            workers: How many processes to use at most; by default as many as there are cores for this one.
            chunk_bytes: How much is read at a time; it never shows in the output.
            range_bytes: How large the parts are that processes take; it never shows in the output.
            progress: Called after each chunk with how many bytes were read and the input's size, None if not known.

        Raises:
            TransformError: Nothing was published; what was there before is untouched.

        Example:
            >>> import io
            >>> from transform import Calculation
            >>> output = io.BytesIO()
            >>> summary = Calculation.from_sql("a + 1 AS b").run(io.BytesIO(b'{"a": 1.50}'), output)
            >>> output.getvalue(), summary.lines_out
            (b'{"a": 1.50,"b":2.5}', 1)
        """
        from transform.engine.run import Options, run
        from transform.engine.summary import Policy

        options = Options(
            Policy.from_options(on_error, max_rejects),
            max_line_bytes=max_line_bytes,
            max_inflation=max_inflation,
            workers=workers or _process.available_cores(),
            chunk_bytes=chunk_bytes,
            range_bytes=range_bytes,
            progress=progress,
        )
        with _process.defer_interrupts():
            return run(self.spec_for(source), source, target, rejects, options)

    @contextlib.contextmanager
    def stream(
        self,
        source: Source,
        state: State | None = None,
        *,
        on_error: str = "reject",
        max_rejects: int | str | None = None,
        max_line_bytes: int = MAX_LINE_BYTES,
        max_inflation: int | None = None,
        workers: int | None = None,
        chunk_bytes: int = CHUNK_BYTES,
        range_bytes: int = RANGE_BYTES,
    ) -> Iterator[Stream]:
        """Transform an input for somebody who keeps the output: yield the run, to be iterated over.

        Args:
            source: As for `run`.
            state: The `state` of such a run before this one, which stopped on the way: it goes on from there.
            on_error: As for `run`, and so are the others.
            max_rejects: Likewise.
            max_line_bytes: Likewise.
            max_inflation: Likewise.
            workers: Likewise.
            chunk_bytes: Likewise.
            range_bytes: Likewise.

        Raises:
            WidenError: It has to start again, with `state.restarted(error.name, error.dtype)`; as the run is iterated.
            TransformError: As `run` does; as the run is iterated, too.
        """
        from transform.engine.run import Options, open_stream
        from transform.engine.state import State
        from transform.engine.summary import Policy

        options = Options(
            Policy.from_options(on_error, max_rejects),
            max_line_bytes=max_line_bytes,
            max_inflation=max_inflation,
            workers=workers or _process.available_cores(),
            chunk_bytes=chunk_bytes,
            range_bytes=range_bytes,
        )
        with open_stream(self.spec_for(source), source, state or State(), options) as stream:
            yield stream

    @property
    @abstractmethod
    def digest(self) -> str:
        """What distinguishes it from others: a SHA-256 over its text, declared types and options."""

    @abstractmethod
    def made_from(self, origin: tuple[bytes, ...]) -> Self:
        """Return it with the text that it was made from, as its identity."""

    @abstractmethod
    def preview(self, source: Source, rows: int = 10, *, rejected: list[str] | None = None) -> pl.DataFrame:
        """Return what the first lines give.

        Args:
            source: As for `run`.
            rows: How many.
            rejected: A list that is told of lines that were read on the way, and rejected.

        Raises:
            TransformError: As `run` does.
        """

    @abstractmethod
    def spec_for(self, source: Source) -> Spec:
        """Return what is to be done to an input.

        Raises:
            CalculationError: Nothing is.
        """
