"""A calculation that runs with options of the engine that users cannot change, so that small inputs show it all."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from transform.decode.inference import SAMPLE_SIZE, SampleSize
from transform.engine.options import EngineOptions
from transform.engine.run import Spec, Stream, open_stream, run
from transform.engine.summary import State
from transform.io.sources import open_source
from transform.runnable import Runnable

if TYPE_CHECKING:
    import os
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from typing import Self, Unpack

    import polars as pl

    from transform import Summary
    from transform.decode.row_format import RowFormat
    from transform.engine.options import Progress, RunOptions
    from transform.io.outputs import Target
    from transform.io.sources import OpenSource, Source


class Tuned(Runnable):
    """A calculation with other options of the engine.

    Args:
        runnable: The calculation.
        sample_size: How much of the input types are inferred from.
        only_processes: Whether other processes transform everything, however small the input is.
    """

    def __init__(
        self, runnable: Runnable, *, sample_size: SampleSize = SAMPLE_SIZE, only_processes: bool | None = None
    ) -> None:
        self._runnable = runnable
        self._sample_size = sample_size
        # A small sample is tried with many inputs, for each of which a process would have to start.
        self._only_processes = sample_size is SAMPLE_SIZE if only_processes is None else only_processes

    def run(
        self,
        source: Source,
        target: Target,
        *,
        rejects: str | os.PathLike[str] | None = None,
        progress: Progress | bool | None = None,
        **options: Unpack[RunOptions],
    ) -> Summary:
        tuned = self._tune(options, None if isinstance(progress, bool) else progress)
        return run(self.spec_for(source), source, target, rejects, tuned)

    def stream(
        self,
        source: Source,
        state: State | None = None,
        *,
        open_input: OpenSource | None = None,
        **options: Unpack[RunOptions],
    ) -> AbstractContextManager[Stream]:
        tuned = self._tune(options)
        return open_stream(self.spec_for(source), source, state or State(), tuned, open_input or open_source)

    def _tune(self, options: RunOptions, progress: Progress | None = None) -> EngineOptions:
        checked = EngineOptions.from_run_options(options, progress=progress)
        return replace(checked, sample_size=self._sample_size, only_processes=self._only_processes)

    @property
    def digest(self) -> str:
        return self._runnable.digest

    def made_from(self, origin: tuple[bytes, ...]) -> Self:
        return type(self)(
            self._runnable.made_from(origin), sample_size=self._sample_size, only_processes=self._only_processes
        )

    def changing_rows(self, change: Callable[[RowFormat], RowFormat]) -> Self:
        changed = self._runnable.changing_rows(change)
        return type(self)(changed, sample_size=self._sample_size, only_processes=self._only_processes)

    def preview(self, source: Source, rows: int = 10, *, rejected: list[str] | None = None) -> pl.DataFrame:
        return self._runnable.preview(source, rows, rejected=rejected)

    def spec_for(self, source: Source) -> Spec:
        return self._runnable.spec_for(source)
