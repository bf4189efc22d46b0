"""Tests of the worker as operators see it: whatever they do, in any order, has the effect that the design says.

The state machine acts on simulated workers, and keeps beside them a dictionary of what ought to be there: the output of
each key and the number of its dead letters. While there is work in progress, it holds what is allowed; once all is at
rest, the dictionary is narrowed to what is observed, which must be among it.
"""

from __future__ import annotations

import hashlib
import sys
from dataclasses import dataclass, field
from datetime import timedelta
from math import inf
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.simulation.calculation import transformed
from tests.simulation.invariants import left_over, wrong_rejects, wrong_versions
from tests.simulation.operating import Operation
from tests.simulation.scenario import DIGESTS, KEYS

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterable

_GOOD = {
    "empty": b"",
    "small": b'{"x":1}\n',
    "small with rejects": b'{"x":2}\n{"!":2}\n',
    "large": b"".join(b'{"x":%d}\n' % number for number in range(300, 314)),
    "large with rejects": b"".join(b'{"%s":%d}\n' % (b"x" if at % 5 else b"!", at) for at in range(400, 420)),
    "large and wide": b"".join(b'{"x":%d%s}\n' % (number, b".5" * (number == 511)) for number in range(500, 512)),
}
_JUNK = {
    "junk": b'{"!":6}\n',
    "large junk": b"".join(b'{"!":%d}\n' % number for number in range(700, 712)),
}
_CONTENTS = _GOOD | _JUNK
_NAMES = {hashlib.md5(content).hexdigest(): name for name, content in _CONTENTS.items()}
_MAX_KILLS = 5  # until all is at rest: after some more, a message has had its attempts
_CANCEL_SEEN_S = 6.0  # a job that begins goes by a list of cancellations that is 5 s old, and by one of 1 s at its end

_KEYS = KEYS[:2]
_keys = st.sampled_from(_KEYS)
_contents = st.sampled_from(tuple(_CONTENTS))

Made = tuple[str, str]
"""The name of a content, and the calculation that has made its output."""


@dataclass
class Sent:
    """A message about a version of an input.

    Attributes:
        content: The name of its content.
        digests: The calculations of the workers that may take it; empty while it is not sent yet.
        letters: How many dead letters it may become, at least and at most, if the content is junk.
        is_submitted: Whether it was submitted.
        sent_s: When it was sent; infinite while it is not.
        is_certain: Whether the content has been the current one, and the message not cancelled, since it was sent.
        until_s: An output that becomes visible later was not made for it.
    """

    content: str
    digests: set[str] = field(default_factory=set)
    letters: tuple[float, float] = (1, 1)
    is_submitted: bool = False
    sent_s: float = inf
    is_certain: bool = True
    until_s: float = inf

    def send(self, now: float, digests: set[str]) -> None:
        """Note that it is sent."""
        self.sent_s, self.digests = now, set(digests)


@dataclass
class Expected:
    """What ought to be there for a key.

    Attributes:
        content: The name of the current content, None if there is no input.
        upload: The message of its last upload.
        made: The output when all was at rest last, None for no output.
        written: The number of its write, None for no output.
        is_fresh: Whether that output is the one of the last upload, and not an earlier one of the same content.
        letters: How many dead letters there are about each junk content, at least and at most, apart from `sent`.
        sent: The messages since then.
    """

    content: str | None = None
    upload: Sent | None = None
    made: Made | None = None
    written: int | None = None
    is_fresh: bool = False
    letters: dict[str, tuple[float, float]] = field(default_factory=lambda: dict.fromkeys(_JUNK, (0, 0)))
    sent: list[Sent] = field(default_factory=list)

    def change(self, content: str | None) -> None:
        """Note that the input is written again, or deleted."""
        if content != self.content:
            for message in self.sent:
                message.is_certain = False
        self.content, self.is_fresh = content, False

    def possible(self, written_s: float = 0.0) -> set[Made | None]:
        """Return the outputs that may have become visible at a time or later, or be there still."""
        good = [one for one in self.sent if one.content not in _JUNK and written_s <= one.until_s]
        return {self.made, *((one.content, digest) for one in good for digest in one.digests)}

    def allowed(self, written_s: float) -> set[Made | None]:
        """Return the outputs that are allowed at rest, given when the one that is there became visible."""
        certain = [one for one in self.sent if one.is_certain and one.content == self.content]
        if self.content in _JUNK or not certain:
            return self.possible(written_s)
        # The message that was sent last decides which calculation has made the output. An event of an earlier upload of
        # the same content may be sent even later, but only workers that are among those of this message can take it.
        deciding = [one for one in certain if one.is_submitted or one is self.upload]
        if not deciding:
            return {one for one in self.possible() if one is not None and one[0] == self.content}
        last = max(deciding, key=lambda one: one.sent_s)
        return {(last.content, digest) for digest in last.digests}

    def dead(self, content: str) -> tuple[float, float]:
        """Return how many dead letters about a junk content there are at rest, at least and at most."""
        low, high = self.letters[content]
        for one in self.sent:
            if one.content == content:
                low += one.letters[0] if one.is_certain and self.content == content else 0
                high += one.letters[1]
        return max(0, low), high

    def settle(self, made: Made | None, written: int | None, dead: dict[str, int]) -> None:
        """Take over what is observed at rest."""
        if any(one.is_certain and (one.is_submitted or one is self.upload) for one in self.sent):
            self.is_fresh = made is not None and made[0] == self.content
        self.made, self.written, self.sent = made, written, []
        self.letters = {content: (dead.get(content, 0), dead.get(content, 0)) for content in _JUNK}


