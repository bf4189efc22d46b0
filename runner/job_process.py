"""A process that does jobs, one at a time, for the worker that started it.

The worker's heartbeat is in another process, so that nothing a job does can starve it: a calculation that holds the
interpreter, a child that the kernel kills for its memory, a crash.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from dataclasses import replace
from multiprocessing.connection import Connection

from runner.control import Control
from runner.errors import (
    CancelledError,
    DeniedError,
    FencedError,
    ImpossibleError,
    RunnerError,
    StoppedError,
    StoreError,
)
from runner.job import Job
from runner.outcome import Kind, Order, Outcome, Ready, Refused
from runner.publish import StartAgainError
from runner.settings import Settings
from runner.setup import Setup
from transform import (
    AccessDeniedError,
    SourceChangedError,
    TransformError,
    UnavailableError,
    WorkerError,
    keep_freed_memory,
)

_ENDS = {Kind.SUPERSEDED, Kind.FAILED, Kind.CANCELLED}
_MAY_STAND = {Kind.FENCED, Kind.SUPERSEDED, Kind.FAILED}
"""As which a job ends that was done already; a new small one has not looked for that."""


def main() -> None:
    """Do jobs until the worker is gone; its end of the connection is the descriptor in the arguments."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the worker says when to stop
    connection = Connection(int(sys.argv[1]))
    keep_freed_memory()
    try:
        setup = Setup.open(Settings.read(os.environ), os.environ)
    except (TransformError, RunnerError) as error:
        connection.send(Refused(str(error)))
        return
    control = Control(connection)
    control.send(Ready())
    while True:
        control.send(do(setup, control.next_order(), control))


def do(setup: Setup, order: Order, control: Control) -> Outcome:
    """Do a job; return what became of it, whatever that is."""
    job: Job | None = None
    try:
        try:
            job = Job(setup, order, control)
            control.begin(job.id)
            return job.run()
        except WorkerError:  # a process that has died of memory, say, may not do so again
            job = Job(setup, replace(order, tried_before=True), control)
            return job.run()
    except Exception as error:  # noqa: BLE001 - a bug is told with its traceback, and takes no message with it
        try:
            return _outcome_of(error, job)
        except Exception as worse:  # noqa: BLE001 - of the cleaning up
            return _outcome_of(worse, None)


def _outcome_of(error: Exception, job: Job | None) -> Outcome:
    reason = str(error)
    match error:
        case StoppedError():
            kind = Kind.STOPPED
        case FencedError():
            kind = Kind.FENCED
        case CancelledError():
            kind = Kind.CANCELLED
        case SourceChangedError():
            kind = Kind.SUPERSEDED
        case DeniedError() | AccessDeniedError():
            kind = Kind.DENIED
        case StoreError() | UnavailableError() | WorkerError() | StartAgainError():
            kind = Kind.RETRY
        case ImpossibleError() | TransformError():
            kind = Kind.FAILED
        case _:
            kind, reason = Kind.RETRY, "".join(traceback.format_exception(error))
    if job is None:
        return Outcome(kind, reason)
    standing = job.standing() if kind in _MAY_STAND else None
    if standing or kind in _ENDS:
        job.clean_up()
    return standing or Outcome(kind, reason, job=job.id, digest=job.digest, rejects=job.rejects_prefix)
