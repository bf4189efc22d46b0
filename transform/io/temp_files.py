"""Files that exist only while a run does, and what becomes of them when it is killed.

Each is locked (`flock`) by the process that made it. The lock goes with the process, however that ends, so a file that
can be locked is one that nobody holds any more, and the next run removes it.
"""

import contextlib
import errno
import fcntl
import os
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path


def create_held(directory: Path, prefix: str) -> tuple[int, Path]:
    """Create a new file and lock it; return its descriptor, open for writing, and its path."""
    while True:
        path = directory / f"{prefix}{secrets.token_hex(8)}.tmp"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        # Between the two calls somebody may take the new file for a leftover: lock it, and remove it.
        with contextlib.suppress(FileNotFoundError, BlockingIOError):
            _lock(descriptor)
            if path.stat().st_ino == os.fstat(descriptor).st_ino:
                return descriptor, path
        os.close(descriptor)


def _lock(descriptor: int) -> None:
    """Lock a file, where its file system has locks; where it has none, nobody else can lock it either."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        pass


def find_abandoned(directory: Path, prefix: str) -> Iterator[Path]:
    """Yield the files made by `create_held` that nobody holds; each is locked while the caller deals with it."""
    for path in sorted(directory.glob(f"{prefix}*.tmp")):
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            continue
        else:
            yield path
        finally:
            os.close(descriptor)


def records_directory() -> Path:
    """Return where runs note the uploads they have open: on this machine, as only this machine can tell who lives."""
    directory = Path(tempfile.gettempdir()) / f"transform-uploads-{os.getuid()}"
    directory.mkdir(mode=0o700, exist_ok=True)
    if directory.lstat().st_uid != os.getuid():
        raise PermissionError(errno.EPERM, f"{directory} belongs to somebody else; set TMPDIR to a place of your own")
    return directory
