"""Every byte of a compressed input belongs to a stream, and every stream ends; what is written, others can read."""

from __future__ import annotations

import bz2
import gzip
import itertools
import json
import lzma
import os
import random
import re
import struct
import subprocess
import sys
import threading
import zlib
from io import BytesIO
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import environment_with
from transform import Calculation, InputError, codec_of_encoding
from transform.io.compression import _READ_BYTES, CODECS, Inflater
from transform.io.outputs import Output
from transform.io.sources import open_source

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Command
    from transform.io.chunks import ReadInto

SUFFIXES = {"gzip": ".gz", "zstd": ".zst", "bz2": ".bz2", "xz": ".xz"}
BY_NAME = {codec.name: codec for codec in CODECS}
MAGIC_BYTES = {"gzip": 2, "zstd": 4, "bz2": 3, "xz": 6}
# Three kinds of member: one with something to compress, one with nothing in it, one too short to compress.
MEMBERS = (b'{"a":1,"text":"again and again and again"}\n' * 3, b"", b'{"a":2}\n')
CONTENT = b"".join(MEMBERS)


def zstd_frame(content: bytes) -> bytes:
    return zstd.compress(content, options={zstd.CompressionParameter.checksum_flag: 1})


COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda content: gzip.compress(content, mtime=0),
    "zstd": zstd_frame,
    "bz2": bz2.compress,
    "xz": lzma.compress,
}
DECOMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.decompress,
    "zstd": zstd.decompress,
    "bz2": bz2.decompress,
    "xz": lzma.decompress,
}
every_format = pytest.mark.parametrize("name", SUFFIXES)


def skippable(content: bytes) -> bytes:
    """Return a zstd frame that holds what decompressors pass over."""
    return b"\x5f\x2a\x4d\x18" + struct.pack("<I", len(content)) + content


def gzip_member(
    content: bytes, *, extra: bytes = b"", file_name: bytes = b"", comment: bytes = b"", checked: bool = False
) -> bytes:
    """Return a member with any of the optional parts of a header (RFC 1952), which `gzip.compress` never writes."""
    flags = 2 * checked | 4 * bool(extra) | 8 * bool(file_name) | 16 * bool(comment)
    header = b"\x1f\x8b\x08" + bytes([flags]) + b"\0\0\0\0\0\xff"
    header += struct.pack("<H", len(extra)) + extra if extra else b""
    header += file_name + b"\0" if file_name else b""
    header += comment + b"\0" if comment else b""
    header += struct.pack("<H", zlib.crc32(header) & 0xFFFF) if checked else b""
    deflate = zlib.compressobj(wbits=-15)
    body = deflate.compress(content) + deflate.flush()
    return header + body + struct.pack("<II", zlib.crc32(content), len(content))


def drain(read_into: ReadInto, view_bytes: int = 4096) -> bytes:
    content, view = bytearray(), memoryview(bytearray(view_bytes))
    while count := read_into(view):
        content += view[:count]
    return bytes(content)


def read(path: Path) -> bytes:
    with open_source(path) as reader:
        content = drain(reader.read_into)
        reader.check_whole()
    return content


def inflate(name: str, data: bytes, read_bytes: int = 1 << 20, view_bytes: int = 4096) -> bytes:
    """Return the content of compressed bytes that come in pieces of a size, and go into views of a size."""
    stream = BytesIO(data)
    return drain(
        Inflater(lambda view: stream.readinto(view[:read_bytes]), BY_NAME[name], "input").read_into, view_bytes
    )


