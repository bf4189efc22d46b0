"""The lines that the operator's commands print; `terminal.echo` makes control characters in them visible."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner.aws.message import Lane
from transform import format_duration, format_size

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from runner.aws.dead_letters import Causes, DeadLetter
    from runner.ops.cancel import Cancelled
    from runner.ops.status import BackfillStatus, JobStatus, Status
    from runner.ops.submit import Tally

_SILENT_S = 900.0  # an ordinary part takes less


def status_text(found: Status) -> Iterator[str]:
    """Yield the lines about the status of a deployment."""
    yield f"Queue {_queue_text(found)}"
    if found.backfill is not None:
        yield f"Backfill queue {_queue_text(found.backfill)}"
    yield f"Jobs with a checkpoint: {len(found.jobs)} (others are too small for one, or have just begun)"
    for job in found.jobs:
        yield f"  {job.source}"
        yield f"    {_progress(job)}"
    seen = f", of which {found.looked_at} were looked at" if found.looked_at < found.dead_letters else ""
    yield f"Dead letters: {found.dead_letters}{seen}"
    for cause in found.causes:
        yield f"  {cause.count} × {cause.reason}"
        yield f"    such as {cause.example}"


def _queue_text(found: Status | BackfillStatus) -> str:
    age = "" if found.oldest_age_s is None else f"; the oldest message is {format_duration(found.oldest_age_s)} old"
    return f"{found.queue}: {found.waiting} waiting, {found.in_flight} in flight, {found.delayed} delayed{age}"


def _progress(job: JobStatus) -> str:
    parts = []
    if job.read is not None and job.size:
        parts.append(f"{min(100 * job.read // job.size, 100)} % of {format_size(job.size, fixed=True)}")
    elif job.read is not None:
        parts.append(format_size(job.read, fixed=True))
    if job.started is not None:
        parts.append(f"since {job.started:%Y-%m-%d %H:%M:%S} UTC")
    if job.worker:
        parts.append(f"by {job.worker}")
    parts.append(f"checkpoint {format_duration(job.idle_s)} ago")
    if job.idle_s > _SILENT_S:
        parts.append("perhaps no worker has it: it waits on the queue, or `runner sweep` removes it")
    elif job.seconds_left is not None:
        parts.append(f"about {format_duration(job.seconds_left)} left")
    return ", ".join(parts)


def tally_text(done: Tally, lane: Lane, *, dry_run: bool) -> Iterator[str]:
    """Yield the lines on what was submitted to a queue."""
    if dry_run and done.samples:
        yield "The first objects:" if done.objects > len(done.samples) else "The objects:"
        yield from (f"  {uri}" for uri in done.samples)
    put = "would be put" if dry_run else "put"
    queue = "backfill queue" if lane is Lane.BACKFILL else "queue"
    unit = "object" if done.objects == 1 else "objects"
    yield f"{done.objects:,} {unit} of {format_size(done.bytes, fixed=True)} {put} on the {queue}"
    yield from (f"  {count:,} left out: {reason}" for reason, count in sorted(done.left_out.items()))


def causes_text(title: str, causes: Causes) -> Iterator[str]:
    """Yield the lines about dead letters, by cause; nothing if there are no letters."""
    if causes.total:
        yield f"{causes.total} {title}"
    yield from (f"  {cause.count} × {cause.reason}" for cause in causes.listed())


def letter_text(letter: DeadLetter) -> Iterator[str]:
    """Yield the lines on one dead letter."""
    lane = " (backfill)" if letter.lane is Lane.BACKFILL else ""
    yield f"{letter.time:%Y-%m-%d %H:%M:%S} UTC  {letter.about}{lane}"
    yield f"    {letter.reason}"


def cancelled_text(cancelled: Iterable[Cancelled], look_s: float, *, dry_run: bool) -> Iterator[str]:
    """Yield the lines on what was cancelled, and on what that does and does not do."""
    for one in cancelled:
        if one.etag is None:
            yield f"{one.source}: there is no such object; jobs of an object that was deleted end by themselves"
            continue
        if one.running:
            jobs = f"Its job has begun: it stops within about {look_s:.0f} s, and its uploaded parts are removed"
        else:
            jobs = f"No checkpoint: a running job stops within about {look_s:.0f} s, a waiting one never starts"
        yield f"{one.source}: {'would be ' if dry_run else ''}cancelled. {jobs}"
        if one.published:
            yield "  An output was published before; it stays"
