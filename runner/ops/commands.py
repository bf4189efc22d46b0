"""The operators' commands, with their options and texts: submit, status, letters, discard, redrive, cancel, sweep."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runner.ops import options as option_types
from runner.ops.terminal import echo, echo_json
from transform import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import timedelta

    from runner.aws.dead_letters import DeadLetter
    from runner.ops.submit import Submission

_EPILOG = "Reads the settings of the worker (`runner worker --help`), but needs no CALCULATION."
_TELL_INTERVAL_S = 10.0
_dry_run = click.option("--dry-run", is_flag=True, help="Show what would be done, and do nothing.")
_reason = click.option("--reason", metavar="TEXT", help="Only those whose reason contains this; ignores case.")
_key = click.option("--key", metavar="GLOB", help="Only those whose key matches, such as 'raw/*.jsonl'.")
_as_json = click.option("--json", "as_json", is_flag=True, help="Print as JSON.")


def _command(function: Callable[..., None]) -> click.Command:
    return click.command(epilog=_EPILOG)(_as_json(function))


@_command
@click.argument("uris", nargs=-1, required=True, metavar="s3://BUCKET/PREFIX...")
@click.option("--suffix", default="", metavar="TEXT", help="Only keys with this suffix.")
@click.option("--min-size", type=option_types.size, default="0", help="Minimum object size, such as 10MB.")
@click.option("--max-size", type=option_types.size, help="Maximum object size.")
@click.option(
    "--since",
    type=option_types.time,
    help="Only objects written at this time (UTC) or later: 2026-01-31, or with a time.",
)
@click.option("--until", type=option_types.time, help="Only objects written before this time.")
@click.option(
    "--resume-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File to record the progress in; the same command then continues from there.",
)
@click.option(
    "--queue",
    "lane",
    type=click.Choice(["main", "backfill"]),
    help="Queue to put them on. By default the backfill queue if BACKFILL_QUEUE is set, or else the main one.",
)
@_dry_run
def submit(
    uris: tuple[str, ...], resume_file: Path | None, lane: str | None, *, dry_run: bool, as_json: bool, **filters: Any
) -> None:
    """Put existing objects on the backfill queue, or the main one.

    They are transformed as if they had just arrived in the input bucket. Messages on the backfill queue wait until the
    main queue is empty, and use a share of the processes (BACKFILL_SHARE).

    An object whose output by the same calculation exists is not transformed again. Folder markers, archived objects and
    the worker's own objects are left out.
    """
    from runner.aws.message import Lane
    from runner.ops.deployment import Deployment
    from runner.ops.reports import tally_text
    from runner.ops.submit import ObjectFilter, ResumeFile, Submission, choose_queue

    deployment = Deployment.open(os.environ)
    queue = choose_queue(deployment, Lane(lane) if lane else None, resume_file)
    asked = {"queue": queue.url, "prefixes": " ".join(uris)}
    asked |= {f"--{name.replace('_', '-')}": str(value) for name, value in filters.items() if value}
    resume = ResumeFile(resume_file, asked) if resume_file else None
    if resume is not None and not resume.is_new:
        echo(f"going on after what {resume_file} says is on the queue", err=True)
    submission = Submission(deployment, uris, ObjectFilter(**filters), resume, dry_run=dry_run, queue=queue)
    try:
        _run(submission)
    except BaseException:
        again = "run the same command again to go on" if resume else "a --resume-file would say where to go on"
        done = submission.tally
        echo(f"ended early, after {done.objects:,} objects, at {done.last!r}: {again}", err=True)
        raise
    done = submission.tally
    told = {**asdict(done), "queue": queue.lane.value, "dry_run": dry_run}
    _say(as_json, told, tally_text(done, queue.lane, dry_run=dry_run))


@_command
@click.option("--watch", is_flag=True, help="Refresh until interrupted.")
@click.option(
    "--interval", type=click.FloatRange(min=0.5), default=5.0, show_default=True, help="Seconds between refreshes."
)
def status(*, watch: bool, interval: float, as_json: bool) -> None:
    """Show waiting messages, running jobs and dead letters.

    Running jobs have their progress, and dead letters are counted by reason.

    Up to 1,000 dead letters are received to count them, which hides them from others for a minute at most. They are
    released as soon as they are counted, and nothing is deleted. Each look counts as a receive.
    """
    from runner.ops.deployment import Deployment
    from runner.ops.reports import status_text
    from runner.ops.status import read_status

    deployment = Deployment.open(os.environ)
    found = None
    while True:
        found = read_status(deployment, found)
        if watch and not as_json and sys.stdout.isatty():
            click.clear()
        _say(as_json, {"time": datetime.now(UTC).isoformat(timespec="seconds"), **found.to_dict()}, status_text(found))
        if not watch:
            return
        sys.stdout.flush()
        time.sleep(interval)


@_command
@_reason
@_key
def letters(reason: str | None, key: str | None, *, as_json: bool) -> None:
    """List the dead letters with time, object and reason.

    The oldest come first. Letters about objects of other buckets are included. As with `runner status`, nothing is
    deleted.

    With --json, each letter is one line with all its attributes and the body of the message.
    """
    from runner.ops.deployment import Deployment
    from runner.ops.redrive import LetterFilter, list_letters

    found = list_letters(Deployment.open(os.environ), LetterFilter(reason, key))
    for letter in found:
        _tell_letter(letter, as_json=as_json)
    if not found and not as_json:
        echo("There are no such dead letters")


@_command
@_reason
@_key
@_dry_run
def discard(reason: str | None, key: str | None, *, dry_run: bool, as_json: bool) -> None:
    """Permanently delete dead letters.

    Letters about objects of other buckets are included. Inputs and outputs are not touched. Each letter is listed as by
    `runner letters`; with --json in full, so that you can keep a record.
    """
    from runner.ops.deployment import Deployment
    from runner.ops.redrive import LetterFilter, list_letters
    from runner.ops.redrive import discard as throw_away

    if reason is None and key is None:
        raise click.UsageError("select letters with --reason TEXT, --key GLOB or both")
    count, do = 0, list_letters if dry_run else throw_away
    for letter in do(Deployment.open(os.environ), LetterFilter(reason, key)):
        _tell_letter(letter, as_json=as_json)
        count += 1
    if not as_json:
        echo(f"{count} {'would be deleted' if dry_run else 'deleted'}")


@_command
@click.option("--all", "everything", is_flag=True, help="Select all dead letters.")
@_reason
@_key
@_dry_run
def redrive(reason: str | None, key: str | None, *, everything: bool, dry_run: bool, as_json: bool) -> None:
    """Move dead letters back to the queues that they come from.

    They are tried as if for the first time; letters of a backfill go to the backfill queue.

    Each letter is sent before it is deleted, so that none is lost. Letters about objects of other buckets stay, and so
    do letters that arrive during the redrive.
    """
    from runner.ops.deployment import Deployment
    from runner.ops.redrive import LetterFilter
    from runner.ops.redrive import redrive as move_back
    from runner.ops.reports import causes_text

    if everything == (reason is not None or key is not None):
        raise click.UsageError("select either --all letters, or some with --reason TEXT, --key GLOB or both")
    done = move_back(Deployment.open(os.environ), LetterFilter(reason, key), dry_run=dry_run)
    text = [
        *causes_text("would be moved" if dry_run else "moved back to the queue", done.moved),
        *causes_text("not chosen", done.left),
        *causes_text("about objects of other buckets", done.foreign),
        *causes_text("arrived during the redrive and were left; repeats mean the cause is not fixed", done.newer),
    ]
    if text and not done.moved.total:
        text.insert(0, "None was moved" if not dry_run else "None would be moved")
    _say(as_json, {**done.to_dict(), "dry_run": dry_run}, text or ["There are no dead letters"])


@_command
@click.argument("keys", nargs=-1, required=True, metavar="KEY...")
@_dry_run
def cancel(keys: tuple[str, ...], *, dry_run: bool, as_json: bool) -> None:
    """Cancel the jobs of objects.

    KEY is a key in the input bucket, or an s3:// URI. With several input buckets it must be a URI.

    A running job stops within seconds, without an output, and its message is acknowledged. A waiting one is
    acknowledged when a worker receives it. This applies to the current version of the object, and to messages that were
    sent before: what is uploaded, submitted or redriven later is transformed. An existing output stays.
    """
    from runner.errors import SettingsError
    from runner.job.cancellation import LOOK_INTERVAL_S
    from runner.ops.cancel import cancel as note
    from runner.ops.deployment import Deployment
    from runner.ops.reports import cancelled_text

    deployment = Deployment.open(os.environ)
    try:
        cancelled = note(deployment, keys, dry_run=dry_run)
    except SettingsError as error:  # about a key, while line breaks of others are between settings
        raise SettingsError(printable(str(error))) from None
    text = cancelled_text(cancelled, LOOK_INTERVAL_S, dry_run=dry_run)
    _say(as_json, {"cancelled": [asdict(one) for one in cancelled], "dry_run": dry_run}, text)
    if any(one.etag is None for one in cancelled):
        sys.exit(1)


@_command
@click.option(
    "--older-than", type=option_types.age, default="2d", show_default=True, help="Minimum age, such as 12h or 2d."
)
@_dry_run
def sweep(older_than: timedelta, *, dry_run: bool, as_json: bool) -> None:
    """Remove what abandoned jobs have left.

    These are checkpoints, multipart uploads, and objects of rejected lines that no index lists.

    A job writes its checkpoint again with each part that it uploads. So choose an age that is longer than the upload of
    a part, and longer than a message may wait on the queue. If a checkpoint is removed too early, its job starts again.
    Rejected lines are kept for MAX_LEASE_S at least, the longest time that a job runs, and notes of cancelled jobs for
    14 days.
    """
    from runner.ops.deployment import Deployment
    from runner.ops.sweep import sweep as remove

    swept = []
    for one in remove(Deployment.open(os.environ), older_than, dry_run=dry_run):
        swept.append({**asdict(one), "time": one.time.isoformat()})
        if not as_json:
            echo(f"{one.kind} of {one.time:%Y-%m-%d %H:%M} UTC: {one.key} {one.about}".rstrip())
    _say(
        as_json, {"swept": swept, "dry_run": dry_run}, [f"{len(swept)} {'would be removed' if dry_run else 'removed'}"]
    )


COMMANDS = (submit, status, letters, redrive, discard, cancel, sweep)


def _tell_letter(letter: DeadLetter, *, as_json: bool) -> None:
    from runner.ops.reports import letter_text

    if not as_json:
        echo(*letter_text(letter))
        return
    told: dict[str, Any] = {"time": letter.time.isoformat(timespec="seconds"), "id": letter.message.id}
    told |= {"buckets": letter.buckets, "keys": letter.keys, "job": letter.job, "reason": letter.reason}
    told["lane"] = letter.lane.value
    echo_json({**told, "body": letter.message.body})


def _say(as_json: bool, plain: dict[str, Any], text: Iterable[str]) -> None:
    if as_json:
        echo_json(plain)
    else:
        echo(*text)


def _run(submission: Submission) -> None:
    """Run a submission, and show on standard error how far it is."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console(stderr=True)
    tally = submission.tally
    told = time.monotonic()

    def line() -> str:
        return f"{tally.objects:,} objects, {sum(tally.left_out.values()):,} left out, at {tally.last!r}"

    if console.is_terminal:
        with Live(console=console, get_renderable=lambda: Text(printable(line())), transient=True):
            for _ in submission.run():
                pass
        return
    for _ in submission.run():
        if time.monotonic() - told >= _TELL_INTERVAL_S:
            told = time.monotonic()
            echo(line(), err=True)
