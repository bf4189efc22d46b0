"""Whatever keys, reasons and checkpoints hold, the commands print no control characters but their own line breaks."""

from __future__ import annotations

import io
import json
import sys
from contextlib import redirect_stdout
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click
import pytest
from click.testing import CliRunner
from hypothesis import example, given

from runner.aws.dead_letters import Cause, Causes, DeadLetter
from runner.aws.message import Lane, Message
from runner.cli import cli
from runner.demo import _head, _say, _shortened
from runner.ops.cancel import Cancelled
from runner.ops.reports import cancelled_text, causes_text, letter_text, status_text, tally_text
from runner.ops.status import JobStatus, Status
from runner.ops.submit import Tally
from runner.ops.terminal import echo, echo_json, show_traceback, show_usage_error
from tests.runner.ops.test_status import put_dead
from tests.support.operating import operate
from tests.support.queues import take_all
from tests.support.terminal_texts import CLEAR, EVIL, TITLE, not_shown, special_texts

if TYPE_CHECKING:
    from tests.support.deployment import Deployment

NOW = datetime(2026, 1, 31, tzinfo=UTC)
KEY = f"in/{TITLE}{CLEAR}\x7f\u202e\u2066\u2028\x85\nb[/x]"
REASON = "no\x9b2J\x7f\u202e\u2066\u2028\x85\r\n9 moved back to the queue[/x]"


def echoed(lines: list[str]) -> str:
    """Return what the lines are on the terminal."""
    with redirect_stdout(io.StringIO()) as told:
        echo(*lines)
    assert told.getvalue().count("\n") == len(lines)
    return told.getvalue()


@given(special_texts(), special_texts())
@example(EVIL, EVIL)
def test_lines_are_shown_without_control_characters(one: str, other: str) -> None:
    letter = DeadLetter(Message(one, "{}", "", 0, 0, 0, 0, ""), other, (one,), (other,), one)
    causes = Causes()
    causes.add(letter)
    job = JobStatus(one, other, one, 5, 10, NOW, NOW, 1.0, 2.0)
    status = Status(one, 1, 2, 3, None, [job, replace(job, source=other)], 5, 5, [Cause(1, one, other)])
    cancelled = [Cancelled(one, None), Cancelled(other, one, 1, published=True)]
    for lines in (
        letter_text(letter),
        causes_text("moved", causes),
        status_text(status),
        cancelled_text(cancelled, 5.0, dry_run=False),
        tally_text(Tally(2, 5, {one: 1}, [one, other], one), Lane.MAIN, dry_run=True),
    ):
        assert not_shown(echoed([*lines])) == set()


@given(special_texts(), special_texts())
@example(EVIL, "\ud800")
def test_json_is_shown_without_control_characters_and_means_the_same(one: str, other: str) -> None:
    with redirect_stdout(io.StringIO()) as told:
        echo_json({"time": NOW, "about": {one: other}})
    assert json.loads(told.getvalue()) == {"time": str(NOW), "about": {one: other}}
    assert not_shown(told.getvalue()) == set()
    assert told.getvalue().count("\n") == 1


@pytest.fixture
def hostile(deployment: Deployment) -> Deployment:
    """A deployment with keys, reasons and a checkpoint of somebody who means harm."""
    deployment.s3.put_bucket_notification_configuration(Bucket=deployment.input, NotificationConfiguration={})
    for raw in take_all(deployment.sqs, deployment.queue):
        deployment.sqs.delete_message(QueueUrl=deployment.queue, ReceiptHandle=raw["ReceiptHandle"])
    deployment.put(KEY, b"{}")
    put_dead(deployment, KEY, REASON)
    about = {"source": f"s3://{deployment.input}/{KEY}", "worker": EVIL, "job": EVIL}
    body = json.dumps({"about": about, "upload": EVIL, "offset": 5})
    deployment.s3.put_object(Bucket=deployment.output, Key="checkpoints/1.json", Body=body.encode())
    deployment.s3.put_object(Bucket=deployment.output, Key=f"checkpoints/{KEY}.json", Body=b"{}")
    return deployment


def printed(deployment: Deployment, *args: str, **env: str) -> str:
    """Return what a command prints in this process, on both streams."""
    given: dict[str, str | None] = {**deployment.env, "CALCULATION": None, "SCHEMA": None, **env}
    result = CliRunner().invoke(cli, args, env=given, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.slow
def test_commands_print_no_control_characters(hostile: Deployment) -> None:
    here = f"s3://{hostile.input}/"
    expected = {
        ("status",): 9,
        ("letters",): 2,
        ("discard", "--reason", "no", "--dry-run"): 3,
        ("redrive", "--all", "--dry-run"): 2,
        ("cancel", KEY, "--dry-run"): 1,
        ("submit", here, "--dry-run"): 3,
        ("sweep", "--older-than", "0s", "--dry-run"): 3,
    }
    for args, lines in expected.items():
        told = printed(hostile, *args)
        assert r"\u202e\u2066\u2028\x85" in told, args
        assert not_shown(told) == set(), args
        assert told.count("\n") == lines, told
        assert not_shown(printed(hostile, *args, "--json")) == set(), args
    assert json.loads(printed(hostile, "letters", "--json"))["keys"] == [KEY]


def test_progress_of_submit_on_a_terminal_takes_no_key_for_markup(hostile: Deployment) -> None:
    told = printed(hostile, "submit", f"s3://{hostile.input}/", "--dry-run", TTY_COMPATIBLE="1", TERM="xterm")
    assert "\x1b]0" not in told
    assert r"in/\x1b]0;" in told


def test_errors_are_shown_without_control_characters(
    deployment: Deployment, capsys: pytest.CaptureFixture[str]
) -> None:
    told = operate(deployment, "cancel", f"s3://other/{EVIL}", exit_status=1).stderr
    assert r"\x1b]0;pwned\x07" in told
    assert (not_shown(told), told.count("\n")) == (set(), 1)
    wrong = {"PART_BYTES": "\x1b[2J", "RANGE_BYTES": "x"}
    told = operate(deployment, "status", exit_status=1, env=wrong).stderr
    assert (not_shown(told), told.count("\n")) == (set(), 2), "a setting in each line"
    told = operate(deployment, "--\x1b[2J", exit_status=2).stderr
    assert r"--\x1b[2J" in told
    assert not_shown(told) == set()
    show_usage_error(click.UsageError(EVIL))
    try:
        raise ValueError(EVIL)
    except ValueError:
        show_traceback(*sys.exc_info())
    told = capsys.readouterr().err
    assert told.count(r"\x1b]0;pwned\x07") == 2
    assert not_shown(told) == set()


@given(special_texts(), special_texts())
@example(EVIL, EVIL)
def test_demo_shows_no_control_characters(one: str, other: str) -> None:
    event: Any = {"Records": [{"eventName": one, "s3": {"bucket": {"name": one}, "object": {"key": other}}}]}
    head = _head(("{" + one + "\r\n" + other + "\n").encode())
    assert head.count("\n") <= 1
    with redirect_stdout(io.StringIO()) as told:
        _say(one, _shortened(event))
        _say(other, head)
    assert not_shown(told.getvalue()) == set()
