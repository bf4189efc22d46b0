"""What an operator does with the workers, one step after the other, and what can be observed between the steps."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING

from runner.aws.s3_events import ObjectCreated, parse
from runner.job.keys import output_key
from runner.ops.cancel import cancel
from runner.ops.redrive import LetterFilter, discard, redrive
from runner.ops.submit import ObjectFilter, Submission
from runner.ops.sweep import sweep
from tests.simulation.invariants import told_digests
from tests.simulation.kernel import EPOCH_S
from tests.simulation.scenario import DIGESTS, INPUT, OUTPUT, Action, InputVersion, Kind, Scenario
from tests.simulation.trace import Trace
from tests.simulation.world import World

if TYPE_CHECKING:
    from collections.abc import Callable

    from runner.ops.cancel import Cancelled
    from runner.ops.deployment import Deployment
    from runner.ops.sweep import Swept
    from tests.simulation.s3_objects import StoredObject

_MAX_STEP_S = 3600.0
_MAX_EVENTS = 30_000
_QUIET_S = 1.0
_SWEEP_AGE = timedelta(minutes=10)


class Operation:
    """A world without faults of requests, in which an operator acts step by step.

    Args:
        seed: Decides all that is random.
        workers: How many workers there are.
        jobs_at_once: How many jobs each does at a time.
        latency_s: How long a request takes at most.
        traced: Whether the story is kept.
        rows: What the rows of inputs are, as `calculation.FORMATS` names it.
    """

    def __init__(
        self,
        seed: int,
        workers: int,
        jobs_at_once: int,
        latency_s: float,
        *,
        traced: bool = False,
        rows: str = "lines",
    ) -> None:
        scenario = Scenario(
            seed=seed,
            actions=(),
            workers=workers,
            jobs_at_once=jobs_at_once,
            fault_rate=0.0,
            max_faults=0,
            latency_s=latency_s,
            calm_s=0.0,
            unique_etags=True,
            duplicates=0.0,
            skew_s=0.0,
            max_lease_s=3600.0,
            final_submit=False,
            has_agent=False,
            replays=True,
            overlaps=True,
            reports_expired=True,
            versioned=True,
            rows=rows,
        )
        self.world = World(scenario, Trace(kept=traced))
        self._sequence = 0
        for _ in range(workers):
            self.world.start_worker()

    # Time

    @property
    def now(self) -> float:
        """Seconds since the start."""
        return self.world.kernel.now

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        over: list[bool] = []
        self.world.kernel.after(seconds, over.append, True)
        self._run(lambda: bool(over))

    def wait_until(self, happens: Callable[[], bool]) -> None:
        """Let time pass until something has happened."""
        self._run(happens)

    def rest(self) -> None:
        """Let time pass until nothing is on the queue or on its way."""
        self.world._quiet_s, self.world._quiet_since = _QUIET_S, None
        self._run(self.world.is_over)

    def _run(self, is_over: Callable[[], bool]) -> None:
        kernel = self.world.kernel
        kernel.run(is_over, max_s=kernel.now + _MAX_STEP_S, max_events=_MAX_EVENTS)
        if kernel.failure is not None:
            process, error = kernel.failure
            raise AssertionError(f"{process.name} has failed by a bug") from error

    # What users, deployments and hardware do

    def upload(self, key: str, content: bytes, delay_s: float, sent: Callable[[], None]) -> None:
        """Write an input; its event is sent after a delay, and `sent` called then."""
        world = self.world
        world.trace.say(self.now, "==", f"somebody uploads {key}, {content[:12]!r}, {len(content)} bytes")
        answer = world.input.request("put_object", Bucket=INPUT, Key=key, Body=content)
        world.inputs.setdefault(key, []).append(InputVersion(self.now, content))
        self._sequence += 1
        etag, sequencer = answer["ETag"].strip('"'), f"00{self._sequence:014X}"
        event = ObjectCreated(INPUT, key, None, etag, len(content), sequencer, None)

        def send() -> None:
            sent()
            world.actors.send(event.to_body())

        if delay_s:
            world.at(self.now + delay_s, send)
        else:
            send()

    def delete(self, key: str) -> None:
        """Delete an input."""
        self.world.actors.act(Action(self.now, Kind.DELETE, key))

    def deploy(self, digest: str, overlap_s: float) -> None:
        """Start workers with another calculation; the others take messages until they are stopped after a while."""
        self.world.actors.act(Action(self.now, Kind.DEPLOY, number=DIGESTS.index(digest), seconds=overlap_s))

    def kill(self, number: int, *, child: bool) -> None:
        """Kill a worker with its job processes, or one of its job processes."""
        self.world.actors.act(Action(self.now, Kind.KILL_CHILD if child else Kind.KILL, number=number))

    # What operators do

    def submit(self) -> int:
        """Submit all objects; return how many there were."""
        counts: list[int] = []

        def command(deployment: Deployment) -> None:
            submission = Submission(deployment, [f"s3://{INPUT}/"], ObjectFilter(), None, dry_run=False)
            counts.extend(tally.objects for tally in submission.run())

        self._command("submits all", command)
        return counts[-1]

    def cancel(self, key: str) -> Cancelled:
        """Cancel the jobs of an object."""
        done: list[Cancelled] = []
        self._command(f"cancels {key}", lambda deployment: done.extend(cancel(deployment, [key], dry_run=False)))
        return done[0]

    def redrive(self, last_request: int | None) -> int | None:
        """Move all dead letters back; return how many were moved, None if interrupted after a number of requests."""
        counts: list[int] = []

        def command(deployment: Deployment) -> None:
            counts.append(redrive(deployment, LetterFilter(), dry_run=False).moved.total)

        self._command("moves dead letters back", command, last_request)
        return counts[0] if counts else None

    def discard(self, key: str) -> list[str]:
        """Discard the dead letters about an object; return the keys of those that were discarded."""
        keys: list[str] = []

        def command(deployment: Deployment) -> None:
            keys.extend(key for letter in discard(deployment, LetterFilter(key=key)) for key in letter.keys)

        self._command(f"discards dead letters about {key}", command)
        return keys

    def sweep(self, age: timedelta = _SWEEP_AGE) -> list[Swept]:
        """Sweep what is older than an age, 0 if nothing is done; return what was removed although it was not as old."""
        swept: list[Swept] = []
        lease = {} if age else {"longest_lease": age}
        self._command("sweeps", lambda deployment: swept.extend(sweep(deployment, age, dry_run=False, **lease)))
        latest_s = EPOCH_S + self.now - age.total_seconds()
        return [one for one in swept if one.time.timestamp() > latest_s]

    def _command(self, told: str, command: Callable[[Deployment], None], last_request: int | None = None) -> None:
        """Run a command until it has ended, or has sent a number of requests."""
        self.world.trace.say(self.now, "==", f"somebody {told}")
        process = self.world.actors.operate(command, again=False)
        self._run(lambda: not process.alive or process.requests == last_request)
        if process.alive:
            process.end(-2)
            self.wait(self.world.scenario.latency_s + 0.1)  # what it has sent last takes effect all the same

    # What can be observed

    def live_digests(self) -> set[str]:
        """Return the calculations of the workers that are there, or are about to start."""
        return {one.digest for one in self.world.workers if one.process.alive} | {self.world.digests[-1]}

    def output(self, key: str) -> StoredObject | None:
        """Return the current output of an object."""
        return self.world.output.objects(OUTPUT).get(output_key(self.world.settings, key))

    def digest_of(self, output: StoredObject) -> str:
        """Return the calculation that an output says it was made by."""
        return told_digests()[output.metadata["transform-digest"]]

    def letters(self, *, visible: bool = False) -> Counter[tuple[str, str]]:
        """Return how many dead letters there are about each key and ETag; only those that are visible, if asked to."""
        now = EPOCH_S + self.now
        found: Counter[tuple[str, str]] = Counter()
        for message in self.world.sqs.messages(self.world.dead_url):
            if not visible or message.visible_at <= now:
                (event,) = parse(message.body).created
                found[event.key, event.etag or ""] += 1
        return found
