"""HTML for notebooks: tables and paragraphs, styled by CSS alone, in the colours of the notebook's theme."""

from collections.abc import Sequence
from dataclasses import dataclass

from transform.terminal_text import printable

_STYLE = """
.jsonl-transform { color: var(--jp-content-font-color1, var(--vscode-editor-foreground, inherit)); overflow-x: auto;
  font: 13px/1.45 var(--jp-content-font-family, system-ui, sans-serif); --bad: #d64545 }
@media (prefers-color-scheme: light) { .jsonl-transform { --bad: #b3261e } }
@media (prefers-color-scheme: dark) { .jsonl-transform { --bad: #f2777a } }
[data-jp-theme-light="true"] .jsonl-transform { --bad: #b3261e }
[data-jp-theme-light="false"] .jsonl-transform { --bad: #ff8a80 }
.ROOT p { margin: 0.3em 0 }
.ROOT table { border-collapse: collapse; margin: 0.4em 0 0.8em; border: 0; color: inherit; font: inherit }
.ROOT tbody tr, .ROOT thead tr { background: transparent; border: 0 }
.ROOT tr th, .ROOT tr td { padding: 0.2em 1.2em 0.2em 0; text-align: left; vertical-align: top; max-width: none;
  border: 0; border-bottom: 1px solid color-mix(in srgb, currentColor 16%, transparent); color: inherit }
.ROOT tr th { font-weight: 600; opacity: 0.75 }
.ROOT tr td.number { text-align: right; font-variant-numeric: tabular-nums }
.ROOT p.bad { color: var(--bad) }
.ROOT td code { font: 12px/1.45 var(--jp-code-font-family, ui-monospace, monospace); background: none; color: inherit;
  padding: 0; white-space: pre-wrap; overflow-wrap: anywhere }
""".replace("ROOT", "jsonl-transform.jsonl-transform")
"""The class is named twice, so that these rules override those that notebooks have for all tables."""
_CSS = " ".join(_STYLE.split())


@dataclass(frozen=True, slots=True)
class Code:
    """A text that is shown as code."""

    text: str


@dataclass(frozen=True, slots=True)
class Number:
    """A text that is right-aligned, such as a number with its unit."""

    text: str


Cell = str | int | Code | Number


@dataclass(frozen=True, slots=True)
class Table:
    """A table.

    Attributes:
        rows: The rows of cells; numbers are right-aligned and have commas.
        header: The names of the columns, if any.
    """

    rows: Sequence[Sequence[Cell]]
    header: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Bad:
    """A paragraph about a problem."""

    text: str


def render(title: str, *parts: Table | Bad | str) -> str:
    """Return the HTML of a title with tables and paragraphs below it."""
    below = "".join(_part(part) for part in parts)
    return f'<div class="jsonl-transform"><style>{_CSS}</style><p><b>{_escape(title)}</b></p>{below}</div>'


def _part(part: Table | Bad | str) -> str:
    if isinstance(part, Bad):
        return f'<p class="bad">{_escape(part.text)}</p>'
    if isinstance(part, str):
        return f"<p>{_escape(part)}</p>"
    header = "".join(f"<th>{_escape(name)}</th>" for name in part.header)
    rows = "".join(f"<tr>{''.join(_cell(cell) for cell in row)}</tr>" for row in part.rows)
    head = f"<thead><tr>{header}</tr></thead>" if header else ""
    return f"<table>{head}<tbody>{rows}</tbody></table>" if part.rows else ""


def _cell(cell: Cell) -> str:
    if isinstance(cell, Code):
        return f"<td><code>{_escape(cell.text)}</code></td>"
    if isinstance(cell, int | Number):
        text = f"{cell:,}" if isinstance(cell, int) else _escape(cell.text)
        return f'<td class="number">{text}</td>'
    return f"<td>{_escape(cell)}</td>"


def _escape(text: str) -> str:
    import html  # noqa: PLC0415 - it loads a table of all entities, which only notebooks need

    return html.escape(printable(text, keep="\n"))