class Operator(RuleBasedStateMachine):
    """What users, operators and deployments do, and what ought to become of it."""

    operation: Operation | None = None

    @initialize(
        seed=st.integers(0, 99),
        workers=st.integers(1, 2),
        jobs_at_once=st.integers(1, 2),
        latency_s=st.sampled_from((0.05, 0.5)),
    )
    def begin(self, seed: int, workers: int, jobs_at_once: int, latency_s: float) -> None:
        self.operation = self.does = Operation(seed, workers, jobs_at_once, latency_s)
        self.expected = {key: Expected() for key in _KEYS}
        self.jobs_at_once = jobs_at_once
        self.seen_after_s = _CANCEL_SEEN_S + 10 * latency_s
        self.kills = 0
        self.is_at_rest = True
        self.is_interrupted = False
        self.may_be_left = False

    # Users

    @rule(key=_keys, content=_contents, delay_s=st.sampled_from((0.0, 0.0, 0.7, 30.0)))
    def upload(self, key: str, content: str, delay_s: float) -> None:
        does, expected = self.does, self.expected[key]
        expected.change(content)
        message = expected.upload = Sent(content)
        expected.sent.append(message)
        self.is_at_rest = False
        does.upload(key, _CONTENTS[content], delay_s, lambda: message.send(does.now, does.live_digests()))

    @rule(key=_keys)
    def delete(self, key: str) -> None:
        self.expected[key].change(None)
        self.does.delete(key)

    # Deployments and hardware

    @rule(digest=st.sampled_from(DIGESTS), overlap_s=st.sampled_from((0.0, 5.0, 40.0)))
    def deploy(self, digest: str, overlap_s: float) -> None:
        self.does.deploy(digest, overlap_s)
        for message in self._sent():
            message.digests.add(digest)
        self.is_interrupted, self.is_at_rest = True, False  # workers that stop may take messages until then

    @precondition(lambda self: self.kills < _MAX_KILLS)
    @rule(number=st.sampled_from((0, 1, None)), child=st.booleans())
    def kill(self, number: int | None, child: bool) -> None:
        """Kill one worker, or all of them, or a job process of theirs."""
        for one in reversed(range(len(self.does.world.workers))) if number is None else (number,):
            self.does.kill(one, child=child)
        for message in self._sent():  # a worker that is killed may have sent a dead letter, and not deleted the message
            message.letters = message.letters[0], message.letters[1] + (0 if child else self.jobs_at_once)
        self.kills += 1
        self.is_interrupted, self.is_at_rest = self.is_interrupted or not self.is_at_rest, False

    def _sent(self) -> list[Sent]:
        return [message for expected in self.expected.values() for message in expected.sent]

    # Operators

    @rule()
    def submit(self) -> None:
        there = [one for one in self.expected.values() if one.content is not None]
        for one in there:
            one.sent.append(self._sent_now(one.content or ""))
        assert self.does.submit() == len(there)
        self.is_at_rest = False

    @rule(key=_keys)
    def cancel(self, key: str) -> None:
        does, expected = self.does, self.expected[key]
        about = [one for one in expected.sent if one.content == expected.content]
        before = [one for one in about if one.sent_s <= does.now]
        done = does.cancel(key)
        assert (done.etag is None) == (expected.content is None)
        for one in about:
            if one.sent_s <= does.now:  # it is not known whether those are cancelled that were sent meanwhile
                one.is_certain = False
        for one in before:
            one.until_s = min(one.until_s, does.now + self.seen_after_s)

    @rule(key=_keys, content=_contents, gap_s=st.sampled_from((0.0, 0.3, 0.9)))
    def upload_and_cancel(self, key: str, content: str, gap_s: float) -> None:
        self.upload(key, content, 0.0)
        self.does.wait(gap_s)
        self.cancel(key)

    @rule(key=_keys)
    def cancel_and_submit(self, key: str) -> None:
        self.cancel(key)
        self.submit()

    @precondition(lambda self: self._has_letters())
    @rule(last_request=st.sampled_from((None, None, 3, 4, 5)), then_rest=st.booleans())
    def redrive(self, last_request: int | None, then_rest: bool) -> None:
        """Move all dead letters back; the operator may interrupt that after a number of requests."""
        visible = self.does.letters(visible=True).total()
        for expected in self.expected.values():
            for content in _JUNK:
                (low, high), most = expected.letters[content], expected.dead(content)[1]
                if most:
                    again = self._sent_now(content)
                    again.letters, again.is_certain = (
                        (max(0, low), most if last_request else 0),
                        content == expected.content,
                    )
                    expected.sent.append(again)
                    expected.letters[content] = min(0, low), high
        moved = self.does.redrive(last_request)
        assert moved is None or moved >= visible, f"{moved} of {visible} dead letters were moved back"
        self.is_at_rest = False
        if then_rest:
            self.rest()

    @rule(key=_keys, content=st.sampled_from(tuple(_JUNK)), last_request=st.sampled_from((None, 3, 4, 5)))
    def upload_junk_and_redrive(self, key: str, content: str, last_request: int | None) -> None:
        self.upload(key, content, 0.0)
        self.rest()
        self.redrive(last_request, then_rest=True)

    def _sent_now(self, content: str) -> Sent:
        message = Sent(content, is_submitted=True)
        message.send(self.does.now, self.does.live_digests())
        return message

    def _has_letters(self) -> bool:
        return any(one.dead(content)[1] > 0 for one in self.expected.values() for content in _JUNK)

    @precondition(lambda self: self._has_letters())
    @rule(key=_keys)
    def discard(self, key: str) -> None:
        does, expected = self.does, self.expected[key]
        visible = _about(does.letters(visible=True), key)
        is_exact = self.is_at_rest and visible == _about(does.letters(), key)
        gone = does.discard(key)
        assert set(gone) <= {key}
        assert len(gone) >= sum(visible.values())
        for content in _JUNK:
            low, high = expected.letters[content]
            removed = visible.get(content, 0)
            expected.letters[content] = (low - removed if is_exact else -inf), high - removed

    @rule()
    def sweep(self) -> None:
        assert self.does.sweep() == []

    # Time

    @rule(seconds=st.sampled_from((0.1, 0.5, 2.0, 8.0, 40.0)))
    def wait(self, seconds: float) -> None:
        self.does.wait(seconds)

    @rule()
    def rest(self) -> None:
        self.does.rest()
        self._check_at_rest()

    @precondition(lambda self: self.is_at_rest)
    @rule()
    def sweep_all(self) -> None:
        self.does.sweep(timedelta(0))
        self.may_be_left = False
        self._check_at_rest(is_swept=True)

    def _check_at_rest(self, *, is_swept: bool = False) -> None:
        self.may_be_left |= self.is_interrupted and bool(self._sent())
        for key, expected in self.expected.items():
            self._check_key(key, expected)
        if not self.may_be_left:
            left = left_over(self.does.world)  # objects of rejected lines also after an input was overwritten
            _deny(one for one in left if is_swept or not one.endswith("is in no index"))
        self.is_at_rest, self.is_interrupted, self.kills = True, False, 0

    def _check_key(self, key: str, expected: Expected) -> None:
        """Compare what is there for a key with what ought to be, and narrow that."""
        output, made = self.does.output(key), self._made(key)
        allowed = expected.allowed(output.written - self.does.world.epoch_s if output is not None else -inf)
        assert made in allowed, f"the output of {key} is {made}, and not one of {allowed}"
        written = output.sequence if output is not None else None
        digest = expected.made[1] if expected.made is not None else ""
        if expected.is_fresh and all(one.is_submitted and one.digests == {digest} for one in expected.sent):
            assert written == expected.written, f"the output of {key} was made anew without a reason"
        if output is not None and made is not None:
            _deny(wrong_rejects(self.does.world, key, _CONTENTS[made[0]], output.metadata))
        dead = _about(self.does.letters(), key)
        for content in _JUNK:
            low, high = expected.dead(content)
            assert low <= dead.get(content, 0) <= high, f"{dead.get(content, 0)} dead letters, not {low} to {high}"
        expected.settle(made, written, dead)

    def _made(self, key: str) -> Made | None:
        """Return what the current output of a key was made from."""
        output = self.does.output(key)
        if output is None:
            return None
        digest = self.does.digest_of(output)
        (content,) = [name for name, content in _GOOD.items() if transformed(content, digest)[0] == output.body]
        return content, digest

    @invariant()
    def outputs_are_possible(self) -> None:
        if self.operation is not None:
            for key, expected in self.expected.items():
                assert self._made(key) in expected.possible()
                _deny(wrong_versions(self.does.world, key))

    def teardown(self) -> None:
        if self.operation is None:
            return
        try:
            if sys.exception() is None:
                self.rest()
                self.sweep_all()
        finally:
            self.operation.world.close()


def _deny(problems: Iterable[str]) -> None:
    for problem in problems:
        raise AssertionError(problem)


def _about(letters: Counter[tuple[str, str]], key: str) -> dict[str, int]:
    """Return how many dead letters there are about each content of a key."""
    return {_NAMES[etag]: count for (of, etag), count in letters.items() if of == key}


_SETTINGS: dict[str, Any] = {"deadline": None, "suppress_health_check": list(HealthCheck)}


def test_whatever_operators_do_has_the_effect_that_was_promised() -> None:
    run_state_machine_as_test(Operator, settings=settings(max_examples=60, stateful_step_count=20, **_SETTINGS))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_whatever_operators_do_has_the_effect_that_was_promised_in_many_runs() -> None:
    run_state_machine_as_test(Operator, settings=settings(max_examples=1000, stateful_step_count=30, **_SETTINGS))
