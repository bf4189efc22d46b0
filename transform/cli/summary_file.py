"""The file of `--summary`: apart from `report`, which imports what a quiet run does without."""

import contextlib
from collections.abc import Callable, Iterator

from transform.cli.terminal import to_json
from transform.engine.reject_file import default_target
from transform.engine.summary import Summary
from transform.io.conflicts import check_no_conflicts
from transform.io.outputs import Output


@contextlib.contextmanager
def summary_file(path: str | None, places: dict[str, str | None]) -> Iterator[Callable[[Summary], None]]:
    """Open the file for the summary as JSON, if one was asked for; yield the function that writes it.

    It is opened before the run, so that no output is published if its summary cannot be written.
    """
    if path is None:
        yield lambda _summary: None
        return
    rejects = places["rejects"] or default_target(places["output"] or "-")
    check_no_conflicts({**places, "rejects": rejects, "summary": path})
    with Output(path) as output:

        def write(summary: Summary) -> None:
            output.write(to_json(summary.to_dict()).encode() + b"\n")
            output.publish()

        yield write
