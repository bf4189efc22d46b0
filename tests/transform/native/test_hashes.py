"""The hashes of the kernel are those that are published, and those of Python's own libraries."""

from __future__ import annotations

import hashlib
import hmac
import itertools
from typing import TYPE_CHECKING

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from transform.native.binding import MISSING, hashes, texts
from transform.native.wanted import SLACK

if TYPE_CHECKING:
    from collections.abc import Sequence

# FIPS 180-4, from the examples of NIST.
SHA256 = {
    b"": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    b"abc": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq": (
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
    ),
    (
        b"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrst"
        b"nopqrstu"
    ): "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1",
    b"a" * 1_000_000: "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0",
}
# RFC 4231: the key, the text, and the HMAC with SHA-256. Case 5 is one that is cut off.
HMAC_SHA256 = (
    (b"\x0b" * 20, b"Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
    (b"Jefe", b"what do ya want for nothing?", "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
    (b"\xaa" * 20, b"\xdd" * 50, "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"),
    (bytes(range(1, 26)), b"\xcd" * 50, "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b"),
    (
        b"\xaa" * 131,
        b"Test Using Larger Than Block-Size Key - Hash Key First",
        "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
    ),
    (
        b"\xaa" * 131,
        b"This is a test using a larger than block-size key and a larger than block-size data. The key needs to be "
        b"hashed before being used by the HMAC algorithm.",
        "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2",
    ),
)


def hashed(given: Sequence[bytes], key: bytes | None = None, valid: Sequence[bool] | None = None) -> list[str]:
    data = np.frombuffer(b"".join(given) + bytes(SLACK), np.uint8)
    offsets = np.cumsum([0, *map(len, given)]).astype(np.int64)
    found = hashes(data, offsets, None if valid is None else np.array(valid, bool), key).tobytes().decode()
    return [found[at : at + 64] for at in range(0, len(found), 64)]


def test_published_hashes() -> None:
    assert hashed(list(SHA256)) == list(SHA256.values())


def test_published_codes() -> None:
    for key, text, code in HMAC_SHA256:
        assert hashed([text], key) == [code]


@settings(max_examples=60, deadline=None)
@given(
    given=st.lists(st.binary(max_size=200) | st.integers(50, 130).map(bytes), max_size=8),
    key=st.none() | st.binary(max_size=140) | st.integers(60, 70).map(bytes),
    data=st.data(),
)
def test_hashes_are_those_of_the_standard_library(given: list[bytes], key: bytes | None, data: st.DataObject) -> None:
    expected = [
        hashlib.sha256(text).hexdigest() if key is None else hmac.new(key, text, "sha256").hexdigest() for text in given
    ]
    assert hashed(given, key) == expected
    valid = data.draw(st.lists(st.booleans(), min_size=len(given), max_size=len(given)))
    found = hashed(given, key, valid)
    assert [one for one, there in zip(found, valid, strict=True) if there] == [
        one for one, there in zip(expected, valid, strict=True) if there
    ]
    assert all(one == "\0" * 64 for one, there in zip(found, valid, strict=True) if not there)


@given(st.lists(st.none() | st.binary(max_size=200), max_size=20), st.binary(max_size=5))
def test_bytes_of_values_are_gathered(given: list[bytes | None], between: bytes) -> None:
    data, starts, ends = b"", [], []
    for one in given:
        data += between
        starts.append(MISSING if one is None else len(data))
        data += one or b""
        ends.append(MISSING if one is None else len(data))
    with_slack = np.frombuffer(data + bytes(SLACK), np.uint8)
    text, offsets = texts(with_slack, np.array(starts, np.uint32), np.array(ends, np.uint32))
    cut = [bytes(text[start:stop]) for start, stop in itertools.pairwise(offsets)]
    assert cut == [one or b"" for one in given]
    assert len(text) == sum(map(len, cut))
