"""The same loop with orjson, on bytes: about as fast as a loop over lines in Python gets."""

import sys
from pathlib import Path

import orjson

with Path(sys.argv[1]).open("rb") as source, Path(sys.argv[2]).open("wb") as target:
    for line in source:
        json_obj = orjson.loads(line)
        json_obj["review_score"] = float(json_obj["stars"]) * float(json_obj["review_count"])
        target.write(orjson.dumps(json_obj, option=orjson.OPT_APPEND_NEWLINE))
