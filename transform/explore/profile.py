"""A profile of a calculation: the time of each stage, and estimates for larger inputs."""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, TypeVar

from transform import html
from transform._process import available_cores
from transform.engine.plan import ExpressionPlan
from transform.engine.run import retry_widened
from transform.engine.spec import ExpressionSpec
from transform.engine.summary import State
from transform.errors import OptionError
from transform.io.chunks import MAX_LINE_BYTES, Chunk, LongLine
from transform.io.sources import Reader, Source, open_source
from transform.sizes import count_option, format_estimate, format_size, size_option
from transform.terminal_text import printable

T = TypeVar("T")

STAGES = ("lines", "decode", "evaluate", "splice", "write")
_START_S = 1.0
"""How long a process takes before it helps, most of which is importing polars."""
_ENOUGH_BYTES = 10_000_000
"""With less input, most of the time is the constant cost of a chunk."""
_ESTIMATED = (10**9, 10**11, 10**12)


@dataclass(frozen=True, slots=True)
class Profile:
    """Where the time of a calculation goes, in one process.

    Attributes:
        source: The input.
        bytes_in: Content read, in bytes after decompression.
        bytes_out: Content written, in bytes before compression.
        lines: Lines read.
        whole: Whether the whole input was read.
        settle: Seconds to infer the types and to check the calculation, once for each input.
        stages: Seconds by stage: wall-clock time for `lines` and `write`, which wait for disks and networks; the time
            of one core for `decode`, `evaluate` and `splice`.
        in_order: Whether the input can be read only from its start, as a compressed one or a pipe, so that only one
            process reads it.

    Example:
        >>> import io
        >>> from transform import Calculation
        >>> profile = Calculation.from_sql("a + 1 AS b").profile(io.BytesIO(b'{"a":1}'))
        >>> profile.bytes_in, profile.bytes_out, [*profile.stages]
        (7, 13, ['lines', 'decode', 'evaluate', 'splice', 'write'])
    """

    source: str
    bytes_in: int
    bytes_out: int
    lines: int
    whole: bool
    settle: float
    stages: dict[str, float]
    in_order: bool

    @property
    def seconds(self) -> float:
        """The time of all stages, without `settle`."""
        return sum(self.stages.values())

    @property
    def mb_per_s(self) -> float:
        """Content that one core transforms per second, in megabytes (10^6 bytes)."""
        return self.bytes_in / 1e6 / self.seconds if self.seconds else 0.0

    def estimate(self, size: int | str, cores: int | None = None) -> float:
        """Return how many seconds an input of another size would take, at best.

        The estimate assumes that the rest of the input is like the part that was profiled, that cores do not slow each
        other down, and that reading and writing are as fast as here: for S3, profile an object from where the worker
        will run.

        Args:
            size: The size of the content, after decompression: a number of bytes, or a text such as `2 TB`.
            cores: The number of cores; by default those of this process.

        Raises:
            OptionError: The size is not valid, or there are no cores.

        Example:
            >>> stages = {"lines": 0.1, "decode": 0.5, "evaluate": 0.2, "splice": 0.1, "write": 0.1}
            >>> profile = Profile("in.jsonl", 10**9, 10**9, 3 * 10**6, True, 0.2, stages, False)
            >>> round(profile.estimate("100 GB", cores=4))
            26
        """
        wanted = size_option("size", size)
        if cores is not None:
            cores = count_option("cores", cores)
        if not self.bytes_in:
            raise OptionError(f"{self.source} has no content, so there is nothing to estimate from")
        cores, times = cores or available_cores(), wanted / self.bytes_in
        alone = self.stages["write"] + (self.stages["lines"] if self.in_order else 0)
        shared = self.seconds * times / cores
        return self.settle + (_START_S if cores > 1 else 0) + max(alone * times, shared)

    def __repr__(self) -> str:
        rows = [f"  {name:<9}{seconds:>9.3f} s{share:>6.0%}{rate}" for name, seconds, share, rate in self._rows()]
        return "\n".join([f"Profile of {printable(self._subject())}", *rows, f"  {self._advice()}"])

    def _repr_html_(self) -> str:
        rows = [
            (name, html.Number(f"{seconds:.3f} s"), html.Number(f"{share:.0%}"), html.Number(rate))
            for name, seconds, share, rate in self._rows()
        ]
        header = ("stage", "time", "share", "alone")
        return html.render("Profile", self._subject(), html.Table(rows, header), self._advice())

    def _rows(self) -> Iterator[tuple[str, float, float, str]]:
        for name, seconds in self.stages.items():
            rate = f"{self.bytes_in / 1e6 / seconds:>9,.0f} MB/s" if seconds else ""
            yield name, seconds, seconds / self.seconds if self.seconds else 0.0, rate
        yield "all", self.seconds, 1.0, f"{self.mb_per_s:>9,.0f} MB/s"

    def _subject(self) -> str:
        which = "all" if self.whole else "the first"
        return f"{which} {format_size(self.bytes_in)} ({self.lines:,} lines) of {self.source}, in one process"

    def _advice(self) -> str:
        if self.bytes_in < _ENOUGH_BYTES:
            return f"too little to estimate more; profile some {format_size(_ENOUGH_BYTES)} at least"
        cores = available_cores()
        found = ", ".join(f"{format_size(size)} {format_estimate(self.estimate(size, cores))}" for size in _ESTIMATED)
        return f"on {cores} core{'s' if cores > 1 else ''}, at best: {found}; more with .estimate(size, cores)"


