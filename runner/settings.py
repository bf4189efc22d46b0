"""All configuration of the worker, as one validated object that does not change.

The environment enters here, once, when `read_settings` is called. What a setting is named, means and may be is said by
its field alone; the messages about wrong ones and the reference page are derived from that.
"""

import difflib
import re
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self, cast, get_args

from pydantic import (
    AfterValidator,
    AliasChoices,
    AliasGenerator,
    BeforeValidator,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from runner.errors import SettingsError
from runner.health import HEALTH_FILE

_MIB = 2**20
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}
_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?)\s*([kmg]i?)?b?", re.IGNORECASE)
_REFERENCE = re.compile(r".*\.py(:\w+)?|[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*", re.DOTALL)
_SHOWN_CHARACTERS = 80
_NEAR = 0.85
"""How alike two names are, from 0 to 1, where one is taken for a slip of the pen: one letter of seven may differ."""


def _matches(pattern: str) -> AfterValidator:
    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError
        return text

    return AfterValidator(check)


def _parse_size(value: object) -> object:
    if not isinstance(value, str):
        return value
    if not (match := _SIZE.fullmatch(value.strip())):
        raise ValueError
    return int(Fraction(match[1]) * _UNITS[(match[2] or "").lower()])


def _parse_names(value: object) -> object:
    return [name.strip() for name in value.split(",") if name.strip()] if isinstance(value, str) else value


def _parse_types(value: object) -> object:
    if not isinstance(value, str):
        return value
    declared = [part.rpartition("=") for part in value.split(";") if part.strip()]
    types = {name.strip(): dtype.strip() for name, _, dtype in declared}
    if not all(types) or not all(types.values()) or len(types) < len(declared):
        raise ValueError
    return types


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


# What a value can be, in the words of a message.
_Calculation = Annotated[str, "path/file.py[:name], package.module:name, or SQL such as a * b AS c"]
_Condition = Annotated[str, "a condition such as stars > 3"]
_Bucket = Annotated[str, _matches(r"[A-Za-z0-9._-]{3,255}"), "the name of a bucket, without s3:// or a key"]
_Queue = Annotated[
    str,
    _matches(r"[\w-]{1,80}(\.fifo)?|https?://[^\s/]+/\S+|arn:aws[\w-]*:sqs:[^:\s]+:[0-9]+:[\w.-]+"),
    "the name, URL or ARN of a queue",
]
_Region = Annotated[str, _matches(r"[a-z0-9]+(-[a-z0-9]+)+"), "a region such as eu-central-1"]
_Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_parse_names), "names separated by commas"]
_Types = Annotated[
    Mapping[str, str],
    NoDecode,
    BeforeValidator(_parse_types),
    AfterValidator(MappingProxyType),
    "types such as stars=Float64; review_count=Int64, each name once",
]
_Prefix = Annotated[str, "the start of keys, such as output/"]
_Share = Annotated[
    str, _matches(r"[0-9]+|(100(\.0*)?|[0-9]{1,2}(\.[0-9]*)?)%"), "a number of lines such as 100 or a share such as 5%"
]
_Size = Annotated[int, BeforeValidator(_parse_size), "a size such as 64KiB, 10MB or 5000"]
_Count = Annotated[int, "a whole number"]
_WholeSeconds = Annotated[int, "a whole number of seconds"]
_Seconds = Annotated[float, "a number of seconds"]
_File = Annotated[Path, "the path of a file"]
_Namespace = Annotated[str, _matches(r"(?!AWS/)[A-Za-z0-9._/#-]{1,255}"), "a namespace such as JsonlTransform"]
_Policy = Annotated[Literal["reject", "fail"], BeforeValidator(_lower), "`reject` or `fail`"]
_Level = Annotated[
    Literal["debug", "info", "warning", "error", "critical"],
    BeforeValidator(_lower),
    "debug, info, warning, error or critical",
]


