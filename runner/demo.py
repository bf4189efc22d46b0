"""The demo: the real worker as a child process, against a local AWS emulator (moto) in this process."""

from __future__ import annotations

import json
import logging
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import boto3
import click

from runner.errors import RunnerError
from runner.job.keys import output_key
from runner.ops.terminal import echo
from runner.settings import Settings
from transform import printable, printable_json

SAMPLE = Path(str(resources.files("transform"))) / "data" / "businesses.jsonl"
_SAMPLE_KEY = "raw/new businesses.jsonl"  # with a space, to show that keys are encoded in events
ARRAY_SAMPLE = SAMPLE.with_name("cloudtrail.json")
CALCULATION = "stars * review_count AS review_score"
_BUCKETS = "demo-input", "demo-output"
_QUEUE = "demo-queue"
_REGION = "us-east-1"
_KEYS = {"AWS_ACCESS_KEY_ID": "demo", "AWS_SECRET_ACCESS_KEY": "demo", "AWS_DEFAULT_REGION": _REGION}
_SETTINGS = {"s3InputBucket": _BUCKETS[0], "s3OutputBucket": _BUCKETS[1], "SQSBatchQueue": _QUEUE}
_TIMEOUT_S = 600
_SHOWN_LINES = 2
_SHOWN_CHARACTERS = 600  # of a line
_PROGRAMS = "transform", "runner"
_HEAD_BYTES = 64 << 10
_GZIP = b"\x1f\x8b"
_HIDDEN = {"timestamp", "level", "task", "family", "trace", "message", "attempts"}
_SHOWN_OF_REJECTS = "lines", "rejected", "reasons", "first", "objects"
_SAMPLE_NEXT = """\
{transform} preview {sample} -e '{calculation}'
{transform} run {arrays} - --each Records -w 'errorCode IS NULL' -e 'userIdentity.arn AS who'
{transform} run YOUR.jsonl OUTPUT.jsonl -e 'your * expression AS result'
CALCULATION='your * expression AS result' {runner} demo YOUR.jsonl
{runner} worker --help"""
_OWN_NEXT = (
    "The emulator and its output are gone when the demo ends. To get the same output as a file, use the same "
    "calculation:\n{transform} run {file} {output} {option} {calculation}"
)

_STAYING = """\
export AWS_ENDPOINT_URL={endpoint} {credentials}
export {settings} POLL_WAIT_S=1
transform run YOUR.jsonl s3://{bucket}/raw/YOUR.jsonl -e '1 AS one'    # or any other way to upload to it
runner submit s3://{bucket}/raw/
CALCULATION=YOUR.py runner worker --drain
runner status"""


@dataclass(frozen=True, slots=True)
class _Example:
    """The example that the demo shows.

    Attributes:
        file: The file to upload.
        key: The key of its object.
        calculation: The setting CALCULATION of the worker.
        next: The text at the end: what to try next.
    """

    file: Path
    key: str
    calculation: str
    next: str


def run_demo(file: str | None = None, *, stay: bool = False) -> int:
    """Upload a file, run the worker, and show the messages, the log and the output; return the exit status.

    Args:
        file: The file, for the calculation that CALCULATION in the environment names; by default the sample.
        stay: Whether the emulator keeps running until Ctrl-C, for other commands.

    Raises:
        RunnerError: moto is not installed, the file does not exist, or CALCULATION is not set.
    """
    try:
        from moto.server import ThreadedMotoServer
    except ImportError:
        raise RunnerError(f"the demo needs moto: {sys.executable} -m pip install 'moto[server]'") from None
    example = _choose_example(file, os.environ.get("CALCULATION"))
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # otherwise it logs every request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        status = _show(example, f"http://{host}:{port}")
        if stay:
            _stay(f"http://{host}:{port}")
        return status
    finally:
        server.stop()


def _stay(endpoint: str) -> None:
    """Print how other commands reach the emulator, and wait for Ctrl-C."""
    credentials, settings = (" ".join(f"{name}={text}" for name, text in given.items()) for given in (_KEYS, _SETTINGS))
    text = _STAYING.format(endpoint=endpoint, credentials=credentials, settings=settings, bucket=_BUCKETS[0])
    _say("It stays until Ctrl-C; in another terminal", text)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        echo()


