"""Whatever a name and a `Content-Encoding` say, an input is read as what it is, or not at all."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import random
import sys
import zlib
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.example import ARGUMENTS, CALCULATION, lines, transformed
from transform import Calculation, InputError, LineFunction, SourceChangedError, read_rejects
from transform.io.compression import Labels, codec_of_name
from transform.io.sources import Position, open_source

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Command

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda content: gzip.compress(content, mtime=0),
    "zstd": zstd.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
}
DECOMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.decompress,
    "zstd": zstd.decompress,
    "bz2": bz2.decompress,
    "xz": lzma.decompress,
}
SUFFIXES = {"gzip": ".gz", "zstd": ".zst", "bz2": ".bz2", "xz": ".xz"}
OTHERS = {"gzip": "zstd", "zstd": "bz2", "bz2": "xz", "xz": "gzip"}
CONTENT, EXPECTED = lines(20), transformed(20)
every_format = pytest.mark.parametrize("name", COMPRESS)

STORED: dict[str, Callable[[str], bytes]] = {
    "empty": lambda _: b"",
    "plain": lambda _: CONTENT,
    "right": lambda name: COMPRESS[name](CONTENT),
    "right and empty": lambda name: COMPRESS[name](b""),
    "another": lambda name: COMPRESS[OTHERS[name]](CONTENT),
    "truncated": lambda name: COMPRESS[name](CONTENT)[:-5],
}
"""What an input may be, by kind: its bytes, given the format that the labels are about."""
NAMES: dict[str, Callable[[str], str]] = {
    "right": lambda name: f"in{SUFFIXES[name]}",
    "right, in capitals": lambda name: f"IN{SUFFIXES[name].upper()}",
    "another": lambda name: f"in{SUFFIXES[OTHERS[OTHERS[name]]]}",
    "none": lambda _: "in.jsonl",
}
ENCODINGS: dict[str, Callable[[str], str]] = {
    "none": lambda _: "",
    "right": lambda name: name,
    "right, and no other": lambda name: f"{name.upper()}, identity",
    "another": lambda name: OTHERS[OTHERS[name]],
    "several": lambda name: f"{name}, {name}",
    "not read": lambda _: "br",
    "no compression": lambda _: "UTF-8",
}
NO_COMPRESSION = ("UTF-8", "utf-8", "none", "identity", "application/json", "text", "null", ",", "*", "gzipped")
NOT_READ = ("br", "BR", "deflate", "compress", "x-compress", "dcb", "dcz", "exi", "aes128gcm", "pack200-gzip", "brotli")


def format_of(kind: str, name: str) -> str | None:
    """Return the format that the stored bytes of a kind have."""
    return {"right": name, "right and empty": name, "truncated": name, "another": OTHERS[name]}.get(kind)


def notes_of(kind: str, name: str, named: str, encoding: str) -> list[str]:
    """Return what must be noted of an input, by the kinds of its content and its labels."""
    found = format_of(kind, name)
    what = f"but the content is {found or 'not compressed'}"
    promised = {"right": name, "right, in capitals": name, "another": OTHERS[OTHERS[name]]}.get(named, found)
    codings = {
        "right": name,
        "right, and no other": name,
        "another": OTHERS[OTHERS[name]],
        "several": "several",
        "not read": "br",
    }.get(encoding, found)
    notes = [f"named like {promised}, {what}"] if promised != found else []
    notes += [f"its Content-Encoding is `{ENCODINGS[encoding](name)}`, {what}"] if codings != found else []
    return [] if kind == "empty" else notes


def check_run(kind: str, source: str, target: Path, notes: list[str]) -> None:
    """Run a calculation, and check its output by the kind of the input's content alone."""
    target.write_bytes(b"old")
    if kind == "truncated":
        with pytest.raises(InputError, match=r"(in|IN)[^ ]*: truncated: the \w+ data ends before its end mark"):
            CALCULATION.run(source, target)
        assert target.read_bytes() == b"old"
        return
    summary = CALCULATION.run(source, target)
    content = b"" if "empty" in kind else CONTENT
    assert target.read_bytes() == (EXPECTED if content else b"")
    assert (summary.bytes_in, summary.rejected) == (len(content), 0)
    assert summary.notes == notes


