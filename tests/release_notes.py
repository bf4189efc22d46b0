"""Prints the notes of a release, from the changelog: `python -m tests.release_notes v0.2.0`.

Fails if the tag is not that of the version in pyproject.toml, or the changelog does not have that version as released.
Needs nothing but Python, so that a release fails before anything is installed for it.
"""

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
_HEADING = re.compile(r"^## ([0-9.]+)(?: (\(not released yet\)))?$", re.MULTILINE)


def release_notes(tag: str, version: str, changelog: str) -> str:
    """Return the section of the changelog that belongs to a tag.

    Args:
        tag: The tag, such as v0.2.0.
        version: The version of the package.
        changelog: The whole changelog, whose first section is that of the newest version.

    Raises:
        ValueError: They do not agree.
    """
    if tag != f"v{version}":
        raise ValueError(f"the tag is {tag}, expected v{version}: pyproject.toml has version {version}")
    first = _HEADING.search(changelog)
    if first is None or first[1] != version:
        raise ValueError(f"CHANGELOG.md does not begin with a section ## {version}")
    if first[2]:
        raise ValueError(f"CHANGELOG.md says that {version} is {first[2]}: remove that from the heading")
    following = _HEADING.search(changelog, first.end())
    return changelog[first.end() : following.start() if following else None].strip() + "\n"


def main(tag: str) -> str:
    """Return the notes of a tag, from the files of this tree."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    return release_notes(tag, version, (ROOT / "CHANGELOG.md").read_text())


if __name__ == "__main__":
    try:
        sys.stdout.write(main(sys.argv[1]))
    except ValueError as error:
        sys.exit(str(error))
