"""`progress=True` shows how far a run has come, where somebody can see it, and nothing elsewhere."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any

import nbformat
import pexpect
import pytest
from nbclient import NotebookClient

from tests.conftest import environment_with

if TYPE_CHECKING:
    from pathlib import Path

TIMEOUT_S = 100
RUN = (
    "from transform import Calculation\n"
    "summary = Calculation.from_sql('a + 1 AS b').run('in.jsonl', 'out.jsonl', chunk_bytes=1000, progress={progress})\n"
    "print(summary.lines_out)"
)


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "in.jsonl").write_bytes(b'{"a":1}\n' * 1000)
    return tmp_path


@pytest.mark.parametrize("progress", [True, False])
def test_terminal_shows_a_bar(here: Path, progress: bool) -> None:
    environment = environment_with({"TERM": "xterm-256color", "NO_COLOR": "1", "TTY_COMPATIBLE": None})
    said = pexpect.run(
        f'{sys.executable} -c "{RUN.format(progress=progress)}"', cwd=str(here), env=environment, timeout=TIMEOUT_S
    )
    assert ("━".encode() in said) == progress
    assert said.rstrip().endswith(b"1000")


def test_pipe_shows_nothing(here: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)
    exec(RUN.format(progress=True), {})
    assert capfd.readouterr() == ("1000\n", "")


def test_notebook_shows_a_bar_until_the_run_ends(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR"):
        monkeypatch.setenv(name, str(here / name.lower()))
    monkeypatch.setenv("PYTHONPATH", environment_with({})["PYTHONPATH"])
    seen: list[str] = []

    class Client(NotebookClient):
        def process_message(self, msg: Any, cell: Any, cell_index: int) -> Any:
            seen.append(msg["content"].get("data", {}).get("text/html", ""))
            return super().process_message(msg, cell, cell_index)

    v4: Any = nbformat.v4  # which has no types
    notebook = v4.new_notebook(cells=[v4.new_code_cell(RUN.format(progress=True))])
    Client(notebook, timeout=TIMEOUT_S, kernel_name="python3", resources={"metadata": {"path": str(here)}}).execute()
    bars = [text for text in seen if "<progress" in text]
    assert bars
    for bar in bars:
        assert re.fullmatch(r'<progress value="\d+" max="8000"></progress> in\.jsonl: \S+ \S+ of 8 kB', bar), bar
    left = [output.get("data", {}).get("text/html") or output.get("text") for output in notebook.cells[0].outputs]
    assert [text for text in left if text] == ["1000\n"]
