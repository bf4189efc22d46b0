"""The site that `make docs` builds: its pages, links and navigation; and the pages that are made from the code.

The site generator itself is run by `make docs` only, which CI does, too.
"""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING, Any

import pytest

import transform
from docs.site.build import HERE, PLACES, external, indented, notebook, prepare
from tests import api_page, commands_page
from tests.conftest import ROOT
from tests.support.documents import FENCE, INLINE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_LINK = re.compile(r"\]\(([^)\s#]+)(?:#[^)\s]*)?\)")


@pytest.mark.parametrize("page", [commands_page, api_page], ids=["commands", "api"])
def test_page_is_what_the_code_says(page: Any) -> None:
    assert page.PAGE.read_text() == page.page(), f"run python -m {page.__name__}"


def test_api_page_has_each_name_that_is_exported_once() -> None:
    assert sorted(name for names in api_page.GROUPS.values() for name in names) == sorted(transform.__all__)


def test_commands_page_has_each_command() -> None:
    text = commands_page.PAGE.read_text()
    for name, group in commands_page.GROUPS.items():
        for command in group.commands:
            assert f"\n### {name} {command}\n" in text


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the pages as the site generator gets them."""
    stage = tmp_path_factory.mktemp("stage")
    prepare(stage)
    return stage / "pages"


def test_links_lead_to_what_is_in_the_site(pages: Path) -> None:
    found = set()
    for name in PLACES.values():
        if name.endswith(".md"):
            text = INLINE.sub("", FENCE.sub("", (pages / name).read_text()))
            found |= {link for link in _LINK.findall(text) if "://" not in link}
    assert {"worker.md", "source/transform/io/s3.py.md", "architecture.svg", "prototype.md"} <= found
    for link in found:
        assert (pages / link).is_file(), link


def test_source_is_shown_whole(pages: Path) -> None:
    shown = (pages / "source" / "transform" / "io" / "s3.py.md").read_text()
    assert f"python\n{(ROOT / 'transform' / 'io' / 's3.py').read_text()}`````\n" in shown


def test_navigation_has_each_page_once() -> None:
    project = tomllib.loads((HERE / "zensical.toml").read_text())["project"]
    assert sorted(leaves(project["nav"])) == sorted(name for name in PLACES.values() if name.endswith(".md"))
    assert project["theme"]["font"] is False


def leaves(nav: Any) -> Iterator[str]:
    """Yield the pages of a navigation."""
    for entry in nav:
        for value in entry.values():
            yield from [value] if isinstance(value, str) else leaves(value)


def test_api_entries_become_docstrings(pages: Path) -> None:
    entries = re.findall(r"^::: transform\.(\w+)$", (pages / "api.md").read_text(), re.MULTILINE)
    assert sorted(entries) == sorted(transform.__all__)
    copied = (pages.parent / "transform" / "errors.py").read_text()
    assert "    Examples:\n" in copied
    assert "    Example:\n" not in copied


def test_items_of_lists_are_indented_by_4() -> None:
    numbered = "1. a\n   b\n\n       code\n         more\n\n2. c\n"
    assert indented(numbered) == "1.  a\n    b\n\n        code\n          more\n\n2.  c\n"
    nested = "- d\n  1. e\n     f\n\n  g\n\nh\n\n    - code\n"
    assert indented(nested) == "-   d\n    1.  e\n        f\n\n    g\n\nh\n\n    - code\n"


def test_notebook_has_texts_code_and_outputs() -> None:
    cells = [
        {"cell_type": "markdown", "source": ["# T\n", "- a\n", "  b"]},
        {"cell_type": "code", "source": ["f()"], "outputs": [{"data": {"text/html": ["<b>x</b>"], "text/plain": "x"}}]},
        {"cell_type": "code", "source": ["p"], "outputs": [{"data": {"image/png": "QQ==\n"}}, {"text": ["said"]}]},
    ]
    text = notebook({"cells": cells})
    for part in ("# T\n-   a\n    b", "```python\nf()\n```", "<b>x</b>", "base64,QQ==", "```text\nsaid\n```"):
        assert part in text


@pytest.mark.parametrize(
    ("html", "fetches"),
    [
        ('<script src="https://a.example/x.js"></script>', True),
        ('<link rel="stylesheet" href="//a.example/x.css">', True),
        ("<img alt='' src=\"http://a.example/x.png\">", True),
        ('<link rel="canonical" href="https://a.example/">', False),
        (
            '<a href="https://a.example/">x</a><script src="x.js"></script><img src="data:image/png;base64,Q//">',
            False,
        ),
    ],
)
def test_what_a_page_would_fetch_elsewhere(html: str, fetches: bool) -> None:
    assert bool(external(html)) is fetches


def test_lock_has_hashes_and_no_address() -> None:
    text = (ROOT / "requirements-docs.lock").read_text()
    assert "://" not in text
    assert all("--hash=sha256:" in part for part in text.split("\n") if part.startswith("    "))
    assert {"zensical", "mkdocstrings-python"} <= set(re.findall(r"^([\w-]+)==", text, re.MULTILINE))
