"""The notebook runs from top to bottom, and the outputs committed with it are those that it gives."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests.conftest import environment_with

if TYPE_CHECKING:
    from collections.abc import Iterator

SAMPLE_DATA = Path(__file__).parents[1] / "sample_data"
CELL_TIMEOUT_S = 100
_TIMES = re.compile(r"seconds=[\d.e-]+|\s*[\d.,]+ (MB/)?s\b|\b\d+%|on \d+ cores?, at best: [^;]*;")


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call] # it has none


COMMITTED = read(SAMPLE_DATA / "prototype.ipynb")


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sample, where the notebook leaves its files."""
    directory = tmp_path_factory.mktemp("notebook")
    shutil.copy(SAMPLE_DATA / "yelp_businesses.json", directory)
    return directory


@pytest.fixture(scope="module")
def ran(directory: Path) -> Any:
    """The notebook with the outputs of a run."""
    notebook = read(SAMPLE_DATA / "prototype.ipynb")
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.update(outputs=[], execution_count=None)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment_with({}).items():
            patch.setenv(name, value)
        # Whoever runs the tests may have settings and kernels of their own.
        for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR"):
            patch.setenv(name, str(directory / name.lower()))
        NotebookClient(
            notebook, timeout=CELL_TIMEOUT_S, kernel_name="python3", resources={"metadata": {"path": str(directory)}}
        ).execute()
    return notebook


def texts(notebook: Any, *, without_times: bool = True) -> Iterator[tuple[str, list[str]]]:
    """Yield the source of each cell of code, with the texts that it gives."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            found = []
            for output in cell.outputs:
                assert output.output_type != "error"
                data = output.get("data", {})
                text = output.get("text") or data.get("text/html") or data.get("text/plain") or ""
                found.append(_TIMES.sub("TIME", str(text)) if without_times else str(text))
            yield cell.source, found


def test_outputs_are_those_committed(ran: Any) -> None:
    assert [*texts(ran)] == [*texts(COMMITTED)]


def test_it_shows_what_it_says_it_does(ran: Any, directory: Path) -> None:
    shown = "\n".join(text for _, found in texts(ran, without_times=False) for text in found)
    for part in (
        "is not row-wise",
        "Did you mean `review_count`?",
        "expected a number, found a string",
        "40 of all 200 lines of yelp_businesses.json differ",
        "the same for all 200 lines of yelp_businesses.json",
        "(60,000 lines) of prototype/larger.jsonl, in one process",
        "at best: 1 GB",
    ):
        assert part in shown
    outputs = [output for cell in COMMITTED.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 2
    assert (directory / "prototype" / "scored.json").read_bytes().count(b'"review_score":') == 160


def test_nothing_of_a_machine_is_committed() -> None:
    text = (SAMPLE_DATA / "prototype.ipynb").read_text()
    assert "/tmp" not in text
    assert "/home" not in text
    assert "<script" not in text
    assert len(text) < 250_000
