"""All configuration of the worker, as one validated object that does not change.

The environment enters here, once, when `Settings.read` is called. The field of a setting is the only place that defines
its names, its meaning and its values; messages about wrong values and the reference page are derived from the fields.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self, cast

from pydantic import AliasChoices, AliasGenerator, Field, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from runner import setting_texts
from runner.errors import SettingsError
from runner.health import HEALTH_FILE
from runner.key_template import KeyTemplate
from runner.setting_types import (
    After,
    Array,
    Bucket,
    Buckets,
    Bus,
    Calculation,
    Condition,
    Count,
    File,
    Format,
    KeyParts,
    Level,
    Names,
    Namespace,
    OutputKey,
    Paths,
    Percentage,
    Policy,
    Prefix,
    Queue,
    Region,
    Rules,
    Seconds,
    Share,
    Size,
    Tag,
    Topic,
    Types,
    WholeSeconds,
)
from runner.setting_values import DerivedSettings, is_reference
from runner.settings_variable import expand_settings
from transform import parse_paths

_MIB = 2**20
_TEXT = "expected text in UTF-8, without NUL"


class Settings(DerivedSettings, BaseSettings):
    """The settings of the worker. Most are read from a variable with the name of the field in capitals."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        populate_by_name=True,
        alias_generator=AliasGenerator(validation_alias=str.upper),
    )

    input_buckets: Buckets = Field(
        validation_alias=AliasChoices("S3_INPUT_BUCKET", "s3InputBucket"),
        description="Bucket that objects arrive in, or several",
    )
    output_bucket: Bucket = Field(
        validation_alias=AliasChoices("S3_OUTPUT_BUCKET", "s3OutputBucket"),
        description="Bucket for outputs, rejected lines and checkpoints",
    )
    queue: Queue = Field(
        validation_alias=AliasChoices("SQS_BATCH_QUEUE", "SQSBatchQueue"), description="Queue that S3's events are on"
    )
    region: Region | None = Field(
        default=None,
        validation_alias=AliasChoices("AWSRegion", "AWS_REGION", "AWS_DEFAULT_REGION"),
        description="AWS region; if not set, that of the AWS profile",
    )
    input_prefixes: KeyParts = Field(
        default=(),
        validation_alias="INPUT_PREFIX",
        description="Only objects whose keys start with one of these are transformed; all if not set",
    )
    input_suffixes: KeyParts = Field(
        default=(),
        validation_alias="INPUT_SUFFIX",
        description="Only objects whose keys end with one of these are transformed; all if not set",
    )
    calculation: Calculation = Field(description="What to compute")
    where: Condition = Field(
        default="", description="Condition that a line must meet to be kept; only if CALCULATION is SQL"
    )
    schema_: Types = Field(
        default={}, validation_alias="SCHEMA", description="Types of columns; only if CALCULATION is SQL"
    )
    reject: Rules = Field(
        default="", description="Reject lines for which one of these is true; only if CALCULATION is SQL"
    )
    drop: Names = Field(default=(), description="Members to remove from the lines; only if CALCULATION is SQL")
    select: Names = Field(default=(), description="Members to keep besides the results; only if CALCULATION is SQL")
    format_: Format | None = Field(
        default=None,
        validation_alias="FORMAT",
        description="What the rows of an object are: lines, or the objects of any JSON, also indented or in an array; "
        "if not set, as the calculation says, or else lines",
    )
    each: Array | None = Field(
        default=None,
        description="The rows are the elements of the array at this path in each line; if not set, as the calculation "
        "says",
    )
    with_: Paths = Field(
        default="",
        validation_alias="WITH",
        description="Members of the line, outside the array of EACH, to add to each element",
    )
    output_prefix: Prefix = Field(default="output/", description="Prefix of outputs; none if set to an empty value")
    rejects_prefix: Prefix = Field(default="rejects/", description="Prefix of rejected lines")
    checkpoint_prefix: Prefix = Field(default="checkpoints/", description="Prefix of checkpoints of unfinished jobs")
    output_key: OutputKey | None = Field(
        default=None,
        description="Key of an output after OUTPUT_PREFIX; if not set, the input's key, and with several input buckets "
        "the bucket, `/` and the key",
    )
    on_error: Policy = Field(
        default="reject", description="What happens to an invalid line: reject it, or fail the job"
    )
    max_rejects: Share | None = Field(
        default=None, description="Fail the job above this many invalid lines; unlimited if not set"
    )
    after: After = Field(
        default="keep",
        description="What to do with an input once its output is published",
    )
    after_tag: Tag = Field(
        default="jsonl-transform=done", description="Tag that AFTER=tag adds; it is not copied to outputs"
    )
    max_line_bytes: Size = Field(default=32 * _MIB, ge=1, le=1024 * _MIB, description="Longer lines are rejected")
    max_inflation: Count = Field(
        default=500,
        ge=1,
        description="Maximum decompressed size as a multiple of the compressed size; not enforced up to 256 MiB",
    )
    part_bytes: Size = Field(
        default=16 * _MIB,
        ge=5 * _MIB,
        le=5 * 1024 * _MIB,
        description="Size of upload parts; larger if 10,000 would not be enough",
    )
    range_bytes: Size = Field(
        default=16 * _MIB, ge=2**16, le=1024 * _MIB, description="Size of the ranges that an input is read in"
    )
    workers: Count | None = Field(
        default=None, ge=1, le=1024, description="Processes of one job; if not set, one for each core"
    )
    dead_letter_queue: Queue | None = Field(
        default=None,
        description="Queue for messages that cannot succeed; if not set, that of the queue's redrive policy",
    )
    backfill_queue: Queue | None = Field(
        default=None,
        description="Queue for existing objects, which are transformed while the main queue is empty; if not set, "
        "`runner submit` puts them on the main one",
    )
    backfill_share: Percentage = Field(
        default="50%",
        description="Largest share of the processes that work on messages of BACKFILL_QUEUE at a time, rounded down, "
        "but one process at least",
    )
    outcome_topic: Topic | None = Field(
        default=None, description="SNS topic that receives the outcome of each object; if not set, none"
    )
    outcome_bus: Bus | None = Field(
        default=None, description="EventBridge bus that receives the outcome of each object; if not set, none"
    )
    visibility_timeout_s: WholeSeconds = Field(
        default=120, ge=5, le=43200, description="How long a message stays invisible, unless extended"
    )
    max_lease_s: WholeSeconds = Field(
        default=42000,
        ge=10,
        le=43200,
        description="How long one receive may be extended; SQS allows 43200 s",
    )
    max_job_s: Seconds | None = Field(
        default=None, gt=0, description="Time after which another worker takes over a job; if not set, MAX_LEASE_S"
    )
    max_attempts: Count | None = Field(
        default=None,
        ge=1,
        le=1000,
        description="Attempts at a job; if not set, the queue's maxReceiveCount, or 5 without one",
    )
    retry_min_s: Seconds = Field(
        default=15.0, ge=0, le=43200, description="Delay before the first retry; doubled for each further one"
    )
    retry_max_s: Seconds = Field(default=900.0, ge=0, le=43200, description="Longest delay before a retry")
    breaker_failures: Count = Field(
        default=3,
        ge=1,
        description="Number of objects that fail for one cause before jobs are tried one at a time",
    )
    poll_wait_s: WholeSeconds = Field(default=10, ge=0, le=20, description="How long one receive waits for a message")
    stop_timeout_s: Seconds = Field(
        default=15.0, gt=0, description="Time for a job to stop and requeue its message on SIGTERM"
    )
    progress_s: Seconds = Field(default=30.0, gt=0, description="How often a running job logs how far it is")
    protect_max_s: Seconds = Field(
        default=2880 * 60.0, ge=60, description="Longest time that a busy task is protected from scale-in"
    )
    health_file: File = Field(default=Path(HEALTH_FILE), description="File that the worker's health check reads")
    log_level: Level = Field(default="info", description="Lowest level that is logged")
    metrics_namespace: Namespace = Field(default="JsonlTransform", description="CloudWatch namespace of the metrics")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 # the base class calls it by these names
        init_settings: PydanticBaseSettingsSource,
        *_: Any,
        **__: Any,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Use only the values that are passed, not the environment of the process."""
        return (init_settings,)

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Self:
        """Return the settings that variables of the environment contain; an empty variable counts as not set.

        The variable SETTINGS has any of them as a JSON object.

        Raises:
            SettingsError: Some are wrong; the message has a line for each of them.

        Example:
            >>> Settings.read({"s3InputBucket": "incoming", "S3_OUTPUT_BUCKET": "outgoing", "WORKERS": "many"})
            Traceback (most recent call last):
            runner.errors.SettingsError: SQS_BATCH_QUEUE: not set, expected the name, URL or ARN of a queue
            CALCULATION: not set, expected path/file.py[:name], package.module:name, or SQL such as a * b AS c
            WORKERS: found 'many', expected a whole number from 1 to 1024
        """
        fields = cls.model_fields
        known = {name for field in fields.values() for name in setting_texts.names_of(field)}
        environ, wrong = expand_settings(fields, environ)
        given = {name: text.strip() for name, text in environ.items() if name in known and text.strip()}
        if "OUTPUT_PREFIX" in environ:  # an empty prefix is valid, and differs from the default
            given["OUTPUT_PREFIX"] = environ["OUTPUT_PREFIX"].strip()
        source = EnvSettingsSource(cls, case_sensitive=True)
        source.env_vars = given
        wrong += [
            f"{name}: found {setting_texts.quote_value(text)}, {_TEXT}"
            for name, text in given.items()
            if not _is_text(text)
        ]
        wrong += setting_texts.contradictions(fields, given)
        try:
            settings = cls(**source())
        except ValidationError as error:
            wrong += [setting_texts.describe_error(fields, found, given) for found in error.errors(include_url=False)]
        if wrong:
            raise SettingsError("\n".join(wrong))
        return settings

    @field_validator("where", "schema_", "reject", "drop", "select")
    @classmethod
    def _only_beside_sql(cls, value: Any, info: ValidationInfo) -> Any:
        if value and is_reference(info.data.get("calculation", "")):
            raise ValueError("expected it not to be set, as CALCULATION names Python code, which says that itself")
        return value

    @field_validator("with_")
    @classmethod
    def _only_with_each(cls, value: str, info: ValidationInfo) -> str:
        if value and "each" in info.data and info.data["each"] is None:
            raise ValueError("expected EACH to be set, too")
        names = [path[-1] for path in parse_paths(value)] if value else []
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"expected members with different names, and two would be `{twice}` in each element")
        return value

    @field_validator("output_prefix", "rejects_prefix", "checkpoint_prefix")
    @classmethod
    def _apart(cls, value: str, info: ValidationInfo) -> str:
        if value.startswith("/"):
            raise ValueError("expected no `/` at the start: S3's keys have none")
        bucket = info.data.get("output_bucket")
        is_input = bucket is not None and bucket in info.data.get("input_buckets", ())
        if not value and info.field_name != "output_prefix":
            raise ValueError("expected a prefix, to tell these keys from those of outputs")
        if not value and is_input:
            raise ValueError(
                f"expected a prefix, as {bucket} is the input bucket, too: each output would be a new input"
            )
        below = [one for one in info.data.get("input_prefixes", ()) if value and one.startswith(value)]
        if below and is_input:
            raise ValueError(
                f"expected INPUT_PREFIX to have nothing below it, as {bucket} is the input bucket, too, and what the"
                f" worker has written is never an input; it has {below[0]!r}"
            )
        for field in ("output_prefix", "rejects_prefix", "checkpoint_prefix"):
            other = info.data.get(field)  # missing if it is invalid, or comes after this one
            if other and (value.startswith(other) or other.startswith(value)):
                raise ValueError(f"expected neither to start with the other, {field.upper()} being {other!r}")
        return value

    @field_validator("output_key")
    @classmethod
    def _not_among_its_own(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and "output_prefix" in info.data:
            start = info.data["output_prefix"] + KeyTemplate.parse(value).start
            for field in ("rejects_prefix", "checkpoint_prefix"):
                if field in info.data and start.startswith(info.data[field]):
                    raise ValueError(f"expected no output below {field.upper()}, which is {info.data[field]!r}")
        return value

    @field_validator("dead_letter_queue")
    @classmethod
    def _another_queue(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and value == info.data.get("queue"):
            raise ValueError("expected another queue than the one that the messages come from")
        return value

    @field_validator("backfill_queue")
    @classmethod
    def _neither_of_the_others(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and value in (info.data.get("queue"), info.data.get("dead_letter_queue")):
            raise ValueError("expected another queue than the main one and the dead-letter queue")
        return value

    @field_validator("max_lease_s", "retry_max_s")
    @classmethod
    def _not_less(cls, value: float, info: ValidationInfo) -> float:
        field = {"max_lease_s": "visibility_timeout_s", "retry_max_s": "retry_min_s"}[cast("str", info.field_name)]
        if value < info.data.get(field, value):
            raise ValueError(f"expected at least {field.upper()}, which is {info.data[field]:g}")
        return value


def with_settings_as_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which the settings in the variable SETTINGS are variables of their own.

    Raises:
        SettingsError: Some are unknown, or set twice; the message has a line for each of them.
    """
    expanded, wrong = expand_settings(Settings.model_fields, environ)
    if wrong:
        raise SettingsError("\n".join(wrong))
    return expanded


def describe() -> list[tuple[str, str, str]]:
    """Return the name, the default and the meaning of each setting; the default is "" if it is empty or None."""
    return setting_texts.describe(Settings.model_fields)


def near_misses(environ: Mapping[str, str]) -> list[str]:
    """Return a sentence for each variable whose name is similar to that of a setting; values are not shown."""
    return setting_texts.near_misses(Settings.model_fields, environ)


def _is_text(text: str) -> bool:
    """Return whether a value is UTF-8 without NUL; bytes of the environment that are not become lone surrogates."""
    return not re.search("[\0\ud800-\udfff]", text)
