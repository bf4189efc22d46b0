"""Tests a deployment: uploads the sample, and compares its output with that of `transform run`."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from cfn.changes import table_of_parameters
from cfn.environment import worker_settings
from cfn.image import DEFAULT_ARCHITECTURE, IN_THE_IMAGE, ROOT, local_tag
from cfn.messages import DeployError, say, show_command
from cfn.stack import Stack
from cfn.template import read_template
from runner.job.keys import output_key
from transform import codec_of_name, parse_names

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from cfn.account import Account
    from cfn.environment import Environment

SAMPLE = "sample_data/yelp_businesses.json"
WAIT_S = 1800
"""From zero tasks the first object may wait 15 minutes for SQS's metrics, and then for a task."""
POLL_S = 5
COMPUTES = ("pCalculation", "pWhere", "pSchema", "pMaxRejects", "pSettings")
"""Parameters that bytes of an output depend on."""
_PUBLISHED = {0, 3}
"""Exit statuses of `transform run` with which there is an output; with 3 some lines were rejected."""
_OPTIONS = {
    "where": "--where",
    "reject": "--reject",
    "drop": "--drop",
    "select": "--select",
    "format_": "--format",
    "each": "--each",
    "with_": "--with",
    "on_error": "--on-error",
    "max_rejects": "--max-rejects",
    "max_line_bytes": "--max-line-bytes",
}


def smoke(account: Account, environment: Environment) -> str:
    """Upload the sample, wait for its output, and compare it; return a sentence about the success.

    Raises:
        DeployError: The stack differs from what the command line and file say, or the output is missing or differs.
    """
    options, stack = environment.options, Stack(account, environment.stack)
    buckets = (options.get("BUCKET"), options.get("OUTPUT_BUCKET"))
    meant = {**read_template("ecs-fargate").defaults, **environment.parameters_for(read_template("ecs-fargate"))}
    keys: Mapping[str, str] = meant
    if not all(buckets):
        keys = _check_deployed(stack, meant, environment)
        outputs = stack.outputs()
        buckets = (buckets[0] or outputs["oInputBucket"].split(",")[0], buckets[1] or outputs["oOutputBucket"])
    expected = _expected(meant)
    key, s3 = _new_key(keys), account.client("s3")
    show_command("aws", "s3", "cp", "--only-show-errors", SAMPLE, f"s3://{buckets[0]}/{key}")
    s3.upload_file(str(ROOT / SAMPLE), buckets[0], key)
    settings, modified = worker_settings(keys), None
    if settings.key_template.has_date:  # otherwise not needed, and with pAfter=delete the input may be gone
        modified = s3.head_object(Bucket=buckets[0], Key=key)["LastModified"]
    target = output_key(settings, str(buckets[0]), key, modified)
    found = _decompressed(_wait_for(account, str(buckets[1]), target, int(options.get("WAIT_S") or WAIT_S)), target)
    kept = expected.with_name("found.json")
    kept.write_bytes(found)
    if found != expected.read_bytes():
        raise DeployError(
            f"s3://{buckets[1]}/{target} is not the expected output: compare {expected.relative_to(ROOT)} with "
            f"{kept.relative_to(ROOT)}"
        )
    return f"good: s3://{buckets[1]}/{target} is the same as the output of `transform run` for {SAMPLE}"


def _new_key(parameters: Mapping[str, str]) -> str:
    """Return a new key that passes the filters of a deployment, by the first value of each list."""
    stamp = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{os.getpid()}"
    prefix, suffix = (_first(parameters.get(name, "")) for name in ("pInputPrefix", "pInputSuffix"))
    return f"{prefix}smoke/{stamp}/yelp_businesses-{stamp}{suffix or '.json'}"  # OUTPUT_KEY may have only the name


def _decompressed(data: bytes, key: str) -> bytes:
    """Return an output without the compression that the suffix of its key names."""
    codec, plain = codec_of_name(key), b""
    if codec is None:
        return data
    while data:
        stream = codec.decompressor()
        plain, data = plain + stream.decompress(data), stream.unused_data
    return plain


def _first(names: str) -> str:
    return parse_names(names)[0] if names.strip() else ""


def _quoted(names: Iterable[str]) -> str:
    """Return names as a list that an option takes, whatever characters they have."""
    return ",".join('"{}"'.format(name.replace('"', '""')) for name in names)


def _check_deployed(stack: Stack, meant: Mapping[str, str], environment: Environment) -> dict[str, str]:
    """Return the parameters of a stack; refuse to compare with a deployment that was meant to be another."""
    now = {told["ParameterKey"]: told["ParameterValue"] for told in stack.existing().get("Parameters", [])}
    there = {name: now.get(name, "") for name in COMPUTES}
    differs = table_of_parameters(there, {name: meant.get(name, "") for name in COMPUTES}, environment.places)
    if differs:
        raise DeployError(
            f"{stack.name} computes something else (now) than the command line, the file and the defaults say "
            f"(then):\n{differs}\nGive make smoke what make deploy-… was given, or deploy again"
        )
    tag = local_tag(environment, now.get("pArchitecture", DEFAULT_ARCHITECTURE))
    own = "pDockerImage" in environment.parameters
    if meant["pCalculation"].startswith(IN_THE_IMAGE) and not own and not now["pDockerImage"].endswith(f":{tag}"):
        raise DeployError(
            f"{stack.name} runs {now['pDockerImage']}, and this clone is {tag}: docker/ or the program has changed "
            "since. make push deploy-… first, or go back to the commit that was deployed"
        )
    return now


def _expected(meant: Mapping[str, str]) -> Path:
    """Return the file with the output as the command makes it."""
    settings = worker_settings(meant)
    text = settings.calculation
    what = ["--calculation", f"docker/{text.removeprefix(IN_THE_IMAGE)}"] if settings.is_reference else ["--expr", text]
    for name, option in _OPTIONS.items():
        value = getattr(settings, name)
        if value and name in settings.model_fields_set:
            what += [option, _quoted(value) if isinstance(value, tuple | list) else str(value)]
    for name, dtype in settings.schema_.items():
        what += ["--schema", f"{name}={dtype}"]
    expected = ROOT / "build" / "smoke" / "expected.json"
    expected.parent.mkdir(parents=True, exist_ok=True)
    words = ["run", "--quiet", SAMPLE, str(expected.relative_to(ROOT)), *what]
    show_command("transform", *words)
    done = subprocess.run([sys.executable, "-m", "transform", *words], cwd=ROOT, check=False)  # noqa: S603
    if done.returncode not in _PUBLISHED:
        raise DeployError("the sample cannot be transformed by what is meant, so there is nothing to compare with")
    return expected


def _wait_for(account: Account, bucket: str, key: str, wait_s: int) -> bytes:
    say(f"waiting up to {wait_s} s for s3://{bucket}/{key}")
    s3, deadline = account.client("s3"), time.monotonic() + wait_s
    while True:
        try:
            return bytes(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
        except ClientError as error:
            if error.response["Error"]["Code"] not in {"NoSuchKey", "404", "AccessDenied"}:
                raise
        if time.monotonic() > deadline:
            raise DeployError(
                f"no output after {wait_s} s: make status shows the queues and tasks, and docs/operations.md where the "
                "logs are"
            )
        time.sleep(POLL_S)
