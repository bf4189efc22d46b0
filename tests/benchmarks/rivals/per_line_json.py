"""The loop of the AWS sample that this project descends from, made to stream line by line."""

import json
import sys
from pathlib import Path
from typing import Any


def calculation(json_obj: dict[str, Any]) -> dict[str, Any]:
    json_obj["review_score"] = float(json_obj["stars"]) * float(json_obj["review_count"])
    return json_obj


with Path(sys.argv[1]).open(encoding="utf-8") as source, Path(sys.argv[2]).open("w", encoding="utf-8") as target:
    for line in source:
        target.write(json.dumps(calculation(json.loads(line))) + "\n")
