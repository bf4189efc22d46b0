"""What must hold: in every output that ever was, and once all is at rest."""

from __future__ import annotations

import itertools
import json
from functools import cache
from typing import TYPE_CHECKING, Any

from runner.aws.s3_events import parse
from runner.errors import EventError
from runner.job.context import digest_of
from runner.job.keys import hashed, rejects_folder
from tests.simulation.calculation import BAD, SimCalculation, describe, rows_of, transformed
from tests.simulation.keying import (
    current_outputs,
    is_output_of,
    is_taken,
    key_of,
    keys_of,
    name_of,
    place_of,
    wrong_owners,
)
from tests.simulation.scenario import DIGESTS, OUTPUT, Kind
from tests.simulation.world import settings_with

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.simulation.s3_model import S3Model
    from tests.simulation.s3_objects import StoredObject
    from tests.simulation.scenario import InputVersion
    from tests.simulation.world import World

_MAX_COPIES = 60  # of all messages that were sent to the queue, for each that did not come from a worker


class Violation(Exception):  # noqa: N818 - in the words of a trace
    """Something does not hold."""


@cache
def told_digests() -> dict[str, str]:
    """Return the calculations by their digests as the metadata of outputs have them."""
    settings = settings_with(3600.0)
    return {digest_of(SimCalculation(digest), settings, "")[:32]: digest for digest in DIGESTS}


def check(world: World) -> None:
    """Check everything, at rest.

    Raises:
        Violation: The first that does not hold.
    """
    for problem in _problems(world):
        raise Violation(problem)


def _problems(world: World) -> Iterator[str]:
    yield from wrong_owners(world)
    for key in world.inputs:
        yield from wrong_versions(world, key)
    in_trouble = _keys_in_trouble(world)
    for key, versions in world.inputs.items():
        if key not in in_trouble and versions[-1].content is not None:
            yield from _wrong_at_rest(world, key, versions[-1], versions[-1].content)
    for key in world.inputs:
        yield from _wrong_rejects_of_output(world, key)
    yield from wrongly_finished(world)
    if world.scenario.after != "keep":
        yield from _not_finished(world, in_trouble)
    yield from world.network.overwritten
    yield from world.lane_problems
    yield from _without_a_cause(world)
    for name in world.left_by_calm_work:
        yield f"{name} is left although nothing went wrong"
    yield from left_over(world)
    if world.sqs.expired:
        yield f"{world.sqs.expired} messages were on a queue until SQS dropped them"
    if not any(running.process.alive for running in world.workers):
        yield "no worker is left"


def wrong_versions(world: World, key: str) -> Iterator[str]:
    """Yield what is wrong with any version of an output that was ever visible."""
    for place in sorted(keys_of(world, key)):
        yield from _wrong_versions_at(world, key, place)


def _wrong_versions_at(world: World, key: str, place: str) -> Iterator[str]:
    newest = -1
    for output in world.output.versions(OUTPUT, place):
        if not is_output_of(output, key):  # see `wrong_owners`
            continue
        digest = told_digests().get(output.metadata.get("transform-digest", ""), "")
        versions = [one for one in world.inputs[key] if _written_before(one, output.written - world.epoch_s)]
        made_from = [
            at
            for at, one in enumerate(versions)
            if one.content is not None and transformed(one.content, digest)[0] == output.body
        ]
        at_s = output.written - world.epoch_s
        if not made_from:
            yield f"the output of {key} at {at_s:.3f} is of no version: {describe(output.body)}"
            continue
        if made_from[-1] < newest:
            yield f"the output of {key} at {at_s:.3f} is older than the one before it"
        newest = made_from[-1]


def _written_before(version: InputVersion, seconds: float) -> bool:
    return version.written_s <= seconds


def _keys_in_trouble(world: World) -> set[str]:
    """Return the keys whose outputs may be missing or old: cancelled, dead, or all lines are bad."""
    found = set(world.cancelled)
    for message in world.sqs.messages(world.dead_url):
        try:
            found |= {name_of(event.bucket, event.key) for event in parse(message.body).created}
        except EventError:
            continue
    return found


