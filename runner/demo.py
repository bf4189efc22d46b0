"""The worker on an AWS of its own: a moto server in this process, the sample file, and the real worker as a child."""

from __future__ import annotations

import itertools
import json
import logging
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import click

from runner.errors import RunnerError

if TYPE_CHECKING:
    from collections.abc import Iterable

SAMPLE = Path(__file__).parents[1] / "sample_data" / "yelp_businesses.json"
CALCULATION = "stars * review_count AS review_score"
KEY = "raw/yelp businesses.json"
_BUCKETS = "demo-input", "demo-output"
_QUEUE = "demo-queue"
_REGION = "us-east-1"
_KEYS = {"AWS_ACCESS_KEY_ID": "demo", "AWS_SECRET_ACCESS_KEY": "demo", "AWS_DEFAULT_REGION": _REGION}
_SETTINGS = {"s3InputBucket": _BUCKETS[0], "s3OutputBucket": _BUCKETS[1], "SQSBatchQueue": _QUEUE}
_TIMEOUT_S = 60
_SHOWN_LINES = 2
_DULL = {"timestamp", "level", "task", "family", "trace", "message", "attempts"}
_NEXT = f"""\
.venv/bin/transform preview {SAMPLE.relative_to(SAMPLE.parents[1])} -e '{CALCULATION}'
.venv/bin/transform run YOUR.jsonl OUTPUT.jsonl -e 'your * expression AS result'
.venv/bin/runner worker --help"""
_STAYING = """\
export AWS_ENDPOINT_URL={endpoint} {credentials}
export {settings} POLL_WAIT_S=1
transform run YOUR.jsonl s3://{bucket}/raw/YOUR.jsonl -e '1 AS one'    # or any other way to upload to it
runner submit s3://{bucket}/raw/
CALCULATION=YOUR.py runner worker --drain
runner status"""


def run_demo(calculation: str = CALCULATION, source: Path = SAMPLE, *, stay: bool = False) -> int:
    """Show an object that arrives, and what becomes of it; return the exit status.

    Args:
        calculation: As the setting CALCULATION says it.
        source: The file to upload.
        stay: Whether the AWS stays up until Ctrl-C, for other commands.

    Raises:
        RunnerError: moto is not installed, or the file is not there.
    """
    try:
        from moto.server import ThreadedMotoServer
    except ImportError:
        raise RunnerError("the demo needs moto: pip install 'jsonl-transform[demo]'") from None
    if not source.exists():
        raise RunnerError(f"the demo needs {source}, which is in the repository only")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it would tell every request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        status = _show(f"http://{host}:{port}", calculation, source)
        if stay:
            _stay(f"http://{host}:{port}")
        return status
    finally:
        server.stop()


def _stay(endpoint: str) -> None:
    """Say how other commands reach the AWS, and wait for Ctrl-C."""
    credentials, settings = (" ".join(f"{name}={text}" for name, text in given.items()) for given in (_KEYS, _SETTINGS))
    text = _STAYING.format(endpoint=endpoint, credentials=credentials, settings=settings, bucket=_BUCKETS[0])
    _say("It stays until Ctrl-C; in another terminal", text)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        click.echo()


def _show(endpoint: str, calculation: str, source: Path) -> int:
    key = KEY if source == SAMPLE else f"raw/{source.name}"
    session = boto3.session.Session("demo", "demo", region_name=_REGION)
    s3, sqs = (session.client(name, endpoint_url=endpoint) for name in ("s3", "sqs"))
    queue = _create(s3, sqs)
    _say("An AWS of its own", f"buckets {' and '.join(_BUCKETS)}, queue {_QUEUE}, at {endpoint}")
    s3.upload_file(str(source), _BUCKETS[0], key)
    event = sqs.receive_message(QueueUrl=queue, VisibilityTimeout=0, WaitTimeSeconds=5)["Messages"][0]["Body"]
    _say(f"s3://{_BUCKETS[0]}/{key} was uploaded, and S3 has put this on the queue", _shortened(json.loads(event)))
    told = {**_SETTINGS, "CALCULATION": calculation}
    command = [sys.executable, "-m", "runner", "worker", "--drain"]
    spelled = " ".join(f"{name}={value!r}" if " " in value else f"{name}={value}" for name, value in told.items())
    _say("The worker", f"$ {spelled} \\\n    runner worker --drain")
    started = time.monotonic()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    quick = {"AWS_ENDPOINT_URL": endpoint, "POLL_WAIT_S": "1"}
    worker = subprocess.run(  # noqa: S603 - our own interpreter, on our own module
        command,
        env={**environment, **_KEYS, **told, **quick},
        stdout=subprocess.PIPE,
        timeout=_TIMEOUT_S if source == SAMPLE else None,
        check=False,
    )
    events = [said for line in worker.stdout.decode().splitlines() if "event" in (said := json.loads(line))]
    for said in events:
        click.echo("  " + json.dumps({name: said[name] for name in said if name not in _DULL and said[name]}))
    if worker.returncode or "done" not in {said["event"] for said in events}:
        return worker.returncode or 1
    output = s3.get_object(Bucket=_BUCKETS[1], Key=f"output/{key}")
    with source.open("rb") as lines:
        _say(f"s3://{_BUCKETS[0]}/{key} begins with", _head(lines))
    _say(f"s3://{_BUCKETS[1]}/output/{key} begins with", _head(output["Body"].iter_lines()))
    _say("and tells where it is from", json.dumps(output["Metadata"], indent=1))
    _say(f"{time.monotonic() - started:.1f} s. Try next", _NEXT)
    return 0


def _create(s3: Any, sqs: Any) -> str:
    """Create what a deployment has; return the queue's URL."""
    for bucket in _BUCKETS:
        s3.create_bucket(Bucket=bucket)
    dead = sqs.create_queue(QueueName=f"{_QUEUE}-dead-letters")["QueueUrl"]
    policy = {"deadLetterTargetArn": _arn(sqs, dead), "maxReceiveCount": "5"}
    queue: str = sqs.create_queue(QueueName=_QUEUE, Attributes={"RedrivePolicy": json.dumps(policy)})["QueueUrl"]
    notification = {"QueueArn": _arn(sqs, queue), "Events": ["s3:ObjectCreated:*"]}
    s3.put_bucket_notification_configuration(
        Bucket=_BUCKETS[0], NotificationConfiguration={"QueueConfigurations": [notification]}
    )
    for message in sqs.receive_message(QueueUrl=queue).get("Messages", []):  # that the notification was set up
        sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
    return queue


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


def _head(lines: Iterable[bytes]) -> str:
    return "\n".join(line.decode(errors="replace").rstrip() for line in itertools.islice(lines, _SHOWN_LINES))


def _say(title: str, text: str) -> None:
    click.secho(f"\n{title}:", bold=True)
    click.echo("\n".join(f"  {line}" for line in text.splitlines()))