class Settings(BaseSettings):
    """What the worker is told. Each field says by itself how it is set; most by its name in capitals."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        populate_by_name=True,
        alias_generator=AliasGenerator(validation_alias=str.upper),
    )

    input_bucket: _Bucket = Field(
        validation_alias=AliasChoices("S3_INPUT_BUCKET", "s3InputBucket"), description="Bucket that objects arrive in"
    )
    output_bucket: _Bucket = Field(
        validation_alias=AliasChoices("S3_OUTPUT_BUCKET", "s3OutputBucket"),
        description="Bucket for outputs, rejected lines and checkpoints",
    )
    queue: _Queue = Field(
        validation_alias=AliasChoices("SQS_BATCH_QUEUE", "SQSBatchQueue"), description="Queue that S3's events are on"
    )
    region: _Region | None = Field(
        default=None,
        validation_alias=AliasChoices("AWSRegion", "AWS_REGION", "AWS_DEFAULT_REGION"),
        description="AWS region, where the environment does not tell otherwise",
    )
    calculation: _Calculation = Field(description="What to compute")
    where: _Condition = Field(default="", description="SQL condition that a line meets to be kept; only beside SQL")
    schema_: _Types = Field(default={}, validation_alias="SCHEMA", description="Types of columns; only beside SQL")
    drop: _Names = Field(default=(), description="Members to take out of the lines; only beside SQL")
    select: _Names = Field(default=(), description="Members to keep, beside the results; only beside SQL")
    output_prefix: _Prefix = Field(default="output/", description="Where outputs go; none if set to nothing")
    rejects_prefix: _Prefix = Field(default="rejects/", description="Where rejected lines go")
    checkpoint_prefix: _Prefix = Field(default="checkpoints/", description="Where notes on unfinished jobs go")
    on_error: _Policy = Field(default="reject", description="What a bad line does: it is put aside, or fails the job")
    max_rejects: _Share | None = Field(
        default=None, description="More bad lines than this fail the job; if not set, any will do"
    )
    max_line_bytes: _Size = Field(default=32 * _MIB, ge=1, le=1024 * _MIB, description="Longer lines are rejected")
    part_bytes: _Size = Field(
        default=16 * _MIB, ge=5 * _MIB, le=5 * 1024 * _MIB, description="Size of the parts of an upload"
    )
    range_bytes: _Size = Field(
        default=16 * _MIB, ge=2**16, le=1024 * _MIB, description="Size of the ranges of an input"
    )
    workers: _Count | None = Field(
        default=None, ge=1, le=1024, description="Processes of one job; if not set, one for each core"
    )
    dead_letter_queue: _Queue | None = Field(
        default=None,
        description="Queue for messages that cannot succeed; if not set, that of the queue's redrive policy",
    )
    visibility_timeout_s: _WholeSeconds = Field(
        default=120, ge=5, le=43200, description="How long a message stays invisible unless that is extended"
    )
    max_lease_s: _WholeSeconds = Field(
        default=42000,
        ge=10,
        le=43200,
        description="How long one receive may be extended for, SQS having a limit of 43200 s",
    )
    max_job_s: _Seconds | None = Field(
        default=None, gt=0, description="A job is handed back after so long; if not set, as MAX_LEASE_S says"
    )
    max_attempts: _Count | None = Field(
        default=None,
        ge=1,
        le=1000,
        description="Attempts at a job; if not set, the queue's maxReceiveCount, or 5 without one",
    )
    retry_min_s: _Seconds = Field(default=5.0, ge=0, le=43200, description="Delay before the first retry")
    retry_max_s: _Seconds = Field(default=900.0, ge=0, le=43200, description="Longest delay before a retry")
    breaker_failures: _Count = Field(
        default=3, ge=1, description="So many failures in a row with one cause stop the worker"
    )
    poll_wait_s: _WholeSeconds = Field(default=10, ge=0, le=20, description="How long one receive waits for a message")
    stop_timeout_s: _Seconds = Field(
        default=15.0, gt=0, description="How long a job has to hand itself back on SIGTERM"
    )
    progress_s: _Seconds = Field(default=30.0, gt=0, description="How often a running job logs how far it is")
    protect_max_s: _Seconds = Field(
        default=2880 * 60.0, ge=60, description="How long a busy task may be protected from scale-in, at most"
    )
    health_file: _File = Field(default=Path(HEALTH_FILE), description="File that the worker's health check reads")
    log_level: _Level = Field(default="info", description="Least level that is logged")
    metrics_namespace: _Namespace = Field(default="JsonlTransform", description="CloudWatch namespace of the metrics")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 # the base class calls it by these names
        init_settings: PydanticBaseSettingsSource,
        *_: Any,
        **__: Any,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take what is given, and nothing from the process's own environment."""
        return (init_settings,)

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Self:
        """Return the settings that the variables stand for; a variable that is set to nothing is not set.

        Raises:
            SettingsError: Some are wrong; it has a line on each of them.

        Example:
            >>> Settings.read({"s3InputBucket": "incoming", "S3_OUTPUT_BUCKET": "outgoing", "WORKERS": "many"})
            Traceback (most recent call last):
            runner.errors.SettingsError: SQS_BATCH_QUEUE: not set, expected the name, URL or ARN of a queue
            CALCULATION: not set, expected path/file.py[:name], package.module:name, or SQL such as a * b AS c
            WORKERS: found 'many', expected a whole number from 1 to 1024
        """
        known = {name for field in cls.model_fields.values() for name in _names(field)}
        given = {name: text.strip() for name, text in environ.items() if name in known and text.strip()}
        if "OUTPUT_PREFIX" in environ:  # nothing is a good prefix, other than that which is there by default
            given["OUTPUT_PREFIX"] = environ["OUTPUT_PREFIX"].strip()
        source = EnvSettingsSource(cls, case_sensitive=True)
        source.env_vars = given
        wrong = [*_contradictions(given)]
        try:
            settings = cls(**source())
        except ValidationError as error:
            wrong += [_explain(found, given) for found in error.errors(include_url=False)]
        if wrong:
            raise SettingsError("\n".join(wrong))
        return settings

    @property
    def is_reference(self) -> bool:
        """Whether the calculation is a reference to Python code, rather than SQL text."""
        return _is_reference(self.calculation)

    @field_validator("where", "schema_", "drop", "select")
    @classmethod
    def _only_beside_sql(cls, value: Any, info: ValidationInfo) -> Any:
        if value and _is_reference(info.data.get("calculation", "")):
            raise ValueError("expected it not to be set, as CALCULATION names Python code, which says that itself")
        return value

    @field_validator("output_prefix", "rejects_prefix", "checkpoint_prefix")
    @classmethod
    def _apart(cls, value: str, info: ValidationInfo) -> str:
        if value.startswith("/"):
            raise ValueError("expected no `/` at the start: S3's keys have none")
        bucket = info.data.get("output_bucket")
        if not value and info.field_name != "output_prefix":
            raise ValueError("expected a prefix, to tell these keys from those of outputs")
        if not value and bucket is not None and bucket == info.data.get("input_bucket"):
            raise ValueError(
                f"expected a prefix, as {bucket} is the input bucket, too: each output would be a new input"
            )
        for field in ("output_prefix", "rejects_prefix", "checkpoint_prefix"):
            other = info.data.get(field)  # there if it comes before this one, and is good
            if other and (value.startswith(other) or other.startswith(value)):
                raise ValueError(f"expected neither to start with the other, {field.upper()} being {other!r}")
        return value

    @field_validator("dead_letter_queue")
    @classmethod
    def _another_queue(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and value == info.data.get("queue"):
            raise ValueError("expected another queue than the one that the messages come from")
        return value

    @field_validator("max_lease_s", "retry_max_s")
    @classmethod
    def _not_less(cls, value: float, info: ValidationInfo) -> float:
        field = {"max_lease_s": "visibility_timeout_s", "retry_max_s": "retry_min_s"}[cast("str", info.field_name)]
        if value < info.data.get(field, value):
            raise ValueError(f"expected at least {field.upper()}, which is {info.data[field]:g}")
        return value


read_settings = Settings.read


def describe() -> list[tuple[str, str, str]]:
    """Return the name, the default and the meaning of each setting; the default is `` where it is none."""
    rows = []
    for field in Settings.model_fields.values():
        name, *others = _names(field)
        default = "required" if field.is_required() else _say(field, field.default)
        also = f" (also read: {', '.join(others)})" if others else ""
        rows.append((name, default, f"{field.description}: {_expected(field)}{also}"))
    return rows


def near_misses(environ: Mapping[str, str]) -> list[str]:
    """Return a sentence for each variable that is nearly named as a setting, but not quite; values are not shown."""
    known = [name for field in Settings.model_fields.values() for name in _names(field)]
    plain = {_plain(name): name for name in reversed(known)}
    sentences = []
    for name in sorted(environ.keys() - set(known)):
        if not name.upper().startswith(("AWS_", "ECS_")):  # those have names enough of their own
            sentences += [
                f"{name} is not a setting; did you mean {plain[near]}?"
                for near in difflib.get_close_matches(_plain(name), plain, n=1, cutoff=_NEAR)
            ]
    return sentences


def _is_reference(calculation: str) -> bool:
    return _REFERENCE.fullmatch(calculation) is not None


def _plain(name: str) -> str:
    return name.upper().replace("_", "")


def _names(field: FieldInfo) -> list[str]:
    alias = field.validation_alias
    return [str(name) for name in alias.choices] if isinstance(alias, AliasChoices) else [str(alias)]


def _contradictions(given: Mapping[str, str]) -> Iterator[str]:
    """Yield a line for each setting that is given under two names, and differently."""
    for name, field in Settings.model_fields.items():
        values = {variable: given[variable] for variable in _names(field) if variable in given}
        if len(set(values.values())) > 1 and name != "region":  # ECS and users may well set AWS_REGION differently
            shown = ", ".join(f"{variable}={_shown(value)}" for variable, value in values.items())
            yield f"{' and '.join(values)}: found {shown}, expected one of them or the same value twice"


def _explain(error: Any, given: Mapping[str, str]) -> str:
    """Return the line on one wrong setting: its name as it was written, what was found, what was expected."""
    place = str(error["loc"][0])
    field = next(f for key, f in Settings.model_fields.items() if place in (key, *_names(f)))
    expected = str(error.get("ctx", {}).get("error", "")) or f"expected {_expected(field)}"
    name = next((name for name in _names(field) if name in given), None)
    if name is None and field.is_required():
        return f"{_names(field)[0]}: not set, {expected}"
    if name is None:
        return f"{_names(field)[0]}: not set, {_say(field, field.default)} by default, {expected}"
    return f"{name}: found {_shown(given[name])}, {expected}"


def _shown(value: str) -> str:
    hidden = re.sub(r"//[^/@\s]*@", "//…@", value)  # the user and password of a URL
    return repr(hidden if len(hidden) <= _SHOWN_CHARACTERS else f"{hidden[:_SHOWN_CHARACTERS]}…")


def _expected(field: FieldInfo) -> str:
    """Return what a setting can be, as its type says it, and its limits."""
    limits = [
        f"{words} {_say(field, getattr(part, sign))}"
        for part in _metadata(field)
        for sign, words in (("gt", "above"), ("ge", "from"), ("le", "to"))
        if hasattr(part, sign)
    ]
    return " ".join([_kind(field), *limits])


def _say(field: FieldInfo, value: object) -> str:
    """Return a value as one would write it; nothing where there is none."""
    if isinstance(value, int) and _kind(field).startswith("a size"):
        unit = next(unit for unit in ("gi", "mi", "ki", "") if value % _UNITS[unit] == 0)
        return f"{value // _UNITS[unit]}{unit.capitalize()}B" if unit else str(value)
    if isinstance(value, float):
        return f"{value:.10g}"
    return str(value) if value or isinstance(value, int) else ""


def _kind(field: FieldInfo) -> str:
    return next(part for part in _metadata(field) if isinstance(part, str))


def _metadata(field: FieldInfo) -> list[Any]:
    """Return what is annotated: at the type, or, where it may be None, at the other arm of the union."""
    arms = get_args(field.annotation)
    return [*field.metadata, *(part for arm in arms for part in getattr(arm, "__metadata__", ()))]
