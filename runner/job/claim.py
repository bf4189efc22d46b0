"""The claim of a deployment to its prefixes in the output bucket: an object that names its queue.

Two deployments with the same prefixes in one bucket would take up each other's checkpoints and remove each other's
uploads. Each job process reads the claim when it starts and once a day, and refuses to work if it is that of another
queue. The claim has the account and region of the queue as far as its ARN or URL says them; what one of two does not
know is not compared, as in claims of earlier versions, and for URLs of emulators.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from runner.errors import ConditionFailedError, ConflictError, DeniedError, SettingsError, StoreError
from runner.job.keys import claim_key

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runner.aws.bucket import Store
    from runner.machine import Clock
    from runner.settings import Settings

_TRIES = 5
_INTERVAL_S = 24 * 3600.0
"""The templates let everything under the checkpoint prefix expire 15 days after it was written."""
_ARN = re.compile(r"arn:[\w-]+:sqs:(?P<region>[\w-]+):(?P<account>[0-9]+):(?P<queue>[\w.-]+)", re.ASCII)
_URL = re.compile(
    r"https?://(?:(?:[\w-]+\.)?sqs(?:-fips)?\.(?P<region>[\w-]+)(?:\.vpce)?|(?P<old_region>[\w-]+)\.queue)"
    r"\.(?:amazonaws\.com(?:\.cn)?|api\.aws)(?::443)?/(?P<account>[0-9]{12})/(?P<queue>[\w.-]+)",
    re.ASCII,
)
_PARTS = ("queue", "region", "account")


class Claim:
    """The claim of a deployment to its prefixes.

    Args:
        store: The output bucket.
        settings: The settings, with the queue.
        clock: Tells the time.
    """

    def __init__(self, store: Store, settings: Settings, clock: Clock) -> None:
        self._store = store
        self._settings = settings
        self._clock = clock
        self._checked = float("-inf")

    def check(self) -> None:
        """Read the claim, once a day at most. Write it if it is missing, or older than a day.

        If S3 does not return or accept it, nothing happens: jobs tell what S3 refuses. The next try is a day later.

        Raises:
            SettingsError: The prefixes belong to another queue; the next call reads the claim again.
        """
        now = self._clock.monotonic()
        if now - self._checked >= _INTERVAL_S:
            self._claim()
            self._checked = now

    def _claim(self) -> None:
        for _ in range(_TRIES):
            try:
                self._claim_once()
            except (ConditionFailedError, ConflictError):  # another process has written it at the same moment
                continue
            except (DeniedError, StoreError):
                return
            return

    def _claim_once(self) -> None:
        store, settings = self._store, self._settings
        key, ours = claim_key(settings), find_owner(settings.queue, settings.region)
        found = store.read_aged(key)
        theirs = ours if found is None else _owner_in(found[0])
        if any(theirs[part] != ours[part] for part in theirs.keys() & ours.keys()):
            prefixes = ", ".join((settings.output_prefix, settings.rejects_prefix, settings.checkpoint_prefix))
            raise SettingsError(
                f"s3://{store.bucket}/{key} says that the prefixes {prefixes} belong to the queue"
                f" {_describe(theirs)}, and this worker has {_describe(ours)}: set other prefixes or another bucket, or"
                " delete that object if the other deployment does not exist any more"
            )
        known = {**theirs, **ours}
        if found is None or known != theirs or found[2] >= _INTERVAL_S:
            condition = {"IfMatch": found[1]} if found is not None else {"IfNoneMatch": "*"}
            content = json.dumps(known).encode()
            store.call("put_object", Key=key, Body=content, ContentType="application/json", **condition)


def find_owner(queue: str, region: str | None) -> dict[str, str]:
    """Return the name of a queue, and its region and account where they are known.

    Args:
        queue: The name, URL or ARN of the queue.
        region: The region of the worker, where a queue is looked for by its name.

    Example:
        >>> find_owner("arn:aws:sqs:eu-central-1:111122223333:jobs", None)
        {'queue': 'jobs', 'region': 'eu-central-1', 'account': '111122223333'}
        >>> find_owner("http://localhost:4566/000000000000/jobs", "eu-central-1")
        {'queue': 'jobs'}
    """
    found = _ARN.fullmatch(queue) or _URL.fullmatch(queue.rstrip("/"))
    if found is not None:
        parts = found.groupdict()
        return {"queue": parts["queue"], "region": parts["region"] or parts["old_region"], "account": parts["account"]}
    name = queue.rstrip("/").replace(":", "/").rpartition("/")[2]
    return {"queue": name, "region": region} if region and name == queue else {"queue": name}


def _owner_in(content: bytes) -> dict[str, str]:
    """Return what a claim says of its owner, with an empty name if it cannot be understood."""
    try:
        plain = json.loads(content)
        return {"queue": str(plain["queue"])} | {part: str(plain[part]) for part in _PARTS if plain.get(part)}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return {"queue": ""}


def _describe(owner: Mapping[str, str]) -> str:
    name = owner["queue"] or "without a name"
    region, account = owner.get("region"), owner.get("account")
    return name + (f" in {region}" if region else "") + (f" of the account {account}" if account else "")