def _choose_example(file: str | None, calculation: str | None) -> _Example:
    if file is None:
        sample, arrays = (shlex.quote(_from_here(path)) for path in (SAMPLE, ARRAY_SAMPLE))
        tried = _SAMPLE_NEXT.format(sample=sample, arrays=arrays, calculation=CALCULATION, **_programs())
        return _Example(SAMPLE, _SAMPLE_KEY, calculation or CALCULATION, tried)
    if not calculation:
        raise RunnerError(
            f"CALCULATION: not set, expected what to do to {file}: path/file.py[:name], or SQL such as a * b AS c"
        )
    path = Path(file)
    if not path.is_file():
        raise RunnerError(f"{file}: no such file")
    option = "-c" if Settings.read({**_SETTINGS, "CALCULATION": calculation}).is_reference else "-e"
    quoted = {"file": file, "output": f"output-{path.name}", "calculation": calculation}
    words = {name: shlex.quote(word) for name, word in quoted.items()}
    return _Example(path, f"raw/{path.name}", calculation, _OWN_NEXT.format(**words, option=option, **_programs()))


def _programs() -> dict[str, str]:
    """Return how the commands are called from here, by name: as words, if they are in the path."""
    beside = Path(sys.executable).parent
    return {name: name if shutil.which(name) else shlex.quote(_from_here(beside / name)) for name in _PROGRAMS}


def _from_here(path: Path) -> str:
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _show(example: _Example, endpoint: str) -> int:
    session = boto3.session.Session("demo", "demo", region_name=_REGION)
    s3, sqs = (session.client(name, endpoint_url=endpoint) for name in ("s3", "sqs"))
    head = _head(_start(example.file))
    queue, dead = _create(s3, sqs)
    key = example.key
    _say("A local AWS emulator", f"buckets {' and '.join(_BUCKETS)}, queue {_QUEUE}, at {endpoint}")
    s3.upload_file(str(example.file), _BUCKETS[0], key)
    event = sqs.receive_message(QueueUrl=queue, VisibilityTimeout=0, WaitTimeSeconds=5)["Messages"][0]["Body"]
    _say(f"s3://{_BUCKETS[0]}/{key} was uploaded, and S3 has put this on the queue", _shortened(json.loads(event)))
    started = time.monotonic()
    environ = _environ(example.calculation, endpoint)
    if status := _work(example.calculation, environ):
        return status
    for message in sqs.receive_message(QueueUrl=dead, MessageAttributeNames=["All"]).get("Messages", []):
        known = {name: value["StringValue"] for name, value in message["MessageAttributes"].items()}
        _say("There is no output, and the message is a dead letter", json.dumps(known, indent=1, ensure_ascii=False))
        return 1
    written = s3.head_object(Bucket=_BUCKETS[0], Key=key)["LastModified"]
    place = output_key(Settings.read(environ), _BUCKETS[0], key, written)
    output = s3.get_object(Bucket=_BUCKETS[1], Key=place)
    _say(f"s3://{_BUCKETS[0]}/{key} begins with", head)
    _say(f"s3://{_BUCKETS[1]}/{place} begins with", _head(output["Body"].read(_HEAD_BYTES)))
    _say("Its metadata say what it was made from", json.dumps(output["Metadata"], indent=1))
    for found in s3.list_objects_v2(Bucket=_BUCKETS[1], Prefix=f"rejects/{key}/").get("Contents", []):
        if found["Key"].endswith("index.json"):
            index = json.load(s3.get_object(Bucket=_BUCKETS[1], Key=found["Key"])["Body"])
            _say(
                f"s3://{_BUCKETS[1]}/{found['Key']} describes the rejected lines",
                json.dumps({name: index[name] for name in _SHOWN_OF_REJECTS}, indent=1, ensure_ascii=False),
            )
    _say(f"{time.monotonic() - started:.1f} s. Try next", example.next)
    return 0


