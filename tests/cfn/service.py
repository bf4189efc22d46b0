"""A service of ECS that works off a queue, simulated: tasks that start, work, are protected and are taken away."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

TICK_S = 10


@dataclass
class Task:
    """A task.

    Attributes:
        ready_s: When it has started.
        done_s: When its job will be done; -inf while it has none.
    """

    ready_s: float
    done_s: float = -math.inf

    @property
    def busy(self) -> bool:
        """Whether it has a job."""
        return self.done_s > -math.inf


@dataclass
class Service:
    """A service, its queue and its tasks, each of which does one job at a time.

    When it has more tasks than it should, it stops those that are not protected, the busy ones first: ECS makes no
    difference between them, so that the worst must be expected. A task protects itself as soon as it has a job, if it
    may, and until the job is done.

    Args:
        arrivals: When jobs arrive and how long they take, in seconds, in the order of their arrival.
        start_s: How long a task takes to start.
        may_protect: Whether tasks may protect themselves.

    Attributes:
        desired: How many tasks there should be; a new service has one.
        interrupted: How many jobs were interrupted.
        most_missing: By how many tasks fewer than were busy it was to have, at worst.
        longest_wait_s: How long a job had to wait before it was begun.
    """

    arrivals: Sequence[tuple[float, float]]
    start_s: float
    may_protect: bool
    desired: int = 1
    done: int = 0
    interrupted: int = 0
    most_missing: int = 0
    longest_wait_s: float = 0.0
    tasks: list[Task] = field(default_factory=list)
    waiting: deque[tuple[float, float]] = field(default_factory=deque)
    _arrived: int = 0

    @property
    def in_flight(self) -> int:
        """How many messages are being worked on."""
        return sum(task.busy for task in self.tasks)

    @property
    def is_asked(self) -> bool:
        """Whether anything happens at the queue: tasks poll it, or messages come."""
        return bool(self.tasks or self.waiting)

    def tick(self, now_s: float) -> None:
        """Let everything happen up to a moment."""
        while self._arrived < len(self.arrivals) and self.arrivals[self._arrived][0] <= now_s:
            self.waiting.append(self.arrivals[self._arrived])
            self._arrived += 1
        for task in self.tasks:
            if task.busy and task.done_s <= now_s:
                task.done_s = -math.inf
                self.done += 1
            if not task.busy and task.ready_s <= now_s and self.waiting:
                since_s, takes_s = self.waiting.popleft()
                self.longest_wait_s = max(self.longest_wait_s, now_s - since_s)
                task.done_s = now_s + takes_s
        self.most_missing = max(self.most_missing, self.in_flight - self.desired)
        while len(self.tasks) < self.desired:
            self.tasks.append(Task(now_s + self.start_s))
        self._stop_some(now_s)

    def _stop_some(self, now_s: float) -> None:
        free = [task for task in self.tasks if not (task.busy and self.may_protect)]
        for task in sorted(free, key=lambda task: not task.busy)[: max(0, len(self.tasks) - self.desired)]:
            self.tasks.remove(task)
            if task.busy:
                self.interrupted += 1
                self.waiting.append((now_s, task.done_s - now_s))
