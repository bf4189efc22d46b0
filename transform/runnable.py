"""The base class of everything that can be run on an input."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING

from transform import _process

if TYPE_CHECKING:
    import os
    from collections.abc import Callable
    from typing import Self, Unpack

    import polars as pl

    from transform.decode.row_format import RowFormat
    from transform.engine.module_sources import Modules
    from transform.engine.options import Progress, RunOptions
    from transform.engine.run import Spec, Stream
    from transform.engine.summary import State, Summary
    from transform.io.outputs import Target
    from transform.io.sources import OpenSource, Source


class Runnable(ABC):
    """Something that can be run on an input: a `Calculation`, or another object that `load` returns.

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

    def __copy__(self) -> Self:
        """Return itself, as it does not change."""
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        """Return itself, as it does not change."""
        return self

    def run(
        self,
        source: Source,
        target: Target,
        *,
        rejects: str | os.PathLike[str] | None = None,
        progress: Progress | bool | None = None,
        **options: Unpack[RunOptions],
    ) -> Summary:
        """Transform an input into an output, which appears whole or not at all.

        Args:
            source: A path, an `s3://bucket/key` URI, `-` for standard input, or a binary file object.
            target: The same; `-` is standard output. Anything other than a file or an object is written to at once.
            rejects: Where rejected lines are kept; by default beside a file or object, as `TARGET.rejects.jsonl`.
            progress: True to show a progress bar on a terminal or in a notebook; or a function that is called after
                each chunk with how many bytes were read and the input's size, None if not known.
            **options: Any of these, by name:

                on_error: `reject`, the default, keeps a bad line among the rejects and continues; `fail` stops at the
                    first one.
                max_rejects: The maximum number of rejected lines, or their maximum share as `5%`: the run fails if
                    there are more. By default there is no limit.
                max_line_bytes: A longer line is rejected; by default 256 MiB. This and the other sizes are numbers of
                    bytes, or texts such as `64MiB`, `10MB` or `5000`.
                max_inflation: A compressed input fails the run if it holds more than this many times its size, and
                    more than 256 MiB. By default there is no limit.
                workers: The maximum number of threads, for Python functions of processes, up to 1,024; by default the
                    number of cores of this process.
                chunk_bytes: How much is read at a time, up to 1 GiB, by default 4 MiB; if there are more than two
                    threads, each reads 2 MiB for every one of them, up to 16 MiB. It does not change the output.
                range_bytes: The size of the ranges that they take, by default 16 MiB. It does not change the
                    output.

        Raises:
            TransformError: The run failed. Nothing was published; an existing output is unchanged.
            OptionError: An option, the input or the output has an invalid value; a subclass of the above.

        Example:
            >>> import io
            >>> from transform import Calculation
            >>> output = io.BytesIO()
            >>> summary = Calculation.from_sql("a + 1 AS b").run(io.BytesIO(b'{"a": 1.50}'), output)
            >>> output.getvalue(), summary.lines_out
            (b'{"a": 1.50,"b":2.5}', 1)
        """
        from transform.engine.options import EngineOptions
        from transform.engine.run import run
        from transform.io.conflicts import located

        told = None if isinstance(progress, bool) else progress
        checked = EngineOptions.from_run_options(options, "Runnable.run", told)
        source = located("input", source)
        with contextlib.ExitStack() as stack:
            if progress is True:
                checked = replace(checked, progress=stack.enter_context(_progress_bar(source)))
            stack.enter_context(_process.defer_interrupts())
            return run(self.spec_for(source), source, target, rejects, checked)

    def stream(
        self,
        source: Source,
        state: State | None = None,
        *,
        open_input: OpenSource | None = None,
        **options: Unpack[RunOptions],
    ) -> contextlib.AbstractContextManager[Stream]:
        """Transform an input for a caller that writes the output itself; return a context manager of the run.

        Iterating over the run yields the output in parts. With `each`, a run can be resumed only before a part that is
        `resumable`: a line may become several parts.

        Args:
            source: As for `run`.
            state: The `state` of an earlier run that was stopped, to resume it; by default a new run.
            open_input: Opens the source, as `open_source` does, which is the default.
            **options: The options of `run`, which describes them, with the same defaults:

                on_error: Whether the run continues after a bad line.
                max_rejects: The maximum number or share of rejected lines.
                max_line_bytes: The maximum length of a line.
                max_inflation: How much a compressed input may hold.
                workers: The maximum number of threads, for Python functions of processes.
                chunk_bytes: How much is read at a time.
                range_bytes: The size of the ranges that they take.

        Raises:
            WidenError: While iterating: the run has to start again, with `state.restarted(error.name, error.dtype)`.
            TransformError: As for `run`; also while iterating.
        """
        from transform.engine.options import EngineOptions
        from transform.engine.run import open_stream
        from transform.engine.summary import State
        from transform.errors import OptionError
        from transform.io.conflicts import located
        from transform.io.sources import open_source

        checked = EngineOptions.from_run_options(options, "Runnable.stream")
        source = located("input", source)
        if not isinstance(state, State | None):
            raise OptionError(f"state is the `state` of an earlier run, not {state!r:.80}")
        return open_stream(self.spec_for(source), source, state or State(), checked, open_input or open_source)

    @abstractmethod
    def changing_rows(self, change: Callable[[RowFormat], RowFormat]) -> Self:
        """Return the same for inputs with other rows.

        Args:
            change: Returns what the rows are then, given what they are now.
        """

    def with_format(self, format: str) -> Self:  # noqa: A002 - the option has this name
        r"""Return the same for inputs of a format: `lines`, the default, or `json`.

        In the format `json` an input is any sequence of JSON texts, with or without line breaks between and in them:
        each object is a row, and each element of an array. A row becomes one line of the output, without the white
        space that has a line break in it.

        Args:
            format: The format.

        Raises:
            OptionError: There is no such format.

        Example:
            >>> import io
            >>> from transform import Calculation
            >>> output = io.BytesIO()
            >>> calculation = Calculation.from_sql("a + 1 AS b").with_format("json")
            >>> _ = calculation.run(io.BytesIO(b'[{"a":\n 1}, {"a": 2}]{"a": 3}'), output)
            >>> output.getvalue()
            b'{"a":1,"b":2}\n{"a": 2,"b":3}\n{"a": 3,"b":4}\n'
        """
        return self.changing_rows(lambda rows: rows.with_format(format))

    def each(self, path: str, beside: str = "") -> Self:
        """Return the same for inputs in which the elements of an array in each line are the rows.

        Each element becomes one line of the output. A line that does not have the array is rejected, and so is an
        element that is no object.

        Args:
            path: The path of the array: `Records`, or `detail.items`.
            beside: The paths of members of the line that each element gets, before its own: `account, region`. In the
                element they have their last name. One that the line does not have is left out.

        Raises:
            OptionError: A path is invalid.

        Example:
            >>> import io
            >>> from transform import Calculation
            >>> output = io.BytesIO()
            >>> lines = io.BytesIO(b'{"account": "7", "Records": [{"a": 1}, {"a": 2}]}')
            >>> _ = Calculation.from_sql("a + 1 AS b").each("Records", beside="account").run(lines, output)
            >>> print(output.getvalue().decode(), end="")
            {"account":"7","a": 1,"b":2}
            {"account":"7","a": 2,"b":3}
        """
        return self.changing_rows(lambda rows: rows.with_each(path, beside))

    def check_schema(self) -> None:  # noqa: B027 - most have no schema
        """Raise if a type is declared for a column that nothing reads, which most likely is a typing error.

        A run only has a note about it.

        Raises:
            SchemaError: There is such a column.
        """

    @property
    @abstractmethod
    def digest(self) -> str:
        """Its identity: a SHA-256 over its text, declared types and options."""

    @abstractmethod
    def made_from(self, origin: tuple[bytes, ...]) -> Self:
        """Return the same with the text that it was made from, as its identity."""

    def with_modules(self, modules: Modules) -> Self:  # noqa: ARG002 - for those that send code to other processes
        """Return the same with the modules beside its file, from which worker processes import."""
        return self

    @abstractmethod
    def preview(self, source: Source, rows: int = 10, *, rejected: list[str] | None = None) -> pl.DataFrame:
        """Return the results of the first lines.

        Args:
            source: As for `run`.
            rows: The maximum number of lines.
            rejected: A list to which messages about rejected lines are added, of those that were read.

        Raises:
            TransformError: As `run` does.
        """

    @abstractmethod
    def spec_for(self, source: Source) -> Spec:
        """Return the spec of a run on an input.

        Raises:
            CalculationError: There is nothing to do.
        """


def _progress_bar(source: Source) -> contextlib.AbstractContextManager[Progress | None]:
    from transform.progress_bar import progress_bar

    return progress_bar(str(source if isinstance(source, str) else getattr(source, "name", "")))
