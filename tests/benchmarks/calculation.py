"""The function of the AWS sample that this project descends from, as a user brings it along."""

from typing import Any


def calculation(json_obj: dict[str, Any]) -> dict[str, Any]:
    json_obj["review_score"] = float(json_obj["stars"]) * float(json_obj["review_count"])
    return json_obj
