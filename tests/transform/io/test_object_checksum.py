"""Whatever was damaged on the way from S3 is noticed, in however many ranges an object was read, and by whom."""

from __future__ import annotations

import base64
import gzip
import zlib
from typing import TYPE_CHECKING, Any

import pytest
from awscrt.checksums import crc64nvme  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st

from tests.support.example import BIG, BIG_TRANSFORMED, CALCULATION, lines, transformed
from tests.support.places import OLD, ObjectPlace
from tests.support.proxy import Damage
from tests.support.tuned import Tuned
from transform import DamagedError, SourceChangedError, State, UnavailableError
from transform.io.object_checksum import ObjectChecksum, PieceChecksum, check_text, checksum_of, checksums_of, combined

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.proxy import Proxy, Request

ALGORITHMS = ["CRC32", "CRC64NVME"]
MIB = 1 << 20
SMALL, SMALL_TRANSFORMED = lines(50), transformed(50)
RANGE_BYTES = 1 << 16  # the smallest


@pytest.fixture
def source(s3: Any, bucket: str, scratch: Path) -> ObjectPlace:
    return ObjectPlace(s3, bucket, scratch, "some/input.jsonl")


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """Where the output goes, with one of an earlier run."""
    path = tmp_path / "output.jsonl"
    path.write_bytes(OLD)
    return path


def put(place: ObjectPlace, content: bytes, algorithm: str = "CRC64NVME") -> None:
    place.s3.put_object(Bucket=place.bucket, Key=place.key, Body=content, ChecksumAlgorithm=algorithm)


def damage(which: Callable[[Request], bool]) -> Callable[[Request], Damage | None]:
    """Return a rule under which a byte is another one in some reads: an x in a text, so that nothing else shows it."""
    return lambda request: Damage() if request.operation == "GetObject" and which(request) else None


def once(which: Callable[[Request], bool]) -> Callable[[Request], Damage | None]:
    """Return a rule under which that happens to the first of these reads only."""
    seen: list[Request] = []

    def is_first(request: Request) -> bool:
        if which(request):
            seen.append(request)
        return seen == [request]

    return damage(is_first)


# --- calculating -----------------------------------------------------------------------------------------------------


def slow_crc(data: bytes, bits: int, polynomial: int) -> int:
    """Return a CRC bit by bit, as its definition says."""
    value = mask = (1 << bits) - 1
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (polynomial if value & 1 else 0)
    return value ^ mask


def test_the_checksums_are_those_that_are_meant() -> None:
    assert checksums_of(b"123456789") == {"CRC32": 0xCBF43926, "CRC64NVME": 0xAE8B14860A799888}
    assert slow_crc(b"123456789", 64, 0x9A6C9329AC4BC9B5) == 0xAE8B14860A799888
    assert checksums_of(b"56789", checksums_of(b"1234")) == checksums_of(b"123456789")


@given(first=st.binary(max_size=50), second=st.binary(max_size=50), zeros=st.integers(0, 70_000))
def test_the_checksum_of_a_whole_is_that_of_its_pieces(first: bytes, second: bytes, zeros: int) -> None:
    second += bytes(zeros)
    crc32 = combined("CRC32", zlib.crc32(first), zlib.crc32(second), len(second))
    assert crc32 == zlib.crc32(first + second) == checksum_of("CRC32", first + second)
    crc64 = combined("CRC64NVME", crc64nvme(first), crc64nvme(second), len(second))
    assert crc64 == crc64nvme(first + second) == checksum_of("CRC64NVME", second, crc64nvme(first))


def encoded(value: int, size: int) -> str:
    return base64.b64encode(value.to_bytes(size, "big")).decode()


