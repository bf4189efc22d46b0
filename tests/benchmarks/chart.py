"""Draws the main comparison as an SVG: two bars for each way, wall and CPU seconds."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from tests.benchmarks.machine import hardware, software

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    Row = Mapping[str, Any]

WIDTH = 800
MARGIN = 24
BARS_LEFT = 206  # right of the longest label
BARS_WIDTH = 440  # of the longest bar, which leaves room for its numbers
ROWS_TOP = 92
ROW_HEIGHT = 44
BAR_HEIGHT = 15
FOOT_HEIGHT = 52
LIBRARIES = ("polars", "duckdb", "chdb", "pyspark", "orjson")

MEASURES = (("wall_s", "wall_ratio", "wall"), ("cpu_s", "cpu_ratio", "cpu"))

# A background of its own, for the page around it may be dark where the reader's system is light, or the reverse.
STYLE = """
text { font: 13px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", Helvetica, Arial, sans-serif; fill: #1f2328 }
.title { font-size: 16px; font-weight: 600 }
.ours { font-weight: 600 }
.small { font-size: 11px; fill: #59636e }
.page { fill: #ffffff; stroke: #d1d9e0 }
.wall { fill: #8c959f } .cpu { fill: #ccd2d9 }
.ours.wall { fill: #0969da } .ours.cpu { fill: #8fc1f8 }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc } .small { fill: #9198a1 }
  .page { fill: #0d1117; stroke: #3d444d }
  .wall { fill: #8b949e } .cpu { fill: #484f58 }
  .ours.wall { fill: #4493f8 } .ours.cpu { fill: #1f4f8f }
}
"""


def draw(timed: Row, machine: Row, *, runs: int) -> str:
    """Return the picture of an operation's times: ours on top, then the others by their wall time."""
    rows = sorted(timed["ways"], key=lambda row: 0.0 if row["ours"] else float(row["wall_s"]))
    height = ROWS_TOP + ROW_HEIGHT * len(rows) + FOOT_HEIGHT
    longest = max(row[measure] for row in rows for measure, _, _ in MEASURES)
    title = f"{size_text(timed['bytes'])} of JSON lines, a column appended: seconds, less is better"
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
        f'role="img" aria-label="{escape(title)}">',
        f"<title>{escape(title)}</title>",
        f"<style>{STYLE}</style>",
        f'<rect class="page" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="6"/>',
        text(MARGIN, 36, title, "title"),
        *legend(62),
        *(part for number, row in enumerate(rows) for part in bars(row, ROWS_TOP + ROW_HEIGHT * number, longest)),
        *foot(timed, machine, height, runs),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def size_text(size: int) -> str:
    """Return a size in the unit that suits it."""
    return f"{size / 1e9:g} GB" if size >= 1e9 else f"{size / 1e6:g} MB"


def text(x: float, y: float, content: str, kind: str = "", anchor: str = "start") -> str:
    """Return a line of text."""
    return f'<text class="{kind}" x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(content)}</text>'


def legend(y: float) -> Iterator[str]:
    """Yield what the two colours mean."""
    x = BARS_LEFT
    for kind, meaning, room in (("wall", "wall time", 86), ("cpu", "CPU time, all processes", 0)):
        yield f'<rect class="{kind}" x="{x}" y="{y - 9}" width="10" height="10" rx="2"/>'
        yield text(x + 16, y, meaning, "small")
        x += room
    yield text(WIDTH - MARGIN, y, "× = times the first row", "small", "end")


def bars(row: Row, top: float, longest: float) -> Iterator[str]:
    """Yield a way's name, its bars and its numbers."""
    ours = "ours" if row["ours"] else ""
    yield text(BARS_LEFT - 12, top + BAR_HEIGHT + 5, row["label"], ours, "end")
    for number, (measure, ratio, kind) in enumerate(MEASURES):
        y = top + number * (BAR_HEIGHT + 1)
        width = max(1, BARS_WIDTH * row[measure] / longest)
        yield f'<rect class="{ours} {kind}" x="{BARS_LEFT}" y="{y}" width="{width:.1f}" height="{BAR_HEIGHT}" rx="2"/>'
        numbers = f"{row[measure]:.1f} s" + (f" · {row[ratio]:.1f} ×" if row[ratio] != 1 else "")
        yield text(BARS_LEFT + width + 8, y + BAR_HEIGHT - 3, numbers, ours)


def foot(timed: Row, machine: Row, height: float, runs: int) -> Iterator[str]:
    """Yield what it was measured on."""
    where = "on a RAM disk" if timed["data_on"] == "/dev/shm" else "on disk"
    times = f"medians of {runs} runs" if runs > 1 else "one run"
    yield text(MARGIN, height - 32, f"{hardware(machine)}; whole processes, {times}, {where}", "small")
    yield text(MARGIN, height - 16, software(machine, LIBRARIES), "small")
