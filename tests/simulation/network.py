"""The way of requests to S3 and SQS, with all that can happen on it.

A request takes effect some time after it was sent, and is answered some time after that. A fault can refuse it, delay
it, lose its answer, let it arrive twice, or end or freeze the process that has sent it, before or after its effect. A
request that was sent takes effect even if its sender has died.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError
from s3fs.errors import translate_boto_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.simulation.kernel import Kernel, Process, Thread
    from tests.simulation.s3_model import S3Model
    from tests.simulation.s3_objects import StoredObject
    from tests.simulation.sqs_model import SqsModel
    from tests.simulation.trace import Trace

_MIN_LATENCY_S = 0.005
_TIMEOUT_S = 30.0
_LATE_S = 60.0, 200.0  # long enough for others to do the job meanwhile
_SLOW_S = 1.0, 25.0


class Fault(Enum):
    """What happens to a request."""

    REFUSED = "is answered with 503, without an effect"
    LOST = "takes effect, but its answer is lost"
    TWICE = "is sent again by the client, as the first answer was lost"
    SLOW = "takes long"
    LATE = "times out, and takes effect much later"
    CONFLICT = "is answered with 409, without an effect"
    PARTLY = "takes effect for some of its entries only"
    KILLED_BEFORE = "is the last of its process, which is killed when it is sent"
    KILLED_AFTER = "is the last of its process, which is killed after its effect"
    FROZEN_BEFORE = "is sent, and its process freezes"
    FROZEN_AFTER = "takes effect, and its process freezes before the answer"
    TASK_KILLED = "is the last of the whole task, which is killed"


_WEIGHTS = {
    Fault.REFUSED: 4,
    Fault.LOST: 4,
    Fault.TWICE: 3,
    Fault.SLOW: 3,
    Fault.LATE: 3,
    Fault.CONFLICT: 2,
    Fault.PARTLY: 0,  # of batches, which are rare: half of their faults
    Fault.KILLED_BEFORE: 2,
    Fault.KILLED_AFTER: 3,
    Fault.FROZEN_BEFORE: 2,
    Fault.FROZEN_AFTER: 3,
    Fault.TASK_KILLED: 2,
}
_FAULTS, _CUMULATIVE = tuple(_WEIGHTS), tuple(accumulate(_WEIGHTS.values()))
_PUBLISH = {"put_object", "complete_multipart_upload"}
_MAKES_VISIBLE = {
    *("send_message", "send_message_batch"),
    *("change_message_visibility", "change_message_visibility_batch"),
}
_BATCHES = {"send_message_batch", "delete_message_batch", "change_message_visibility_batch"}
_READS = {
    *("get_object", "head_object", "list_objects_v2", "get_object_tagging", "list_object_versions"),
    *("list_multipart_uploads", "get_bucket_versioning", "get_queue_attributes", "receive_message"),
}
_READS_SHARE = 0.3
_CONDITIONAL = {"put_object", "complete_multipart_upload"}
_FINISHES = {"delete_object": "deleted", "put_object_tagging": "tagged"}


@dataclass(frozen=True, slots=True)
class FinishedInput:
    """A version of an input that a worker has deleted or tagged.

    Attributes:
        how: `deleted` or `tagged`.
        bucket: Its bucket.
        version: The version.
        at_s: When, by the clock of S3.
    """

    how: str
    bucket: str
    version: StoredObject
    at_s: float


@dataclass
class Faults:
    """Which requests have faults.

    Attributes:
        rate: Share of the requests that have one.
        until_s: From this time on there are no more.
        max_faults: How many there are at most.
        freeze_s: For how long a process freezes, from and to.
        latency_s: How long a request takes at most if nothing happens to it; most take much less.
        left_out: The faults that do not happen although they were drawn, each as process and number of the request.
        happened: Those that have happened.
    """

    rate: float
    until_s: float
    max_faults: int
    freeze_s: tuple[float, float]
    latency_s: float
    left_out: frozenset[tuple[str, int]] = frozenset()
    happened: list[tuple[str, int]] = field(default_factory=list)

    def latency(self, process: Process) -> float:
        """Return how long a request, or its answer, takes."""
        return _MIN_LATENCY_S + self.latency_s * process.chance.random() ** 3

    def start_fails(self, process: Process, share: float) -> bool:
        """Return whether a job process does not get through its start."""
        identity = process.name, 0  # no request has this number
        if not share or process.chance.random() >= share or process.kernel.now > self.until_s:
            return False
        if identity in self.left_out or len(self.happened) >= self.max_faults:
            return False
        self.happened.append(identity)
        return True

    def draw(self, process: Process, operation: str) -> Fault | None:
        """Return what happens to the next request of a process, None for nothing."""
        process.requests += 1
        if not self.rate:
            return None
        chance = process.chance
        rate = self.rate * _READS_SHARE if operation in _READS else self.rate
        if chance.random() >= rate or process.kernel.now > self.until_s:
            return None
        (fault,) = chance.choices(_FAULTS, cum_weights=_CUMULATIVE)
        if operation in _BATCHES and chance.random() < 0.5:
            fault = Fault.PARTLY
        identity = process.name, process.requests
        if identity in self.left_out or len(self.happened) >= self.max_faults:
            return None
        if fault is Fault.CONFLICT and operation not in _CONDITIONAL:
            return None
        self.happened.append(identity)
        return fault


class Network:
    """The way to S3 and SQS.

    Args:
        kernel: The scheduler.
        s3: S3, by the name of each bucket.
        output: The output bucket.
        sqs: SQS.
        faults: Which requests have faults.
        trace: Notes what happens.

    Attributes:
        overwritten: Checkpoints that were overwritten by a process that did not know them.
        finished: The versions of inputs that workers have deleted or tagged.
        given_up: When requests to publish have taken effect whose senders had died or given them up by then, by the
            ETags of the outputs.
        on_the_way: How many requests other than receives have not taken effect yet.
    """

    def __init__(
        self, kernel: Kernel, s3: dict[str, S3Model], output: str, sqs: SqsModel, faults: Faults, trace: Trace
    ) -> None:
        self._kernel = kernel
        self._s3 = s3
        self._output = output
        self._sqs = sqs
        self._faults = faults
        self._trace = trace
        self._polling: list[tuple[str, Thread, int]] = []
        self.on_the_way = 0
        self.overwritten: list[str] = []
        self.finished: list[FinishedInput] = []
        self.given_up: dict[str, float] = {}

    def ask_s3(self, process: Process, operation: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Return the answer to a request to S3.

        Raises:
            OSError: As s3fs raises it.
        """
        model = self._s3[arguments["Bucket"]]
        if None in arguments.values():
            arguments = {name: value for name, value in arguments.items() if value is not None}
        try:
            return self._ask(process, model.request, operation, arguments)
        except ClientError as error:
            raise translate_boto_error(error) from error

    def ask_sqs(self, process: Process, operation: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Return the answer to a request to SQS; raises as boto3 does."""
        if operation == "receive_message" and arguments.get("WaitTimeSeconds"):
            return self._poll(process, arguments)
        return self._ask(process, self._sqs.request, operation, arguments)

    def is_checkpoint(self, key: str) -> bool:
        """Return whether a key is that of a checkpoint."""
        return key.startswith("checkpoints/") and not key.startswith("checkpoints/cancelled/")

    def etag_of(self, key: str) -> str | None:
        """Return the ETag of an object in the output bucket, None if it does not exist."""
        found = self._s3[self._output].current(self._output, key)
        return found.etag if found is not None else None

    def finishing(self, operation: str, arguments: dict[str, Any]) -> FinishedInput | None:
        """Return the version of an input that a request of a worker deletes or tags if it succeeds, None for none."""
        bucket = arguments.get("Bucket", self._output)
        if operation not in _FINISHES or bucket == self._output:
            return None
        model, key = self._s3[bucket], arguments["Key"]
        named = [one for one in model.versions(bucket, key) if one.version_id == arguments.get("VersionId")]
        found = named[0] if "VersionId" in arguments and named else model.current(bucket, key)
        return FinishedInput(_FINISHES[operation], bucket, found, self._kernel.epoch_s()) if found is not None else None

    def sqs_changed(self) -> None:
        """Let the receives that wait look again."""
        polling, self._polling = self._polling, []
        for _, thread, wait in polling:
            thread.wake(wait)

    def _poll(self, process: Process, arguments: dict[str, Any]) -> dict[str, Any]:
        url, deadline = arguments["QueueUrl"], self._kernel.now + arguments["WaitTimeSeconds"]
        while True:
            visible = self._sqs.next_visible(url)
            left_s = deadline - self._kernel.now
            if visible is not None and visible <= self._kernel.epoch_s():
                return self._ask(process, self._sqs.request, "receive_message", arguments)
            if left_s <= 0:  # most receives; what goes wrong with one that finds nothing, goes wrong with others too
                return {}
            thread, wait = self._kernel.begin_wait()
            self._polling.append((url, thread, wait))
            until_s = left_s if visible is None else min(left_s, visible - self._kernel.epoch_s() + 0.001)
            thread.block(until_s)
            if self._polling:
                self._polling = [entry for entry in self._polling if entry[1] is not thread]

    def _ask(
        self, process: Process, request: Callable[..., dict[str, Any]], operation: str, arguments: dict[str, Any]
    ) -> dict[str, Any]:
        process.check()
        fault = self._faults.draw(process, operation)
        thread, wait = self._kernel.begin_wait()
        sent = _Request(self, process, thread, wait, request, operation, arguments, fault)
        sent.send()
        answer = thread.block()
        if isinstance(answer, BaseException):
            raise answer
        result: dict[str, Any] = answer
        return result


@dataclass(slots=True)
class _Request:
    """A request on its way."""

    network: Network
    process: Process
    thread: Thread
    wait: int
    request: Callable[..., dict[str, Any]]
    operation: str
    arguments: dict[str, Any]
    fault: Fault | None

    def send(self) -> None:
        process, kernel, fault = self.process, self.process.kernel, self.fault
        chance = process.chance
        there_s = self.network._faults.latency(process)
        if fault is not None:
            self.network._trace.fault(kernel.now, process, self.operation, self.arguments, fault)
            if fault is Fault.SLOW:
                there_s = chance.uniform(*_SLOW_S)
            elif fault is Fault.LATE:
                self._answer(_TIMEOUT_S, ReadTimeoutError(endpoint_url="simulated"))
                there_s = chance.uniform(*_LATE_S)
            elif fault in (Fault.KILLED_BEFORE, Fault.TASK_KILLED):
                kernel.after(0.0, self._kill)
            elif fault is Fault.FROZEN_BEFORE:
                process.freeze(chance.uniform(*self.network._faults.freeze_s))
            elif fault is Fault.REFUSED:
                self._answer(there_s, _error(self.operation, 503, "SlowDown"))
                return
            elif fault is Fault.CONFLICT:
                self._answer(there_s, _error(self.operation, 409, "ConditionalRequestConflict"))
                return
        self.network.on_the_way += self.operation != "receive_message"
        kernel.after(there_s, self._arrive)

    def _kill(self) -> None:
        process = self.process
        if self.fault is Fault.TASK_KILLED:
            parent = process.parent
            process = parent if parent is not None else process
        process.end(-9)

    def _arrive(self) -> None:
        """Take effect, and send the answer."""
        network, kernel, fault = self.network, self.process.kernel, self.fault
        network.on_the_way -= self.operation != "receive_message"
        answer = self._take_effect()
        if fault is Fault.TWICE:
            kernel.after(0.2, self._arrive_again)
            return
        if fault is Fault.LOST:
            answer = ConnectionClosedError(endpoint_url="simulated")
        elif fault is Fault.KILLED_AFTER:
            self.process.end(-9)
        elif fault is Fault.FROZEN_AFTER:
            self.process.freeze(self.process.chance.uniform(*network._faults.freeze_s))
        self._answer(network._faults.latency(self.process), answer)

    def _arrive_again(self) -> None:
        self._answer(_MIN_LATENCY_S, self._take_effect())

    def _take_effect(self) -> Any:
        network = self.network
        key = self.arguments.get("Key", "")
        watched = key.startswith("checkpoints/") and network.is_checkpoint(key)
        before = network.etag_of(key) if watched else None
        finishing = network.finishing(self.operation, self.arguments)
        left_out: list[dict[str, Any]] = []
        arguments = self.arguments
        if self.fault is Fault.PARTLY:
            arguments, left_out = self._without_some_entries()
        try:
            answer: Any = self.request(self.operation, **arguments) if arguments else {}
            if finishing is not None:
                network.finished.append(finishing)
            if self.operation in _PUBLISH and (self.fault is Fault.LATE or not self.process.alive):
                network.given_up[answer["ETag"].strip('"')] = self.process.kernel.now
        except ClientError as error:
            answer = error
        else:
            if left_out:
                answer["Failed"] = [*answer.get("Failed", ()), *left_out]
        if watched:
            self._watch(key, before, answer)
        if network._trace.kept:
            network._trace.request(self.process.kernel.now, self.process, self.operation, self.arguments, answer)
        if self.operation in _MAKES_VISIBLE:
            network.sqs_changed()
        return answer

    def _without_some_entries(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Return the arguments without some entries, empty if none is left; and what is answered for those."""
        entries = self.arguments["Entries"]
        count = self.process.chance.randint(1, len(entries))
        failed = {entry["Id"] for entry in self.process.chance.sample(entries, count)}
        left = [entry for entry in entries if entry["Id"] not in failed]
        answers = [
            {"Id": one, "SenderFault": False, "Code": "InternalError", "Message": "simulated"} for one in sorted(failed)
        ]
        return (self.arguments | {"Entries": left} if left else {}), answers

    def _watch(self, key: str, before: str | None, answer: Any) -> None:
        """Note what the process knows of a checkpoint, and whether it has overwritten one that it does not know."""
        if not isinstance(answer, dict):
            return
        writes = self.operation == "put_object"
        if writes and before is not None and before not in self.process.known:
            self.network.overwritten.append(f"{self.process.name} has overwritten {key}, which another one has written")
        if "ETag" in answer and (writes or self.operation == "get_object"):
            self.process.known.add(answer["ETag"])

    def _answer(self, after_s: float, answer: Any) -> None:
        """Let the thread go on with an answer, or an error, after some time."""
        self.process.kernel.after(after_s, self.thread.resume, self.wait, answer)


def _error(operation: str, status: int, code: str) -> ClientError:
    answer = {"Error": {"Code": code, "Message": "simulated"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, operation)


class SimS3Requests:
    """Sends requests to S3, as `runner.aws.bucket.S3fsRequests`."""

    def __init__(self, process: Process, network: Network) -> None:
        self._process = process
        self._network = network

    def call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        return self._network.ask_s3(self._process, operation, arguments)

    def read(self, bucket: str, key: str) -> tuple[dict[str, Any], bytes]:
        answer = self._network.ask_s3(self._process, "get_object", {"Bucket": bucket, "Key": key})
        return answer, answer["Body"]

    def prepare_part(self) -> None:
        pass


class SimSqsClient:
    """A client of SQS, as boto3's."""

    def __init__(self, process: Process, network: Network, sqs: SqsModel) -> None:
        self.meta = sqs.meta
        self._process = process
        self._network = network

    def __getattr__(self, operation: str) -> Callable[..., dict[str, Any]]:
        if operation.startswith("_"):
            raise AttributeError(operation)
        return lambda **arguments: self._network.ask_sqs(self._process, operation, arguments)
