"""A run: lines → decode → evaluate → splice → sink, in order, published whole or not at all."""

import os
import shlex
import time
from dataclasses import dataclass

from transform.apart import check_no_conflicts
from transform.errors import SchemaError, TransformError, WidenError
from transform.reject_file import RejectFile, default_target
from transform.sinks import Output, Target
from transform.sources import Source, reopenable
from transform.state import State
from transform.stream import Options, Spec, open_stream
from transform.summary import Summary


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be run; see `Calculation.run`."""

    spec: Spec
    source: Source
    target: Target
    rejects: str | None
    options: Options


def run(
    spec: Spec, source: Source, target: Target, rejects: str | os.PathLike[str] | None, options: Options
) -> Summary:
    """Transform an input into an output; see `Calculation.run`."""
    started = time.perf_counter()
    kept_in = str(rejects) if rejects is not None else default_target(target)
    check_no_conflicts({"input": source, "output": target, "rejects": kept_in})
    job, state = Job(spec, source, target, kept_in, options), State()
    while True:
        try:
            summary = _attempt(job, state)
        except WidenError as error:
            state = restarted(state, error, source)
        else:
            summary.seconds = time.perf_counter() - started
            return summary


def restarted(state: State, error: WidenError, source: Source) -> State:
    """Return the state of a run that starts again, as a column inferred as integer turned out to hold floats.

    Raises:
        SchemaError: The source cannot be read again.
    """
    if not reopenable(source):
        raise _cannot_start_again(error, "the input is a pipe") from None
    return state.restarted(error.name, error.dtype)


def _cannot_start_again(error: WidenError, why: str) -> SchemaError:
    return SchemaError(
        f"{error}. The run cannot start again with that in mind, as {why}: declare the type, for example with "
        f"--schema {shlex.quote(f'{error.name}={error.dtype}')} or .with_schema({{{error.name!r}: pl.{error.dtype}}})"
    )


def _attempt(job: Job, state: State) -> Summary:
    with (
        open_stream(job.spec, job.source, state, job.options) as stream,
        Output(job.target, lambda: stream.position) as output,
        RejectFile(job.rejects) as rejects,
    ):
        try:
            for part in stream:
                for data in part.output:
                    output.write(data)
                for line in part.rejects:
                    rejects.write(line)
        except WidenError as error:
            if output.streams and output.size:
                raise _cannot_start_again(error, "a part of the output is in a pipe already") from None
            raise
        except TransformError as error:
            if rejects.publish():
                raise type(error)(f"{error}. The rejected lines are in {job.rejects}") from error
            raise
        summary = stream.summary
        # The rejects first: whatever happens between the two, no output stands beside the rejects of another run.
        if rejects.publish():
            summary.rejects = job.rejects
        else:
            rejects.remove_old()
        output.publish()
        summary.target = output.name
        return summary
