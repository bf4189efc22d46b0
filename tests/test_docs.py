"""What the documents show is there and works: links and anchors, pictures, Python, commands."""

from __future__ import annotations

import itertools
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.conftest import COMMAND_TIMEOUT_S, ROOT
from tests.support.documents import DOCUMENTS, FENCE, INLINE, LINES, blocks, is_shell
from tests.test_layers import ROOMS
from transform import load

if TYPE_CHECKING:
    from pathlib import Path

README = (ROOT / "README.md").read_text()

_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")

RUN_AS_THEY_ARE = {"README.md", "docs/calculations.md"}
"""The pages of which each example is a whole file, that works on LINES_OF_README."""

PRELUDE = "import polars as pl\nfrom transform import Calculation\n"
"""What docs/migration.md says that all of its examples start with."""

LINES_OF_README = (
    b'{"stars":4.50,"review_count":8,"is_open":1,"useful":3,"state":"NV","email":"a@example.org","phone":"1"}\n'
    b'{"stars":2.0,"review_count":1,"is_open":0,"useful":0,"state":"XX","email":"b@example.org","phone":"2"}\n'
)
"""With all that the examples of those pages read."""


def ids(path: Path) -> str:
    return str(path.relative_to(ROOT))


def prose(document: Path) -> str:
    """Return a document without the code in it, where a bracket is no link."""
    return INLINE.sub("``", FENCE.sub("", document.read_text()))


def anchors(document: Path) -> set[str]:
    """Return the anchors that GitHub gives the headings."""
    found: list[str] = []
    for heading in re.findall(r"^#+ (.+)$", FENCE.sub("", document.read_text()), re.MULTILINE):
        anchor = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        found.append(anchor if anchor not in found else f"{anchor}-{found.count(anchor)}")
    return set(found)


def links(document: Path) -> list[str]:
    """Return where a document leads to within the repository."""
    return [link for link in _LINK.findall(prose(document)) if "://" not in link]


@pytest.mark.parametrize("document", [*DOCUMENTS, ROOT / "CHANGELOG.md"], ids=ids)
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


DESIGN = ROOT / "docs" / "design.md"


def rows_of(document: Path, section: str) -> list[list[str]]:
    """Return the cells of the rows of a section's table, without its head."""
    text = document.read_text().partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return rows[1:]


def test_where_to_look_names_one_file_a_row_and_what_is_in_it() -> None:
    rows = rows_of(DESIGN, "Where to look")
    assert len(rows) > 12
    for question, file, names in rows:
        assert question.endswith("?")
        (path,) = re.findall(r"^\[[\w/]+\.(?:py|c|h)\]\(\.\./([\w/]+\.(?:py|c|h))\)$", file)
        text = (ROOT / path).read_text()
        assert file.startswith(f"[{path}]")
        assert re.findall(r"`([^`]+)`", names), question
        for name in re.findall(r"`([^`]+)`", names):
            assert re.search(rf"\b{re.escape(name)}\b", text), f"{name} is not in {path}"


def test_rooms_of_the_design_are_those_that_imports_are_held_to() -> None:
    rows = rows_of(DESIGN, "Who may import whom")
    assert {package.strip("`"): tuple(re.findall(r"`(\w+)`", rooms)) for package, rooms in rows} == ROOMS


def test_design_names_every_folder_and_none_that_is_not_there() -> None:
    spans = INLINE.findall(DESIGN.read_text())
    named = {span for span in spans if re.fullmatch(r"(?:transform|runner|tests)/\S+", span)}
    folders = {ids(path.parent) for package in ROOMS for path in (ROOT / package).glob("*/__init__.py")}
    assert folders <= named
    for name in named:
        assert (ROOT / name).exists(), name


@pytest.mark.parametrize("asked", ["line rejected", "become visible", "add a setting"])
def test_contributing_answers_what_newcomers_ask(asked: str) -> None:
    rows = rows_of(DESIGN, "Where to look")
    files = {_LINK.findall(file)[0].removeprefix("../") for question, file, _ in rows if asked in question}
    assert files
    assert files <= set(links(ROOT / "CONTRIBUTING.md"))


def test_tests_that_contributing_runs_are_there() -> None:
    named = re.findall(r"-m pytest -n0 (\S+)(?: -k (\w+))?", (ROOT / "CONTRIBUTING.md").read_text())
    assert named
    for file, word in named:
        assert re.search(rf"def test_\w*{word}", (ROOT / file).read_text()), file


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
    for number, code in enumerate(code for kind, code in FENCE.findall(document.read_text()) if kind == "python")
]


