"""Builds the site in site/: `make docs` runs it in the environment .venv-docs.

The pages are those of the repository, prepared in build/docs: links to files that are no pages lead to copies of these
files, the items of lists are indented as the site generator needs it, and the entries of api.md become docstrings. The
generator checks all links and anchors. The site of an earlier build is replaced only if it succeeds.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent
DOCS = ROOT / "docs"
NOTEBOOK = ROOT / "sample_data" / "prototype.ipynb"

PLACES = {
    ROOT / "README.md": "index.md",
    NOTEBOOK: "prototype.md",
    **{ROOT / name: name for name in ("CONTRIBUTING.md", "CHANGELOG.md")},
    **{path: path.name for kind in ("md", "svg", "json") for path in sorted(DOCS.glob(f"*.{kind}"))},
}
"""Where in the site a file is. Any other file that a page leads to is shown below source/."""

_LINK = re.compile(r"(!?\[[^\]]*\]\()([^)\s#]+)((?:#[^)\s]*)?\))")
_ENTRY = re.compile(r"^- \[`(\w+)`\]\([^)]*\): .*$", re.MULTILINE)
_ITEM = re.compile(r"( *)(-|\d+\.) +(?=\S)")
_EXTERNAL = re.compile(
    r"""<(?:script|img|iframe|link(?![^>]*\brel="?canonical))\b[^>]*\b(?:src|href)="?(?:https?:)?//[^>]*>"""
)
_LANGUAGES = {".c": "c", ".h": "c", ".json": "json", ".jsonl": "json", ".py": "python", ".yaml": "yaml"}


def main() -> None:
    """Prepare the pages, build the site, and replace the earlier one."""
    stage, site = ROOT / "build" / "docs", ROOT / "site"
    shutil.rmtree(stage, ignore_errors=True)
    prepare(stage)
    zensical = str(Path(sys.executable).with_name("zensical"))
    command = [zensical, "build", "--strict", "--clean"]
    if subprocess.run(command, cwd=stage, check=False).returncode != 0:  # noqa: S603 - nothing of it is from outside
        sys.exit("the site was not built, for the reason above")
    built = stage / "html"
    for page in built.rglob("*.html"):
        for element in external(page.read_text()):
            sys.exit(f"{page.relative_to(built)} would fetch something from another host: {element}")
    shutil.rmtree(site, ignore_errors=True)
    built.rename(site)
    print(f"Read it with: {Path(sys.executable).name} -m http.server --bind 127.0.0.1 --directory {site.name}")


def prepare(stage: Path) -> None:
    """Write all that the site generator reads."""
    pages = stage / "pages"
    for path, place in PLACES.items():
        if path == NOTEBOOK:
            _write(pages / place, notebook(json.loads(path.read_text())))
        else:
            _write(pages / place, _page(path, pages) if path.suffix == ".md" else path.read_text())
    for name in ("extra.css", "extra.js"):
        shutil.copy(HERE / name, pages)
    shutil.copy(HERE / "zensical.toml", stage)
    for path in (ROOT / "transform").rglob("*.py"):
        # The parser of docstrings takes what is below `Example:` for a quotation.
        text = re.sub(r"^( *)Example:$", r"\1Examples:", path.read_text(), flags=re.MULTILINE)
        _write(stage / path.relative_to(ROOT), text)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _page(path: Path, pages: Path) -> str:
    """Return a page of the repository as the site generator wants it."""
    text = path.read_text()
    if path.name == "api.md":
        text = _ENTRY.sub(r"::: transform.\1", text)
    return _LINK.sub(lambda link: link[1] + _target(path, link[2], pages) + link[3], indented(text))


def _target(path: Path, link: str, pages: Path) -> str:
    """Return where a link of a page leads in the site; one that does not lead to a file stays as it is."""
    file = Path(os.path.normpath(path.parent / link))
    if "://" in link or not file.is_file():
        return link
    if file in PLACES:
        return PLACES[file]
    name = file.relative_to(ROOT).as_posix()
    language = _LANGUAGES.get(file.suffix, "text")
    fence = "`" * 5
    head = "---\nsearch:\n  exclude: true\n---\n\n"
    _write(pages / "source" / f"{name}.md", f"{head}# {name}\n\n{fence}{language}\n{file.read_text()}{fence}\n")
    return f"source/{name}.md"


def indented(text: str) -> str:
    """Return a page with what belongs to an item of a list indented by 4, in a list within a list by 8.

    In CommonMark it is indented to the text after the marker, as the repository's pages have it. Python-Markdown, which
    the site generator uses, takes anything less than 4 for the end of the list.
    """
    lines = []
    starts: list[int] = []  # where the text of each item begins that a line belongs to
    for line in text.split("\n"):
        rest = line.lstrip()
        indent = len(line) - len(rest)
        while starts and rest and indent < starts[-1]:
            starts.pop()
        within = indent - (starts[-1] if starts else 0)
        margin = " " * 4 * len(starts)
        item = _ITEM.match(line)
        if item and within < 4:
            lines.append(f"{margin}{item[2]:<4}{line[item.end() :]}")
            starts.append(item.end())
        else:
            lines.append(f"{margin}{' ' * within}{rest}" if rest else "")
    return "\n".join(lines)


def notebook(content: dict[str, Any]) -> str:
    """Return a notebook as a page: its texts, its code, and what the code gives."""
    parts = []
    for cell in content["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(indented(text))
            continue
        parts.append(f"```python\n{text}\n```")
        for output in cell["outputs"]:
            data = {kind: "".join(value) for kind, value in output.get("data", {}).items()}
            if "image/png" in data:
                parts.append(f'<img alt="The plot" src="data:image/png;base64,{data["image/png"].strip()}">')
            elif "text/html" in data:
                parts.append(f'<div class="output">\n{data["text/html"]}\n</div>')
            else:
                parts.append(f"```text\n{data.get('text/plain') or ''.join(output['text'])}\n```")
    return "\n\n".join(parts)


def external(html: str) -> list[str]:
    """Return the elements of a page with which a browser would fetch something from another host."""
    return [found[0] for found in _EXTERNAL.finditer(html)]


if __name__ == "__main__":
    main()
