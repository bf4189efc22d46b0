"""The `transform` command: a thin layer over the library.

`main` is the entry point. Nothing else here is for others.
"""

from transform.cli.commands import cli, main

__all__ = ["cli", "main"]
