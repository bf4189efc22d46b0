"""What the program that deploys prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfn.failures import with_advice
from cfn.messages import DeployError, print_result, say

if TYPE_CHECKING:
    import pytest


def test_control_characters_of_logs_and_events_do_not_reach_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    say("task a has ended:\n  \x1b[2Jgood")
    print_result("oInputBucket  \x1b]0;title\x07")
    out, err = capsys.readouterr()
    assert err == "task a has ended:\n  \\x1b[2Jgood\n"
    assert out == "oInputBucket  \\x1b]0;title\\x07\n"


def test_advice_is_given_once() -> None:
    once = with_advice(DeployError("CannotPullContainerError: a: not found"))
    assert str(once).count("What to do: ") == 1
    assert str(with_advice(once)) == str(once)