GOOD: dict[str, dict[str, bytes]] = {
    name: {
        "one member": compress(CONTENT),
        "several members": b"".join(map(compress, MEMBERS)),
        "empty members at both ends": b"".join(map(compress, (b"", b"", *MEMBERS, b"", b""))),
        "a member for each byte": b"".join(compress(CONTENT[i : i + 1]) for i in range(len(CONTENT))),
    }
    for name, compress in COMPRESS.items()
}
GOOD["gzip"] |= {
    "zeros behind": gzip.compress(CONTENT) + b"\0" * 1000,
    "zeros between": (b"\0" * 5).join(map(gzip.compress, MEMBERS)) + b"\0",
    "stored, not compressed": gzip.compress(CONTENT, 0),
    "blocked, as bgzip does it": b"".join(gzip_member(m, extra=b"BC\x02\x00\x1b\x00") for m in (*MEMBERS, b"")),
    "file names": b"".join(gzip_member(m, file_name=b"part.jsonl") for m in MEMBERS),
}
GOOD["xz"] |= {
    "zeros behind": lzma.compress(CONTENT) + b"\0" * 8,
    "zeros between": (b"\0" * 4).join(map(lzma.compress, MEMBERS)),
    "SHA-256": lzma.compress(CONTENT, check=lzma.CHECK_SHA256),
    "CRC32": lzma.compress(CONTENT, check=lzma.CHECK_CRC32),
}
GOOD["bz2"] |= {"small blocks": bz2.compress(CONTENT, 1)}
GOOD["zstd"] |= {
    "no checksum": zstd.compress(CONTENT),
    "best compression": zstd.compress(CONTENT, 19),
    "skippable frames": skippable(b"") + skippable(b"x" * 99).join(map(zstd_frame, MEMBERS)) + skippable(b"end"),
    "a window of 128 MiB": zstd.compress(CONTENT, options={zstd.CompressionParameter.window_log: 27}),
}
each_good = pytest.mark.parametrize(("name", "kind"), [(name, kind) for name, kinds in GOOD.items() for kind in kinds])


@each_good
def test_a_compressed_file_is_read_whatever_it_is_called(name: str, kind: str, tmp_path: Path) -> None:
    for suffix in (SUFFIXES[name], SUFFIXES[name].upper(), ".jsonl"):
        path = tmp_path / f"input{suffix}"
        path.write_bytes(GOOD[name][kind])
        assert read(path) == CONTENT


@each_good
def test_it_does_not_matter_how_the_compressed_bytes_come(name: str, kind: str) -> None:
    for read_bytes in (1, 2, 3, 7, 1 << 20):
        for view_bytes in (1, 5, 4096):
            assert inflate(name, GOOD[name][kind], read_bytes, view_bytes) == CONTENT, (read_bytes, view_bytes)


@every_format
@settings(max_examples=60, deadline=None)
@given(
    members=st.lists(
        st.binary(max_size=300) | st.integers(0, 70_000).map(lambda n: b"again " * n), min_size=1, max_size=4
    ),
    read_bytes=st.sampled_from([1, 6, 100, 5000]),
    view_bytes=st.sampled_from([1000, 1 << 16, 1 << 20]),
)
def test_members_are_read_one_after_the_other(
    name: str, members: list[bytes], read_bytes: int, view_bytes: int
) -> None:
    data = b"".join(map(COMPRESS[name], members))
    assert inflate(name, data, read_bytes, view_bytes) == b"".join(members)


OPTIONAL_PARTS = list(itertools.product([b"", b"ab\x02\x00xy"], [b"", b"a name"], [b"", b"a comment"], [False, True]))


@pytest.mark.parametrize(
    "parts",
    OPTIONAL_PARTS,
    ids=[
        " and ".join(n for n, part in zip(("extra", "name", "comment", "crc"), p, strict=True) if part) or "nothing"
        for p in OPTIONAL_PARTS
    ],
)
def test_a_gzip_header_may_be_cut_anywhere(parts: tuple[bytes, bytes, bytes, bool]) -> None:
    extra, file_name, comment, checked = parts
    member = gzip_member(CONTENT, extra=extra, file_name=file_name, comment=comment, checked=checked)
    assert gzip.decompress(member * 2) == CONTENT * 2
    for read_bytes in range(1, 30):
        assert inflate("gzip", member * 2, read_bytes) == CONTENT * 2


