"""Which ECS task this is, as the container agent tells it."""

import http.client
import json
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass

TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class TaskMetadata:
    """What names a task; empty where it is not known.

    Attributes:
        arn: The task's ARN.
        family: The family of its task definition.
    """

    arn: str = ""
    family: str = ""


def read_task_metadata(environ: Mapping[str, str], timeout_s: float = TIMEOUT_S) -> TaskMetadata:
    """Ask the agent that `ECS_CONTAINER_METADATA_URI_V4` names; without an answer, as outside ECS, all is empty."""
    base = environ.get("ECS_CONTAINER_METADATA_URI_V4", "").rstrip("/")
    if not base.startswith(("http://", "https://")):
        return TaskMetadata()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # the agent is never behind a proxy
    try:
        with opener.open(f"{base}/task", timeout=timeout_s) as response:
            said = json.load(response)
        return TaskMetadata(arn=str(said.get("TaskARN") or ""), family=str(said.get("Family") or ""))
    except (OSError, ValueError, AttributeError, http.client.HTTPException):
        return TaskMetadata()
