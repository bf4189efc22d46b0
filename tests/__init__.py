"""The tests, which compute with one thread of polars, as the command does."""

import os

if "POLARS_MAX_THREADS" not in os.environ:  # handing small frames to other threads takes longer than computing
    os.environ["POLARS_MAX_THREADS"] = "1"
    try:
        import polars as pl  # noqa: F401 # reads the variable once and for all
    finally:
        del os.environ["POLARS_MAX_THREADS"]  # processes that tests start decide for themselves
