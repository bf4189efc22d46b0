"""What the worker makes of an object is what a run on a file makes of it, whatever the object is like."""

from __future__ import annotations

import bz2
import gzip
import lzma
import random
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode

import pytest

from transform import Calculation

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.deployment import Deployment

EXPRESSIONS = "a + 1 AS b, upper(name) AS name, a * x AS ax"
WHERE = "a % 7 <> 3"
CALCULATION = Calculation.from_sql(EXPRESSIONS, WHERE).drop("secret")
OBJECTS = 100  # more than all pairs of a format and a name
PART = 5 << 20

CODECS: dict[str, tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]] = {
    "": (bytes, bytes),
    ".gz": (gzip.compress, gzip.decompress),
    ".zst": (zstd.compress, zstd.decompress),
    ".bz2": (bz2.compress, bz2.decompress),
    ".xz": (lzma.compress, lzma.decompress),
}
NAMES = [
    "plain/{}.jsonl",
    "with space/{} and more.jsonl",
    "a+b/{}+c.jsonl",
    "100%/{}%41.jsonl",
    "日本/ключ-é-😀-{}.jsonl",
    "a/b//c/./{}.jsonl",
    "query/{}.jsonl?versionId=x",
    "x=1&y=2/{}#fragment.jsonl",
    "quotes/'{}'\"<>.jsonl",
    "folder {}/",
    "long/{}/" + "n" * 880,
    "é" * 400 + "/{}.jsonl",
]
SHORT_NAMES = "zZ0-~é+%"
ENCODED = "encoded/{}.jsonl"
SIZES = [0, 1, 2, 10, 300, 1000, 3000, 20_000]
HUGE = {63: 280_000, 85: 280_000}  # lines, in more than 16 MiB
DISTURBANCES = ["not JSON", "", "  \t", "[1]", '{"name":"\\ud83d","a":1,"x":0.5}']
LATE_DISTURBANCES = ['{"a":"text","x":1.0,"name":"n"}', '{"a":1,"x":1e400}']
"""Before the types of the columns are settled, these would fail the run."""


@dataclass(frozen=True)
class Given:
    """An object to be transformed."""

    key: str
    lines: bytes
    suffix: str
    encoding: str
    options: dict[str, Any]
    multipart: bool

    @property
    def content(self) -> bytes:
        return CODECS[self.suffix][0](self.lines)


def some_lines(chance: random.Random, count: int) -> bytes:
    """Return lines of one of several shapes."""
    shape = chance.choice(["plain", "disturbed", "widened", "crlf", "bom", "open"])
    end = "\r\n" if shape == "crlf" else "\n"
    made = []
    for number in range(count):
        a = f"{number}.25" if shape == "widened" and number == 2000 else str(number)
        secret = ',"secret":"s"' if number % 3 else ""
        made.append(f'{{"a": {a},"name":"näme {number}"{secret},"x":{number % 100}.50, "rest":[1,{{"k":null}}]}}')
        if shape == "disturbed" and number % 50 == 49:
            made.append(chance.choice(DISTURBANCES + LATE_DISTURBANCES * (number > 1100)))
    text = end.join(made) + (end if made and shape != "open" else "")
    return ("\ufeff" if shape == "bom" and made else "").encode() + text.encode()


def some_objects(chance: random.Random, objects: int) -> list[Given]:
    given = []
    for number in range(objects):
        suffix = [*CODECS][number % 7] if number % 7 < len(CODECS) else ""
        encoding = "gzip" if number % 7 == 6 else ""
        name = ENCODED if encoding else NAMES[number % len(NAMES)]
        key = name.format(number) + (suffix if not name.endswith("/") else "")
        suffix = ".gz" if encoding else suffix if key.endswith(suffix) else ""
        if number < len(SHORT_NAMES):
            key, suffix, encoding = SHORT_NAMES[number], "", ""
        options: dict[str, Any] = {"ContentType": chance.choice(["application/x-ndjson", "text/plain; charset=utf-8"])}
        if encoding:
            options["ContentEncoding"] = encoding
        if number % 4 == 1:
            options["StorageClass"] = chance.choice(["STANDARD_IA", "INTELLIGENT_TIERING", "ONEZONE_IA"])
        if number % 5 == 2:
            options["Tagging"] = urlencode({"team": f"a & b/{number}", "ключ": "=é+"})
        count = HUGE.get(number, chance.choice(SIZES[:-1] if number % 10 else SIZES))
        given.append(Given(key, some_lines(chance, count), suffix, encoding, options, multipart=chance.random() < 0.4))
    return given


def upload(deployment: Deployment, one: Given) -> None:
    """Upload an object as clients do: at once, or in parts."""
    s3, where, content = deployment.s3, {"Bucket": deployment.input, "Key": one.key}, one.content
    if not one.multipart:
        s3.put_object(**where, Body=content, **one.options)
        return
    options = {name: value for name, value in one.options.items() if name != "Tagging"}
    started = where | {"UploadId": s3.create_multipart_upload(**where, **options)["UploadId"]}
    parts = []
    for number, start in enumerate(range(0, max(len(content), 1), PART), 1):
        answer = s3.upload_part(**started, PartNumber=number, Body=content[start : start + PART])
        parts.append({"PartNumber": number, "ETag": answer["ETag"]})
    s3.complete_multipart_upload(**started, MultipartUpload={"Parts": parts})
    tags = parse_qsl(one.options.get("Tagging", ""))  # which ministack does not take from the start of an upload
    s3.put_object_tagging(**where, Tagging={"TagSet": [{"Key": key, "Value": value} for key, value in tags]})


@pytest.mark.parametrize("objects", [OBJECTS, pytest.param(2 * OBJECTS, marks=pytest.mark.slow)])
def test_every_output_is_what_a_run_on_a_file_gives(objects: int, deployment: Deployment, tmp_path: Path) -> None:
    given = some_objects(random.Random(1), objects)
    assert len({one.key for one in given}) == objects
    assert sum(len(one.lines) > 16 << 20 for one in given) == len(HUGE)
    for one in given:
        upload(deployment, one)
    settings = {"CALCULATION": EXPRESSIONS, "WHERE": WHERE, "DROP": "secret", "SCHEMA": None, "WORKERS": "2"}
    log = deployment.drain(env=settings)
    assert deployment.waiting() == (0, 0, 0)
    assert deployment.dead() == []
    assert sum(line.get("event") == "done" for line in log) == objects

    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    for one in given:
        source.write_bytes(one.lines)
        summary = CALCULATION.run(source, target, rejects=tmp_path / "rejects.jsonl")
        found = deployment.s3.get_object(Bucket=deployment.output, Key=f"output/{one.key}")
        assert CODECS[one.suffix][1](found["Body"].read()) == target.read_bytes(), one.key
        for name in ("ContentType", "ContentEncoding", "StorageClass"):
            assert found.get(name) == one.options.get(name), (one.key, name)
        tags = deployment.s3.get_object_tagging(Bucket=deployment.output, Key=f"output/{one.key}")["TagSet"]
        assert urlencode({tag["Key"]: tag["Value"] for tag in tags}) == one.options.get("Tagging", "")
        stored = [key for key in deployment.stored_keys(f"rejects/{one.key}/") if not key.endswith("index.json")]
        kept = b"".join(deployment.content(key) or b"" for key in sorted(stored))
        assert kept == ((tmp_path / "rejects.jsonl").read_bytes() if summary.rejected else b""), one.key
    assert sorted(deployment.stored_keys("output/")) == sorted(f"output/{one.key}" for one in given)
    assert deployment.stored_keys("checkpoints/") == deployment.uploads() == []
