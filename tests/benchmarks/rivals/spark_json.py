"""Spark's own way on one machine: a data frame from file to a folder of parts, its schema from the first lines."""

import os
import sys
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

SAMPLED_LINES = 1000  # to infer from all of them, as is its default, takes Spark one more pass over the file

sql: Any = import_module("pyspark.sql")  # takes a JVM, too; not among the development tools

source, target = sys.argv[1:3]
os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
spark = (
    sql.SparkSession.builder.master("local[*]")
    .config("spark.ui.enabled", "false")
    .config("spark.driver.memory", "2g")
    .getOrCreate()
)
with Path(source).open(encoding="utf-8") as lines:
    sample = spark.createDataFrame([(line,) for line in islice(lines, SAMPLED_LINES)], "value string")
schema = spark.read.json(sample.rdd.map(lambda row: row.value)).schema
frame = spark.read.schema(schema).json(source)
frame.withColumn("review_score", frame.stars * frame.review_count).write.json(target)

gateway = spark.sparkContext._gateway
spark.stop()
gateway.shutdown()
gateway.proc.stdin.close()
gateway.proc.wait()  # or its time would not be counted