@every_format
@pytest.mark.parametrize("kind", STORED)
def test_a_file_is_read_as_what_it_is(name: str, kind: str, tmp_path: Path) -> None:
    for named, name_of in NAMES.items():
        source = tmp_path / name_of(name)
        source.write_bytes(STORED[kind](name))
        check_run(kind, str(source), tmp_path / "out", notes_of(kind, name, named, "none"))


KINDS = {"gzip": set(STORED), "zstd": {"right"}, "bz2": {"truncated", "right and empty"}, "xz": {"another"}}
"""What `make test` tries of each format, of objects."""


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        pytest.param(name, kind, marks=() if kind in KINDS[name] else pytest.mark.slow)
        for name in COMPRESS
        for kind in STORED
    ],
)
def test_an_object_is_read_as_what_it_is(name: str, kind: str, s3: Any, bucket: str, tmp_path: Path) -> None:
    for named, name_of in NAMES.items():
        for encoding, encoding_of in ENCODINGS.items():
            key, labels = name_of(name), {"ContentEncoding": encoding_of(name)} if encoding != "none" else {}
            s3.put_object(Bucket=bucket, Key=key, Body=STORED[kind](name), **labels)
            check_run(kind, f"s3://{bucket}/{key}", tmp_path / "out", notes_of(kind, name, named, encoding))


@every_format
def test_an_empty_file_gives_an_empty_output_in_the_format_of_its_name(name: str, tmp_path: Path) -> None:
    source = tmp_path / f"in{SUFFIXES[name]}"
    source.touch()
    for suffix, decompress in (("", bytes), *((SUFFIXES[other], DECOMPRESS[other]) for other in COMPRESS)):
        target, like = tmp_path / f"out{suffix}", tmp_path / f"like{suffix}"
        CALCULATION.run(source, target)
        CALCULATION.run(io.BytesIO(), like)
        assert decompress(target.read_bytes()) == b""
        assert target.read_bytes() == like.read_bytes(), "as of an empty file of any name"


