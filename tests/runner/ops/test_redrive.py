"""Dead letters go back to the queue, chosen ones only, and none is lost on the way."""

from __future__ import annotations

import json
import re
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from runner.aws.dead_letters import DeadLetters
from runner.aws.surroundings import REAL
from runner.errors import QueueError
from runner.ops.deployment import Deployment as Operated
from runner.ops.redrive import LetterFilter, redrive
from tests.runner.ops.test_status import put_dead
from tests.support.deployment import Deployment, event_body, events_of
from tests.support.example import lines, transformed
from tests.support.operating import asked, environment_of, operate
from tests.support.proxy import Refuse
from tests.support.queues import answering, take_all, texts_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from runner.aws.dead_letters import DeadLetter
    from tests.support.proxy import Proxy

pytestmark = pytest.mark.slow
A_WHILE = timedelta(minutes=5)


@pytest.fixture
def dead(deployment: Deployment) -> Deployment:
    """A deployment with dead letters of several kinds, and nothing on its queue."""
    for raw in take_all(deployment.sqs, deployment.queue):
        deployment.sqs.delete_message(QueueUrl=deployment.queue, ReceiptHandle=raw["ReceiptHandle"])
    for number in range(12):
        put_dead(deployment, f"raw/{number}.jsonl", f"All {number} lines are rejected")
    for number in range(4):
        put_dead(deployment, f"raw/sub/{number}.csv", "it starts with [")
    return deployment


def bodies(deployment: Deployment, keys: list[str]) -> list[str]:
    return sorted(event_body(deployment.input, key, "0", 5, "00A1") for key in keys)


def total(causes: list[dict[str, Any]]) -> int:
    return sum(cause["count"] for cause in causes)


ROWS = [f"raw/{number}.jsonl" for number in range(12)]
TABLES = [f"raw/sub/{number}.csv" for number in range(4)]
CHOICES: dict[str, tuple[list[str], list[str]]] = {
    "--all": (ROWS + TABLES, []),
    "--reason lines ARE": (ROWS, TABLES),
    "--reason [": (TABLES, ROWS),
    "--key raw/*.csv": (TABLES, ROWS),
    "--key raw/1?.jsonl": (["raw/10.jsonl", "raw/11.jsonl"], [*ROWS[:10], *TABLES]),
    "--key raw/* --reason starts": (TABLES, ROWS),
    "--key RAW/*": ([], ROWS + TABLES),
    "--reason nothing": ([], ROWS + TABLES),
}


@pytest.mark.parametrize("options", CHOICES)
def test_those_that_are_chosen_move(dead: Deployment, options: str) -> None:
    moves, stays = CHOICES[options]
    first, _, rest = options.partition(" ")
    given = [first, *([rest] if rest and "--" not in rest else rest.replace(" --reason ", " --reason=").split())]
    told = asked(dead, "redrive", *given)
    assert (total(told["moved"]), total(told["left"])) == (len(moves), len(stays))
    assert sorted(letter["body"] for letter in dead.left()) == bodies(dead, moves)
    assert sorted(letter["body"] for letter in dead.dead()) == bodies(dead, stays), "visible at once"


def test_letters_are_listed_moved_and_discarded_without_access_to_objects(dead: Deployment, proxy: Proxy) -> None:
    proxy.rule = lambda _: Refuse(403, "AccessDenied")
    assert len(operate(dead, "letters", "--json").stdout.splitlines()) == len(ROWS + TABLES)
    asked(dead, "redrive", "--reason", "[")
    operate(dead, "discard", "--key", "*")
    assert (proxy.requests, dead.dead(), len(dead.left())) == ([], [], len(TABLES))


def test_a_dry_run_moves_nothing(dead: Deployment) -> None:
    said = operate(dead, "redrive", "--reason", "lines", "--dry-run").stdout.splitlines()
    assert [said[0], *said[2:]] == ["12 would be moved", "4 not chosen", "  4 × it starts with ["]
    assert re.fullmatch(r"  12 × All \d+ lines are rejected", said[1])
    assert (dead.left(), len(dead.dead())) == ([], 16)


def test_attempts_begin_anew_and_what_the_sender_has_said_stays(deployment: Deployment) -> None:
    deployment.left()
    given = {"reason": "no", "job": "1", "trace": "t", "attempts": "4", "first_sent": "1700000000000"}
    given |= {"progress": "5000", "tenant": "a"}
    attributes = {name: {"DataType": "String", "StringValue": text} for name, text in given.items()}
    deployment.sqs.send_message(QueueUrl=deployment.dead_letters, MessageBody="body", MessageAttributes=attributes)
    asked(deployment, "redrive", "--all")
    (raw,) = take_all(deployment.sqs, deployment.queue)
    assert (raw["Body"], texts_of(raw)) == ("body", {"progress": "5000", "tenant": "a"})
    assert raw["Attributes"]["ApproximateReceiveCount"] == "1"


def test_letters_of_another_deployment_stay(deployment: Deployment) -> None:
    deployment.left()
    put_dead(deployment, "a", "no", body=event_body("another", "a", "0", 5, "00A1"))
    put_dead(deployment, "", "not JSON", body="nonsense")
    told = asked(deployment, "redrive", "--all")
    assert [[cause["reason"] for cause in told[name]] for name in ("moved", "foreign")] == [["not JSON"], ["no"]]
    assert [letter["body"] for letter in deployment.left()] == ["nonsense"]