def snippets(document: Path) -> list[str]:
    """Return the indented blocks of Python."""
    return [textwrap.dedent(block) for block in blocks(document) if not is_shell(block) and "import" in block]


def test_there_are_blocks() -> None:
    assert {ids(block.document) for block in BLOCKS} >= RUN_AS_THEY_ARE | {"docs/migration.md"}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as a reader of the README would be in, with data to try things out on."""
    shutil.copytree(ROOT / "sample_data", tmp_path / "sample_data")
    (tmp_path / "raw" / "reviews").mkdir(parents=True)
    (tmp_path / "raw" / "users").mkdir()
    for folder in ("reviews", "users"):
        (tmp_path / "raw" / folder / "a.jsonl").write_bytes(LINES_OF_README)
    (tmp_path / "regions.csv").write_text("state,region\nNV,West\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.name)
def test_block_runs(block: Block, here: Path) -> None:
    whole = ids(block.document) in RUN_AS_THEY_ARE
    begins = "" if whole else PRELUDE
    (here / "block.py").write_text(begins + block.code)
    name = "calculations" if re.search(r"^calculations = ", block.code, re.MULTILINE) else "calculation"
    calculation = load(f"block.py:{name}")
    if not whole:
        return  # what it does is compared by its own test
    for folder in ("reviews", "users"):
        summary = calculation.run(f"raw/{folder}/a.jsonl", "out.jsonl")
        assert summary.lines_in == 2
        assert summary.rejected == 0
        assert (here / "out.jsonl").read_bytes() not in (b"", LINES_OF_README)


PLACES = {
    "INPUT": "sample_data/yelp_businesses.json",
    "OUTPUT": "out.jsonl",
    "FILE": "path/file.py",
    "NAME": "mine",
}
"""What stands for something else in the commands within sentences."""

WITH_THE_SAME = {"transform preview INPUT": " -e 'stars AS s'"}
"""What the sentence around a command says is to be added."""


def commands() -> list[str]:
    """Return the lines with `transform …`, in blocks and in sentences; test_docs_aws.py has all others."""
    found = []
    for line in LINES:
        if line.program == "transform" and not line.only_names:
            text = re.sub(r"\s+", " ", line.text.replace("\\\n", " ")) + WITH_THE_SAME.get(line.text, "")
            found.append(re.sub(r"\b[A-Z]{4,}\b", lambda it: PLACES[it[0]], text) if line.in_sentence else text)
    return list(dict.fromkeys(found))


def test_commands_are_found() -> None:
    assert {line.split()[1] for line in commands()} >= {"schema", "preview", "run", "new", "check"}
    assert len(commands()) > 8
    assert any("old.py" in line for line in commands()), "which is not in the README"


@pytest.mark.parametrize("line", commands())
def test_command_succeeds(line: str, here: Path) -> None:
    (here / "docker").mkdir()
    (here / "path").mkdir()
    for place in ("docker/calculation.py", "path/file.py"):
        shutil.copy(ROOT / "docker" / "calculation.py", here / place)
    migrate(here)
    run(line, here)


def migrate(here: Path) -> None:
    """Make the files that docs/migration.md speaks of."""
    (here / "in.jsonl").write_bytes(LINES_OF_README)
    (here / "old.jsonl").write_text('{"a": 1}\n')
    (here / "new.jsonl").write_text('{"a":1}\n')
    (here / "old.py").write_text("def calculation(json_obj):\n    return json_obj | {'b': json_obj['useful'] + 1}\n")
    (here / "new.py").write_text(f"{PRELUDE}calculation = Calculation(b=pl.col('useful') + 1)\n")


INDENTED = [Block(document, number, code) for document in DOCUMENTS for number, code in enumerate(snippets(document))]


def test_indented_blocks_are_found() -> None:
    assert any(".compare(" in block.code for block in INDENTED)


@pytest.mark.parametrize("block", INDENTED, ids=lambda block: block.name)
def test_indented_block_runs(block: Block, here: Path) -> None:
    migrate(here)
    exec(block.code, {})


@pytest.mark.parametrize("document", DOCUMENTS, ids=ids)
def test_blocks_are_of_kinds_that_are_run(document: Path) -> None:
    # Python here, the lines of JSON beside it in test_migration.py; commands are indented.
    assert {kind for kind, _ in FENCE.findall(document.read_text())} <= {"python", "json"}


def run(line: str, here: Path) -> str:
    """Run a command as the README gives it; return what it prints."""
    _, *arguments = shlex.split(line, comments=True)
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
    assert (here / "sample_data" / "cafe.json").read_text() == before  # which is in every clone
    run(commands()[0], here)
    assert (here / "scored.json").read_text() == after