def test_a_gzip_header_may_be_cut_far_into_the_file(tmp_path: Path) -> None:
    noise = random.Random(1).randbytes(_READ_BYTES - 10_000)
    second = gzip_member(CONTENT, extra=b"ab\x02\x00xy", file_name=b"a name", comment=b"a comment", checked=True)
    path = tmp_path / "input.gz"
    for before in range(1, 50):  # that many bytes of the second header come before the cut
        missing = _READ_BYTES - before - len(gzip_member(noise, extra=b"x"))
        first = gzip_member(noise, extra=b"x" * (1 + missing))
        assert len(first) == _READ_BYTES - before
        path.write_bytes(first + second)
        assert read(path) == noise + CONTENT


@every_format
@pytest.mark.parametrize("suffix", ["named", ""])
def test_a_compressed_file_comes_through_a_fifo(name: str, suffix: str, tmp_path: Path) -> None:
    fifo = tmp_path / f"fifo{SUFFIXES[name] if suffix else ''}"
    os.mkfifo(fifo)
    data = GOOD[name]["several members"]

    def feed() -> None:
        with fifo.open("wb", buffering=0) as pipe:
            for i in range(0, len(data), 7):
                pipe.write(data[i : i + 7])

    feeder = threading.Thread(target=feed)
    feeder.start()
    try:
        assert read(fifo) == CONTENT
    finally:
        feeder.join()


@every_format
def test_a_compressed_stream_comes_through_standard_input(name: str, command: Command) -> None:
    done = command("run", "-", "-", "-q", "-e", "a + 1 AS b", stdin=GOOD[name]["several members"])
    assert (done.returncode, done.stderr) == (0, b"")
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        {**json.loads(line), "b": json.loads(line)["a"] + 1} for line in CONTENT.splitlines()
    ]


@every_format
@pytest.mark.parametrize("named", [True, False], ids=["named", "not named"])
def test_a_cut_off_file_is_never_taken_for_a_shorter_one(name: str, named: bool, tmp_path: Path) -> None:
    members = [COMPRESS[name](member) for member in MEMBERS]
    good, data, content = {0: b""}, b"", b""
    for member, plain in zip(members, MEMBERS, strict=True):
        data, content = data + member, content + plain
        good[len(data)] = content
    path = tmp_path / f"input{SUFFIXES[name] if named else ''}"
    for cut in range(0 if named else MAGIC_BYTES[name], len(data) + 1):
        path.write_bytes(data[:cut])
        if cut in good:
            assert read(path) == good[cut], cut
        else:
            with pytest.raises(InputError, match=r"input.*: truncated"):
                read(path)


@every_format
@pytest.mark.parametrize("flip", [0x01, 0x20, 0x80, 0xFF])
def test_a_corrupt_byte_never_gives_other_content(name: str, flip: int, tmp_path: Path) -> None:
    data = GOOD[name]["several members"]
    path, harmless = tmp_path / f"input{SUFFIXES[name]}", 0
    for position in range(len(data)):
        path.write_bytes(data[:position] + bytes([data[position] ^ flip]) + data[position + 1 :])
        try:
            content = read(path)
        except InputError:
            continue
        assert content == CONTENT, position
        harmless += 1
    # Times and flags in headers do not matter, and bits that a format does not use; what does is most of it.
    assert harmless < len(data) / 2


