"""Names beside one that nothing has: the most similar, of which one was most likely meant, or the first few."""

import difflib
import heapq
import itertools
import json
import re
from collections.abc import Collection, Iterable, Sequence

from transform.terminal_text import printable

_MAX_NEAR = 3
_MAX_LISTED = 6
_MAX_NAME_CHARACTERS = 40
_LEAST_LIKENESS = 0.6  # of two names, from 0 to 1, as difflib has it by default


def near_names(name: str, names: Iterable[str]) -> str:
    """Return ` Did you mean …?` with the names that are similar, "" if none is."""
    return did_you_mean(nearest(name, names))


def did_you_mean(near: Sequence[str]) -> str:
    """Return ` Did you mean …?` for the names in it, "" for none."""
    return f" Did you mean {' or '.join(f'`{n}`' for n in near)}?" if near else ""


def nearest(name: str, names: Iterable[str]) -> list[str]:
    """Return the few names that are most like a name, in any case of letters, the nearest first.

    The nearest of several sets of names are the nearest among the nearest of each.

    Example:
        >>> nearest("ID", ["id", "ide", "name"])
        ['id', 'ide']
    """
    matcher = difflib.SequenceMatcher(b=name.casefold())
    found = []
    for candidate in set(names):
        matcher.set_seq1(candidate.casefold())
        bounds = (matcher.real_quick_ratio, matcher.quick_ratio, matcher.ratio)  # upper bounds first, as they are cheap
        if all(bound() >= _LEAST_LIKENESS for bound in bounds):
            found.append((matcher.ratio(), candidate))
    return [candidate for _, candidate in heapq.nlargest(_MAX_NEAR, found)]


def listed_names(names: Collection[str], what: str) -> str:
    r"""Return ` … have: …` with the first few names, "" without any: they show what kind of data it is.

    They are data of other people, so they are shortened, and control characters are shown as escapes.

    Args:
        names: The names that there are.
        what: What has them, with the verb.

    Example:
        >>> listed_names(["eventVersion", "a\x1b[2J", *"bcdefg"], "The lines have")
        ' The lines have: `eventVersion`, `a\\x1b[2J`, `b`, `c`, `d`, `e` and 2 more.'
    """
    if not names:
        return ""
    shown = [f"`{_shortened(name)}`" for name in itertools.islice(names, _MAX_LISTED)]
    more = f" and {len(names) - len(shown):,} more" if len(names) > len(shown) else ""
    return f" {what}: {', '.join(shown)}{more}."


def _shortened(name: str) -> str:
    cut = name[:_MAX_NAME_CHARACTERS]
    text = printable(cut)
    short = text[:_MAX_NAME_CHARACTERS]
    return short if (cut, text) == (name, short) else f"{short}…"


_SQL = re.compile(r"[=<>*/+%]|\|\||\w\(|\s(AS|AND|OR|IS|IN|LIKE|BETWEEN)\s|\w\s+-\s+\w|^(CASE|NOT)\s", re.IGNORECASE)
"""What a name hardly has, and SQL has."""


def name_hint(name: str, names: Iterable[str]) -> str:
    """Return how to write the name of a column that no line has, "" if no name is similar.

    Besides typing errors, in other letters, these are names that SQL takes apart if they are not quoted: `a.b` is the
    member `b` of the object `a`, `first name` is `first` under another name, `my-key` a difference.

    Args:
        name: The name that an expression reads.
        names: The names that the lines have.

    Example:
        >>> name_hint("id", ["ID", "name"])
        ' Did you mean `ID`? Names are the same only in the same case of letters.'
        >>> name_hint("a", ["a.b"])
        ' There is `a.b`: its whole name is one column, in SQL `"a.b"`, in Python pl.col("a.b").'
    """
    names = list(names)
    if _SQL.search(name):
        return " If it is SQL, write Calculation.from_sql(…, where=…); in Python, a text alone is the name of a column."
    if same := [other for other in names if other != name and other.casefold() == name.casefold()]:
        return f"{did_you_mean(same[:_MAX_NEAR])} Names are the same only in the same case of letters."
    parts = (other for other in names if name and name in re.split(r"[^\w@$#]+", other) and name != other)
    if whole := next(parts, None):
        quoted = whole.replace('"', '""')
        return (
            f' There is `{whole}`: its whole name is one column, in SQL `"{quoted}"`, in Python '
            f"pl.col({json.dumps(whole, ensure_ascii=False)})."
        )
    return near_names(name, names)


def unread_types(declared: Iterable[str], read: Iterable[str]) -> list[str]:
    """Return a sentence for each column that is declared and that nothing reads, most likely by a typing error."""
    read = list(read)
    return [
        f"the schema declares `{name}`, but no expression or filter reads it.{near_names(name, read)}"
        for name in declared
        if name not in read
    ]
