"""A stand-in for the `python` of a clone: it runs the program in cfn/ in forks, and all else with the real one."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.conftest import START_TIMEOUT_S

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SERVER = Path(__file__).with_name("fork_server.py")
_CLIENT = """\
#!{python} -ISE
import os, sys
if sys.argv[1:3] != ["-m", "cfn"] or os.isatty(0):  # a terminal sends signals to the processes that it has started
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
import array, json, socket
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
server.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 1, 2]))])
with server.makefile("rwb") as stream:
    asked = {{"words": sys.argv[3:], "environ": dict(os.environ), "directory": os.getcwd()}}
    stream.write(json.dumps(asked).encode() + b"\\n")
    stream.flush()
    sys.exit(int(stream.readline() or 70))  # it has died if it does not answer
"""


@contextmanager
def forked_python(python: Path, clone: Path, environ: Mapping[str, str]) -> Iterator[None]:
    """Put it at a path, and run the server that it asks."""
    address = clone.parent / "python.socket"
    python.write_text(_CLIENT.format(python=sys.executable, address=str(address)))
    python.chmod(0o755)
    with subprocess.Popen(
        [sys.executable, SERVER, address], cwd=clone, env={**environ, "PYTHONPATH": str(clone)}, start_new_session=True
    ) as process:
        try:
            deadline = time.monotonic() + START_TIMEOUT_S
            while not address.with_suffix(".ready").exists():
                assert process.poll() is None, "the server has ended"
                assert time.monotonic() < deadline, "the server does not start"
                time.sleep(0.02)
            yield
        finally:
            process.kill()