def test_letters_that_come_back_meanwhile_stay(dead: Deployment) -> None:
    """As where a worker that was not put right yet takes what was moved, and fails at it."""
    failed = set()

    class LettersThatComeBack(DeadLetters):
        def move_back(self, letters: Sequence[DeadLetter]) -> None:
            super().move_back(letters)
            time.sleep(1.1)  # SQS tells the time in whole seconds
            for letter in letters:
                if letter.keys not in failed:
                    failed.add(letter.keys)
                    put_dead(dead, letter.keys[0], letter.reason)

    operated = Operated.open(environment_of(dead))
    letters = LettersThatComeBack(operated.queue, REAL.clock)
    told = redrive(operated, LetterFilter("lines"), dry_run=False, letters=letters).to_dict()
    assert (total(told["moved"]), total(told["left"]), total(told["newer"])) == (12, 4, 12)
    assert sorted(letter["body"] for letter in dead.left()) == bodies(dead, ROWS)
    assert sorted(letter["body"] for letter in dead.dead()) == bodies(dead, ROWS + TABLES)


@pytest.mark.parametrize("options", [["--dry-run"], []])
def test_none_that_was_chosen_is_told(dead: Deployment, options: list[str]) -> None:
    said = operate(dead, "redrive", "--reason", "nothing", *options).stdout.splitlines()
    assert said[:2] == ["None would be moved" if options else "None was moved", "16 not chosen"]


def test_letters_are_listed_with_their_time_and_stay(dead: Deployment) -> None:
    put_dead(dead, "", "of another", body=event_body("another", "raw/a.csv", "0", 5, "00A1"))
    said = operate(dead, "letters", "--key", "raw/*.csv").stdout.splitlines()
    assert len(said) == 10
    when, _, about = said[0].partition("  ")
    assert abs(datetime.now(UTC) - datetime.strptime(when, "%Y-%m-%d %H:%M:%S %Z").replace(tzinfo=UTC)) < A_WHILE
    assert about in {f"s3://{dead.input}/{key}" for key in TABLES}
    assert said[1] == "    it starts with ["
    assert said[8].endswith("UTC  s3://another/raw/a.csv"), "the latest last"
    one = json.loads(operate(dead, "letters", "--key", "raw/3.jsonl", "--json").stdout)
    assert (one["body"], one["reason"]) == (*bodies(dead, ["raw/3.jsonl"]), "All 3 lines are rejected")
    assert (one["buckets"], one["keys"], one["job"]) == ([dead.input], ["raw/3.jsonl"], "00ff")
    assert operate(dead, "letters", "--reason", "nothing").stdout == "There are no such dead letters\n"
    assert len(dead.dead()) == 17, "visible at once"


def test_letters_are_thrown_away(dead: Deployment) -> None:
    put_dead(dead, "", "not JSON", body="nonsense")
    operate(dead, "discard", exit_status=2)
    assert operate(dead, "discard", "--reason", "json", "--dry-run").stdout.endswith("\n1 would be deleted\n")
    said = operate(dead, "discard", "--reason", "json", "--json").stdout
    assert json.loads(said)["body"] == "nonsense"
    assert operate(dead, "discard", "--key", "raw/*.jsonl", "--reason", "lines").stdout.endswith("\n12 deleted\n")
    assert sorted(letter["body"] for letter in dead.dead()) == bodies(dead, TABLES), "visible at once"
    assert dead.left() == []


@pytest.mark.parametrize("operation", ["SendMessageBatch", "DeleteMessageBatch"])
def test_none_is_lost_when_it_is_broken_off(dead: Deployment, operation: str) -> None:
    operated = Operated.open(environment_of(dead))
    with (
        answering(operated.queue.client, operation, "InternalFailure"),
        pytest.raises(QueueError, match="InternalFailure"),
    ):
        redrive(operated, LetterFilter(), dry_run=False)
    there = {letter["body"] for letter in dead.left()} | {letter["body"] for letter in dead.dead()}
    assert sorted(there) == bodies(dead, ROWS + TABLES)


def test_one_has_to_say_which(deployment: Deployment) -> None:
    said = operate(deployment, "redrive", exit_status=2).stderr
    assert "select either --all letters, or some with --reason TEXT, --key GLOB or both" in said
    operate(deployment, "redrive", "--all", "--reason", "no", exit_status=2)
    assert operate(deployment, "redrive", "--all").stdout == "There are no dead letters\n"


def test_a_job_succeeds_after_a_fix(deployment: Deployment) -> None:
    deployment.put("a", lines(10) + b"bad\n")
    said: list[dict[str, Any]] = deployment.drain(env={"ON_ERROR": "fail"})
    assert "failed" in events_of(said)
    assert asked(deployment, "status")["dead_letters"] == 1
    asked(deployment, "redrive", "--all")
    deployment.drain()
    assert deployment.output_of("a") == transformed(10)
    assert (deployment.waiting(), deployment.dead()) == ((0, 0, 0), [])