def _environ(calculation: str, endpoint: str) -> dict[str, str]:
    """Return the environment of the worker."""
    # Without the AWS variables of this environment, such as a profile, and the setting AWSRegion.
    others = {name: value for name, value in os.environ.items() if not name.upper().startswith("AWS")}
    here = {"CALCULATION": calculation, "AWS_ENDPOINT_URL": endpoint, "POLL_WAIT_S": "1"}
    environ = {**others, **_KEYS, **_SETTINGS, **here, "INPUT_PREFIX": "", "INPUT_SUFFIX": ""}
    environ["PYTHONPATH"] = os.pathsep.join(filter(os.path.isabs, sys.path))
    return environ


def _work(calculation: str, environ: dict[str, str]) -> int:
    """Run the worker until the queue is empty, and show its log; return its exit status."""
    settings = {**_SETTINGS, "CALCULATION": calculation}
    shell = " ".join(f"{name}={value!r}" if " " in value else f"{name}={value}" for name, value in settings.items())
    _say("The worker", f"$ {shell} \\\n    runner worker --drain")
    try:
        with tempfile.TemporaryDirectory() as directory:
            worker = subprocess.run(
                [sys.executable, "-P", "-m", "runner", "worker", "--drain"],  # -P: not from the current directory
                env=environ | {"HEALTH_FILE": f"{directory}/health.json"},  # not that of another worker
                stdout=subprocess.PIPE,
                timeout=_TIMEOUT_S,
                check=False,
            )
    except subprocess.TimeoutExpired:
        raise RunnerError(f"the worker is not done after {_TIMEOUT_S} s; take a smaller file for the demo") from None
    for line in worker.stdout.decode().removesuffix("\n").split("\n"):
        said = json.loads(line)
        if "event" in said:
            shown = {name: said[name] for name in said if name not in _HIDDEN and said[name]}
            echo("  " + printable_json(json.dumps(shown, ensure_ascii=False)))
    return worker.returncode


def _create(s3: Any, sqs: Any) -> tuple[str, str]:
    """Create the buckets and queues of a deployment; return the URLs of the queue and of the dead-letter queue."""
    for bucket in _BUCKETS:
        s3.create_bucket(Bucket=bucket)
    dead = sqs.create_queue(QueueName=f"{_QUEUE}-dead-letters")["QueueUrl"]
    policy = {"deadLetterTargetArn": _arn(sqs, dead), "maxReceiveCount": "5"}
    queue: str = sqs.create_queue(QueueName=_QUEUE, Attributes={"RedrivePolicy": json.dumps(policy)})["QueueUrl"]
    notification = {"QueueArn": _arn(sqs, queue), "Events": ["s3:ObjectCreated:*"]}
    s3.put_bucket_notification_configuration(
        Bucket=_BUCKETS[0], NotificationConfiguration={"QueueConfigurations": [notification]}
    )
    for message in sqs.receive_message(QueueUrl=queue).get("Messages", []):  # S3's test event
        sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
    return queue, dead


def _arn(sqs: Any, queue: str) -> str:
    found = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])
    return str(found["Attributes"]["QueueArn"])


def _shortened(event: Any) -> str:
    record = event["Records"][0]
    return json.dumps(
        {
            "eventName": record["eventName"],
            "s3": {"bucket": record["s3"]["bucket"]["name"], "object": record["s3"]["object"]},
        },
        indent=1,
    )


def _head(start: bytes) -> str:
    """Return the first lines, long ones shortened."""
    if start.startswith(_GZIP):
        start = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(start, _HEAD_BYTES)
    if not start.lstrip().startswith(b"{"):
        return "(something else than text of JSON lines)"
    lines = [line.rstrip("\r") for line in start.decode(errors="replace").removesuffix("\n").split("\n")[:_SHOWN_LINES]]
    return "\n".join(text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…" for text in lines)


def _start(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_HEAD_BYTES)
    except OSError as error:
        raise RunnerError(f"{path}: {(error.strerror or str(error)).lower()}") from None


def _say(title: str, text: str) -> None:
    """Print a title and the lines of a text."""
    click.secho(f"\n{printable(title)}:", bold=True)
    echo(*(f"  {line}" for line in text.split("\n")))
