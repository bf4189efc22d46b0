"""The hash of the sources of the kernel, by which a library shows which sources it was compiled from.

Imports nothing of the package, as it is needed when the package is built.
"""

import hashlib
from pathlib import Path

_MAKES_SOURCES = ("compiling.py", "powers.py")


def sources_hash(directory: Path) -> str | None:
    """Return the hash of the sources in a directory; None without any, as in an installed wheel.

    It is computed from the content of all files: after an update by Git, their times and sizes show nothing.
    """
    if not (directory / "kernel.c").exists():
        return None
    paths = [*directory.glob("*.[ch]"), *(directory / name for name in _MAKES_SOURCES)]
    found = hashlib.sha256()
    for path in sorted(path for path in paths if path.name != "powers.h"):  # which is made of powers.py
        content = path.read_bytes()
        found.update(f"{path.name} {len(content)}\n".encode())
        found.update(content)
    return found.hexdigest()