def _without_a_cause(world: World) -> Iterator[str]:
    """Yield the dead letters for whose reason nothing has happened."""
    kinds = {action.kind for action in world.scenario.actions}
    for message in world.sqs.messages(world.dead_url):
        reason = message.attributes.get("reason", {}).get("StringValue", "")
        try:
            keys = {name_of(event.bucket, event.key) for event in parse(message.body).created}
        except EventError:
            keys = set()
        contents = [version.content for key in keys for version in world.inputs.get(key, ())]
        if reason.startswith("every line was rejected"):
            caused = any(content and transformed(content, "")[0] == b"" for content in contents)
        elif reason.startswith("its output key is taken"):
            caused = any(is_taken(world, key) for key in keys)
        elif reason.startswith("gave up after"):
            caused = not world.scenario.is_calm
        else:
            caused = not keys and Kind.FORGE_MESSAGE in kinds
        if not caused:
            yield f"a message about {', '.join(keys) or 'nothing'} is a dead letter: {reason or 'without a reason'}"


def _wrong_at_rest(world: World, key: str, version: InputVersion, content: bytes) -> Iterator[str]:
    output = world.output.objects(OUTPUT).get(key_of(world, key, version))
    is_there = world.input.current(*place_of(key)) is not None  # otherwise it cannot be submitted
    last = world.digests[-1:] if world.scenario.final_submit and is_there else world.digests
    right = {digest: transformed(content, digest) for digest in last}
    if output is None:
        yield f"there is no output of {key}, of {describe(content)}"
        return
    if not is_output_of(output, key):
        yield f"the output key of {key} is that of another input, and there is no dead letter"
        return
    if output.body not in [body for body, _ in right.values()]:
        yield (
            f"the output of {key} is not that of the current input {describe(content)} by {' or '.join(last)}: "
            f"{describe(output.body)}"
        )
        return
    tags = [_without_mark(one.tags) for one in world.input.versions(*place_of(key)) if one.body == content]
    # Without versions, a request to tag an input may replace the tags of the next one, after these were copied.
    are_lost = world.scenario.after == "tag" and not world.scenario.versioned
    if output.tags not in tags and not are_lost:
        yield f"the output of {key} has the tags {output.tags}, not {' or '.join(map(str, tags))}"
    told = {event["output"]["etag"] for event in world.told if event["output"]}
    # Of two workers with one message, one may publish and die. Its job is that of another calculation in a deployment.
    is_doubled = world.scenario.duplicates and any(event["output"] and _is_about(event, key) for event in world.told)
    # A worker may die after it has deleted the input. With another calculation, or a date in the output key, the next
    # one only finds it gone.
    heard = {event["outcome"] for event in world.told if _is_about(event, key)}
    cannot_know = len(world.digests) > 1 or "{date" in (world.settings.output_key or "")
    is_hidden = world.scenario.after == "delete" and not is_there and cannot_know and "superseded" in heard
    # A request may take effect after its sender has given it up and the last job about the object has ended.
    last_told_s = max(
        (at_s for at_s, one in zip(world.told_s, world.told, strict=True) if _is_about(one, key)), default=0.0
    )
    is_late = world.network.given_up.get(output.etag.strip('"'), -1.0) > last_told_s
    if output.etag.strip('"') not in told and not is_doubled and not is_hidden and not is_late:
        yield f"nobody was told of the output of {key}"


def _is_about(event: dict[str, Any], key: str) -> bool:
    return name_of(event["source"]["bucket"], event["source"]["key"]) == key


def wrongly_finished(world: World) -> Iterator[str]:
    """Yield the versions of inputs that a worker has deleted or tagged before their output was published.

    A bucket without versions has no way to tag one content and not another: there, the output may be that of an earlier
    content, which was overwritten after the worker had looked.
    """
    for one in world.network.finished:
        version, name = one.version, name_of(one.bucket, one.version.key)
        source = hashed(one.bucket, version.key, version.etag.strip('"'))
        outputs = [output for key in keys_of(world, name) for output in world.output.versions(OUTPUT, key)]
        published = [output for output in outputs if output.written <= one.at_s and is_output_of(output, name)]
        any_will_do = one.how == "tagged" and not world.scenario.versioned
        is_published = source in [output.metadata.get("transform-source") for output in published]
        if not is_published and not (any_will_do and published):
            at_s, written_s = one.at_s - world.epoch_s, version.written - world.epoch_s
            yield f"the input {name} of {written_s:.3f} was {one.how} at {at_s:.3f}, and had no output yet"