@pytest.mark.parametrize("kind", ["FULL_OBJECT", None])
def test_checksums_of_whole_objects_are_found(kind: str | None) -> None:
    headers = {"ChecksumType": kind, "ChecksumCRC32": encoded(5, 4), "ETag": "x"}
    assert ObjectChecksum.from_headers(headers) == ObjectChecksum("CRC32", 5)
    headers |= {"ChecksumCRC64NVME": encoded(1 << 60, 8)}
    assert ObjectChecksum.from_headers(headers) == ObjectChecksum("CRC64NVME", 1 << 60)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"ChecksumSHA256": "x", "ChecksumType": "FULL_OBJECT"},
        {"ChecksumCRC32": encoded(5, 4), "ChecksumType": "COMPOSITE"},
        {"ChecksumCRC32": f"{encoded(5, 4)}-3", "ChecksumType": "COMPOSITE"},
        {"ChecksumCRC32": f"{encoded(5, 4)}-3"},
    ],
    ids=str,
)
def test_others_are_not_compared(headers: dict[str, Any]) -> None:
    assert ObjectChecksum.from_headers(headers) is None


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_checksum_goes_on_where_it_was(algorithm: str) -> None:
    whole = ObjectChecksum(algorithm, checksum_of(algorithm, b"abcde"))
    whole.update(b"ab")
    again = ObjectChecksum(algorithm, whole.expected).resumed(check_text(whole.so_far), 2)
    assert again == whole
    again.add(PieceChecksum(2, 5, checksum_of(algorithm, b"cde")))
    again.check("it", 5)
    with pytest.raises(DamagedError, match=rf"^it: .* their {algorithm} is [0-9a-f]+, and S3 has [0-9a-f]+; nothing"):
        whole.check("it", 5)
    assert whole.resumed(None, 2) is None
    other = next(name for name in ALGORITHMS if name != algorithm)
    assert whole.resumed(f"{other}:5", 2) is None


@pytest.mark.parametrize("text", ["CRC32:123456789", "CRC32:-1", "CRC32:x", "CRC32", "CRC33:1", 5, ["CRC32:1"]])
def test_what_is_no_checksum_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match=r"checksum|invalid literal"):
        check_text(text)
    with pytest.raises(ValueError, match=r"checksum|invalid literal"):
        State.from_dict({**State().to_dict(), "checksum": text})


# --- reading ---------------------------------------------------------------------------------------------------------

SHAPES = {
    "one range": (SMALL, SMALL_TRANSFORMED),
    "several ranges": (BIG, BIG_TRANSFORMED),
}
READS: dict[str, tuple[str, Callable[[Request], bool]]] = {
    "the only range": ("one range", lambda _: True),
    "the first range": ("several ranges", lambda request: request.first_byte == 0),
    "the last range": ("several ranges", lambda request: request.first_byte > 0),
}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("which", READS)
def test_damage_is_noticed(
    which: str, workers: int, algorithm: str, source: ObjectPlace, proxy: Proxy, output: Path
) -> None:
    shape, is_meant = READS[which]
    content, expected = SHAPES[shape]
    put(source, content, algorithm)
    proxy.rule = once(is_meant)
    CALCULATION.run(source.target, output, workers=workers)
    assert output.read_bytes() == expected, "it was read again"
    output.write_bytes(OLD)
    proxy.rule = damage(is_meant)
    with pytest.raises(DamagedError, match=f"^{source.target}: .* {algorithm} is .*; nothing was published") as caught:
        CALCULATION.run(source.target, output, workers=workers)
    assert isinstance(caught.value, UnavailableError)
    assert output.read_bytes() == OLD


@pytest.mark.parametrize("algorithm", ["CRC32C", "SHA1"])
def test_an_object_with_another_checksum_is_read_as_it_comes(
    algorithm: str, source: ObjectPlace, proxy: Proxy, output: Path
) -> None:
    put(source, SMALL, algorithm)
    proxy.rule = damage(lambda _: True)
    CALCULATION.run(source.target, output)
    assert output.read_bytes() not in (SMALL_TRANSFORMED, OLD)


