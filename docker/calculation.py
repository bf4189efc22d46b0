"""What the worker computes for each line. This is the file to edit; `make push deploy-fargate` then takes it to AWS.

Try it first, from the top of the repository, on a file like those that will arrive:

    .venv/bin/transform preview sample_data/yelp_businesses.json -c docker/calculation.py
    .venv/bin/transform run sample_data/yelp_businesses.json scored.json -c docker/calculation.py

or in a notebook: `transform.load("docker/calculation.py").preview("sample_data/yelp_businesses.json")`. What else this
file may contain (filters, plain functions, a calculation for each prefix, lookup tables) is in docs/calculations.md.
Modules and tables beside this file (.py, .csv, .json, .jsonl) come into the image with it.
"""

import polars as pl

from transform import Calculation

calculation = Calculation(review_score=pl.col("stars") * pl.col("review_count"))
