"""The ways that are compared: the command lines of ours and of its rivals."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from shutil import which

Command = Callable[[Path, Path], list[str]]
"""Makes a command line of an input and an output."""

APPEND = ("-e", "stars * review_count AS review_score")
REJECT_ALL = ("--schema", "name=Float64", "-e", "name * 2 AS x")  # every line's name is a string
RIVALS_FOLDER = Path(__file__).with_name("rivals")
FAILED, WITH_REJECTS = 1, 3  # the exit status where nothing was published, and where some lines were rejected


@dataclass(frozen=True)
class Rival:
    """What one would use instead; its name is that of its script."""

    label: str
    library: str  # or program, which must be installed
    s_per_gb: float


RIVALS = {
    "polars_scan": Rival("polars, scan to sink", "polars", 3),
    "duckdb_copy": Rival("DuckDB, COPY", "duckdb", 3.5),
    "chdb_outfile": Rival("chDB, INTO OUTFILE", "chdb", 3.5),
    "spark_json": Rival("Spark, local[*]", "pyspark", 25),
    "jq": Rival("jq", "jq", 30),
    "per_line_orjson": Rival("Python loop, orjson", "orjson", 7),
    "per_line_json": Rival("Python loop, json", "json", 27),
}


@dataclass(frozen=True)
class Way:
    """One way to do an operation."""

    name: str
    label: str
    command: Command
    s_per_gb: float  # wall time on two cores, roughly: for the estimate, never for a result
    expected_exit: int = 0
    form: str = ""  # of the copy of the input that it reads, in `data.FORMS`

    @property
    def is_ours(self) -> bool:
        """Whether it is this project's."""
        return self.name not in RIVALS


def ours(*arguments: str | Path) -> list[str]:
    """Return a command of ours: the installed one, or else the package beside us."""
    installed = Path(sys.executable).with_name("transform")
    start = [str(installed)] if installed.exists() else [sys.executable, "-m", "transform"]
    return [*start, *map(str, arguments)]


def our_run(source: Path | str, target: Path, *arguments: str | Path) -> list[str]:
    """Return our command for one input."""
    return ours("run", source, target, *arguments, "--quiet")


def our_way(
    name: str,
    *arguments: str | Path,
    s_per_gb: float = 2,
    label: str = "",
    form: str = "",
    expected_exit: int = 0,
) -> Way:
    """Return a way of ours; the arguments say what to do and with how many workers."""

    def command(source: Path, target: Path) -> list[str]:
        return our_run(source, target, *arguments)

    return Way(name, label or name, command, s_per_gb, WITH_REJECTS if form == "damaged" else expected_exit, form)


def rival_way(name: str, *arguments: str) -> Way:
    """Return a rival's way; the arguments follow the input and the output."""
    rival = RIVALS[name]
    return Way(name, rival.label, partial(rival_run, name, arguments), rival.s_per_gb)


def rival_run(name: str, arguments: tuple[str, ...], source: Path, target: Path) -> list[str]:
    """Return a rival's command for one input."""
    return [sys.executable, str(RIVALS_FOLDER / f"{name}.py"), str(source), str(target), *arguments]


def not_installed() -> list[str]:
    """Return the rivals whose library or program is not there."""
    return [name for name, rival in RIVALS.items() if find_spec(rival.library) is None and not which(rival.library)]
