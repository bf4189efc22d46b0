"""A job process: it does jobs, one at a time, for the worker that started it.

The heartbeat of the messages is in the process of the worker, so that nothing that a job does can stop it: neither a
calculation that holds the interpreter lock, nor a child that the kernel kills for its memory, nor a crash.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import traceback
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, NoReturn, cast

from runner.errors import (
    CancelledError,
    DeniedError,
    FencedError,
    ImpossibleError,
    ObjectDeniedError,
    RunnerError,
    SettingsError,
    StartAgainError,
    StoppedError,
    StoreError,
)
from runner.job.claim import Claim
from runner.job.context import JobContext
from runner.job.control import Control
from runner.job.identity import JobIdentity
from runner.job.input_object import InputObject
from runner.job.job import Job
from runner.job.protocol import JobResult, Order, Outcome, Ready, Refused
from runner.setting_values import passed_on
from transform import (
    AccessDeniedError,
    CalculationError,
    InputError,
    RejectedError,
    S3Failure,
    SchemaError,
    SourceChangedError,
    TransformError,
    UnavailableError,
    WorkerError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runner.settings import Settings

_MAY_BE_PUBLISHED = {JobResult.FENCED, JobResult.SUPERSEDED, JobResult.FAILED}
"""Results of a job whose output may have been published before: a new small job has not looked for one."""


def main() -> None:
    """Do jobs until the worker is gone; the argument is the descriptor of the connection to it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the worker decides when to stop
    connection = Connection(int(sys.argv[1]))
    try:
        context = JobContext.open(settings_of_job(os.environ), os.environ)
        context = replace(context, claim=Claim(context.store, context.settings, context.around.clock))
        context.check_claim()
    except (TransformError, RunnerError) as error:
        connection.send(Refused(str(error)))
        return
    gc.freeze()  # collections need not look at what was loaded
    gc.enable()
    serve(context, connection)


def settings_of_job(environ: Mapping[str, str]) -> Settings:
    """Return the settings from the worker, or if they were too long to be passed on, from what the worker has read.

    Raises:
        SettingsError: Some are wrong.
    """
    passed = passed_on(environ)
    if passed is not None:
        return cast("Settings", passed)
    from runner.settings import Settings  # noqa: PLC0415 - imports pydantic; see `runner.setting_values`

    return Settings.read(environ)


def serve(context: JobContext, connection: Connection) -> NoReturn:
    """Do the jobs that the worker orders, one after the other."""
    control = Control(connection, context.around)
    control.start()
    control.send(Ready())
    while True:
        control.send(do(context, control.next_order(), control))


def do(context: JobContext, order: Order, control: Control) -> Outcome:
    """Do a job; return its outcome, whatever happens."""
    job: Job | None = None
    try:
        try:
            context.check_claim()
            order = replace(order, event=InputObject(context.sources[order.event.bucket], order.event).identified())
            job = Job(context, JobIdentity.from_order(context, order), order, control)
            control.begin(job.identity.id)
            outcome = job.run()
        except WorkerError:  # a process that was killed for its memory, for example, may not be killed again
            order = replace(order, tried_before=True)
            job = Job(context, JobIdentity.from_order(context, order), order, control)
            outcome = job.run()
    except Exception as error:  # noqa: BLE001 - a bug becomes an outcome with its traceback, and the message is retried
        try:
            outcome = _outcome_of(error, job)
        except Exception as worse:  # noqa: BLE001 - the clean-up has failed as well
            return _outcome_of(worse, None)
    return outcome if job is None else job.finish_input(outcome)


def _outcome_of(error: Exception, job: Job | None) -> Outcome:
    reason = str(error)
    match error:
        case StoppedError():
            kind = JobResult.STOPPED
        case FencedError():
            kind = JobResult.FENCED
        case CancelledError():
            kind = JobResult.CANCELLED
        case SourceChangedError():
            kind = JobResult.SUPERSEDED
        case DeniedError() | AccessDeniedError() | SettingsError():  # the last one: the prefixes are another's
            kind = JobResult.DENIED
        case StoreError() | UnavailableError() | WorkerError() | StartAgainError():
            kind = JobResult.RETRY
        case ImpossibleError() | TransformError():
            kind = JobResult.FAILED
        case _:
            kind, reason = JobResult.RETRY, "".join(traceback.format_exception(error))
    of_object = kind in (JobResult.DENIED, JobResult.FAILED) and _is_of_object(error)
    unfit = isinstance(error, CalculationError | SchemaError)  # what no input fits, no job process loads
    if job is None:
        return Outcome(kind, reason, of_object=of_object, unfit=unfit)
    published = job.published_outcome() if kind in _MAY_BE_PUBLISHED else None
    job.leave(kind, published=published is not None)
    identity = job.identity
    return published or Outcome(
        kind,
        reason,
        job=identity.id,
        digest=identity.digest,
        rejects=job.rejects_prefix,
        of_object=of_object,
        unfit=unfit,
    )


def _is_of_object(error: Exception) -> bool:
    """Return whether a denial or a failure for good is, or may be, the fault of the input object alone."""
    if isinstance(error, InputError) and error.__context__ is not None:
        # All inputs need the credentials and the bucket.
        return S3Failure.from_error(error.__context__) not in (S3Failure.NO_CREDENTIALS, S3Failure.NO_BUCKET)
    return isinstance(error, ObjectDeniedError | InputError | RejectedError | ImpossibleError)
