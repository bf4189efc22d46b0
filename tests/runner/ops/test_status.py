"""What waits, what runs, what has failed: seen without being touched."""

from __future__ import annotations

import gzip
import json
import re
import signal
import socket
import subprocess
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from runner.aws.dead_letters import DeadLetters
from runner.aws.surroundings import REAL
from runner.ops.deployment import Deployment as Operated
from runner.ops.reports import status_text
from runner.ops.status import JobStatus, Status, read_status
from tests.runner.job.test_resume import example
from tests.support.deployment import Deployment, event_body
from tests.support.jobs import KEY, Free, Jobs, Killed
from tests.support.operating import asked, command_of, environment_of, operate, operate_apart
from tests.support.proxy import Refuse
from tests.support.queues import take_all

if TYPE_CHECKING:
    from tests.support.proxy import Proxy, Request


def put_dead(deployment: Deployment, key: str, reason: str | None, body: str | None = None) -> None:
    """Put a letter on the dead-letter queue, as a worker does, or as SQS does where there is no reason."""
    given = {"reason": reason, "job": "00ff", "attempts": "3"} if reason else {}
    deployment.sqs.send_message(
        QueueUrl=deployment.dead_letters,
        MessageBody=body or event_body(deployment.input, key, "0", 5, "00A1"),
        MessageAttributes={name: {"DataType": "String", "StringValue": text} for name, text in given.items() if text},
    )


def test_a_queue_is_counted(deployment: Deployment) -> None:
    take_all(deployment.sqs, deployment.queue)  # what S3 has sent when it was told of the queue; it is in flight now
    empty = asked(deployment, "status")
    assert (empty["waiting"], empty["jobs"], empty["dead_letters"], empty["causes"]) == (0, [], 0, [])
    for number in range(3):
        deployment.send(f"{number}")
    deployment.sqs.receive_message(QueueUrl=deployment.queue)
    deployment.sqs.send_message(QueueUrl=deployment.queue, MessageBody="later", DelaySeconds=900)
    found = asked(deployment, "status")
    assert (found["waiting"], found["in_flight"] - empty["in_flight"], found["delayed"]) == (2, 1, 1)
    assert found["queue"] == deployment.env["SQSBatchQueue"]


def test_how_old_the_oldest_message_is_comes_from_cloudwatch(deployment: Deployment) -> None:
    deployment.send("a")
    assert asked(deployment, "status")["oldest_age_s"] is None
    cloudwatch = boto3.client("cloudwatch")
    name = {"Name": "QueueName", "Value": deployment.env["SQSBatchQueue"]}
    point = {"MetricName": "ApproximateAgeOfOldestMessage", "Dimensions": [name], "Unit": "Seconds"}
    cloudwatch.put_metric_data(Namespace="AWS/SQS", MetricData=[{**point, "Value": 4000.0}])
    cloudwatch.close()
    assert asked(deployment, "status")["oldest_age_s"] == 4000
    assert "the oldest message is 1 h 6 min old" in operate(deployment, "status").stdout


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.usefixtures("one_by_one")
def test_a_job_tells_how_far_it_is(jobs: Jobs, compressed: bool) -> None:
    content = gzip.compress(example(3200).content, 1) if compressed else example(3200).content
    key = f"{KEY}.gz" if compressed else KEY
    jobs.deployment.put(key, content)
    before = datetime.now(UTC).replace(microsecond=0)
    with pytest.raises(Killed):
        jobs.do(jobs.event(key=key), control=Free(lives=1))
    (job,) = asked(jobs.deployment, "status")["jobs"]
    assert job["source"] == f"s3://{jobs.deployment.input}/{key}"
    assert (job["job"], job["size"], job["worker"]) == (jobs.origin(jobs.event(key=key)).job, len(content), HOST)
    assert 5_000_000 < job["read"] < len(content)
    assert before <= datetime.fromisoformat(job["started"]) <= datetime.now(UTC)
    assert job["idle_s"] < 3600
    with pytest.raises(Killed):  # another goes on: it has begun when it has begun
        jobs.do(jobs.event(key=key), again=True, control=Free(lives=2))
    (later,) = asked(jobs.deployment, "status")["jobs"]
    assert later["started"] == job["started"]
    assert later["read"] > job["read"]


HOST = socket.gethostname()


def test_a_checkpoint_that_nobody_understands_is_told(deployment: Deployment) -> None:
    deployment.s3.put_object(Bucket=deployment.output, Key="checkpoints/1.json", Body=b"garbage")
    (job,) = asked(deployment, "status")["jobs"]
    assert job["source"] == "a checkpoint that cannot be understood: checkpoints/1.json"


