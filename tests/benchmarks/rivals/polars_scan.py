"""polars' own way: `polars_scan.py SOURCE TARGET OPERATION`, a lazy scan streamed into a sink."""

import sys

import polars as pl

SCORE = pl.col("stars") * pl.col("review_count")

source, target, operation = sys.argv[1:4]
frame = pl.scan_ndjson(source)
if operation == "append":
    frame = frame.with_columns(review_score=SCORE)
elif operation == "replace":
    frame = frame.with_columns(stars=pl.col("stars") * 2)
elif operation == "filter":
    frame = frame.filter(pl.col("review_count") >= 50).with_columns(review_score=SCORE)
elif operation == "drop":
    frame = frame.drop("address", "postal_code")
elif operation == "select":
    frame = frame.select("name", "city", "stars")
else:
    sys.exit(f"no operation {operation}")
frame.sink_ndjson(target)