def profile(spec: ExpressionSpec, source: Source, max_bytes: int | str | None) -> Profile:
    """Measure the time of each stage; see `Calculation.profile`."""
    at_most = None if max_bytes is None else size_option("max_bytes", max_bytes)
    return retry_widened(source, lambda state: _profile(spec, source, at_most, state))


def _profile(spec: ExpressionSpec, source: Source, max_bytes: int | None, state: State) -> Profile:
    with open_source(source) as reader, tempfile.TemporaryFile() as sink:
        timer = _Timer()
        started = time.perf_counter()
        plan, chunks = spec.prepare(spec.rows.read(reader.read_into), MAX_LINE_BYTES, state.widened, info=reader.info)
        settle = time.perf_counter() - started
        chunks = spec.rows.expanded(chunks)
        lines, bytes_in, bytes_out, whole = 0, 0, 0, True
        while (chunk := timer.on_the_clock("lines", lambda: next(chunks, None))) is not None:
            if max_bytes is not None and bytes_in >= max_bytes:
                whole = False
                break
            if isinstance(chunk, LongLine):
                lines, bytes_in = lines + 1, chunk.stop
                continue
            count, size = _transform(plan, chunk, sink, timer)
            lines, bytes_in, bytes_out = lines + count, chunk.stop, bytes_out + size
        timer.on_the_clock("write", lambda: _sync(sink))
        in_order = not spec.rows.in_lines or _reads_in_order(reader)
        return Profile(reader.name, bytes_in, bytes_out, lines, whole, settle, timer.seconds, in_order)


def _transform(plan: ExpressionPlan, chunk: Chunk, sink: BinaryIO, timer: "_Timer") -> tuple[int, int]:
    """Take a chunk through the stages; return the number of lines read, and of bytes written."""
    decoded = timer.of_the_core("decode", lambda: plan.decode(chunk))
    evaluated = timer.of_the_core("evaluate", lambda: plan.evaluate(chunk, decoded))
    result = timer.of_the_core("splice", lambda: plan.splice(evaluated))
    timer.on_the_clock("write", lambda: sink.writelines(result.output))
    return result.lines, sum(len(part) for part in result.output)


def _sync(sink: BinaryIO) -> None:
    """Write buffered data to the disk, as a run does before it publishes its output."""
    sink.flush()
    os.fsync(sink.fileno())


class _Timer:
    """Sums the time of each stage."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(STAGES, 0.0)

    def on_the_clock(self, stage: str, work: Callable[[], T]) -> T:
        """Add the wall-clock time of work, including waits; return its result."""
        return self._count(stage, work, time.perf_counter)

    def of_the_core(self, stage: str, work: Callable[[], T]) -> T:
        """Add the CPU time of work, including the threads of polars; return its result."""
        return self._count(stage, work, time.process_time)

    def _count(self, stage: str, work: Callable[[], T], clock: Callable[[], float]) -> T:
        started = clock()
        try:
            return work()
        finally:
            self.seconds[stage] += clock() - started


def _reads_in_order(reader: Reader) -> bool:
    return reader.version is None or reader.codec is not None
