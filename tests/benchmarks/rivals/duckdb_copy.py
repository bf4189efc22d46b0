"""DuckDB's own way: one COPY from file to file."""

import sys

import duckdb

source, target = (path.replace("'", "''") for path in sys.argv[1:3])
duckdb.sql(
    f"COPY (SELECT *, stars * review_count AS review_score FROM read_ndjson('{source}')) TO '{target}' (FORMAT json)"
)
