"""The `transform` command: a thin layer over the library.

`main` is the entry point. `commands` has the commands and their options. No other room uses this one.
"""

from transform.cli.commands import cli, main

__all__ = ["cli", "main"]
