"""Temporary files of a run, which the next run removes if the run is killed.

The process that creates a file locks it (`flock`). The operating system releases the lock when the process ends, in
whatever way, so a file that can be locked is abandoned.
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
    """Create a file and lock it; return its descriptor, open for writing, and its path."""
    while True:
        path = directory / f"{prefix}{secrets.token_hex(8)}.tmp"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        # Before it is locked, another run may take the new file for an abandoned one, lock it, and remove it.
        with contextlib.suppress(FileNotFoundError, BlockingIOError):
            _lock(descriptor)
            if path.stat().st_ino == os.fstat(descriptor).st_ino:
                return descriptor, path
        os.close(descriptor)


def _lock(descriptor: int) -> None:
    """Lock a file; on a file system without locks do nothing, because no other run can lock it either."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        pass


def find_abandoned(directory: Path, prefix: str) -> Iterator[Path]:
    """Yield the files made by `create_held` that no process holds; each is locked until the next is requested."""
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
    """Return the directory where runs record their open uploads.

    It is on this machine, because only there the locks show which runs are still alive.

    Raises:
        PermissionError: The directory belongs to another user.
    """
    directory = Path(tempfile.gettempdir()) / f"transform-uploads-{os.getuid()}"
    directory.mkdir(mode=0o700, exist_ok=True)
    if directory.lstat().st_uid != os.getuid():
        raise PermissionError(errno.EPERM, f"{directory} belongs to another user; set TMPDIR to your own directory")
    return directory
