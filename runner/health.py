"""The health of the worker: a small file that it writes every few seconds, and the check that reads the file.

It imports nothing that takes time, because each check of the container is a new process.
"""

import contextlib
import json
import os
import threading
import time
from pathlib import Path
from typing import Literal

HEALTH_FILE = "/tmp/runner-health.json"  # noqa: S108 # the one place that is writable in any container
MAX_AGE_S = 60.0


class HealthFile:
    """The file with the state of the worker; each write replaces it as a whole.

    If it cannot be written, nothing is raised: the job continues, and the check fails because the file is too old.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)

    def write(self, state: Literal["ok", "failing"], reason: str = "") -> None:
        """Write the state of the worker, and the reason for it."""
        temporary = self._path.with_name(f"{self._path.name}.{os.getpid()}-{threading.get_ident()}")
        with contextlib.suppress(OSError):
            # Wall-clock time, which another process can compare with its own.
            temporary.write_text(json.dumps({"state": state, "reason": reason, "time": time.time()}))
            temporary.replace(self._path)


def check(path: str | os.PathLike[str], max_age_s: float = MAX_AGE_S) -> str | None:
    """Return None if the worker is healthy, otherwise the reason in one sentence.

    Args:
        path: The file that the worker writes.
        max_age_s: Maximum age of the file in seconds; if it is older, the worker is stuck.
    """
    try:
        said = json.loads(Path(path).read_bytes())
        state, reason, age_s = said["state"], said["reason"], time.time() - said["time"]
    except FileNotFoundError:
        return f"there is no {os.fspath(path)}: the worker has not started, or cannot write it"
    except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        return f"{os.fspath(path)} cannot be read: {type(error).__name__}: {error}"
    if not abs(age_s) <= max_age_s:  # also if NaN; a negative age is from before the clock was set back
        return f"stale since {abs(age_s):.0f} s: the worker is stuck, or gone"
    return None if state == "ok" else f"failing: {reason or 'it does not say why'}"
