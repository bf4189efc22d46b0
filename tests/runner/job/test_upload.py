"""An output is encoded as its own key and headers say, whatever the input was said to be."""

from __future__ import annotations

import bz2
import gzip
import lzma
import sys
from typing import TYPE_CHECKING

import pytest

from runner.job.protocol import JobResult
from tests.support.example import lines, transformed

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.deployment import Deployment
    from tests.support.jobs import Jobs

CONTENT, EXPECTED = lines(20), transformed(20)
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda content: gzip.compress(content, mtime=0),
    "zstd": zstd.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
}
DECOMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    "gzip": gzip.decompress,
    "zstd": zstd.decompress,
    "bz2": bz2.decompress,
    "xz": lzma.decompress,
}
SUFFIXES = {"": "", "gzip": ".gz", "zstd": ".zst", "bz2": ".bz2", "xz": ".xz"}
OTHERS = {"gzip": "zstd", "zstd": "bz2", "bz2": "xz", "xz": "gzip"}


def headers_of(deployment: Deployment, key: str) -> tuple[str, bytes]:
    """Return the encoding and the bytes of an output."""
    found = deployment.s3.get_object(Bucket=deployment.output, Key=f"output/{key}")
    return found.get("ContentEncoding", ""), found["Body"].read()


KINDS = {
    "gzip": ("empty", "plain", "right", "another", "truncated"),
    "zstd": ("right",),
    "bz2": ("truncated",),
    "xz": ("another",),
}
"""What `make test` tries of each format."""


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        pytest.param(name, kind, marks=() if kind in KINDS[name] else pytest.mark.slow)
        for name in COMPRESS
        for kind in KINDS["gzip"]
    ],
)
def test_an_output_is_what_its_key_and_its_headers_say(name: str, kind: str, jobs: Jobs) -> None:
    other = OTHERS[name]
    body = {
        "empty": b"",
        "plain": CONTENT,
        "right": COMPRESS[name](CONTENT),
        "another": COMPRESS[other](CONTENT),
        "truncated": COMPRESS[name](CONTENT)[:-5],
    }[kind]
    cases = {
        # Format that the key names, encoding of the input: format of the output, its encoding.
        ("", ""): ("", ""),
        ("", name): (name, name),
        ("", "UTF-8"): ("", ""),
        ("", "br"): ("", ""),
        ("", f"identity, {name.upper()}"): (name, name.upper()),
        ("", f"{name}, {name}"): ("", ""),
        (name, ""): (name, ""),
        (name, name): (name, name),
        (name, other): (name, ""),
        (name, "none"): (name, ""),
        (other, name): (other, ""),
    }
    for number, ((named, encoding), wanted) in enumerate(cases.items()):
        key = f"in/{number}.jsonl{SUFFIXES[named]}"
        jobs.deployment.put(key, body, **({"ContentEncoding": encoding} if encoding else {}))
        outcome = jobs.do(jobs.event(key=key))
        if kind == "truncated":
            assert outcome.kind is JobResult.FAILED
            assert f"truncated: the {name} data ends before its end mark" in outcome.reason
            assert jobs.deployment.output_of(key) is None
            continue
        assert outcome.kind is JobResult.DONE, (named, encoding, outcome.reason)
        said, stored = headers_of(jobs.deployment, key)
        assert (DECOMPRESS[wanted[0]](stored), said) == (EXPECTED if body else b"", wanted[1]), (named, encoding)
    assert jobs.left() == []


def test_the_summary_of_a_job_has_a_note_on_each_wrong_label(jobs: Jobs) -> None:
    jobs.deployment.put("in.jsonl.gz", CONTENT, ContentEncoding="zstd")
    outcome = jobs.do(jobs.event(key="in.jsonl.gz"))
    assert outcome.summary["notes"] == [
        "named like gzip, but the content is not compressed",
        "its Content-Encoding is `zstd`, but the content is not compressed",
    ]