@every_format
@pytest.mark.parametrize(
    "tail", [b"{}\n", b"\n", b"\x1f", b"\x1f\x8b", b"BZ", b"BZh", b"BZh9", b"\xfd7zX", b"\x28\xb5\x2f", b"\xff" * 99]
)
def test_what_belongs_to_no_member_is_refused(name: str, tail: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"input{SUFFIXES[name]}"
    path.write_bytes(COMPRESS[name](CONTENT) + tail)
    with pytest.raises(InputError, match=r"input.*: (truncated|corrupt)"):
        read(path)


@pytest.mark.parametrize("name", ["bz2", "zstd"])
def test_zeros_behind_are_refused_where_the_format_has_none(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"input{SUFFIXES[name]}"
    path.write_bytes(COMPRESS[name](CONTENT) + b"\0" * 8)
    with pytest.raises(InputError, match="corrupt"):
        read(path)


@pytest.mark.parametrize("name", ["bz2", "xz"])
def test_a_corrupt_second_stream_is_not_taken_for_garbage_behind_the_first(name: str, tmp_path: Path) -> None:
    first, second = COMPRESS[name](MEMBERS[0]), bytearray(COMPRESS[name](MEMBERS[2]))
    second[0] ^= 0xFF
    # That is what the standard library does, and why its file objects are not used.
    assert DECOMPRESS[name](first + second) == MEMBERS[0]
    path = tmp_path / f"input{SUFFIXES[name]}"
    path.write_bytes(first + second)
    with pytest.raises(InputError, match="corrupt"):
        read(path)


@every_format
def test_a_format_within_another_is_not_unpacked_twice(name: str, tmp_path: Path) -> None:
    path = tmp_path / "input.gz"
    inner = COMPRESS[name](CONTENT)
    path.write_bytes(gzip.compress(inner))
    assert read(path) == inner


@every_format
@pytest.mark.parametrize("content", [b"\x1f\x8a\x8b", b"\0", b"x\0", b"\xff\xfe", b"PK\x03\x04", b"caf\xe9\n"])
def test_what_is_neither_in_the_format_of_its_name_nor_text_is_an_error(
    name: str, content: bytes, tmp_path: Path
) -> None:
    path = tmp_path / f"input{SUFFIXES[name]}"
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"^{path}: named like {name}, but the content is neither {name} nor text$"):
        read(path)


def xz_with(dict_size: int) -> bytes:
    """Return content in a stream that a decompressor needs that much memory for."""
    found = bytearray(lzma.compress(CONTENT, check=lzma.CHECK_CRC32, preset=0))
    # The block header: its size, flags, the filter LZMA2 with one byte of properties, padding, and a checksum.
    assert bytes(found[12:16]) == b"\x02\x00\x21\x01"
    found[16] = next(bits for bits in range(41) if (2 | bits & 1) << (bits // 2 + 11) >= dict_size)
    found[20:24] = zlib.crc32(found[12:20]).to_bytes(4, "little")
    return bytes(found)


@pytest.mark.parametrize(
    ("name", "content", "needed"),
    [
        # A frame with a window of 2 GiB, as `zstd --long=31` writes it, which holds one empty block.
        ("zst", b"\x28\xb5\x2f\xfd\x00" + bytes([(31 - 10) << 3]) + b"\x01\x00\x00", "a window of more than 128 MiB"),
        ("xz", xz_with(1 << 30), "more than 128 MiB of memory"),
        ("xz", xz_with(192 << 20), "more than 128 MiB of memory"),
        ("xz", lzma.compress(CONTENT) + xz_with(1 << 30), "more than 128 MiB of memory"),
    ],
    ids=["zstd", "xz", "xz, little more", "xz, its second stream"],
)
def test_what_takes_too_much_memory_is_refused_with_what_it_needs(
    name: str, content: bytes, needed: str, tmp_path: Path
) -> None:
    path = tmp_path / f"input.{name}"
    path.write_bytes(content)
    with pytest.raises(InputError, match=needed) as raised:
        read(path)
    assert "corrupt" not in str(raised.value)


@pytest.mark.parametrize("dict_size", [1 << 20, 64 << 20, 96 << 20])
def test_what_takes_less_memory_is_read(dict_size: int, tmp_path: Path) -> None:
    path = tmp_path / "input.xz"
    path.write_bytes(xz_with(dict_size))
    assert read(path) == CONTENT


CHUNKINGS = (1, 7, 1000, 1 << 20)
WRITTEN = {suffix: codec.name for codec in CODECS for suffix in (*codec.suffixes, codec.suffixes[0].upper())}


@pytest.mark.parametrize("suffix", WRITTEN)
@pytest.mark.parametrize(
    "content", [b"", b"{}\n", CONTENT, os.urandom(3000) * 3], ids=["empty", "short", "lines", "random"]
)
def test_the_name_of_an_output_decides_its_format(suffix: str, content: bytes, tmp_path: Path) -> None:
    for chunk_bytes in CHUNKINGS:
        written = []
        for run in ("one", "two"):
            path = tmp_path / f"{run}{suffix}"
            with Output(path) as output:
                for i in range(0, len(content), chunk_bytes):
                    output.write(memoryview(content)[i : i + chunk_bytes])
                output.publish()
            written.append(path.read_bytes())
            assert output.size == len(content)
        assert DECOMPRESS[WRITTEN[suffix]](written[0]) == content
        assert written[0] == written[1], "two runs alike write the same bytes"
        assert read(path) == content


def test_a_gzip_output_holds_no_time(tmp_path: Path) -> None:
    path = tmp_path / "output.gz"
    with Output(path) as output:
        output.write(CONTENT)
        output.publish()
    assert path.read_bytes()[4:8] == bytes(4)  # the seconds since 1970, so that two runs differ in nothing


def test_a_zstd_output_has_a_checksum(tmp_path: Path) -> None:
    path = tmp_path / "output.zst"
    with Output(path) as output:
        output.write(CONTENT)
        output.publish()
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    with pytest.raises(zstd.ZstdError, match="checksum"):
        zstd.decompress(data)


@pytest.mark.parametrize("suffix", ["", ".jsonl", ".gz.jsonl", ".gzz", "gz"])
def test_an_output_that_is_not_named_like_a_format_is_plain(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"output{suffix}"
    with Output(path) as output:
        output.write(CONTENT)
        output.publish()
    assert path.read_bytes() == CONTENT


@every_format
@pytest.mark.parametrize("other", SUFFIXES)
def test_a_run_reads_one_format_and_writes_another(name: str, other: str, tmp_path: Path) -> None:
    source, target = tmp_path / f"input{SUFFIXES[name]}", tmp_path / f"output{SUFFIXES[other]}"
    source.write_bytes(COMPRESS[name](CONTENT))
    summary = Calculation.from_sql("a * 2 AS double").run(source, target, chunk_bytes=16)
    expected = b"".join(line[:-1] + b',"double":%d}\n' % (2 * json.loads(line)["a"]) for line in CONTENT.splitlines())
    assert DECOMPRESS[other](target.read_bytes()) == expected
    assert (summary.bytes_in, summary.bytes_out) == (len(CONTENT), len(expected))


DRAIN = """
import resource, sys
from transform import Calculation

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

def run(source, target):
    return Calculation.from_sql("a + 1 AS b").run(source, target).bytes_in

run(sys.argv[1], "/dev/null")
before = peak()
print(run(sys.argv[2], "/dev/null"), peak() - before)
"""
BOMB_BYTES = 200 << 20


@pytest.mark.parametrize(("name", "level"), [("gzip", 1), ("zstd", 1), ("bz2", 1), ("xz", 0)])
def test_memory_does_not_grow_with_what_is_inside(name: str, level: int, tmp_path: Path) -> None:
    line = b'{"a":1,"spaces":"' + b" " * 8000 + b'"}\n'
    compressors: dict[str, Callable[[bytes], bytes]] = {
        "gzip": lambda content: gzip.compress(content, level),
        "zstd": lambda content: zstd.compress(content, level),
        "bz2": lambda content: bz2.compress(content, level),
        "xz": lambda content: lzma.compress(content, preset=level),
    }
    compress = compressors[name]
    # bz2 and xz take seconds to pack so much, so there it is made of members that are all the same.
    members = 1 if name in ("gzip", "zstd") else 20
    lines = BOMB_BYTES // members // len(line)
    small, large = tmp_path / "small", tmp_path / "large"
    small.write_bytes(compress(line * 1000))
    large.write_bytes(compress(line * lines) * members)
    assert large.stat().st_size < BOMB_BYTES / 200
    done = subprocess.run(
        [sys.executable, "-c", DRAIN, small, large], capture_output=True, env=environment_with({}), check=True
    )
    inflated, grown = map(int, done.stdout.split())
    assert inflated == len(line) * lines * members
    assert grown < 24 << 20


@pytest.mark.parametrize(
    ("token", "name"),
    [
        *(
            ("gzip", "gzip"),
            ("x-gzip", "gzip"),
            ("GZ", "gzip"),
            (" zstd ", "zstd"),
            ("bzip2", "bz2"),
            ("x-bzip2", "bz2"),
        ),
        *(("bz2", "bz2"), ("xz", "xz"), ("br", None), ("deflate", None), ("", None)),
    ],
)
def test_a_content_encoding_names_a_format(token: str, name: str | None) -> None:
    codec = codec_of_encoding(token)
    assert (codec and codec.name) == name


# --- what inflates too much ------------------------------------------------------------------------------------------


def inflated(data: bytes, name: str, max_inflation: int | None, harmless_bytes: int) -> bytes:
    """Return what an input holds, as far as it may be inflated."""
    inflater = Inflater(BytesIO(data).readinto, BY_NAME[name], "input", max_inflation, harmless_bytes)
    content, view = bytearray(), memoryview(bytearray(10_000))
    while count := inflater.read_into(view):
        content += view[:count]
    return bytes(content)


@pytest.mark.parametrize("name", sorted(COMPRESS))
def test_a_bomb_is_refused_once_it_has_gone_off_a_little(name: str) -> None:
    line = b'{"a":1,"pad":"' + b"x" * 10_000 + b'"}\n'
    bomb, small = COMPRESS[name](line * 1000), COMPRESS[name](line * 10)
    with pytest.raises(
        InputError, match=r"^input: its first (\d+) bytes hold (\d+) bytes or more, which is beyond 20 times"
    ) as caught:
        inflated(bomb, name, 20, 1 << 20)
    read, held = map(int, re.findall(r"(\d+) bytes", str(caught.value)))
    assert read <= len(bomb)
    assert 1 << 20 < held <= (1 << 20) + 10_000, "no more is inflated than it takes to know"
    assert inflated(small, name, 20, 1 << 20) == line * 10, "it is small"
    assert inflated(bomb, name, None, 1 << 20) == line * 1000


@pytest.mark.parametrize("name", sorted(COMPRESS))
def test_up_to_the_limits_everything_is_inflated(name: str) -> None:
    content = b"x" * 20_000
    data = COMPRESS[name](content)
    assert inflated(data, name, 1, 20_000) == content
    with pytest.raises(InputError, match="max_inflation"):
        inflated(data, name, 1, 19_999)
    times = -(-20_000 // len(data))  # all of it is read at once
    assert inflated(data, name, times, 0) == content
    with pytest.raises(InputError, match="max_inflation"):
        inflated(data, name, times - 1, 0)


def test_a_run_refuses_a_bomb(tmp_path: Path) -> None:
    line = b'{"a":1,"pad":"' + b"x" * 100_000 + b'"}\n'
    member = gzip.compress(line * 100)
    harmless = (256 << 20) // (100 * len(line))
    source, target = tmp_path / "bomb", tmp_path / "out"
    calculation = Calculation.from_sql("a + 1 AS b").drop("pad")
    source.write_bytes(member * (harmless + 1))
    with pytest.raises(InputError, match=r"bomb: its first \d+ bytes hold \d+ bytes or more, which is beyond 20 times"):
        calculation.run(source, target, max_inflation=20)
    assert not target.exists()
    source.write_bytes(member * harmless)
    assert calculation.run(source, target, max_inflation=20).lines_out == 100 * harmless, "it is small"


def test_what_is_not_that_compressible_passes() -> None:
    pads = (random.Random(number).randbytes(500).hex().encode() for number in range(1000))
    content = b"".join(b'{"a":1,"pad":"%b"}\n' % pad for pad in pads)
    assert inflated(gzip.compress(content), "gzip", 3, 1000) == content
