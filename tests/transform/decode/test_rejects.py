"""Rejected lines are written as JSON that says all of them, whatever they are made of."""

from __future__ import annotations

import base64
import json
import pickle

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.support.kernels import Guarded, levels
from transform.decode.columns import SHORT_CHARACTERS, shorten
from transform.decode.reasons import Form, wording
from transform.decode.rejects import Reject, Rejects, reject_long
from transform.native.binding import RejectedLines, number_rejects, write_rejects

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
    assert 4 <= len(blocks) <= 6
    assert max(map(len, blocks)) < 2 << 20


TEXTS = st.text(max_size=50) | st.text(st.sampled_from('"\\\x00\x08\t\x0b\x0c\r\x1f\x7f é…😀a'), max_size=150)
TEXTS |= st.builds(
    str.__mul__, st.sampled_from(("a", "é", '"', "\x01", "😀a")), st.integers(38, 70)
)  # about the limits
FORMS = st.builds(Form, kind=TEXTS, before=TEXTS, after=TEXTS, binary=st.just(False))
BULK = st.lists(st.tuples(LINES | TEXTS.map(str.encode), st.integers(0, 3), TEXTS | st.integers(0, 10**12)), max_size=8)


@given(lines=BULK, forms=st.tuples(FORMS, FORMS), first_line=st.integers(1, 10**12), offset=st.integers(0, 10**15))
def test_many_rejects_are_written_as_each_by_itself(
    lines: list[tuple[bytes, int, str | int]], forms: tuple[Form, Form], first_line: int, offset: int
) -> None:
    data, starts, details, wanted = b"", list[int](), list[tuple[int, int]](), list[Reject]()
    chosen = []
    for index, (raw, number, detail) in enumerate(lines):
        form = forms[number % 2]
        try:
            raw.decode()
        except UnicodeDecodeError:
            form = form._replace(binary=True)
        shown = detail if isinstance(detail, int) else shorten(detail)
        reason = f"{form.before}{shown}{form.after}"
        text = b"" if isinstance(detail, int) else detail.encode()
        details.append((detail, -1) if isinstance(detail, int) else (len(data), len(data) + len(text)))
        starts.append(len(data) + len(text))
        data += text + raw
        chosen.append(form)
        wanted.append(Reject(3 * index, offset + index, form.kind, reason, raw))
    every = [*dict.fromkeys(chosen)]
    rejected = RejectedLines(
        np.array(starts, np.int64),
        np.array([start + len(raw) for start, (raw, *_) in zip(starts, lines, strict=True)], np.int64),
        np.array([every.index(form) for form in chosen], np.int32),
        np.array([start for start, _ in details], np.int64),
        np.array([stop for _, stop in details], np.int64),
    )
    kept = Rejects.of(wanted)
    expected_blocks = b"".join(expected(reject, first_line + reject.line) for reject in wanted)
    for kernel in levels():
        chunk = np.frombuffer(Guarded(len(data) + 1).put(data, b'"\\\x00'), np.uint8)
        texts, bounds = write_rejects(chunk, rejected, [*map(wording, every)], SHORT_CHARACTERS, kernel)
        places = (texts, bounds[:-1], bounds[1:], kept.offsets, kept.lines)
        assert number_rejects(*places, first_line, kernel).tobytes() == expected_blocks
    assert b"".join(kept.to_json_blocks(first_line)) == expected_blocks
    assert [*kept] == wanted


@given(kinds=st.lists(st.sampled_from("abc"), max_size=12), data=st.data())
def test_rejects_are_merged_cut_sent_and_counted_as_lists_are(kinds: list[str], data: st.DataObject) -> None:
    every = [Reject(line, 10 * line, kind, f"{kind}!", b"\xff" * (line % 2)) for line, kind in enumerate(kinds)]
    first = data.draw(st.lists(st.booleans(), min_size=len(every), max_size=len(every)))
    halves = [
        Rejects.of(one for one, is_in in zip(every, first, strict=True) if is_in == half) for half in (True, False)
    ]
    found = pickle.loads(pickle.dumps(halves[0].merged(halves[1])))
    assert [*found] == every
    start, stop = data.draw(st.integers(0, 12)), data.draw(st.integers(0, 12))
    assert [*found[start:stop]] == every[start:stop]
    assert b"".join(found[start:stop].to_json_blocks(5)) == b"".join(
        expected(one, 5 + one.line) for one in every[start:stop]
    )
    assert [*found.by_kind()] == [(kind, kinds.count(kind), 10 * kinds.index(kind)) for kind in dict.fromkeys(kinds)]