@pytest.mark.parametrize("workers", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_damage_is_noticed_of_ranges_that_other_processes_read(
    workers: int, source: ObjectPlace, proxy: Proxy, output: Path
) -> None:
    content = lines(300, 3000)
    put(source, content)
    tuned = Tuned(CALCULATION)
    proxy.rule = once(lambda request: request.first_byte > len(content) // 2)
    tuned.run(source.target, output, workers=workers, chunk_bytes=5000, range_bytes=RANGE_BYTES)
    assert output.read_bytes() == transformed(300, 3000)
    proxy.rule = damage(lambda request: request.first_byte > len(content) // 2)
    with pytest.raises(DamagedError):
        tuned.run(source.target, output, workers=workers, chunk_bytes=5000, range_bytes=RANGE_BYTES)


BOM = b"\xef\xbb\xbf"
LONG = b'{"a":1,"pad":"' + b"x" * 300_000 + b'"}\n'
CONTENTS = {
    "nothing": b"",
    "a BOM": BOM,
    "a BOM and lines": BOM + SMALL,
    "blank lines": b"\n \n" + SMALL + b"\n\n",
    "lines, the last of them open": SMALL[:-1],
    "a first line as long as a BOM": b"{}\n" + SMALL,
    "a long line and another": LONG + b"{}",
    "a long line among others": SMALL + LONG + SMALL,
    "a long line at the end, open": SMALL + LONG[:-1],
    "long lines at the start": BOM + LONG + LONG + SMALL,
    "long lines and many others": LONG + lines(2000, 200) + LONG,
}


@pytest.mark.parametrize(("algorithm", "workers"), [("CRC32", 1), ("CRC64NVME", 2)])
@pytest.mark.parametrize("kind", CONTENTS)
def test_no_content_is_taken_for_damaged(
    kind: str, workers: int, algorithm: str, source: ObjectPlace, proxy: Proxy
) -> None:
    put(source, CONTENTS[kind], algorithm)
    limits = {"max_line_bytes": 1 << 17, "chunk_bytes": 5000, "range_bytes": RANGE_BYTES, "max_rejects": "100%"}
    with CALCULATION.stream(source.target, workers=workers, **limits) as stream:  # type: ignore[arg-type]
        for part in stream:
            list(part.rejects)
    if CONTENTS[kind]:
        assert stream.state.checksum == f"{algorithm}:{checksum_of(algorithm, CONTENTS[kind]):x}" or kind == "a BOM"
        assert proxy.count("HeadObject") == 1


def zipped(content: bytes) -> bytes:
    """Return content in gzip's format, most of which is a comment: what is damaged there changes nothing else."""
    plain = gzip.compress(content, mtime=0)
    return plain[:3] + bytes([plain[3] | 16]) + plain[4:10] + b"x" * 5000 + b"\0" + plain[10:]


def test_damage_of_a_compressed_object_is_noticed(source: ObjectPlace, proxy: Proxy, output: Path) -> None:
    put(source, zipped(SMALL))
    CALCULATION.run(source.target, output)
    assert output.read_bytes() == SMALL_TRANSFORMED
    proxy.rule = damage(lambda _: True)
    with pytest.raises(DamagedError):
        CALCULATION.run(source.target, output)


def test_damage_that_is_in_a_pipe_already_is_not_read_again(source: ObjectPlace, proxy: Proxy, tmp_path: Path) -> None:
    put(source, SMALL)
    proxy.rule = once(lambda _: True)
    with (tmp_path / "stream").open("wb") as stream, pytest.raises(DamagedError):
        CALCULATION.run(source.target, stream)
    assert proxy.count("GetObject") == 1


def test_the_checksum_is_that_of_the_version_that_is_read(source: ObjectPlace, proxy: Proxy, output: Path) -> None:
    put(source, SMALL)

    def overwrite(request: Request) -> None:
        if request.operation == "HeadObject":
            put(source, lines(60))

    proxy.rule = overwrite
    with pytest.raises(SourceChangedError, match=f"^{source.target}: changed while it was read"):
        CALCULATION.run(source.target, output)


# --- resuming --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("damaged", ["before", "after", "neither"])
def test_a_resumed_run_is_compared_as_a_whole(damaged: str, workers: int, source: ObjectPlace, proxy: Proxy) -> None:
    put(source, BIG)
    proxy.rule = damage(lambda request: damaged == "before" and request.first_byte == 0)
    with CALCULATION.stream(source.target, workers=workers) as first:
        for _ in first:
            if first.state.summary.bytes_in > 9 * MIB:
                break
    state = State.from_dict(first.state.to_dict())
    assert state.position is not None
    proxy.rule = damage(lambda request: damaged == "after" and request.first_byte > 0)
    with CALCULATION.stream(source.target, state, workers=workers) as rest:
        if damaged == "neither":
            list(rest)
        else:
            with pytest.raises(DamagedError):
                list(rest)


def test_a_state_of_an_earlier_version_is_resumed_without_a_comparison(source: ObjectPlace, proxy: Proxy) -> None:
    put(source, BIG)
    with CALCULATION.stream(source.target, workers=1) as first:
        parts = iter(first)
        for _ in range(2):
            next(parts)
    plain = first.state.to_dict()
    del plain["checksum"]
    state = State.from_dict(plain)
    proxy.rule = damage(lambda _: True)
    with CALCULATION.stream(source.target, state, workers=1) as rest:
        list(rest)
        assert rest.state.checksum is None
