"""The types of settings, each with a parser and with the words that messages use for it."""

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator
from pydantic_settings import NoDecode

from runner.key_template import KeyTemplate
from transform import parse_names, parse_paths, parse_rules, parse_size

_SIZE_UNITS = "kmg"
_BUCKET = re.compile(r"[A-Za-z0-9._-]{3,255}")
_SIZE_DIGITS = re.compile(r"[0-9]{1,15}(\.[0-9]{1,9})?\D*")


def _matches(pattern: str) -> AfterValidator:
    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError
        return text

    return AfterValidator(check)


def read_size(text: str) -> int:
    """Return the number of bytes of a size as it is written in settings: up to 15 ASCII digits, and units up to GiB.

    Raises:
        ValueError: The text is not such a size.

    Example:
        >>> read_size("64KiB")
        65536
    """
    size = parse_size(text, _SIZE_UNITS) if _SIZE_DIGITS.fullmatch(text.strip()) else None
    if size is None:
        raise ValueError
    return size


def _parse_size(value: object) -> object:
    return read_size(value) if isinstance(value, str) else value


def _parse_names(value: object) -> object:
    return parse_names(value) if isinstance(value, str) else value


def _parse_buckets(value: object) -> object:
    if not isinstance(value, str):
        return value
    return tuple(dict.fromkeys(name.strip() for name in value.split(",")))


def _check_buckets(names: tuple[str, ...]) -> tuple[str, ...]:
    if not names or not all(_BUCKET.fullmatch(name) for name in names):
        raise ValueError
    return names


def _check_template(text: str) -> str:
    KeyTemplate.parse(text)
    return text


def _parse_types(value: object) -> object:
    if not isinstance(value, str):
        return value
    declared = [part.rpartition("=") for part in value.split(";") if part.strip()]
    types = {name.strip(): dtype.strip() for name, _, dtype in declared}
    if not all(types) or not all(types.values()) or len(types) < len(declared):
        raise ValueError
    return types


def _check_rules(text: str) -> str:
    if text.strip():
        parse_rules(text)
    return text


def _check_array(text: str) -> str:
    if len(parse_paths(text)) != 1:
        raise ValueError
    return text


def _check_paths(text: str) -> str:
    if text:
        parse_paths(text)
    return text


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


# Each type ends with the words that messages use for it.
Calculation = Annotated[str, "path/file.py[:name], package.module:name, or SQL such as a * b AS c"]
Condition = Annotated[str, "a condition such as stars > 3"]
Bucket = Annotated[str, _matches(_BUCKET.pattern), "the name of a bucket, without s3:// or a key"]
Buckets = Annotated[
    tuple[str, ...],
    NoDecode,
    BeforeValidator(_parse_buckets),
    AfterValidator(_check_buckets),
    "the name of a bucket, without s3:// or a key; several are separated by commas",
]
Queue = Annotated[
    str,
    _matches(r"[\w-]{1,80}(\.fifo)?|https?://[^\s/]+/\S+|arn:aws[\w-]*:sqs:[^:\s]+:[0-9]+:[\w.-]+"),
    "the name, URL or ARN of a queue",
]
Topic = Annotated[
    str,
    _matches(r"arn:aws[\w-]*:sns:[a-z0-9-]+:[0-9]{12}:[\w-]{1,256}"),
    "the ARN of a standard topic, such as arn:aws:sns:eu-central-1:111122223333:outcomes",
]
Bus = Annotated[
    str,
    _matches(r"[\w./-]{1,256}|arn:aws[\w-]*:events:[a-z0-9-]+:[0-9]{12}:event-bus/[\w./-]{1,256}"),
    "the name or ARN of an event bus, such as arn:aws:events:eu-central-1:111122223333:event-bus/outcomes",
]
Region = Annotated[str, _matches(r"[a-z0-9]+(-[a-z0-9]+)+"), "a region such as eu-central-1"]
Names = Annotated[
    tuple[str, ...],
    NoDecode,
    BeforeValidator(_parse_names),
    'names separated by commas, one with a comma in double quotes, as "a,b"',
]
KeyParts = Annotated[
    tuple[str, ...],
    NoDecode,
    BeforeValidator(_parse_names),
    'texts separated by commas, one with a comma in double quotes, as "a,b"',
]
OutputKey = Annotated[
    str,
    AfterValidator(_check_template),
    "a template such as {dir}{stem}.scored.jsonl.zst, with the fields {bucket}, {key}, {dir}, {name}, {stem}, {suffix}"
    " and {date:%Y/%m/%d}",
]
Types = Annotated[
    Mapping[str, str],
    NoDecode,
    BeforeValidator(_parse_types),
    AfterValidator(MappingProxyType),
    "types such as stars=Float64; review_count=Int64, each name once",
]
Rules = Annotated[
    str, AfterValidator(_check_rules), "conditions, each with a reason, such as stars < 0: negative stars; city IS NULL"
]
Prefix = Annotated[str, "the start of keys, such as output/"]
Share = Annotated[
    str, _matches(r"[0-9]+|(100(\.0*)?|[0-9]{1,2}(\.[0-9]*)?)%"), "a number of lines such as 100 or a share such as 5%"
]
Percentage = Annotated[
    str,
    _matches(r"(100(\.0*)?|(?=[0-9.]*[1-9])[0-9]{1,2}(\.[0-9]*)?)%"),
    "a share above 0%, up to 100%, such as 50%",
]
Size = Annotated[int, BeforeValidator(_parse_size), "a size such as 64KiB, 10MB or 5000"]
Count = Annotated[int, "a whole number"]
WholeSeconds = Annotated[int, "a whole number of seconds"]
Seconds = Annotated[float, "a number of seconds"]
File = Annotated[Path, "the path of a file"]
Namespace = Annotated[str, _matches(r"(?!AWS/)[A-Za-z0-9._/#-]{1,255}"), "a namespace such as JsonlTransform"]
Format = Annotated[Literal["lines", "json"], BeforeValidator(_lower), "`lines` or `json`"]
Array = Annotated[str, AfterValidator(_check_array), "the path of an array, such as Records or detail.items"]
Paths = Annotated[str, AfterValidator(_check_paths), "paths of members, such as account, detail.region"]
Policy = Annotated[Literal["reject", "fail"], BeforeValidator(_lower), "`reject` or `fail`"]
After = Annotated[Literal["keep", "tag", "delete"], BeforeValidator(_lower), "`keep`, `tag` or `delete`"]
Tag = Annotated[
    str,
    _matches(r"(?!(?i:aws:))[\w .:/+@-]{1,128}=[\w .:/=+@-]{0,256}"),
    "a name and a value such as jsonl-transform=done",
]
Level = Annotated[
    Literal["debug", "info", "warning", "error", "critical"],
    BeforeValidator(_lower),
    "debug, info, warning, error or critical",
]
