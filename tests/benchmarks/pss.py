"""Samples the memory of all processes of a run together."""

from __future__ import annotations

from contextlib import suppress

import psutil


class FamilyPeak:
    """The largest sum seen of the proportional set sizes (PSS) of a process's descendants.

    PSS counts a page that several processes share once in all, so that what the workers share with each other is
    neither left out nor counted for each of them. Two things make it too small: the kernel keeps no peak of it, so one
    shorter than the time between two samples can be missed; and libraries that processes outside the run have mapped at
    the same time count in part only, so nothing else should be using them.
    """

    def __init__(self) -> None:
        self.peak_bytes = 0
        self.peak_processes = 0
        self.samples = 0

    def sample(self, pid: int) -> None:
        """Look once at the descendants of a process; those that end meanwhile count nothing."""
        sizes = []
        with suppress(psutil.Error):
            for process in psutil.Process(pid).children(recursive=True):
                with suppress(psutil.Error):
                    sizes.append(int(process.memory_full_info().pss))
        self.samples += 1
        if sum(sizes) > self.peak_bytes:
            self.peak_bytes = sum(sizes)
            self.peak_processes = len(sizes)
