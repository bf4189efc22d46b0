"""What the documents show is there and works: links and anchors, pictures, Python, commands."""

from __future__ import annotations

import itertools
import os
import re
import shlex
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.conftest import COMMAND_TIMEOUT_S, ROOT
from transform import load

if TYPE_CHECKING:
    from pathlib import Path

DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
README = (ROOT / "README.md").read_text()

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"^(?: {4,}.*\n)+", re.MULTILINE)
_INLINE = re.compile(r"`[^`\n]+`")
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")

PRELUDE = "import polars as pl\nfrom transform import Calculation\n"
"""What docs/migration.md says that all of its examples start with."""

LINES = (
    b'{"stars":4.50,"review_count":8,"is_open":1,"useful":3,"state":"NV","email":"a@example.org","phone":"1"}\n'
    b'{"stars":2.0,"review_count":1,"is_open":0,"useful":0,"state":"XX","email":"b@example.org","phone":"2"}\n'
)
"""With all that the README's examples read."""


def ids(path: Path) -> str:
    return str(path.relative_to(ROOT))


def prose(document: Path) -> str:
    """Return a document without the code in it, where a bracket is no link."""
    return _INLINE.sub("``", _FENCE.sub("", document.read_text()))


def anchors(document: Path) -> set[str]:
    """Return the anchors that GitHub gives the headings."""
    found: list[str] = []
    for heading in re.findall(r"^#+ (.+)$", _FENCE.sub("", document.read_text()), re.MULTILINE):
        anchor = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        found.append(anchor if anchor not in found else f"{anchor}-{found.count(anchor)}")
    return set(found)


def links(document: Path) -> list[str]:
    """Return where a document leads to within the repository."""
    return [link for link in _LINK.findall(prose(document)) if "://" not in link]


@pytest.mark.parametrize("document", DOCUMENTS, ids=ids)
def test_links_lead_somewhere(document: Path) -> None:
    for link in links(document):
        name, _, anchor = link.partition("#")
        target = (document.parent / name).resolve() if name else document
        assert target.exists(), link
        assert target.is_relative_to(ROOT.resolve()), link
        if anchor:
            assert anchor in anchors(target), link


def test_links_are_found_where_there_are_any() -> None:
    assert {"docs/migration.md", "LICENSE", "docs/architecture.svg"} <= set(links(ROOT / "README.md"))
    assert "how-fast-it-is" in anchors(ROOT / "README.md")


def test_every_page_is_reached_from_the_readme() -> None:
    pages = {ids(path) for path in (ROOT / "docs").glob("*.md")}
    assert pages
    assert pages <= {link.partition("#")[0] for link in links(ROOT / "README.md")}


@pytest.mark.parametrize("picture", sorted((ROOT / "docs").glob("*.svg")), ids=ids)
def test_picture_is_text_that_fetches_nothing(picture: Path) -> None:
    text = picture.read_text()
    tree = ET.fromstring(text)
    assert [node for node in tree.iter() if node.tag.endswith("}text") and node.text]
    assert next(node.text for node in tree.iter() if node.tag.endswith("}title"))
    assert "prefers-color-scheme: dark" in text
    assert re.findall(r"https?://[^\"')\s]+", text) == ["http://www.w3.org/2000/svg"]
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)


class Block(NamedTuple):
    """A piece of Python on a page."""

    document: Path
    number: int
    code: str

    @property
    def name(self) -> str:
        return f"{ids(self.document)}-{self.number}"


BLOCKS = [
    Block(document, number, code)
    for document in DOCUMENTS
    for number, code in enumerate(code for kind, code in _FENCE.findall(document.read_text()) if kind == "python")
]


def test_there_are_blocks() -> None:
    assert {ids(block.document) for block in BLOCKS} >= {"README.md", "docs/migration.md"}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as a reader of the README would be in, with data to try things out on."""
    shutil.copytree(ROOT / "sample_data", tmp_path / "sample_data")
    (tmp_path / "raw" / "reviews").mkdir(parents=True)
    (tmp_path / "raw" / "users").mkdir()
    for folder in ("reviews", "users"):
        (tmp_path / "raw" / folder / "a.jsonl").write_bytes(LINES)
    (tmp_path / "regions.csv").write_text("state,region\nNV,West\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.name)
def test_block_runs(block: Block, here: Path) -> None:
    begins = "" if block.document.name == "README.md" else PRELUDE
    (here / "block.py").write_text(begins + block.code)
    name = "calculations" if re.search(r"^calculations = ", block.code, re.MULTILINE) else "calculation"
    calculation = load(f"block.py:{name}")
    if block.document.name != "README.md":
        return  # what it does is compared by its own test
    for folder in ("reviews", "users"):
        summary = calculation.run(f"raw/{folder}/a.jsonl", "out.jsonl")
        assert summary.lines_in == 2
        assert summary.rejected == 0
        assert (here / "out.jsonl").read_bytes() not in (b"", LINES)


def commands() -> list[str]:
    """Return the lines with `transform …` in the README's blocks, those that go on in the next one in one."""
    blocks = "".join(_INDENTED.findall(_FENCE.sub("", README))).replace("\\\n", " ")
    found = re.findall(r"^ +(?:\$ )?(?:\.venv/bin/)?(transform .*)$", blocks, re.MULTILINE)
    return [re.sub(r" +", " ", line) for line in found]


PLACES = {"INPUT": "sample_data/yelp_businesses.json", "OUTPUT": "out.jsonl", "FILE": "path/file.py", "NAME": "mine"}
"""What stands for something else in the commands within sentences."""


def commands_in_sentences() -> list[str]:
    found = re.findall(r"`(transform (?:run|new|check|preview|schema) [^`]*)`", prose_with_code())
    return [re.sub(r"\b[A-Z]{4,}\b", lambda place: PLACES[place[0]], line) for line in found]


def prose_with_code() -> str:
    return _INDENTED.sub("\n", _FENCE.sub("", README))


def test_commands_are_found() -> None:
    assert len(commands()) > 4
    assert {line.split()[1] for line in commands_in_sentences()} >= {"run", "new", "check"}


@pytest.mark.parametrize("line", [*commands(), *commands_in_sentences()])
def test_command_succeeds(line: str, here: Path) -> None:
    (here / "businesses.json").write_text(shown()[0])
    (here / "docker").mkdir()
    (here / "path").mkdir()
    for place in ("docker/calculation.py", "path/file.py"):
        shutil.copy(ROOT / "docker" / "calculation.py", here / place)
    run(line, here)


def run(line: str, here: Path) -> str:
    """Run a command as the README gives it; return what it prints."""
    _, *arguments = shlex.split(line)
    result = subprocess.run(
        [sys.executable, "-m", "transform", *arguments],
        cwd=here,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr
    return result.stdout


def shown() -> list[str]:
    """Return the lines of JSON at the start of the README: what goes in, and what comes out."""
    return [f"{line}\n" for line in itertools.islice(re.findall(r"^    (\{.*\})$", README, re.MULTILINE), 2)]


def test_first_command_does_what_stands_below_it(here: Path) -> None:
    before, after = shown()
    (here / "businesses.json").write_text(before)
    run(commands()[0], here)
    assert (here / "scored.json").read_text() == after
