"""Spark's own way on one machine: a data frame from file into a folder of parts, its schema from the first lines."""

import sys
import tempfile
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

SAMPLED_LINES = 1000  # to look at all of them, as is its default, takes Spark one more pass over the file

sql: Any = import_module("pyspark.sql")  # not among the development tools: half a gigabyte, and a JVM beside it

source, target = sys.argv[1:3]
spark = (
    sql.SparkSession.builder.master("local[*]")
    .config("spark.driver.bindAddress", "127.0.0.1")
    .config("spark.driver.host", "127.0.0.1")
    .config("spark.ui.enabled", "false")
    .getOrCreate()
)
with Path(source).open("rb") as lines, tempfile.NamedTemporaryFile(suffix=".json") as sample:
    sample.writelines(islice(lines, SAMPLED_LINES))
    sample.flush()
    schema = spark.read.json(sample.name).schema
frame = spark.read.schema(schema).json(source)
scored = frame.withColumn("review_score", frame.stars * frame.review_count)
scored.write.option("ignoreNullFields", "false").json(target)  # or it would leave out what is null

gateway = spark.sparkContext._gateway
spark.stop()
gateway.shutdown()
gateway.proc.stdin.close()
gateway.proc.wait()  # or its time would not be counted
