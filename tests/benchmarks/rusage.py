"""Runs `rusage.py REPORT COMMAND …` and writes what the command used to REPORT: wall s, CPU s, peak RSS KiB, exit code.

A script of its own, and as small as Python gets: on Linux a process begins with the peak memory of the one that
started it, so what a benchmark with tables and libraries starts would never seem smaller than the benchmark itself.
"""

import os
import sys
from time import perf_counter

report, *command = sys.argv[1:]
started = perf_counter()
pid = os.posix_spawn(command[0], command, os.environ)
_, status, usage = os.wait4(pid, 0)
wall_s = perf_counter() - started
# ru_utime and ru_stime hold the children that the command waited for; ru_maxrss is that of the largest single process
numbers = (wall_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss, os.waitstatus_to_exitcode(status))
with open(report, "w") as file:  # noqa: PTH123 - pathlib alone would add 2 MB
    file.write(" ".join(map(repr, numbers)))
