"""The operator's commands: status, submit, cancel, letters, redrive, discard, sweep.

`commands` has the options and the texts; each other file does what one of them says. A worker uses nothing from here.
"""
