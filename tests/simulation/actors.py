"""What a producer, an operator, an attacker and hardware do to a simulated world."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from runner.aws.bucket import Store
from runner.aws.message import Lane
from runner.aws.s3_events import ObjectCreated
from runner.errors import RunnerError
from runner.job.keys import checkpoint_key
from runner.ops.cancel import cancel
from runner.ops.deployment import Deployment
from runner.ops.redrive import LetterFilter, discard, redrive
from runner.ops.submit import ObjectFilter, Submission, choose_queue
from runner.ops.sweep import sweep
from tests.simulation.calculation import describe
from tests.simulation.kernel import Process
from tests.simulation.keying import place_of
from tests.simulation.s3_model import READS
from tests.simulation.scenario import DIGESTS, OUTPUT, Action, InputVersion, Kind

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.simulation.world import RunningWorker, World

_EVENT_DELAY_S = 40.0
_DUPLICATE_EVENTS = 0.1
_SHARED_MESSAGES = 0.1
_SUBMITS_TO_MAIN = 2  # number of the action
_SWEEP_AGE = timedelta(seconds=150)  # some jobs take longer


def _joined(*bodies: str) -> str:
    """Return one message with the events of several."""
    return json.dumps({"Records": [record for body in bodies for record in json.loads(body)["Records"]]})


class Actors:
    """Does what a scenario says.

    Args:
        world: The world.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._sequence = 0
        self._last_body = ""
        self._acts: dict[Kind, Callable[[Action], None]] = {
            Kind.UPLOAD: self._upload,
            Kind.DELETE: self._delete,
            Kind.DEPLOY: self._deploy,
            Kind.KILL: self._kill,
            Kind.FREEZE: self._freeze,
            Kind.KILL_CHILD: self._kill_child,
            Kind.FREEZE_CHILD: self._freeze_child,
            Kind.STOP: self._stop,
            Kind.SUBMIT: self.submit,
            Kind.CANCEL: self._cancel,
            Kind.REDRIVE: self._redrive,
            Kind.DISCARD: self._discard,
            Kind.SWEEP: self._sweep,
            Kind.FORGE_EVENT: self._forge_event,
            Kind.FORGE_MESSAGE: self._forge_message,
            Kind.FORGE_CHECKPOINT: self._forge_checkpoint,
            Kind.DENY: self._deny,
            Kind.ALLOW: self._allow,
            Kind.DENY_OUTPUT: self._deny_output,
            Kind.ALLOW_OUTPUT: self._allow_output,
        }

    def act(self, action: Action) -> None:
        if self._world.trace.kept:
            told = f"{action.kind.value} {action.key} {describe(action.content) if action.content else ''}".rstrip()
            self._world.trace.say(self._world.kernel.now, "==", f"somebody {told}")
        self._acts[action.kind](action)

    def _upload(self, action: Action) -> None:
        now = self._world.kernel.now
        versions = self._world.inputs.setdefault(action.key, [])
        versions.append(InputVersion(now, action.content))
        self._sequence += 1
        tagging = {"Tagging": f"upload={self._sequence}"} if self._world.scenario.tagged else {}
        bucket, key = place_of(action.key)
        answer = self._world.input.request("put_object", Bucket=bucket, Key=key, Body=action.content, **tagging)
        sequencer = f"00{self._sequence:014X}"
        etag, version = answer["ETag"].strip('"'), answer.get("VersionId")
        event = ObjectCreated(bucket, key, version, etag, len(action.content), sequencer, None)
        body = event.to_body()
        if (
            self._last_body and self._world.chance.random() < _SHARED_MESSAGES
        ):  # as another sender may: two events in one
            body = _joined(self._last_body, body)
        self._last_body = event.to_body()
        for _ in range(2 if self._world.chance.random() < _DUPLICATE_EVENTS else 1):
            delay_s = self._world.chance.choice((0.1, 1.0, _EVENT_DELAY_S)) * self._world.chance.random()
            self._world.at(now + delay_s, self.send, body)

    def _delete(self, action: Action) -> None:
        if action.key in self._world.inputs:
            self._world.inputs[action.key].append(InputVersion(self._world.kernel.now, None))
            bucket, key = place_of(action.key)
            self._world.input.request("delete_object", Bucket=bucket, Key=key)

    def send(self, body: str, attributes: dict[str, Any] | None = None) -> None:
        self._world.sqs.request(
            "send_message", QueueUrl=self._world.url, MessageBody=body, MessageAttributes=attributes or {}
        )
        self._world.network.sqs_changed()

    def _deploy(self, action: Action) -> None:
        """Start workers with another calculation; the others are stopped a little later, and poll until then."""
        digest = DIGESTS[action.number]
        if digest == self._world.digests[-1]:
            return
        self._world.digests.append(digest)
        for running in self._world.workers:
            running.retired = True
            self._world.at(self._world.kernel.now + action.seconds, self._world.scale_in, running)
        for _ in range(self._world.scenario.workers):
            self._world.start_worker()

    def _worker(self, action: Action) -> RunningWorker | None:
        return self._world.workers[action.number % len(self._world.workers)] if self._world.workers else None

    def _children(self, action: Action) -> list[Process]:
        running = self._worker(action)
        return [child for child in running.process.children if child.alive] if running is not None else []

    def _kill(self, action: Action) -> None:
        running = self._worker(action)
        if running is not None:
            running.process.end(-9)

    def _freeze(self, action: Action) -> None:
        running = self._worker(action)
        if running is not None:
            both = action.seconds > 60 and action.number % 2  # as a whole machine may
            for process in (running.process, *(running.process.children if both else ())):
                process.freeze(action.seconds)

    def _kill_child(self, action: Action) -> None:
        for child in self._children(action)[:1]:
            child.end(-9)

    def _freeze_child(self, action: Action) -> None:
        for child in self._children(action)[:1]:
            child.freeze(action.seconds)

    def _stop(self, action: Action) -> None:
        running = self._worker(action)
        if running is not None:
            self._world.terminate(running)

    # Operators

    def operate(self, command: Callable[[Deployment], None], *, again: bool = True) -> Process:
        """Run a command of an operator, who tries again if it fails; return its process."""
        self._world.operators += 1
        process = Process(self._world.kernel, f"op{self._world.kernel.events}")

        def run() -> None:
            around = self._world.around(process)
            requests = around.s3({}, None)
            queue, backfill = self._world.queues_of(process)
            deployment = Deployment(
                self._world.settings, self._world.sources(requests), Store(OUTPUT, requests), queue, around, backfill
            )
            for _ in range(20):
                try:
                    command(deployment)
                    break
                except RunnerError as error:
                    self._world.trace.say(self._world.kernel.now, process.name, f"the command has failed: {error}")
                    around.clock.sleep(30.0)
            process.end(0)

        def ended() -> None:
            self._world.operators -= 1
            if process.status and again:  # it was killed, so the operator gives the command again
                self.operate(command)

        process.at_death.append(ended)
        process.start(run)
        return process

    def submit(self, action: Action) -> None:
        lane = Lane.MAIN if action.number == _SUBMITS_TO_MAIN else None

        def command(deployment: Deployment) -> None:
            uris = [f"s3://{bucket}/" for bucket in deployment.sources]
            queue = choose_queue(deployment, lane, None)
            for _ in Submission(deployment, uris, ObjectFilter(), None, dry_run=False, queue=queue).run():
                pass

        self.operate(command)

    def _cancel(self, action: Action) -> None:
        self._world.cancelled.add(action.key)
        bucket, key = place_of(action.key)
        several = len(self._world.settings.input_buckets) > 1
        name = f"s3://{bucket}/{key}" if action.number or several else key
        self.operate(lambda deployment: (cancel(deployment, [name], dry_run=False), None)[1])

    def _redrive(self, _action: Action) -> None:
        self.operate(lambda deployment: (redrive(deployment, LetterFilter(), dry_run=False), None)[1])

    def _discard(self, _action: Action) -> None:
        self.operate(lambda deployment: (list(discard(deployment, LetterFilter("nonsense"))), None)[1])

    def _sweep(self, _action: Action) -> None:
        # What is at work does not have the age that an operator gives.
        self.operate(lambda deployment: (list(sweep(deployment, _SWEEP_AGE, dry_run=False)), None)[1])

    # Attackers, and access that is denied

    def _forge_event(self, action: Action) -> None:
        bucket, key = place_of(action.key)
        found = self._world.input.objects(bucket).get(key)
        etag = found.etag.strip('"') if found is not None else "0" * 32
        sequencers = ("F" * 16, "zz", "F" * 2000, "0", None, "00" + "F" * 30)
        event = ObjectCreated(bucket, key, None, etag, None, sequencers[action.number], None)
        self.send(event.to_body())

    def _forge_message(self, action: Action) -> None:
        bodies = ("nonsense", "[]", '{"Records":[]}', '{"Event":"s3:TestEvent"}', "{}", '"' + "x" * 1000)
        attributes = {
            name: {"DataType": "String", "StringValue": text}
            for name, text in (("attempts", "9" * 14), ("owner", "w"), ("progress", "-1"), ("first_sent", "1"))
        }
        self.send(bodies[action.number], attributes if action.number % 2 else None)

    def _forge_checkpoint(self, action: Action) -> None:
        """Overwrite a checkpoint that is there, or write one that nobody needs."""
        there = self._world.checkpoints()
        key = there[0] if there else checkpoint_key(self._world.settings, "0" * 32)
        forged: list[Any] = [
            {"version": 1, "lease_s": 1e18, "owner": "x", "upload": "1", "parts": [], "rejects": 0, "about": {}},
            [],
            {"version": 1, "lease_s": "nan", "upload": None, "parts": {}, "rejects": -1, "about": 5, "state": 7},
        ]
        body = b"\xff\xfe" if action.number == 5 else json.dumps(forged[action.number % 3]).encode()
        with suppress(ClientError):  # denied to everybody
            self._world.output.request("put_object", Bucket=OUTPUT, Key=key, Body=body)

    def _deny(self, action: Action) -> None:
        self._world.input.deny(*place_of(action.key), READS)

    def _allow(self, action: Action) -> None:
        self._world.input.allow(*place_of(action.key))

    def _deny_output(self, _action: Action) -> None:
        self._world.output.deny(OUTPUT, "")

    def _allow_output(self, _action: Action) -> None:
        self._world.output.allow(OUTPUT, "")
