"""Decides which queue the next message comes from: that of backfills only while the main one is empty.

The main queue is polled whenever a process is free, by long polls while it is empty. The backfill queue is polled, by a
thread of its own, only if

- the last receive of the main queue has returned nothing, and
- another one has followed it at once and waits there meanwhile, or is still to follow it this very moment: with one
  process, polls take turns, as each of them keeps a process free for what it may bring.

So a main message is received as soon as it arrives, unless all processes are busy. After each main message, and where
polls take turns, one short poll says whether the main queue is empty. It may miss a message that has just arrived, as
SQS asks only some of its servers then; the next poll finds it. A worker without work makes two receives in each
POLL_WAIT_S instead of one.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from runner.aws.message import Lane
from runner.errors import RunnerError
from runner.worker.receiver import Receiver

if TYPE_CHECKING:
    from collections.abc import Callable

    from runner.aws.message import Message
    from runner.worker.context import WorkerContext

_BACKFILL_WAIT_S = 1  # a receive that waits asks all servers of SQS, so that an empty answer means an empty queue
_MOMENT_S = 1.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 10.0, 900.0


class Received(NamedTuple):
    """What a receive has ended with.

    Attributes:
        found: A message, None for a receive without one, or an error.
        at: When it has ended, by the monotonic clock.
        lane: Which queue was asked.
    """

    found: Message | RunnerError | None
    at: float
    lane: Lane


class Intake:
    """Receives messages of the main queue and, if there is one, the backfill queue.

    Args:
        context: Its queues, settings, clock and threads.
        wait_s: How long a receive of the main queue waits for a message while there is nothing else to do.
        wake: Called when a receive has ended.

    Attributes:
        found_nothing: Whether the last receive of each queue has returned nothing.
    """

    def __init__(self, context: WorkerContext, wait_s: int, wake: Callable[[], None]) -> None:
        self._wait_s = wait_s
        self._clock = context.around.clock
        queues = {Lane.MAIN: context.queue}
        if context.backfill is not None:
            queues[Lane.BACKFILL] = context.backfill
        visibility_s = context.settings.visibility_timeout_s
        self._receivers = {
            lane: Receiver(queue, visibility_s, wake, context.around, context.bugs, pauses=lane is Lane.MAIN)
            for lane, queue in queues.items()
        }
        self._is_empty = dict.fromkeys(queues, False)  # by the last receive of each
        self._emptied_at = -math.inf  # when the main queue was found empty; not used twice
        self._answered_at = -math.inf  # when the last receive of the main queue has ended
        self._pause_s, self._paused_until = _FIRST_PAUSE_S, -math.inf  # of the backfill queue, after errors

    @property
    def polls(self) -> int:
        """How many receives are under way, or have a result that was not taken yet."""
        return sum(receiver.asked for receiver in self._receivers.values())

    @property
    def found_nothing(self) -> bool:
        """Whether the last receive of each queue has returned nothing; `forget` makes it False."""
        return all(self._is_empty.values())

    def forget(self) -> None:
        """Let all queues count as not empty until the next receive."""
        self._is_empty = dict.fromkeys(self._is_empty, False)

    def start(self) -> None:
        """Start the threads, which wait for requests."""
        for receiver in self._receivers.values():
            receiver.start()

    def ask(self, room: int, room_for_backfill: int) -> None:
        """Request messages, as far as there are free processes that no receive under way may need.

        Args:
            room: Number of free processes.
            room_for_backfill: How many of them may work on messages of the backfill queue.
        """
        main, room = self._receivers[Lane.MAIN], room - self.polls
        wants_backfill = self._wants_backfill()
        if wants_backfill and min(room, room_for_backfill) > 0 and self._knows_main_to_be_empty():
            self._receivers[Lane.BACKFILL].ask(_BACKFILL_WAIT_S)
            wants_backfill, room = False, room - 1
        if room > 0:
            if not main.asked and self._clock.monotonic() - self._answered_at > _MOMENT_S:
                self._is_empty[Lane.MAIN] = False  # all processes were busy since; a message may have come
            could_now = wants_backfill and (room_for_backfill > 0 or not self._is_empty[Lane.MAIN])
            main.ask(0 if could_now else self._wait_s)
        self._emptied_at = -math.inf

    def take(self) -> list[Received]:
        """Return the results since the last call."""
        taken: list[Received] = []
        for lane, receiver in self._receivers.items():
            for found, at in receiver.take():
                self._note(lane, found, at)
                taken.append(Received(found, at, lane))
        return taken

    def close(self) -> None:
        """Start no more receives; those that are under way go on to their ends."""
        for receiver in self._receivers.values():
            receiver.close()

    def join(self, deadline: float) -> None:
        """Wait for the ends of the receives that are under way, up to a time of the monotonic clock."""
        for receiver in self._receivers.values():
            receiver.join(max(0.0, deadline - self._clock.monotonic()))

    def _wants_backfill(self) -> bool:
        """Return whether the backfill queue may have messages; False if that is being found out."""
        receiver = self._receivers.get(Lane.BACKFILL)
        if receiver is None or receiver.asked or self._clock.monotonic() < self._paused_until:
            return False
        return not self._is_empty[Lane.BACKFILL]

    def _knows_main_to_be_empty(self) -> bool:
        is_just_found = self._clock.monotonic() - self._emptied_at <= _MOMENT_S
        return self._is_empty[Lane.MAIN] and (self._receivers[Lane.MAIN].asked or is_just_found)

    def _note(self, lane: Lane, found: Message | RunnerError | None, at: float) -> None:
        self._is_empty[lane] = found is None
        if lane is Lane.MAIN:
            self._answered_at = at
            if found is None:
                self._emptied_at = at
            self._is_empty = {**dict.fromkeys(self._is_empty, False), Lane.MAIN: found is None}  # look there again
        elif isinstance(found, RunnerError):
            self._paused_until = self._clock.monotonic() + self._pause_s
            self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
        else:
            self._pause_s = _FIRST_PAUSE_S
