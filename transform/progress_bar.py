"""The bar that shows how far a run has come: on a terminal, or in a notebook."""

import contextlib
import html
import time
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from transform.engine.options import Progress as OnProgress
from transform.sizes import format_size
from transform.terminal_text import printable

_MAX_NAME = 30  # of the input, of which the end is shown
_NOTEBOOK_INTERVAL_S = 0.2  # each update is a message to the browser


@contextlib.contextmanager
def progress_bar(name: str) -> Iterator[OnProgress | None]:
    """Show a bar until the end of the context; yield the function that updates it.

    It is None, and nothing is shown, where there is neither a terminal nor a notebook.

    Args:
        name: The name of the input.
    """
    console = Console(stderr=True)
    shown = printable(name)[-_MAX_NAME:]
    if console.is_jupyter:
        with _in_notebook(shown) as update:
            yield update
        return
    if not console.is_terminal:
        yield None
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(SpinnerColumn(), *columns, console=console, transient=True) as bar:
        task = bar.add_task(shown, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextlib.contextmanager
def _in_notebook(name: str) -> Iterator[OnProgress]:
    """Show a bar as HTML, which needs no widgets; it goes when the run ends."""
    from IPython import display as untyped

    display: Any = untyped
    handle = display.display(display.HTML(""), display_id=True)
    due = 0.0

    def update(done: int, total: int | None) -> None:
        nonlocal due
        if (now := time.monotonic()) < due:
            return
        due = now + _NOTEBOOK_INTERVAL_S
        share = "" if total is None else f' value="{done}" max="{total}"'
        size = "" if total is None else f" of {format_size(total)}"
        handle.update(display.HTML(f"<progress{share}></progress> {html.escape(name)}: {format_size(done)}{size}"))

    try:
        yield update
    finally:
        handle.update(display.HTML(""))
