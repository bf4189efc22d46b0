"""Output keys other than those of the inputs, and several input buckets, in some of the simulations.

An input has a name: its key, and before that `second//` if it is in the second bucket.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from runner.job.identity import input_of
from tests.simulation.scenario import INPUT, OUTPUT, Kind

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator

    from tests.simulation.s3_objects import StoredObject
    from tests.simulation.scenario import InputVersion, Scenario
    from tests.simulation.world import World

SECOND = "second"
_SEPARATOR = "//"
_SHARE = 0.2  # of the scenarios


@dataclass(frozen=True, slots=True)
class Keying:
    """Settings of output keys and buckets.

    Attributes:
        buckets: The input buckets.
        template: OUTPUT_KEY, "" if it is not set.
        place: Returns what the template means for a bucket, a key and the time of an input; shares no code with it.
        other: The name of an input that some of the actions are about, "" for none.
    """

    buckets: tuple[str, ...] = (INPUT,)
    template: str = ""
    place: Callable[[str, str, datetime], str] = lambda _bucket, key, _time: key
    other: str = ""

    @property
    def settings(self) -> dict[str, str]:
        """The settings of the workers."""
        return {"S3_INPUT_BUCKET": ",".join(self.buckets), "OUTPUT_KEY": self.template}


_OTHER = f"{SECOND}{_SEPARATOR}a.jsonl"
KEYINGS = {
    "": Keying(),
    "dates": Keying(
        template="{date:%H%M%S}/{name}",
        place=lambda _, key, time: f"{time.hour:02}{time.minute:02}{time.second:02}/{key}",
    ),
    "one key": Keying(template="{dir}out{suffix}", place=lambda *_: "out.jsonl", other="b.jsonl"),
    "buckets": Keying((INPUT, SECOND), place=lambda bucket, key, _: f"{bucket}/{key}", other=_OTHER),
    "one key of two buckets": Keying((INPUT, SECOND), "{key}", other=_OTHER),
}
_OF_ONE_INPUT = {Kind.UPLOAD, Kind.DELETE, Kind.CANCEL, Kind.FORGE_EVENT}


def with_keying(chance: random.Random, scenario: Scenario) -> Scenario:
    """Return a scenario, some with other output keys or another bucket, and a second input to collide with."""
    if chance.random() >= _SHARE:
        return scenario
    name = chance.choice([name for name in KEYINGS if name])
    other, actions = KEYINGS[name].other, [*scenario.actions]
    if other:
        first = next(action for action in actions if action.kind is Kind.UPLOAD)
        actions = [
            replace(action, key=other) if action.kind in _OF_ONE_INPUT and chance.random() < 0.4 else action
            for action in actions
        ]
        at_s = first.at_s + chance.choice((0.0, 0.3, 5.0)) * chance.random()
        actions.append(replace(first, at_s=at_s, key=other))
        actions.sort(key=lambda action: action.at_s)
    return replace(scenario, keying=name, actions=tuple(actions))


def place_of(name: str) -> tuple[str, str]:
    """Return the bucket and the key of an input."""
    bucket, separator, key = name.partition(_SEPARATOR)
    return (bucket, key) if separator else (INPUT, name)


def name_of(bucket: str, key: str) -> str:
    """Return the name of an input."""
    return key if bucket == INPUT else f"{bucket}{_SEPARATOR}{key}"


def key_of(world: World, name: str, version: InputVersion) -> str:
    """Return the key of the output of a version of an input."""
    modified = datetime.fromtimestamp(int(world.epoch_s + version.written_s), UTC)
    return f"output/{KEYINGS[world.scenario.keying].place(*place_of(name), modified)}"


def keys_of(world: World, name: str) -> set[str]:
    """Return the keys of the outputs of all versions of an input."""
    return {key_of(world, name, version) for version in world.inputs.get(name, ()) if version.content is not None}


def is_output_of(output: StoredObject, name: str) -> bool:
    """Return whether an output says that it is of an input."""
    return output.metadata.get("transform-input") == input_of(*place_of(name))


def current_outputs(world: World, name: str) -> list[StoredObject]:
    """Return the current outputs of an input, one unless keys have dates."""
    objects = world.output.objects(OUTPUT)
    return [objects[key] for key in keys_of(world, name) if key in objects and is_output_of(objects[key], name)]


def wrong_owners(world: World) -> Iterator[str]:
    """Yield which outputs are where none of an input belongs, or were replaced by that of another input."""
    prefix = world.settings.output_prefix
    for key in world.output.keys_ever(OUTPUT):
        if not key.startswith(prefix):
            continue
        names = []
        for output in world.output.versions(OUTPUT, key):
            if output.is_delete_marker:
                yield f"the output {key} was deleted"
                continue
            found = [name for name in world.inputs if is_output_of(output, name) and key in keys_of(world, name)]
            if not found:
                yield f"the output {key} is of no input that has this output key"
            names += found
        if len({*names}) > 1:
            yield f"the output {key} was that of {', then of '.join(dict.fromkeys(names))}"


def is_taken(world: World, name: str) -> bool:
    """Return whether there was an output of another input at an output key of an input."""
    outputs = [output for key in keys_of(world, name) for output in world.output.versions(OUTPUT, key)]
    return any(not is_output_of(output, name) for output in outputs)
