"""What somebody has who follows the documents: a clone, a shell, and an account that lets them do everything."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3

from tests.cfn.cloud import ADMIN, strict_cloud, without_what_is_unknown
from tests.cfn.templates import PATHS, load
from tests.conftest import ROOT
from tests.support.deployment import event_body, wait_for
from tests.support.forked_python import forked_python
from tests.support.queues import redrive_policy
from transform.native.library import LIBRARY

if TYPE_CHECKING:
    import signal
    from collections.abc import Iterable, Iterator

    from tests.cfn.cloud import Cloud

REGION = "eu-central-1"
LINE_TIMEOUT_S = 600
_DOCKER = """\
#!/bin/bash
# Stands in for Docker: an image that was pushed is in the registry, and that is all of it.
case $1 in
    info | build | tag) ;;
    login) cat > /dev/null ;;
    push) image=${2##*/} region=${2#*.ecr.}
        aws ecr put-image --region "${region%%.*}" --repository-name "${image%:*}" --image-tag "${image##*:}" \
            --image-manifest '{}' ;;
    *) echo "docker $1 is not known here" >&2; exit 1 ;;
esac
"""
_AWS = f"""\
#!/bin/bash
# The CLI itself. Version 1 of it goes to AWS for SQS whatever the environment says, unless it is told so in person.
exec {sysconfig.get_path("scripts")}/aws --endpoint-url "$AWS_ENDPOINT_URL" "$@"
"""
KEY = "raw/2026/huge.jsonl"
CONTENT = b'{"stars":1.5,"review_count":2}\n'
REASON = "lines were rejected, more than 5%"
_STATE = "export -p > {state}; declare -f >> {state}"


@dataclass(frozen=True)
class Queues:
    """A queue and its dead letters."""

    sqs: Any
    queue: str
    dead: str

    def add_letter(self, bucket: str, reason: str) -> None:
        """Add a dead letter about the object that is there."""
        told = {"reason": {"DataType": "String", "StringValue": reason}}
        body = event_body(bucket, KEY, "etag", len(CONTENT), "1")
        self.sqs.send_message(QueueUrl=self.dead, MessageBody=body, MessageAttributes=told)

    def letters(self) -> int:
        """Return how many dead letters there are."""
        found = self.sqs.get_queue_attributes(QueueUrl=self.dead, AttributeNames=["All"])["Attributes"]
        return sum(int(found[f"ApproximateNumberOfMessages{kind}"]) for kind in ("", "NotVisible"))


@dataclass
class Account:
    """The account, and a shell in a clone; what a line exports or defines is there for the next one.

    Attributes:
        cloud: The emulator.
        clone: A copy of the repository.
        environment: What the shell begins with.
        told: What the stack has told when it was last asked.
        queues: Those that the lines are about.
    """

    cloud: Cloud
    clone: Path
    environment: dict[str, str]
    told: dict[str, str] = field(default_factory=dict)
    queues: Queues | None = None
    _workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def client(self, service: str) -> Any:
        """Return a client that shares nothing with what is run."""
        keys = {name.lower(): ADMIN[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
        where = {"endpoint_url": self.cloud.endpoint, "verify": str(self.cloud.authority), "region_name": REGION}
        return boto3.client(service, **where, **keys)

    def run(self, line: str) -> str:
        """Run a line to its end, and return what it prints."""
        # What fails within an `export` goes unnoticed, but for what is then not there.
        exported = re.findall(r"(\w+)=", re.sub(r"\$\([^()]*\)", "", line)) if line.startswith("export ") else []
        process = self._start("\n".join([line, *(f': "${{{name}:?}}"' for name in exported)]))
        out, err = process.communicate(timeout=LINE_TIMEOUT_S)
        assert process.returncode == 0, f"{line}\nended with {process.returncode}\n{out}\n{err[-4000:]}"
        assert "Traceback" not in err, err[-4000:]
        return out

    def attempt(self, line: str, **exported: str) -> tuple[int, str]:
        """Run a line in a shell of its own; return its exit status, and all that it prints."""
        done = subprocess.run(
            ["bash", "-c", line],
            cwd=self.clone,
            env={**self.environment, **exported},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LINE_TIMEOUT_S,
            check=False,
        )
        assert "Traceback" not in done.stdout, done.stdout
        return done.returncode, done.stdout

    def parameters_of(self, stack: str) -> dict[str, str]:
        """Return the parameters of a stack."""
        (found,) = self.client("cloudformation").describe_stacks(StackName=stack)["Stacks"]
        return {told["ParameterKey"]: told["ParameterValue"] for told in found["Parameters"]}

    def run_until_it_speaks(self, line: str, end: signal.Signals) -> str:
        """Run a line that has no end of its own until it has said something; then end it as a user would."""
        process = self._start(f"exec env {line}")
        assert process.stdout
        said: str = process.stdout.readline()
        process.send_signal(end)
        _, err = process.communicate(timeout=LINE_TIMEOUT_S)
        assert "Traceback" not in err, err
        assert said, err
        assert process.returncode in {0, 130}, err
        return said

    def _start(self, line: str) -> subprocess.Popen[str]:
        state = self.clone.parent / "state"
        state.touch()
        script = f"set -euo pipefail; . {state}\n{line}\n{_STATE.format(state=state)}"
        return subprocess.Popen(
            ["bash", "-c", script],
            cwd=self.clone,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def learn(self, stack: str = "jsonl-transform") -> None:
        """Ask the stack for what it tells."""
        (found,) = self.client("cloudformation").describe_stacks(StackName=stack)["Stacks"]
        self.told = {output["OutputKey"]: output["OutputValue"] for output in found["Outputs"]}

    def start_worker(self) -> None:
        """Start what ECS would, which is not there, unless it runs: a worker with the environment of the task."""
        if self._workers:
            return
        definition = self.client("ecs").describe_task_definition(taskDefinition=self.told["oTaskFamily"])
        (container,) = definition["taskDefinition"]["containerDefinitions"]
        told = {variable["name"]: variable["value"] for variable in container["environment"]}
        told["CALCULATION"] = told["CALCULATION"].replace("/app/", f"{self.clone}/docker/")
        here = {"HEALTH_FILE": str(self.clone.parent / "health.json"), "POLL_WAIT_S": "1", "AWS_REGION": REGION}
        worker = subprocess.Popen(
            [sys.executable, "-m", "runner", "worker"],
            env={**self.environment, **told, **here},
            stdout=subprocess.DEVNULL,
        )
        self._workers.append(worker)

    def stop_workers(self) -> None:
        """End them, as ECS would."""
        for worker in self._workers:
            worker.terminate()
            worker.wait()
        self._workers.clear()

    def wait_for_object(self, bucket: str, key: str) -> None:
        """Wait until an object is there."""
        s3 = self.client("s3")

        def there() -> bool:
            with suppress(s3.exceptions.ClientError):
                return bool(s3.head_object(Bucket=bucket, Key=key))
            return False

        wait_for(there)


@contextmanager
def account_in(directory: Path) -> Iterator[Account]:
    """Make an account, and all that is needed to work in it."""
    clone, programs, temporary = directory / "clone", directory / "bin", directory / "tmp"
    for folder in (programs, temporary, directory / "cloud"):
        folder.mkdir()
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, tracked.split("\0")):
        if (ROOT / name).is_file():
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, clone / name)
    shutil.copy(LIBRARY, clone / LIBRARY.relative_to(ROOT))  # which the installation compiles
    scripts = clone / ".venv" / "bin"
    scripts.mkdir(parents=True)
    for file in Path(sys.prefix, "bin").iterdir():
        if file.name != "python":
            (scripts / file.name).symlink_to(file)
    for name in ("lib", "pyvenv.cfg"):
        (clone / ".venv" / name).symlink_to(Path(sys.prefix) / name)
    (clone / ".venv" / "installed").touch()  # or make would install it
    for name, script in {"docker": _DOCKER, "aws": _AWS}.items():
        (programs / name).write_text(script)
        (programs / name).chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "S3_"))}
    with strict_cloud(directory / "cloud") as cloud:
        for kind in ("fargate", "ec2", "monitoring"):
            template = json.dumps(without_what_is_unknown(load(kind)), separators=(",", ":"))
            (clone / PATHS[kind].relative_to(ROOT)).write_text(template)
        own = {
            **{name: ADMIN[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")},
            "AWS_ENDPOINT_URL": cloud.endpoint,
            "AWS_CA_BUNDLE": str(cloud.authority),
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "PATH": os.pathsep.join([str(programs), str(clone / ".venv" / "bin"), os.environ["PATH"]]),
            "PYTHONPATH": str(clone),
            "TMPDIR": str(temporary),
        }
        account = Account(cloud, clone, kept | own)
        with forked_python(scripts / "python", clone, account.environment):
            try:
                yield account
            finally:
                account.stop_workers()


def furnish(account: Account) -> None:
    """Make the buckets and the queue that README.md and docs/worker.md name."""
    s3, sqs = account.client("s3"), account.client("sqs")
    for bucket in ("my-input", "my-output"):
        s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    s3.put_object(Bucket="my-input", Key=KEY, Body=CONTENT)
    dead = sqs.create_queue(QueueName="my-queue-dead")["QueueUrl"]
    queue = sqs.create_queue(QueueName="my-queue", Attributes={"RedrivePolicy": redrive_policy(sqs, dead, 5)})
    account.queues = Queues(sqs, queue["QueueUrl"], dead)
    account.queues.add_letter("my-input", f"7 of 9 {REASON}")


def deploy(account: Account, network: Iterable[str]) -> None:
    """Deploy the stack, with the lines that name the network."""
    for line in network:
        account.run(line)
    account.run("make push deploy-fargate VPC=default YES=1")
    account.learn()
    told = account.told
    account.client("s3").put_object(Bucket=told["oInputBucket"], Key=KEY, Body=CONTENT)
    account.queues = Queues(account.client("sqs"), told["oQueueUrl"], told["oDeadLetterQueueUrl"])
    account.queues.add_letter(told["oInputBucket"], "… TEXT OF THE REASON …")
    ecs = account.client("ecs")
    task = ecs.run_task(cluster=told["oCluster"], taskDefinition=told["oTaskFamily"])["tasks"][0]["taskArn"]
    ecs.stop_task(cluster=told["oCluster"], task=task, reason="as one that has ended")
