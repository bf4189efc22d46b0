"""Puts existing objects of the input buckets on a queue, as if they had just arrived.

Each object gets the event that S3 would send, but without a sequencer, which only S3 can give. The worker then
compares the times of the objects, so these events may arrive before, between or after those of S3.

A `Submission` lists the objects and sends the events; a `ResumeFile` records its progress, so that it can continue
after an interruption.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from runner.aws.bucket import has_versions, list_latest, list_objects
from runner.aws.message import Lane, batches, compose
from runner.aws.queue import send_all
from runner.aws.s3_events import ObjectCreated
from runner.errors import SettingsError
from runner.job.keys import is_reserved, is_wanted, is_worker_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from runner.aws.queue import Queue
    from runner.ops.deployment import Deployment

_VERSION = 1
_BATCH_MESSAGES = 10
_BATCHES_AT_ONCE = 8
_SAMPLES = 10
_ARCHIVED = {"GLACIER", "DEEP_ARCHIVE"}


class ResumeFile:
    """The progress of a submission: for each prefix the last key up to which everything is on the queue.

    With several input buckets, a prefix is the whole URI.

    Args:
        path: The file, which may not exist yet.
        asked: The options of the submission by name. The file of another submission is refused: its keys would be
            left out.

    Raises:
        SettingsError: The file is not one of a submission, is of another one, or cannot be read.
    """

    def __init__(self, path: Path, asked: Mapping[str, str]) -> None:
        self._path = path
        self._asked = dict(asked)
        self._last: dict[str, str] = {}
        try:
            text = path.read_text()
        except FileNotFoundError:
            return
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"{path} cannot be read: {error}") from None
        self._last = self._read(text)

    @property
    def is_new(self) -> bool:
        """Whether nothing has been submitted yet."""
        return not self._last

    @staticmethod
    def queue_in(path: Path) -> str:
        """Return the URL of the queue that a submission was begun for; "" if there is no such file, or no URL in it."""
        try:
            return str(json.loads(path.read_text())["asked"]["queue"])
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            return ""

    def last(self, prefix: str) -> str:
        """Return the last key of a prefix that is on the queue, "" for none."""
        return self._last.get(prefix, "")

    def note(self, prefix: str, key: str) -> None:
        """Note that a key of a prefix, and all before it, are on the queue.

        Raises:
            SettingsError: The file cannot be written.
        """
        self._last[prefix] = key
        temporary = self._path.with_name(f".{self._path.name}.tmp")
        plain = {"version": _VERSION, "asked": self._asked, "last": self._last}
        try:
            temporary.write_text(json.dumps(plain, indent=1))
            temporary.replace(self._path)
        except OSError as error:
            raise SettingsError(f"{self._path} cannot be written: {error}; the keys up to {key!r} are sent") from None

    def _read(self, text: str) -> dict[str, str]:
        try:
            plain = json.loads(text)
            if plain["version"] != _VERSION:
                raise ValueError
            asked, last = dict(plain["asked"]), {str(prefix): str(key) for prefix, key in plain["last"].items()}
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise SettingsError(f"{self._path} is not the file of a submission: name another one") from None
        for name in sorted(asked.keys() | self._asked.keys()):
            if asked.get(name, "") != self._asked.get(name, ""):
                raise SettingsError(
                    f"{self._path} is of a submission with {name} {asked.get(name) or 'not set'}, and this one has"
                    f" {self._asked.get(name) or 'it not set'}: name another file, or remove this one to start over"
                )
        return last


@dataclass(frozen=True, slots=True)
class ObjectFilter:
    """Selects objects to submit.

    Attributes:
        suffix: The end of their keys.
        min_size: Minimum size in bytes.
        max_size: Maximum size in bytes, None for no limit.
        since: Earliest time of their last change, None for no limit.
        until: They were changed before this time, None for no limit.
    """

    suffix: str = ""
    min_size: int = 0
    max_size: int | None = None
    since: datetime | None = None
    until: datetime | None = None

    def reason_against(self, found: dict[str, Any]) -> str | None:
        """Return why an object, as S3 lists it, is left out; None if it is selected."""
        key, size, modified = found["Key"], found["Size"], found["LastModified"]
        if key.endswith("/") and size == 0:
            return "folder markers"
        if not key.endswith(self.suffix):
            return "other suffix"
        if size < self.min_size or (self.max_size is not None and size > self.max_size):
            return "other size"
        if (self.since and modified < self.since) or (self.until and modified >= self.until):
            return "other date"
        if found.get("StorageClass") in _ARCHIVED and not found.get("RestoreStatus", {}).get("RestoreExpiryDate"):
            return "archived, to be restored first"  # it cannot be read, and a worker would take that for a denial
        return None


@dataclass(slots=True)
class Tally:
    """What was submitted so far.

    Attributes:
        objects: Number of objects.
        bytes: Their total size.
        left_out: Number of objects that were left out, by reason.
        samples: URIs of the first objects.
        last: The last key that was listed.
    """

    objects: int = 0
    bytes: int = 0
    left_out: dict[str, int] = field(default_factory=dict)
    samples: list[str] = field(default_factory=list)
    last: str = ""


class Submission:
    """A submission; `run` it once.

    Args:
        deployment: The deployment.
        uris: The prefixes, as `s3://BUCKET/PREFIX`.
        wanted: Selects the objects.
        resume: Notes the progress, None for not at all.
        dry_run: Count only; nothing is sent or noted.
        queue: Where to put them, the main queue by default.

    Raises:
        SettingsError: A URI is not a prefix, or not one of an input bucket.

    Attributes:
        tally: What was submitted so far.
    """

    def __init__(
        self,
        deployment: Deployment,
        uris: Sequence[str],
        wanted: ObjectFilter,
        resume: ResumeFile | None,
        *,
        dry_run: bool,
        queue: Queue | None = None,
    ) -> None:
        self._deployment = deployment
        self._queue = queue or deployment.queue
        self._prefixes = _prefixes(deployment, uris)
        self._wanted = wanted
        self._resume = resume
        self._dry_run = dry_run
        self.tally = Tally()

    def run(self) -> Iterator[Tally]:
        """Submit the objects; yield the tally after each round of batches.

        Raises:
            DeniedError, StoreError: S3 does not list the objects.
            DeniedError, QueueError: SQS does not accept the messages; those that are noted were accepted.
        """
        at_once = _BATCH_MESSAGES * _BATCHES_AT_ONCE
        run_all = self._deployment.around.tasks.run_all
        for bucket, prefix in self._prefixes:
            source = self._deployment.sources[bucket]
            listed = list_latest if has_versions(source) else list_objects
            place = prefix if len(self._deployment.sources) == 1 else f"s3://{bucket}/{prefix}"
            after = self._resume.last(place) if self._resume else ""
            found = self._chosen(bucket, listed(source, prefix, after))
            while events := list(itertools.islice(found, at_once)):
                if not self._dry_run:
                    batches_ = [events[at : at + _BATCH_MESSAGES] for at in range(0, len(events), _BATCH_MESSAGES)]
                    run_all(self._send, batches_, _BATCHES_AT_ONCE)
                self._note(place, events)
                yield self.tally
        yield self.tally

    def _chosen(self, bucket: str, listed: Iterable[dict[str, Any]]) -> Iterator[ObjectCreated]:
        settings, left_out = self._deployment.settings, self.tally.left_out
        for found in listed:
            self.tally.last = key = found["Key"]
            reason = self._wanted.reason_against(found)
            if is_worker_key(settings, bucket, key):
                reason = "written by the worker"
            elif not is_wanted(settings, key):
                reason = "without INPUT_PREFIX and INPUT_SUFFIX"
            elif is_reserved(settings, bucket, key, found["LastModified"]):
                reason = "with an output among the worker's own objects"
            if reason is not None:
                left_out[reason] = left_out.get(reason, 0) + 1
                continue
            etag, version, size = found["ETag"].strip('"'), found.get("VersionId"), found["Size"]
            yield ObjectCreated(bucket, key, version, etag, size, None, found["LastModified"])

    def _note(self, place: str, events: Sequence[ObjectCreated]) -> None:
        tally = self.tally
        tally.objects += len(events)
        tally.bytes += sum(event.size or 0 for event in events)
        room = _SAMPLES - len(tally.samples)
        tally.samples += [f"s3://{event.bucket}/{event.key}" for event in events[: max(room, 0)]]
        if self._resume and not self._dry_run:
            self._resume.note(place, events[-1].key)

    def _send(self, events: Sequence[ObjectCreated]) -> None:
        for batch in batches([compose(event.to_body(), {}, "") for event in events]):
            send_all(self._queue, batch, self._deployment.around.clock)


def choose_queue(deployment: Deployment, lane: Lane | None, resume_file: Path | None) -> Queue:
    """Return the queue for a submission.

    Args:
        deployment: The deployment.
        lane: Which of its queues. None for the one that an interrupted submission was begun for, or otherwise that of
            backfills if there is one.
        resume_file: The file of the submission, None without one.

    Raises:
        SettingsError: There is no queue of backfills.
    """
    if lane is Lane.BACKFILL and deployment.backfill is None:
        raise SettingsError("there is no backfill queue: set BACKFILL_QUEUE, or leave --queue out")
    begun_for = ResumeFile.queue_in(resume_file) if lane is None and resume_file is not None else ""
    if lane is Lane.MAIN or deployment.backfill is None or begun_for == deployment.queue.url:
        return deployment.queue
    return deployment.backfill


def _prefixes(deployment: Deployment, uris: Sequence[str]) -> list[tuple[str, str]]:
    """Return the buckets and prefixes, without those that start with another one."""
    buckets = [*deployment.sources]
    found = []
    for uri in uris:
        named, _, prefix = uri.removeprefix("s3://").partition("/")
        if not uri.startswith("s3://") or not named:
            example = buckets[0] if len(buckets) == 1 else "BUCKET"
            raise SettingsError(f"{uri!r} is no prefix: expected s3://{example}/PREFIX")
        if named not in buckets:
            which = ", ".join(buckets)
            raise SettingsError(f"{uri}: the workers take objects of S3_INPUT_BUCKET only, which is {which}")
        found.append((named, prefix))
    distinct = list(dict.fromkeys(found))
    return [one for one in distinct if not any(_is_below(one, other) for other in distinct)]


def _is_below(one: tuple[str, str], other: tuple[str, str]) -> bool:
    return one != other and one[0] == other[0] and one[1].startswith(other[1])
