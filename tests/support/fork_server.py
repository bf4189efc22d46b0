"""Runs the program in cfn/ in forks of a process that has imported it, which then takes no second.

Started as `python fork_server.py SOCKET` in a clone. A client sends its streams and, in a line of JSON, its arguments,
environment and directory; it receives the exit status. Imports nothing of the tests, which would take longer.
"""

from __future__ import annotations

import array
import contextlib
import functools
import json
import os
import socket
import sys
import traceback
from pathlib import Path
from typing import Any

import boto3
import botocore.session

SERVICES = ("autoscaling", "cloudformation", "ec2", "ecr", "ecs", "logs", "s3", "sqs", "sts")
"""Those that the program asks; their models take a tenth of a second each to load."""
BUG = 1


def main(address: Path) -> None:
    """Run what clients ask for, until killed."""
    from cfn.__main__ import cli  # noqa: PLC0415 # of the clone

    botocore.session.create_loader = functools.cache(botocore.session.create_loader)
    for service in SERVICES:
        boto3.Session("id", "secret", region_name="eu-central-1").client(service)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(address))
        server.listen()
        address.with_suffix(".ready").touch()
        while True:
            client, _ = server.accept()
            if os.fork() == 0:
                server.close()
                run(client, cli)
            client.close()
            with contextlib.suppress(ChildProcessError):  # no child is running
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass


def run(client: socket.socket, cli: Any) -> None:
    """Run what a client asks for, as a process of its own would, and end this one."""
    _, ((_, _, streams),), _, _ = client.recvmsg(1, socket.CMSG_SPACE(3 * array.array("i").itemsize))
    for own, theirs in enumerate(array.array("i", streams)):
        os.dup2(theirs, own)
        os.close(theirs)
    with client.makefile("rwb") as stream:
        asked = json.loads(stream.readline())
        os.environ.clear()
        os.environ.update(asked["environ"])
        os.chdir(asked["directory"])
        try:
            cli(asked["words"], prog_name="python -m cfn")
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else bool(end.code)
        except BaseException:  # noqa: BLE001 # as Python itself does
            traceback.print_exc()
            status = BUG
        sys.stdout.flush()
        sys.stderr.flush()
        stream.write(b"%d\n" % status)
        stream.flush()
        os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