@every_format
@pytest.mark.parametrize(
    "content", [b"\n", b" \r\n\t", b"", b"[1]\n", b"x" * 1000, b"BZip", CONTENT, b"\xef\xbb\xbf{}"]
)
def test_what_is_no_more_than_named_like_a_format_is_plain(name: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"in{SUFFIXES[name]}"
    path.write_bytes(content)
    with open_source(path) as reader:
        assert (reader.codec, reader.version is None) == (None, False), "it can be read in ranges"
        view = memoryview(bytearray(5000))
        count = 0
        while read := reader.read_into(view[count:]):
            count += read
        assert view[:count] == content
        reader.check_whole()


@every_format
def test_what_is_shorter_than_what_shows_its_format_is_truncated(
    name: str, s3: Any, bucket: str, tmp_path: Path
) -> None:
    magic = {"gzip": b"\x1f\x8b", "zstd": b"\x28\xb5\x2f\xfd", "bz2": b"BZh", "xz": b"\xfd7zXZ\x00"}[name]
    for size in range(1, len(magic) + 1):
        path, key = tmp_path / f"in{SUFFIXES[name]}", "in.jsonl"
        path.write_bytes(magic[:size])
        s3.put_object(Bucket=bucket, Key=key, Body=magic[:size], ContentEncoding=name)
        for source in (path, f"s3://{bucket}/{key}"):
            with pytest.raises(InputError, match=rf"in[^ ]*: truncated: the {name} data"):
                CALCULATION.run(source, tmp_path / "out")


@every_format
def test_a_damaged_start_is_not_taken_for_text(name: str, s3: Any, bucket: str, tmp_path: Path) -> None:
    """Of what hardly compresses, lines would follow that are whole."""
    chance = random.Random(name)
    content = chance.randbytes(3000) + b"\n" + CONTENT
    data = bytearray(COMPRESS[name](content))
    data[0] ^= 0x40
    path, key = tmp_path / f"in{SUFFIXES[name]}", "in.jsonl"
    path.write_bytes(data)
    s3.put_object(Bucket=bucket, Key=key, Body=bytes(data), ContentEncoding=name)
    with pytest.raises(InputError, match=rf"^{path}: named like {name}, but the content is neither {name} nor text$"):
        CALCULATION.run(path, tmp_path / "out")
    with pytest.raises(InputError, match=rf"its Content-Encoding is `{name}`, but .* neither {name} nor text"):
        CALCULATION.run(f"s3://{bucket}/{key}", tmp_path / "out")


@every_format
def test_what_is_compressed_twice_is_an_error_where_a_label_says_so(
    name: str, s3: Any, bucket: str, tmp_path: Path
) -> None:
    other = OTHERS[name]
    twice = COMPRESS[other](COMPRESS[name](CONTENT))
    for key, encoding, reason in (
        (f"in{SUFFIXES[name]}", other, f"named like {name}, but the content is neither {name} nor text"),
        ("in.jsonl", f"{name}, {other}", f"its Content-Encoding is `{name}, {other}`; one of"),
    ):
        s3.put_object(Bucket=bucket, Key=key, Body=twice, ContentEncoding=encoding)
        with pytest.raises(InputError, match=reason):
            CALCULATION.run(f"s3://{bucket}/{key}", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("encoding", NO_COMPRESSION)
def test_an_encoding_that_is_no_compression_does_not_matter(
    encoding: str, s3: Any, bucket: str, tmp_path: Path
) -> None:
    for key, content in (("in.jsonl", CONTENT), ("in", gzip.compress(CONTENT)), ("in.gz", gzip.compress(CONTENT))):
        s3.put_object(Bucket=bucket, Key=key, Body=content, ContentEncoding=encoding)
        summary = CALCULATION.run(f"s3://{bucket}/{key}", tmp_path / "out")
        assert ((tmp_path / "out").read_bytes(), summary.notes) == (EXPECTED, [])


@pytest.mark.parametrize("encoding", NOT_READ)
def test_a_format_that_is_not_read_is_named(encoding: str, s3: Any, bucket: str, tmp_path: Path) -> None:
    key, pattern = "in.jsonl", f"in.jsonl: its Content-Encoding is `{encoding}`; one of gzip, zstd, bz2 and xz can"
    deflate = zlib.compressobj(0, wbits=-15)  # which stores the lines as they are
    stored = deflate.compress(CONTENT) + deflate.flush()
    for content in (b"\x0b\x02\x80{}\x03", zlib.compress(CONTENT), stored, b"\x1f\x9d\x90{}\n", b"x\n" + CONTENT):
        s3.put_object(Bucket=bucket, Key=key, Body=content, ContentEncoding=encoding)
        with pytest.raises(InputError, match=pattern):
            CALCULATION.run(f"s3://{bucket}/{key}", tmp_path / "out")
    for content in (b"", CONTENT, b"\xef\xbb\xbf \r\n" + CONTENT, gzip.compress(CONTENT)):
        s3.put_object(Bucket=bucket, Key=key, Body=content, ContentEncoding=encoding)
        CALCULATION.run(f"s3://{bucket}/{key}", tmp_path / "out")
        assert (tmp_path / "out").read_bytes() == (EXPECTED if content else b"")


@pytest.mark.parametrize("encoding", ["aws-chunked", "aws-chunked,gzip", "gzip,aws-chunked", "AWS-Chunked, UTF-8"])
def test_how_an_object_was_sent_does_not_matter(encoding: str) -> None:
    """Of what is uploaded so, servers remove this; copies and other stores may keep it."""
    labels, gzip_codec = Labels.of("in", encoding), codec_of_name("in.gz")
    assert labels.agree(gzip_codec)
    assert list(labels.notes(None)) == (
        [f"its Content-Encoding is `{encoding}`, but the content is not compressed"] if "gzip" in encoding else []
    )


@given(st.text(max_size=20), st.sampled_from(["in", "in.gz", "in.zst"]))
def test_json_lines_are_plain_whatever_is_said_of_them(encoding: str, name: str) -> None:
    labels = Labels.of(name, encoding)
    assert labels.codec_of(CONTENT[:6]) is None
    labels.check(None, CONTENT[:64])
    assert labels.agree(None) == (not list(labels.notes(None)))


# --- who reads inputs besides a run ----------------------------------------------------------------------------------


def test_the_command_says_so(tmp_path: Path, command: Command) -> None:
    source, target = tmp_path / "in.jsonl.gz", tmp_path / "out"
    source.write_bytes(CONTENT)
    done = command("run", source, target, *ARGUMENTS[1:])
    assert (done.returncode, target.read_bytes()) == (0, EXPECTED)
    assert b"named like gzip, but the content is not compressed" in b" ".join(done.stderr.split())
    source.write_bytes(b"")
    done = command("run", source, target, *ARGUMENTS)
    assert (done.returncode, done.stderr, target.read_bytes()) == (0, b"", b"")


def test_whoever_reads_an_input_reads_it_as_what_it_is(tmp_path: Path, command: Command) -> None:
    source, plain = tmp_path / "in.jsonl.zst", tmp_path / "in.jsonl"
    source.write_bytes(CONTENT)
    plain.write_bytes(CONTENT)
    calculation, function = Calculation.from_sql("a + 1 AS b"), LineFunction(lambda row: {"b": row["a"] + 1})
    assert calculation.preview(source).equals(calculation.preview(plain))
    assert function.preview(source).equals(function.preview(plain))
    profile = calculation.profile(source)
    assert (profile.bytes_in, profile.in_order) == (len(CONTENT), False)
    assert calculation.compare(lambda row: {**row, "b": row["a"] + 1}, source).same
    said = command("schema", source)
    assert (said.returncode, said.stdout) == (0, command("schema", plain).stdout)
    script = tmp_path / "sum.py"
    script.write_text("from transform import Calculation\ncalculation = Calculation.from_sql('a + 1 AS b')\n")
    said = command("check", script, source)
    assert said.returncode == 0, said.stderr
    assert b"named like zstd, but the content is not compressed" in b" ".join((said.stdout + said.stderr).split())
    assert command("new", tmp_path / "made", "--from", source).returncode == 0


def test_rejected_lines_are_read_whatever_they_are_called(tmp_path: Path) -> None:
    kept = {"offset": 0, "line": 1, "reason": "not valid JSON", "raw": "x"}
    path = tmp_path / "rejects.jsonl.gz"
    path.write_text(json.dumps(kept) + "\n")
    assert read_rejects(path)["raw"].to_list() == ["x"]


# --- from a position on ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("offset", [1, 6, 100, len(CONTENT)])
@every_format
def test_what_is_mislabelled_is_gone_on_with(name: str, offset: int, s3: Any, bucket: str, tmp_path: Path) -> None:
    path, key = tmp_path / f"in{SUFFIXES[name]}", f"in{SUFFIXES[name]}"
    for stored in (None, OTHERS[name]):
        data = CONTENT if stored is None else COMPRESS[stored](CONTENT)
        path.write_bytes(data)
        s3.put_object(Bucket=bucket, Key=key, Body=data, ContentEncoding="br")
        for source, labels in ((path, 1), (f"s3://{bucket}/{key}", 2)):
            with open_source(source, Position(offset, stored)) as reader:
                rest, view = b"", memoryview(bytearray(4096))
                while count := reader.read_into(view):
                    rest += view[:count]
                reader.check_whole()
                codec = None if stored is None else codec_of_name(f"x{SUFFIXES[stored]}")
                assert (rest, reader.codec) == (CONTENT[offset:], codec)
                assert len(reader.notes) == labels, "the same as from the start"


@every_format
def test_what_is_mislabelled_and_stored_in_another_way_by_now_is_not_gone_on_with(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"in{SUFFIXES[name]}"
    for data, stored in (
        (COMPRESS[name](CONTENT), None),
        (COMPRESS[OTHERS[name]](CONTENT), None),
        (CONTENT, name),
        (b"", name),
        (COMPRESS[OTHERS[name]](CONTENT), name),
    ):
        path.write_bytes(data)
        with (
            pytest.raises(SourceChangedError, match="is not what was read before"),
            open_source(path, Position(5, stored)),
        ):
            pass