def _not_finished(world: World, in_trouble: set[str]) -> Iterator[str]:
    """Yield the inputs that were to be tagged or deleted, and were not."""
    denied = {action.key for action in world.scenario.actions if action.kind is Kind.DENY}
    for bucket in world.settings.input_buckets:
        for key, found in world.input.objects(bucket).items():
            name = name_of(bucket, key)
            is_finished = world.scenario.after == "tag" and "jsonl-transform" in found.tags
            if not is_finished and name not in in_trouble | denied:
                yield f"the input {name} was not {'tagged' if world.scenario.after == 'tag' else 'deleted'}"


def _without_mark(tags: Any) -> dict[str, str]:
    return {name: value for name, value in tags.items() if name != "jsonl-transform"}


def _wrong_rejects_of_output(world: World, key: str) -> Iterator[str]:
    """Yield what is wrong with the rejected lines of the output that stands, whatever has become of its input."""
    for output in current_outputs(world, key):
        yield from _wrong_rejects_of(world, key, output)


def _wrong_rejects_of(world: World, key: str, output: StoredObject) -> Iterator[str]:
    digest = told_digests().get(output.metadata.get("transform-digest", ""), "")
    contents = {one.content for one in world.inputs[key] if one.content is not None}
    made_from = [content for content in contents if transformed(content, digest)[0] == output.body]
    found = [[*wrong_rejects(world, key, content, output.metadata)] for content in made_from]
    if all(found):
        yield from itertools.chain(*found)


def wrong_rejects(world: World, key: str, content: bytes, metadata: Any) -> Iterator[str]:
    """Yield what is wrong with the rejected lines of the current output."""
    bad = [row.decode() for row in rows_of(content) if row.startswith(BAD)]
    if not bad:
        return
    objects = world.output.objects(OUTPUT)
    folder = rejects_folder(world.settings, *place_of(key), _job(metadata))
    indexes = [json.loads(one.body) for name, one in objects.items() if name == f"{folder}index.json"]
    if not indexes:
        yield f"the rejected lines of {key} have no index"
        return
    (index,) = indexes
    missing = [name for name in index["objects"] if name not in objects]
    if missing:
        yield f"the index of the rejected lines of {key} names {missing[0]}, which does not exist"
        return
    lines = b"".join(objects[name].body for name in index["objects"]).splitlines()
    found = [json.loads(line)["raw"] for line in lines]
    if found != bad or index["rejected"] != len(bad):
        yield f"{len(found)} rejected lines of {key} were kept, the index says {index['rejected']}, not {len(bad)}"


def _job(metadata: Any) -> str:
    from runner.job.keys import hashed  # noqa: PLC0415

    return hashed(metadata["transform-source"], metadata["transform-digest"])


def left_over(world: World) -> Iterator[str]:
    """Yield what is left in the output bucket of jobs that have ended."""
    model: S3Model = world.output
    for upload in model.uploads(OUTPUT).values():
        yield f"an upload of {upload.key} is still open, from {upload.begun - world.epoch_s:.3f}"
    objects = model.objects(OUTPUT)
    for key in objects:
        if key.startswith(world.settings.checkpoint_prefix) and "cancelled/" not in key:
            yield f"the checkpoint {key} is left"
    named: set[str] = set()
    for key, one in objects.items():
        if key.startswith(world.settings.rejects_prefix) and key.endswith("index.json"):
            names = {*json.loads(one.body)["objects"]}
            named |= names
            for name in sorted(names - objects.keys()):
                yield f"the index {key} lists {name}, which does not exist"
    for key in objects:
        if key.startswith(world.settings.rejects_prefix) and not key.endswith("index.json") and key not in named:
            yield f"the object {key} of rejected lines is in no index"
