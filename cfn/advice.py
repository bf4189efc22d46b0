"""What to do about what AWS says when a deployment fails.

The texts are those of https://docs.aws.amazon.com/AmazonECS/latest/developerguide/stopped-task-error-codes.html, of the
events of a service, and of CloudFormation.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_NO_ROUTE = (
    "the task has no route to AWS. Public subnets need pPublicIp=ENABLED (and a route to an internet gateway), private "
    "ones a NAT gateway or the endpoints of cfn/vpc-endpoints.yaml"
)
ADVICE = [
    (
        r"exec format error|image manifest does not contain descriptor matching platform|no match for platform",
        "the image is built for another processor: give the same ARCHITECTURE to make push and make deploy-…",
    ),
    (
        r"unable to (retrieve|pull) secret|secretsmanager|retrieve secrets? from (asm|ssm)",
        "ECS cannot read the key of pseudonyms: check pHmacKeyArn, and the policy of the KMS key that encrypts it. "
        "Without a route to Secrets Manager: " + _NO_ROUTE,
    ),
    (
        r"CannotPull.*(i/o timeout|deadline exceeded|dial tcp|request canceled)"
        r"|ResourceInitializationError.*(i/o timeout|deadline exceeded|dial tcp|RequestError|send request failed)",
        _NO_ROUTE,
    ),
    (
        r"CannotPull.*(not found|manifest unknown|does not exist)",
        "there is no such image: make push first, in the same region and with the same ARCHITECTURE and BASE; or give "
        "the URI of an image that is there as IMAGE",
    ),
    (
        r"CannotPull.*(denied|403|not authorized|AccessDenied)|not authorized to perform: ecr:",
        "ECS may not pull the image: it must be in this account and region, or the policy of its repository must allow "
        "the role rExecutionRole of the stack",
    ),
    (
        r"OutOfMemoryError|OutOfMemory: |exit status 137",
        "the task was killed for lack of memory, or did not end in time: raise pMemory, or lower MAX_LINE_BYTES",
    ),
    (
        r"is not authorized to perform: (?!ecr:)|AccessDenied|access denied|(?i:is denied)",
        "a permission is missing. If the message names you, ask for the permission; if it names the role of the task, "
        "compare its policy with runner/permissions.py, and look at policies of buckets, KMS keys and the organization",
    ),
    (
        r"failed container health checks",
        "the worker runs, but says that it is not healthy: the log says why (`breaker open`, `denied`). See "
        "docs/operations.md",
    ),
    (
        r"unable to place a task|RESOURCE:|no container instance met",
        "no instance has room for the task: lower pMemory and pCpu, or choose a larger pInstanceType",
    ),
    (r"[Cc]apacity is unavailable|insufficient capacity", "AWS has no such capacity now: wait, or pCapacity=ON_DEMAND"),
    (
        r"is expected to be subnets of pVPCId|[Ii]nvalid ?[Ss]ubnet|InvalidVpc|vpc ID .* does not exist"
        r"|subnet ID .* does not exist|different networks",
        "VPC and SUBNETS do not belong together, or are not in this account and region: `aws ec2 describe-subnets "
        "--filters Name=vpc-id,Values=VPC` lists those of a VPC",
    ),
    (
        r"Unable to validate the following destination configurations",
        "S3 may not send events to the queue: the policy of the queue has to allow the bucket",
    ),
    (
        r"(?m)^\s*runner: ",
        "the worker does not start, and the last lines of its log say why. docs/operations.md explains each of these "
        "sentences; try the calculation with `transform preview INPUT` before you deploy again",
    ),
]
"""What a text contains, and what to do about it."""


def advice_about(texts: Iterable[str]) -> list[str]:
    """Return what to do about what AWS and the worker have said, each sentence once."""
    found = [advice for text in texts for pattern, advice in ADVICE if re.search(pattern, text)]
    return list(dict.fromkeys(found))