def test_dead_letters_are_grouped_and_not_consumed(deployment: Deployment) -> None:
    for number in range(25):
        put_dead(deployment, f"in/{number}", f"all {number} lines of s3://b/in/{number} are rejected")
    for number in range(3):
        put_dead(deployment, f"in/{number}", None)
    put_dead(deployment, "", "not JSON", body="nonsense")
    found = asked(deployment, "status")
    assert (found["dead_letters"], found["looked_at"]) == (29, 29)
    rows, moved, malformed = found["causes"]
    assert (rows["count"], moved["count"], malformed["count"]) == (25, 3, 1)
    assert re.fullmatch(r"all \d+ lines of s3://b/in/\d+ are rejected", rows["reason"])
    assert moved["reason"] == "moved here by SQS, after more receives than its redrive policy allows"
    assert malformed["reason"] == "not JSON"
    assert found["causes"][0]["example"].startswith(f"s3://{deployment.input}/in/")
    assert len(deployment.dead()) == 29, "they are visible again at once"


def test_no_more_letters_are_looked_at_than_is_told(deployment: Deployment) -> None:
    for number in range(25):
        put_dead(deployment, f"in/{number}", "no")
    found = read_status(Operated.open(environment_of(deployment)), max_letters=12).to_dict()
    assert (found["dead_letters"], found["looked_at"]) == (25, 12)


def test_letters_are_let_go_when_the_look_is_broken_off(deployment: Deployment) -> None:
    for number in range(25):
        put_dead(deployment, f"in/{number}", "no")
    letters = DeadLetters(Operated.open(environment_of(deployment)).queue, REAL.clock)
    with suppress(KeyboardInterrupt), letters.look() as found:
        assert len(next(found)) == 10
        raise KeyboardInterrupt
    assert len(deployment.dead()) == 25


def test_watching(deployment: Deployment) -> None:
    put_dead(deployment, "in/a", "no")
    process = subprocess.Popen(
        command_of("status", "--watch", "--interval", "0.5", "--json"),
        env=environment_of(deployment),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    first = json.loads(process.stdout.readline())
    assert first["causes"] == [{"reason": "no", "count": 1, "example": f"s3://{deployment.input}/in/a"}]
    put_dead(deployment, "in/b", "yes")
    while json.loads(process.stdout.readline())["dead_letters"] == 1:
        pass
    assert len(json.loads(process.stdout.readline())["causes"]) == 2
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130


def test_a_denial_is_told(deployment: Deployment, proxy: Proxy) -> None:
    def rule(request: Request) -> Any:
        return Refuse(403, "AccessDenied") if request.operation == "GetBucket" else None

    proxy.rule = rule
    assert operate(deployment, "status", exit_status=1).stderr.startswith("runner: list_objects_v2 of s3://")


@pytest.mark.parametrize("command", ["status", "worker"])
@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"AWS_PROFILE": "nosuch"}, "The config profile (nosuch) could not be found"),
        ({"AWS_ENDPOINT_URL": "nonsense"}, "Invalid endpoint: nonsense"),
        ({"AWS_CONFIG_FILE": __file__}, "Unable to parse config file"),
    ],
    ids=["profile", "endpoint", "file"],
)
def test_aws_settings_that_are_wrong_are_told(
    deployment: Deployment, command: str, setting: dict[str, str], said: str
) -> None:
    env = {**setting, "CALCULATION": "1 AS a"}
    told = operate_apart(deployment, command, exit_status=1, env=env).stderr.splitlines()
    assert len(told) == 1
    assert told[0].startswith(f"runner: the AWS settings of this environment cannot be used: {said}")


def test_it_reads_well() -> None:
    moment = datetime(2026, 11, 1, 12, 0, 0, tzinfo=UTC)
    running = JobStatus("s3://in/a", "j", "task/1", 5 * 10**9, 20 * 10**9, moment, moment, 12.0, 3600.0)
    silent = JobStatus("s3://in/b", "k", "", None, None, None, moment, 90_000.0, None)
    found = Status("jobs", 4, 1, 0, 61.0, [running, silent], 2000, 1000, [])
    assert [*status_text(found)] == [
        "Queue jobs: 4 waiting, 1 in flight, 0 delayed; the oldest message is 1 min 1 s old",
        "Jobs with a checkpoint: 2 (others are too small for one, or have just begun)",
        "  s3://in/a",
        "    25 % of 20.0 GB, since 2026-11-01 12:00:00 UTC, by task/1, checkpoint 12 s ago, about 1 h left",
        "  s3://in/b",
        "    checkpoint 1 d 1 h ago, perhaps no worker has it: it waits on the queue, or `runner sweep` removes it",
        "Dead letters: 2000, of which 1000 were looked at",
    ]
