"""Finds phrases that make readers stumble, in documents, messages, docstrings and comments: `python -m tests.prose`.

Whole files are searched, code too, so that nothing has to know where the texts in them are. Generated pages are fixed
where their text comes from.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]

FILES = (
    "*.md",
    ".github/**/*.md",
    "docs/**/*.md",
    "Makefile",
    "transform/**/*.py",
    "transform/native/*.[ch]",
    "runner/**/*.py",
    "cfn/*.py",
    "cfn/environments/*.env",
    "docker/*.py",
    "docker/*.sh",
    "docker/Dockerfile",
)

INSTEAD = {
    "(an|its|their) AWS of": "a local AWS emulator",
    "(are|be|been|being|is|was|were) told(?! apart)": "gets, receives, is logged, is reported",
    "(are|is) there already": "exists already",
    "(are|is|was|were) (?-i:none)(?! of)": "does not exist, has no …, is not a …",
    "(as|so) (one|it|they) likes?|as (many|much|deep|long|large) as (one|it|they) likes?": "any number, without limit",
    "(all|everything|it|worker|process) is well|looks? well": "healthy, or what exactly works",
    "anew": "again",
    "anybody|nobody|somebody": "name the user, program or process; no …",
    "but for": "except, apart from",
    "fares?|fared": "works, runs, goes",
    "(go|goes|going|gone|went) on with": "continue, resume",
    "(go|goes|going|gone|went) round": "circulate, be requeued",
    r"(?<!may\s)(?<!would\s)(?<!to\s)(has|have) to be": "must be",
    "hand(s|ed|ing)? (it |them )?back": "release, requeue, return",
    "hangs? on": "depends on",
    "likewise": "repeat what is meant",
    "mend(s|ed|ing)?": "fix",
    "no good": "invalid",
    "one's own": "your own, separate",
    "of yours": "your",
    "put(s|ting)? (it |them )?(aside|right)": "reject, move, fix",
    "reckon(s|ed|ing)?": "calculate, estimate",
    "(say|tell) (it|them) as": "print as",
    "stands?(?! (for|beside))": "is, exists, stays, is published",
    "(tell|tells|telling|told) of": "describe, report, list",
    "that which": "what, or the noun",
    "the same again": "again, repeated",
    "(throw|throws|thrown) (it |them )?away": "delete, discard",
    "who(m)?ever": "name the reader, program or worker; anyone who",
    "will do(?=[,.;:)])": "is enough",
}
"""Patterns of what is not written, and what to write instead."""

_GAP = r"""(?:\s+(?:(?:#|//)\s+)?|\s*"\s+f?")"""  # also to the next line of a comment, or of a text in code
_PATTERNS = [
    (re.compile(rf"(?<![\w-])(?:{phrase.replace(' ', _GAP)})(?![\w-])", re.IGNORECASE), instead)
    for phrase, instead in INSTEAD.items()
]


def find(text: str) -> Iterator[tuple[int, str, str]]:
    """Yield the line of each phrase that is not to be written, the phrase, and what to write instead."""
    for pattern, instead in _PATTERNS:
        for match in pattern.finditer(text):
            yield text.count("\n", 0, match.start()) + 1, " ".join(match[0].split()), instead


def check(root: Path) -> Iterator[str]:
    """Yield a message for each phrase in the files of a tree."""
    for path in sorted({path for pattern in FILES for path in root.glob(pattern)}):
        for line, phrase, instead in sorted(find(path.read_text())):
            yield f"{path.relative_to(root)}:{line}: `{phrase}`; write instead: {instead}"


if __name__ == "__main__":
    messages = list(check(ROOT))
    sys.stdout.writelines(f"{message}\n" for message in messages)
    sys.exit(bool(messages))
