"""Rejected lines are written as JSON that says all of them, whatever they are made of."""

from __future__ import annotations

import base64
import json

from hypothesis import given
from hypothesis import strategies as st

from transform.decode.rejects import Reject, Rejects, reject_long

LINES = st.binary(max_size=40) | st.text(max_size=40).map(str.encode)


def expected(reject: Reject, line: int) -> bytes:
    """Return a reject as a line of JSON, by the standard library."""
    members = {"offset": reject.offset, "line": line, "reason": reject.reason}
    try:
        members["raw"] = reject.raw.decode()
    except UnicodeDecodeError:
        members["raw_base64"] = base64.b64encode(reject.raw).decode()
    if reject.length is not None and reject.length > len(reject.raw):
        members |= {"truncated": True, "length": reject.length}
    return json.dumps(members, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


@given(raws=st.lists(LINES), length=st.integers(0, 60), reason=st.text(max_size=20))
def test_each_reject_is_a_line_of_json(raws: list[bytes], length: int, reason: str) -> None:
    rejects = [Reject(2 * index, 100 * index, "kind", reason, raw) for index, raw in enumerate(raws)]
    rejects += [reject_long(1000, 5000, raw, len(raw) + length, 10) for raw in raws]
    written = b"".join(Rejects.of(rejects).to_json_blocks(7))
    assert written == b"".join(expected(reject, 7 + reject.line) for reject in rejects)


def test_many_rejects_are_several_blocks_of_whole_lines() -> None:
    raws = [b"x" * 300, b"y" * 100_000, b"z" * 60_000] * 20 + [b"x" * 300] * 5_000
    rejects = [Reject(index, index, "kind", "reason", raw) for index, raw in enumerate(raws)]
    blocks = list(Rejects.of(rejects).to_json_blocks(1))
    assert b"".join(blocks) == b"".join(expected(reject, 1 + reject.line) for reject in rejects)
    assert all(block.endswith(b"}\n") for block in blocks)
    assert 40 < len(blocks) < 60
    assert max(map(len, blocks)) < 2 << 20
