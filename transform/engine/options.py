"""The options of a run: what a caller may set, and the same checked, with the defaults filled in."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Self, TypedDict

from transform._process import available_cores
from transform.decode.inference import SAMPLE_SIZE, SampleSize
from transform.engine.summary import Policy
from transform.io.chunks import CHUNK_BYTES, MAX_LINE_BYTES, RANGE_BYTES

if TYPE_CHECKING:
    from transform.engine.pool import Worker
    from transform.engine.pool_worker import WorkerSetup

Progress = Callable[[int, int | None], None]
"""Called after each chunk with the number of bytes read so far and the size of the input, None if that is unknown."""


class RunOptions(TypedDict, total=False):
    """Options of `Calculation.run` and `Calculation.stream`; the documentation of `run` says what each one means."""

    on_error: Literal["reject", "fail"]
    max_rejects: int | str | None
    max_line_bytes: int
    max_inflation: int | None
    workers: int | None
    chunk_bytes: int
    range_bytes: int


@dataclass(frozen=True, slots=True)
class PoolOptions:
    """How worker processes are started. Users cannot change it; tests do, to make workers take part in small inputs.

    Attributes:
        min_chunks: Of an input of unknown size, this process transforms that many chunks before it starts others: a
            short input needs no others.
        start_worker: Starts a worker process; None for a `RemoteWorker`.
    """

    min_chunks: int = 16
    start_worker: "Callable[[WorkerSetup], Worker] | None" = None


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How to read and transform an input: `RunOptions`, checked and complete, and what users cannot change.

    Attributes:
        policy: When rejected lines fail the run.
        max_line_bytes: A longer line is rejected.
        max_inflation: The largest ratio of content to compressed input, None for no limit.
        workers: The maximum number of processes, this one included.
        chunk_bytes: How much to read at a time.
        range_bytes: The size of the ranges that processes take.
        progress: Called after each chunk.
        sample_size: How much of the input types are inferred from.
        pool: How worker processes are started.
    """

    policy: Policy = field(default_factory=Policy)
    max_line_bytes: int = MAX_LINE_BYTES
    max_inflation: int | None = None
    workers: int = 1
    chunk_bytes: int = CHUNK_BYTES
    range_bytes: int = RANGE_BYTES
    progress: Progress | None = None
    sample_size: SampleSize = SAMPLE_SIZE
    pool: PoolOptions = PoolOptions()

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
            OptionError: `on_error` or `max_rejects` has no valid value.
            TypeError: There is no such option.
        """
        for name in options:
            if name not in RunOptions.__annotations__:
                raise TypeError(f"{caller}() got an unexpected keyword argument {name!r}")
        return cls(
            policy=Policy.from_options(options.get("on_error", "reject"), options.get("max_rejects")),
            max_line_bytes=options.get("max_line_bytes", MAX_LINE_BYTES),
            max_inflation=options.get("max_inflation"),
            workers=options.get("workers") or available_cores(),
            chunk_bytes=options.get("chunk_bytes", CHUNK_BYTES),
            range_bytes=options.get("range_bytes", RANGE_BYTES),
            progress=progress,
        )
