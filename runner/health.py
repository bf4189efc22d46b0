"""Whether the worker is well: a small file that it writes every few seconds, and that the health check reads.

Imports nothing that takes time, as the health check is a new process every time.
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
    """What the worker says of itself, each time whole or not at all.

    A file that cannot be written raises nothing: it grows old, and so the check fails, while the job goes on.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)

    def write(self, state: Literal["ok", "failing"], reason: str = "") -> None:
        """Say how the worker is, and why."""
        temporary = self._path.with_name(f"{self._path.name}.{os.getpid()}-{threading.get_ident()}")
        with contextlib.suppress(OSError):
            # The clock of the machine, as another process is to compare it with its own.
            temporary.write_text(json.dumps({"state": state, "reason": reason, "time": time.time()}))
            temporary.replace(self._path)


def check(path: str | os.PathLike[str], max_age_s: float = MAX_AGE_S) -> str | None:
    """Return None if the worker is well, otherwise what is the matter, in one sentence.

    Args:
        path: The file that the worker writes.
        max_age_s: It is stuck if what it wrote last is older, in seconds.
    """
    try:
        said = json.loads(Path(path).read_bytes())
        state, reason, age_s = said["state"], said["reason"], time.time() - said["time"]
    except FileNotFoundError:
        return f"there is no {os.fspath(path)}: the worker has not started, or cannot write it"
    except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        return f"{os.fspath(path)} cannot be read: {type(error).__name__}: {error}"
    if not abs(age_s) <= max_age_s:  # NaN is no age; one from the future was written before the clock was set back
        return f"stale since {abs(age_s):.0f} s: the worker is stuck, or gone"
    return None if state == "ok" else f"failing: {reason or 'it does not say why'}"
