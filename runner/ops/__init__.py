"""The operators' commands: status, submit, letters, redrive, discard, cancel, sweep.

`commands` has the commands with their options and texts; the other files do the work. Only the command line uses this
folder.
"""
