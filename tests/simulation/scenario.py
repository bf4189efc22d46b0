"""Scenarios: what users, operators, deployments, attackers and hardware do in one simulation, drawn from a seed."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING

from tests.simulation.calculation import FORMATS, content_of

if TYPE_CHECKING:
    from collections.abc import Sequence

INPUT, OUTPUT = "incoming", "outgoing"
"""The buckets."""
KEYS = ("a.jsonl", "b.jsonl", "c.jsonl")
DIGESTS = ("old", "new", "newest")


class Kind(Enum):
    """What happens, apart from faults of requests."""

    UPLOAD = "uploads"
    DELETE = "deletes"
    DEPLOY = "deploys"
    KILL = "kills a worker's task"
    FREEZE = "freezes a worker"
    KILL_CHILD = "kills a job process"
    FREEZE_CHILD = "freezes a job process"
    STOP = "stops a worker with SIGTERM"
    SUBMIT = "submits all objects"
    CANCEL = "cancels"
    REDRIVE = "moves all dead letters back"
    DISCARD = "discards dead letters"
    SWEEP = "sweeps"
    FORGE_EVENT = "forges an event"
    FORGE_MESSAGE = "sends a message of nonsense"
    FORGE_CHECKPOINT = "writes a checkpoint of nonsense"
    DENY = "denies an input object"
    ALLOW = "allows it again"
    DENY_OUTPUT = "denies the output bucket"
    ALLOW_OUTPUT = "allows it again, too"


@dataclass(frozen=True, slots=True)
class Action:
    """Something that happens at a moment.

    Attributes:
        at_s: When.
        kind: What.
        key: The object that it is about, "" for none.
        content: The content that is uploaded, or the text of a forged message.
        number: Which worker, or which of several variants.
        seconds: How long it lasts.
    """

    at_s: float
    kind: Kind
    key: str = ""
    content: bytes = b""
    number: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class InputVersion:
    """A version of an input.

    Attributes:
        written_s: When it was written.
        content: Its content, None for a deletion.
    """

    written_s: float
    content: bytes | None


@dataclass(frozen=True, slots=True)
class Scenario:
    """All that is decided before a simulation starts.

    Attributes:
        seed: Decides what is decided later.
        actions: What happens.
        workers: How many workers there are.
        jobs_at_once: How many jobs each does at a time.
        fault_rate: Share of the requests that have a fault.
        max_faults: How many faults there are at most.
        latency_s: How long a request takes at most if nothing happens to it.
        calm_s: From this time on there are no more faults.
        unique_etags: Whether each write to the output bucket has an ETag of its own, as with SSE-KMS.
        duplicates: How likely SQS delivers a message twice.
        skew_s: How far the clocks of workers may be off.
        max_lease_s: After how long a job is handed over.
        final_submit: Whether an operator submits all objects at the end.
        has_agent: Whether the workers are tasks of a service of ECS, whose agent protects them.
        replays: Whether S3 answers a repeated request to complete an upload as the first one.
        overlaps: Whether S3 answers 409 if a key has changed since its upload was created.
        versioned: Whether the input bucket keeps versions, as those of the templates do.
        page_size: How many entries a page of a listing has.
        bad_starts: Share of the job processes that hang or die when they start; counted as faults.
        agent_failures: Share of the requests to the agent of ECS that fail, with and without an effect.
        tagged: Whether inputs have tags.
        rows: What the rows of inputs are, as `calculation.FORMATS` names it.
        quiet_s: For how long nothing may happen once no worker has a job, until all is at rest.
        reports_expired: Whether SQS refuses to extend a message that is visible again.
        left_out: Faults that do not happen although they were drawn.
    """

    seed: int
    actions: tuple[Action, ...]
    workers: int
    jobs_at_once: int
    fault_rate: float
    max_faults: int
    latency_s: float
    calm_s: float
    unique_etags: bool
    duplicates: float
    skew_s: float
    max_lease_s: float
    final_submit: bool
    has_agent: bool
    replays: bool
    overlaps: bool
    reports_expired: bool
    versioned: bool
    page_size: int = 1000
    bad_starts: float = 0.0
    agent_failures: float = 0.0
    tagged: bool = False
    rows: str = "lines"
    quiet_s: float = 25.0
    left_out: frozenset[tuple[str, int]] = frozenset()

    @property
    def is_calm(self) -> bool:
        """Whether nothing goes wrong, so that nothing may be left that must be swept.

        A job whose message SQS delivers to another worker as well may be killed while it creates an upload.
        """
        calm = {Kind.UPLOAD, Kind.DELETE, Kind.SUBMIT, Kind.REDRIVE, Kind.DISCARD, Kind.FORGE_MESSAGE}
        return not self.max_faults and not self.duplicates and {action.kind for action in self.actions} <= calm

    def without_actions(self, left_out: Sequence[int]) -> Scenario:
        """Return the scenario without some of its actions."""
        return replace(self, actions=tuple(one for at, one in enumerate(self.actions) if at not in left_out))


_WEIGHTS = {
    Kind.UPLOAD: 6,
    Kind.DELETE: 1,
    Kind.DEPLOY: 2,
    Kind.KILL: 2,
    Kind.FREEZE: 2,
    Kind.KILL_CHILD: 2,
    Kind.FREEZE_CHILD: 3,
    Kind.STOP: 2,
    Kind.SUBMIT: 3,
    Kind.CANCEL: 1,
    Kind.REDRIVE: 1,
    Kind.DISCARD: 1,
    Kind.SWEEP: 1,
    Kind.FORGE_EVENT: 3,
    Kind.FORGE_MESSAGE: 1,
    Kind.FORGE_CHECKPOINT: 1,
    Kind.DENY: 1,
    Kind.DENY_OUTPUT: 1,
}
_BEGIN_S = 3.0  # the workers have started by then


@dataclass(frozen=True, slots=True)
class _Scale:
    """How large scenarios are: each value is one of several, as likely as it is often there."""

    keys: tuple[int, ...]
    span_s: tuple[float, ...]
    draws: tuple[int, int]
    workers: tuple[int, ...]
    fault_rate: tuple[float, ...]
    max_faults: tuple[int, ...]
    duplicates: tuple[float, ...]
    final_submit: tuple[bool, ...]
    quiet_s: tuple[float, ...]


_SMALL = _Scale(
    keys=(1, 1, 1, 2),
    span_s=(0.5, 2.0, 30.0, 120.0),
    draws=(2, 4),
    workers=(1, 2, 2),
    fault_rate=(0.05, 0.1, 0.2),
    max_faults=(1, 2, 3),
    duplicates=(0.0, 0.0, 0.2),
    final_submit=(False, False, True),
    quiet_s=(2.0, 2.0, 25.0),
)
_LARGE = _Scale(
    keys=(1, 1, 2, 3),
    span_s=(2.0, 30.0, 400.0),
    draws=(2, 12),
    workers=(1, 2, 2, 3),
    fault_rate=(0.02, 0.1, 0.3),
    max_faults=(1, 2, 3, 6, 15),
    duplicates=(0.0, 0.0, 0.1),
    final_submit=(False, True),
    quiet_s=(25.0,),
)
_RARE_SHARE = 0.2  # of the scenarios in which what is rare happens
_LARGE_SHARE = 0.05  # what goes wrong mostly needs little, so that many small scenarios find more in the same time
_LINES = (b'{"x":1}\n', b'{"x":22}\n', b'{"x":333}\n', b'{"x":4444}\n', b'{"x":55555}\n')


def _some_kinds(chance: random.Random) -> list[Kind]:
    """Return a few kinds of actions: scenarios of few kinds reach what those of all kinds hardly ever do.

    The idea is that of "Swarm Testing" by Groce, Zhang, Eide, Chen and Regehr (ISSTA 2012).
    """
    others = [kind for kind, weight in _WEIGHTS.items() if weight and kind is not Kind.UPLOAD]
    return [Kind.UPLOAD, *chance.sample(others, min(len(others), chance.choice((1, 2, 3, 5, len(others)))))]


def _content(chance: random.Random, number: int) -> bytes:
    """Return a content: small or of several parts, with and without bad lines; `number` makes it differ from others."""
    size = chance.choice((0, 1, 2, 3, 8, 14, 20))
    lines = [chance.choice(_LINES) for _ in range(size)]
    if size and number >= 0:
        lines[0] = b'{"x":%d}\n' % (1000 + number)
    if size and chance.random() < 0.3:
        for _ in range(chance.randint(1, 3)):
            lines[chance.randrange(size)] = b'{"!":%d}\n' % number
    if size and chance.random() < 0.15:
        lines[chance.randrange(size)] = b'{"x":%d.5}\n' % number
    return b"".join(lines)


def scenario_of(seed: int) -> Scenario:
    """Return the scenario of a seed."""
    chance = random.Random(f"{seed} scenario")
    scale = _LARGE if chance.random() < _LARGE_SHARE else _SMALL
    unique_etags = chance.random() < 0.6
    keys = KEYS[: chance.choice(scale.keys)]
    span_s = chance.choice(scale.span_s)
    pool = [_content(chance, number) for number in range(3)]
    actions = [_upload(chance, _BEGIN_S, keys[0], pool, 0, repeats=unique_etags)]
    kinds = _some_kinds(chance)
    for number in range(1, chance.randint(*scale.draws)):
        (kind,) = chance.choices(kinds, [_WEIGHTS[kind] for kind in kinds])
        actions += _actions(
            chance, kind, _BEGIN_S + chance.uniform(0, span_s), keys, pool, number, repeats=unique_etags
        )
    actions.sort(key=lambda action: action.at_s)
    has_faults = chance.random() < 0.75
    scenario = Scenario(
        seed=seed,
        actions=tuple(actions),
        workers=chance.choice(scale.workers),
        jobs_at_once=chance.choice((1, 1, 2)),
        fault_rate=chance.choice(scale.fault_rate) if has_faults else 0.0,
        max_faults=chance.choice(scale.max_faults) if has_faults else 0,
        latency_s=chance.choice((0.05, 0.5, 3.0)),
        calm_s=span_s + 300.0,
        unique_etags=unique_etags,
        duplicates=chance.choice(scale.duplicates),
        skew_s=chance.choice((0.0, 0.0, 3600.0)),
        max_lease_s=chance.choice((600.0, 3600.0)),
        final_submit=chance.choice(scale.final_submit),
        has_agent=chance.random() < 0.3,
        replays=chance.random() < 0.5,
        overlaps=chance.random() < 0.5,
        reports_expired=chance.random() < 0.7,
        versioned=chance.random() < 0.5,
        quiet_s=chance.choice(scale.quiet_s),
    )
    rare = random.Random(f"{seed} rare")
    return _with_rare(rare, scenario) if rare.random() < _RARE_SHARE else scenario


def _with_rare(chance: random.Random, scenario: Scenario) -> Scenario:
    """Return a scenario with one thing or another that the others do not have."""
    denials = [action for action in scenario.actions if action.kind is Kind.DENY]
    cancels = [
        replace(action, at_s=action.at_s + chance.uniform(0, 60), kind=Kind.CANCEL, number=chance.randrange(3))
        for action in denials
        if chance.random() < 0.5
    ]
    rows = chance.choice(("lines", *FORMATS))
    actions = [
        replace(one, content=content_of(one.content, rows)) if one.kind is Kind.UPLOAD else one
        for one in (*scenario.actions, *cancels)
    ]
    return replace(
        scenario,
        actions=tuple(sorted(actions, key=lambda action: action.at_s)),
        rows=rows,
        page_size=chance.choice((1, 1, 2, 1000)),
        bad_starts=chance.choice((0.0, 0.3, 0.6)),
        agent_failures=chance.choice((0.0, 0.3)),
        tagged=chance.random() < 0.5,
    )


def _upload(
    chance: random.Random, at_s: float, key: str, pool: Sequence[bytes], number: int, *, repeats: bool
) -> Action:
    content = chance.choice(pool) if repeats else _content(chance, 10 + number)
    if not repeats and not content:
        content = b'{"x":%d}\n' % (1000 + number)
    return Action(at_s, Kind.UPLOAD, key, content)


def _actions(
    chance: random.Random,
    kind: Kind,
    at_s: float,
    keys: Sequence[str],
    pool: Sequence[bytes],
    number: int,
    *,
    repeats: bool,
) -> list[Action]:
    key = chance.choice(keys)
    match kind:
        case Kind.UPLOAD:
            found = [_upload(chance, at_s, key, pool, number, repeats=repeats)]
            if chance.random() < 0.4:  # again within a second, and perhaps with a submission beside it
                again_s = at_s + chance.random()
                found.append(_upload(chance, again_s, key, pool, number + 100, repeats=repeats))
                if chance.random() < 0.5:
                    found.append(Action(at_s + chance.random(), Kind.SUBMIT))
            return found
        case Kind.FREEZE | Kind.FREEZE_CHILD:
            return [Action(at_s, kind, number=chance.randrange(3), seconds=chance.choice((10.0, 90.0, 180.0)))]
        case Kind.DENY:
            return [Action(at_s, kind, key), Action(at_s + chance.uniform(10, 600), Kind.ALLOW, key)]
        case Kind.DENY_OUTPUT:
            return [Action(at_s, kind), Action(at_s + chance.uniform(10, 200), Kind.ALLOW_OUTPUT)]
        case Kind.REDRIVE | Kind.DISCARD if chance.random() < 0.5:  # often there is a dead letter by then
            return [Action(at_s, Kind.FORGE_MESSAGE, number=chance.randrange(6)), Action(at_s + 20.0, kind)]
        case Kind.FORGE_EVENT | Kind.FORGE_MESSAGE | Kind.FORGE_CHECKPOINT:
            return [Action(at_s, kind, key, number=chance.randrange(6))]
        case Kind.DEPLOY:
            return [Action(at_s, kind, number=chance.randrange(len(DIGESTS)), seconds=chance.uniform(0, 60))]
        case _:
            return [Action(at_s, kind, key, number=chance.randrange(3))]
