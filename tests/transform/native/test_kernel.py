"""The compiled kernel, for every level of this machine and with tiny blocks, against slow and plain code."""

from __future__ import annotations

import itertools
import json
import random
import struct
import subprocess
import sys

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import json_texts
from tests.support.hostile import ALPHABET, Lines, escape_all, run
from tests.support.kernel_judge import Case, Tally, cases, compare, compare_edits, stays
from tests.support.kernels import garbage
from transform.native.binding import Column, Kernel, Kind, Scan, Status, emit, scan, strings
from transform.native.wanted import SLACK, MemberPath, Wanted, Way

A: MemberPath = ("a",)
FLAT_PATHS: list[MemberPath] = [A, ("b",), ("c", "a")]
FLAT = Case(Wanted(FLAT_PATHS), FLAT_PATHS)


def view(data: bytes, behind: bytes = b'"') -> memoryview:
    """Return data with bytes behind it that a kernel may read, but must not believe."""
    memory = bytearray(data + behind * SLACK)
    return memoryview(memory)[: len(data)]


def agree(data: bytes, case: Case, kernels: list[Kernel]) -> Tally:
    tally = Tally()
    compare(view(data), case, kernels, tally)
    assert not tally.wrong, tally.wrong[0]
    return tally


def values(lines: list[str], way: Way, kernel: Kernel) -> tuple[Scan, int]:
    wanted = Wanted([A], {A: way})
    return scan(view("".join(f'{{"a":{line}}}\n' for line in lines).encode()), wanted, kernel), wanted.nodes[A]


# --- whether lines are JSON, and where their members are -----------------------------------------------------------


def test_the_kernel_agrees_with_the_reference_about_hostile_lines(kernels: list[Kernel]) -> None:
    tally = run(8_000, 1, kernels)
    assert not tally.wrong
    for status in Status:
        assert tally.statuses[status] >= 50, "lines of every status must be among them"


def test_no_sane_line_is_slow(kernels: list[Kernel]) -> None:
    """The slow way is a hundred times slower, so it is for the few lines that need it."""
    case = Case(Wanted([A, ("",), ("é",)]), [A, ("",), ("é",)])
    data = b"\n".join(Lines("sane", sane=True).lines(3000))
    assert agree(data, case, kernels).statuses == {Status.OK: 3000}


TOKENS = (
    *('"a"', '"\\""', '"\\\\"', '"\\\\\\""', '"\\u00e9"', '"\\ud83d\\ude00"', '"é"', '"日"', '"😀"', '"{,:}[]"', "0"),
    *("true", "false", "null", "[]", "{}", '{"a":{"b":[1,"]"]}}', '""', '"', '"\\', '"\\"', "\\", "tru", "1x", "-"),
    *('"\x01"', "\x00", "\x0b", "1\x0c", '"\\u00g0"', '"\\ud83d"', '"\\ud83dx"', "[1", "]", "12345678901234567890"),
    *("-1.5e+300", "1.e1", '"\\x"'),
)


@pytest.mark.parametrize(
    "before", ['{"a":"%s","b":', '{"a":1%s,"b":', '{"%s":', '{"a":"%s\\\\","b":', '{"%s":[1,[[', "%s"]
)
def test_every_token_is_read_at_every_place_of_a_block(before: str, kernels: list[Kernel]) -> None:
    filler = " " if before in ('{"a":1%s,"b":', "%s") else "x"
    lines = []
    for count in range(130):
        start = before % (filler * count)
        end = "]" * start.count("[") + "}" if start.startswith("{") else ""
        lines += [f"{start}{token}{end}".encode() for token in TOKENS]
    agree(b"\n".join(lines), FLAT, kernels)


ODD_UTF8 = [
    bytes([first]) + rest
    for first in b"\x7f\x80\xbf\xc0\xc1\xc2\xdf\xe0\xe1\xec\xed\xee\xef\xf0\xf1\xf4\xf5\xff"
    for rest in (
        *(b"", b"\x7f", b"\x80", b"\x8f\x80", b"\x90\x80", b"\x9f\xbf", b"\xa0\x80", b"\xbf\x7f", b"\xbf\xc0\x80"),
        *(b"\x80\x80\x80", b"\x8f\xbf\xbf", b"\x90\x80\x80", b"\xbf\xbf\xbf", b"\xbf\x80\xc0", b"\xbf\x80\x7f"),
    )
]


def test_utf8_is_judged_at_every_place_of_a_block(kernels: list[Kernel]) -> None:
    lines = [
        b'{"a":"' + b"x" * ((index * 7 + more) % 70) + sequence + more * b"y" + b'"}'
        for index, sequence in enumerate(ODD_UTF8)
        for more in (0, 1, 2, 3, 8)
    ]
    tally = agree(b"\n".join(lines), FLAT, kernels)
    assert tally.statuses[Status.OK] > 100
    assert tally.statuses[Status.BAD] > 100


@settings(max_examples=150)
@given(st.lists(json_texts.values() | st.text(alphabet=ALPHABET.decode("latin-1"), max_size=20), max_size=4), st.data())
def test_the_kernel_agrees_about_lines_that_hypothesis_draws(
    kernels: list[Kernel], texts: list[str], data: st.DataObject
) -> None:
    names = data.draw(st.lists(st.sampled_from(json_texts.NAMES), min_size=len(texts), max_size=len(texts)))
    line = json_texts.object_of(list(zip(names, texts, strict=True)), data.draw(st.sampled_from(["", " "])))
    case = data.draw(st.sampled_from(cases()))
    agree(line.encode("utf-8", "surrogatepass"), case, kernels)


def test_lines_of_every_length(kernels: list[Kernel]) -> None:
    lines = [b'{"a":"' + b"x" * size + b'"}' for size in range(200)] + [b" " * size for size in range(200)]
    lines += [(b'{"a":"' + b"x" * 200 + b'"}')[:size] for size in range(200)]
    agree(b"\n".join(lines), FLAT, kernels)
    for line in lines:
        agree(line, FLAT, kernels)


@pytest.mark.parametrize("elements", [100, 1100, 2100])
def test_lines_of_many_tokens_that_end_in_any_way(elements: int, kernels: list[Kernel]) -> None:
    line = b'{"a":[' + b"1," * elements + b"2]"
    ends = (b"}", b"}{}", b"} {}", b"} ,", b"}]", b"}1", b"} x", b"", b",", b'"', b',"b":"', b'}"', b"}\x00", b"}}")
    agree(b"\n".join(line + end for end in ends), FLAT, kernels)


@pytest.mark.parametrize("end", [b"", b"\n", b"\n\n", b" ", b"\r\n", b"\n "])
def test_chunks_end_in_any_way(end: bytes, kernels: list[Kernel]) -> None:
    agree(b'{"a":1}\n\n{"b":{}}' + end, FLAT, kernels)
    agree(b'{"a":1}\n12' + end, FLAT, kernels)


@pytest.mark.parametrize("lines", [0, 1, 63, 64, 65, 1000])
def test_chunks_of_newlines_only(lines: int, kernels: list[Kernel]) -> None:
    assert agree(b"\n" * lines, FLAT, kernels).statuses == ({Status.BLANK: lines} if lines else {})


def test_long_lines(kernels: list[Kernel]) -> None:
    nested = b"[" * 400 + b"]" * 400
    long = b'{"b":"' + b"\\\\" * 600_000 + b'","a":' + nested + b',"c":{"a":' + b"9" * 70 + b"}}"
    assert agree(long + b"\n{}\n" + long[:-1], FLAT, kernels).statuses == {Status.OK: 2, Status.BAD: 1}


def test_short_lines_by_the_million(kernels: list[Kernel]) -> None:
    for kernel in kernels:
        found = scan(view(b"{}\n" * 1_000_000), Wanted([]), kernel)
        assert (found.status == Status.OK).all()
        assert (found.bounds == np.arange(1_000_001) * 3).all()
        assert found.empty.all()


@pytest.mark.parametrize("brackets", ["{}", "[]"])
def test_depth(brackets: str, kernels: list[Kernel]) -> None:
    def nested(depth: int) -> bytes:
        before = '{"a":' if brackets == "{}" else "["
        inside = before * (depth - 2) + brackets + brackets[1] * (depth - 2)
        return f'{{"a":{inside}}}'.encode()

    data = b"\n".join([nested(511), nested(512), nested(513), nested(514), nested(513)[:-1], nested(5000)])
    statuses = [int(one) for one in scan(view(data), Wanted([]), kernels[0]).status]
    assert statuses == [Status.OK, Status.OK, Status.BAD, Status.BAD, Status.BAD, Status.BAD]
    agree(data, FLAT, kernels)


# --- what is behind the data ---------------------------------------------------------------------------------------


def test_what_is_behind_a_chunk_changes_nothing(kernels: list[Kernel]) -> None:
    rng = random.Random(5)
    for seed in range(150):
        data = b"\n".join(Lines(f"cut/{seed}").lines(3))
        data = data[: rng.randint(0, len(data))]
        for case in rng.sample(cases(), k=2):
            tally = Tally()
            for _ in range(3):
                compare(view(data, garbage(rng)), case, kernels, tally)
            assert not tally.wrong, tally.wrong[0]


READ_TO_THE_END = r"""
import sys
from tests.support.kernels import GARBAGE, Guarded, levels
from transform.native.binding import scan, strings
from transform.native.wanted import Wanted

wanted, buffer = Wanted([("a",)]), Guarded(1000)
starts = b'{"a":', b'{"a":"', b'{"a":"\\', b'{"a":"\u', b'{"a":"\ud83d', b'{"a":-1', b'{"a":1.0'
starts += b'{"a":1e5', b'{"a":t', b'{"a":"\xf0', b'{"a', b'{"a":[1', b'"', b'{"a":""}', b'{"a":1}'
for kernel in levels():
    for byte in GARBAGE:
        for start in starts:
            for size in (0, 50, 64):
                found = scan(buffer.put(b" " * size + start, bytes([byte])), wanted, kernel)
                strings(found.data, found.starts[1], found.ends[1], kernel)
print("done")
"""


def test_no_more_than_the_slack_is_read() -> None:
    done = subprocess.run([sys.executable, "-c", READ_TO_THE_END], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


# --- numbers -------------------------------------------------------------------------------------------------------


def doubles() -> list[float]:
    rng = random.Random(1)
    found = [struct.unpack("d", struct.pack("Q", rng.getrandbits(64)))[0] for _ in range(40_000)]
    found += [struct.unpack("d", struct.pack("Q", rng.getrandbits(52)))[0] for _ in range(5_000)]  # subnormal
    found += [rng.random() * 10 ** rng.randint(-10, 20) for _ in range(20_000)]
    found += [float(rng.randint(-(10**17), 10**17)) for _ in range(20_000)]
    found += [round(rng.random() * 1000, rng.randint(0, 8)) for _ in range(20_000)]
    found += [rng.getrandbits(53) / 2 for _ in range(5_000)]
    found += [0.0, -0.0, 5e-324, 2.2250738585072014e-308, 2.225073858507201e-308, 1.7976931348623157e308]
    powers = [2.0**power for power in range(-1074, 1024)] + [float(f"1e{power}") for power in range(-323, 309)]
    powers += [9.5e15, 9007199254740992.0, 9007199254740994.0, 1e16 - 2, 123456789012345680.0]
    found += [np.nextafter(power, to).item() for power in powers for to in (-np.inf, np.inf)] + powers
    return [value for value in found if np.isfinite(value)]


def test_doubles_are_read_exactly(kernels: list[Kernel]) -> None:
    expected = np.array(doubles())
    texts = [repr(value) for value in expected.tolist()]
    for kernel in kernels:
        found, node = values(texts, Way.FLOAT64, kernel)
        ok = found.status == Status.OK
        assert found.values[node][ok].tobytes() == expected[ok].tobytes()
        assert (np.abs(expected[~ok]) < 2.3e-308).all(), "only subnormal ones may need more care"
        assert (found.status[~ok] == Status.SLOW).all()


def halves() -> list[str]:
    """Return numbers of up to 19 digits that are exactly between two doubles, and their neighbours."""
    rng, found = random.Random(2), []
    for _ in range(3_000):
        power = rng.randint(1, 9)
        middle = ((rng.getrandbits(52) | 1 << 52) * 2 + 1) << power - 1
        found += [str(middle + by) for by in (-1, 0, 1)]
        quarter = (rng.getrandbits(rng.randint(1, 50)) | 1) * 5**2
        found.append(f"{quarter // 100}.{quarter % 100:02}")
    for power in range(-350, 320):  # of most of these, the 64 bits of the first product are not enough
        found += [f"{rng.getrandbits(63)}e{power}" for _ in range(10)]
        found += [f"{rng.getrandbits(10)}.{rng.getrandbits(50)}E{power:+}" for _ in range(3)]
    return found


def test_decimals_are_read_exactly(kernels: list[Kernel]) -> None:
    texts = halves()
    expected = np.array([float(text) for text in texts])
    for kernel in kernels:
        found, node = values(texts, Way.FLOAT64, kernel)
        ok = found.status == Status.OK
        assert found.values[node][ok].tobytes() == expected[ok].tobytes()
        assert ok.mean() > 0.9


@pytest.mark.parametrize(
    "text",
    [
        "0." + "0" * 100_000 + "1e1000000",
        "0." + "0" * 99_999 + "1e1000009",
        "1" + "0" * 100_000 + "e-1000000",
        "1e" + "0" * 30 + "1",
        "1e-" + "9" * 40,
        "1e" + "9" * 40,
        "0e" + "9" * 40,
        "1" * 19,
        "1" * 20,
        "0." + "1" * 30,
        "9" * 19 + "e-19",
        "0." + "0" * 300 + "1e300",
    ],
)
def test_long_numbers_are_read_exactly_or_left_to_python(text: str, kernels: list[Kernel]) -> None:
    for kernel in kernels:
        found, node = values([text], Way.FLOAT64, kernel)
        if found.status[0] == Status.OK:
            assert found.values[node][0] == float(text)
        else:
            assert found.status[0] == Status.SLOW


def long_decimals() -> list[str]:
    """Return numbers of more than 19 digits: of any kind, near the middle between two doubles, and with zeros alone."""
    rng, found = random.Random(5), []
    for _ in range(3_000):
        digits = "".join(rng.choices("0123456789", k=rng.randint(20, 60)))
        place = rng.randint(0, len(digits))
        found.append(f"{digits[:place].lstrip('0') or '0'}.{digits[place:]}0e{rng.randint(-320, 280)}")
        found.append(digits.lstrip("0") or "0")
        found.append(f"{rng.getrandbits(50)}.{rng.getrandbits(9)}{'0' * rng.randint(10, 40)}")
        middle = ((rng.getrandbits(52) | 1 << 52) * 2 + 1) << rng.randint(1, 200)
        found += [str(middle + by) for by in (-1, 0, 1)] + [f"{middle}.{'0' * 30}1"]
    return found


def test_decimals_of_many_digits_are_read_exactly(kernels: list[Kernel]) -> None:
    texts = [*long_decimals(), str(2**64), str(2**64 - 1), "9" * 400]
    expected = np.array([float(text) if len(text) < 309 else float("inf") for text in texts])
    for kernel in kernels:
        found, node = values(texts, Way.FLOAT64, kernel)
        ok = found.status == Status.OK
        assert found.values[node][ok].tobytes() == expected[ok].tobytes()
        assert ok.mean() > 0.42, "only the four of seven that are close to the middle may need more care"


def test_the_integer_minus_zero_is_zero(kernels: list[Kernel]) -> None:
    for kernel in kernels:
        found, node = values(["-0", "-0.0", "-0e1", "0"], Way.FLOAT64, kernel)
        assert found.status.tolist() == [Status.OK] * 4
        assert [str(value) for value in found.values[node].tolist()] == ["0.0", "-0.0", "-0.0", "0.0"]


def test_wide_integers_have_64_bits_with_a_sign_or_without(kernels: list[Kernel]) -> None:
    rng = random.Random(6)
    given = [*integers()[:-3], *(rng.getrandbits(64) for _ in range(5_000)), 2**63 - 1, 2**63, 2**64 - 1, 10**19]
    odd = [str(-(2**63) - 1), str(2**64), str(10**20), "1" * 40, "1" + "0" * 25, "1.0", "1e0"]
    for kernel in kernels:
        found, node = values([*map(str, given), *odd], Way.WIDE, kernel)
        assert (found.status[: len(given)] == Status.OK).all()
        assert (found.status[len(given) :] == Status.SLOW).all()
        without_sign = found.valid[node] == 2
        signed, unsigned = found.values[node].tolist(), found.values[node].view(np.uint64).tolist()
        read = [u if large else s for s, u, large in zip(signed, unsigned, without_sign.tolist(), strict=True)]
        assert read[: len(given)] == given


def test_doubles_are_written_as_polars_does(kernels: list[Kernel]) -> None:
    given = np.array([*doubles(), float("nan"), float("inf"), float("-inf")])
    expected = pl.Series(given).cast(pl.String).replace({"NaN": "null", "inf": "null", "-inf": "null"}).to_list()
    written(Kind.FLOAT64, given, expected, kernels)


def test_integers_are_written(kernels: list[Kernel]) -> None:
    given = np.array(integers(), np.int64)
    written(Kind.INT64, given, [str(value) for value in given.tolist()], kernels)


def written(kind: Kind, given: np.ndarray, expected: list[str], kernels: list[Kernel]) -> None:
    for kernel in kernels:
        found = scan(view(b"{}\n" * len(given)), Wanted([]), kernel)
        output = bytes(emit(found, np.arange(len(given)), [Column(kind, b'"a":', given)], kernel)).decode()
        lines = [line.removeprefix('{"a":').removesuffix("}") for line in output.splitlines()]
        assert [pair for pair in zip(lines, expected, strict=True) if pair[0] != pair[1]] == []


def integers() -> list[int]:
    rng = random.Random(3)
    found = [rng.randint(-(2**63), 2**63 - 1) >> rng.randint(0, 63) for _ in range(50_000)]
    found += [sign * 10**power + by for power in range(19) for by in (-1, 0, 1) for sign in (1, -1)]
    return [*found, -(2**63), 2**63 - 1, -(2**63) + 1]


def test_integers_are_read(kernels: list[Kernel]) -> None:
    expected = np.array(integers(), np.int64)
    for kernel in kernels:
        found, node = values([str(value) for value in expected.tolist()], Way.INT64, kernel)
        ok = found.status == Status.OK
        assert (found.values[node][ok] == expected[ok]).all()
        assert expected[~ok].tolist() == [-(2**63)]


def test_integers_out_of_range_are_left_to_python(kernels: list[Kernel]) -> None:
    wide = [str(2**63), str(-(2**63) - 1), str(2**64), str(2**64 - 1), str(10**19), "9" * 19, "-" + "9" * 19, "1" * 40]
    for kernel in kernels:
        found, _ = values([*wide, "1.0", "1e0", "0.0", '"1"', "true", "[]"], Way.INT64, kernel)
        assert (found.status == Status.SLOW).all()
        wanted = Wanted([A], {A: Way.INT64}, {A: (-128, 127)})
        found = scan(view(b"".join(b'{"a":%d}\n' % value for value in (-129, -128, 127, 128))), wanted, kernel)
        assert found.status.tolist() == [Status.SLOW, Status.OK, Status.OK, Status.SLOW]


# --- texts ---------------------------------------------------------------------------------------------------------


@given(st.lists(st.text() | st.text(alphabet='a"\\/\b\n\u0001é日😀', min_size=50, max_size=200), max_size=5), st.data())
def test_texts_lose_their_escapes(kernels: list[Kernel], texts: list[str], data: st.DataObject) -> None:
    texts = [text.encode("utf-8", "replace").decode() for text in texts]
    ascii_only = data.draw(st.booleans())
    lines = [json.dumps(text, ensure_ascii=ascii_only).replace("/", "\\/") for text in texts]
    for kernel in kernels:
        found, node = values([*lines, "null"], Way.STRING, kernel)
        assert (found.status == Status.OK).all()
        text, offsets = strings(found.data, found.starts[node], found.ends[node], kernel)
        pairs = zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)
        assert [bytes(text[start:stop]).decode() for start, stop in pairs] == [*texts, ""]


def test_escapes_are_found_at_every_place_of_a_block(kernels: list[Kernel]) -> None:
    expected = ["x" * before + text for before in range(140) for text in ("\n", "\\", "é\x00", "\t" + "y" * 70)]
    for kernel in kernels:
        found, node = values([json.dumps(text) for text in expected], Way.STRING, kernel)
        text, offsets = strings(found.data, found.starts[node], found.ends[node], kernel)
        assert bytes(text).decode() == "".join(expected)
        assert offsets.tolist() == np.cumsum([0, *(len(text.encode()) for text in expected)]).tolist()


# --- output --------------------------------------------------------------------------------------------------------


def test_results_replace_values_and_are_appended(kernels: list[Kernel]) -> None:
    for seed in range(150):
        lines = Lines(f"edits/{seed}")
        compare_edits(lines.lines(8), lines.random, kernels, lines.random.choice((b"\n", b"")))


@pytest.mark.parametrize("gap", ["", " ", "\t \r"])
def test_every_choice_of_members_can_go(gap: str, kernels: list[Kernel]) -> None:
    names = ("a", "b", "a", '\\"', "\\u0062", "")
    lines = []
    for count in range(len(names) + 1):
        members = (f'{gap}"{name}"{gap}:{gap}{{"a":[{index}]}}{gap}' for index, name in enumerate(names[:count]))
        lines.append(f"{gap}{{{','.join(members) or gap}}}{gap}".encode())
    data = b"\n".join(lines) + b"\n"
    every = ("a", "b", '"', "", "not there")
    for chosen in range(2 ** len(every)):
        some = [name for index, name in enumerate(every) if chosen >> index & 1]
        agree(data, stays([], drop=some), kernels)
        agree(data, stays([], select=some), kernels)


def test_there_is_room_for_the_most_cuts(kernels: list[Kernel]) -> None:
    """Every other member goes, and all are as short as they can be."""
    case = stays([], drop=("",))
    for line in (b'{"":1}', b'{"":1,"a":1}', b'{"":1,"a":1,"":1}', b'{"":1,"a":1' + b',"":1,"a":1' * 30 + b',"":1}'):
        for count in (1, 2, 20):
            agree(b"\n".join([line] * count), case, kernels)
            agree(b"\n".join([line, line[:-1]] * count), case, kernels)


def test_listed_names_are_seen(kernels: list[Kernel]) -> None:
    names = [f"n{index}" for index in range(130)]
    for kernel in kernels:
        wanted = Wanted([], keeps=dict.fromkeys(names, False))
        found = scan(
            view(b'{"n0":1,"n64":1,"other":{"n2":1}}\n{"n1":1\n\n{"n129":1,"n63":1,"n129":2}\n'), wanted, kernel
        )
        bits = np.unpackbits(found.listed.view(np.uint8).reshape(4, -1), axis=1, bitorder="little")
        assert [np.flatnonzero(bits[line]).tolist() for line in (0, 2, 3)] == [[0, 64], [], [63, 129]]


def test_results_that_replace_members_in_any_order(kernels: list[Kernel]) -> None:
    rng = random.Random(4)
    names = [f"m{index}" for index in range(300)]
    wanted = Wanted([(name,) for name in names])
    order = [rng.sample(names, k=rng.choice((0, 1, 150, 300))) for _ in range(20)]
    order += [names, names[::-1]] * 2
    data = b"".join(json.dumps(dict.fromkeys(line, 0)).encode() + b"\n" for line in order)
    expected = [{**dict.fromkeys(line, 0), **{name: index for index, name in enumerate(names)}} for line in order]
    for kernel in kernels:
        found = scan(view(data), wanted, kernel)
        columns = []
        for index, name in enumerate(names):
            node = wanted.nodes[(name,)]
            target = found.starts[node], found.ends[node]
            numbers = np.full(len(order), index)
            columns.append(Column(Kind.INT64, json.dumps(name).encode() + b":", numbers, target=target))
        output = bytes(emit(found, np.arange(len(order)), columns, kernel))
        assert [list(json.loads(line).items()) for line in output.splitlines()] == [
            list(one.items()) for one in expected
        ]


# --- the members that are wanted -----------------------------------------------------------------------------------


def test_a_thousand_members(kernels: list[Kernel]) -> None:
    rng = random.Random(6)
    names = [f"{'prefix_' * (index % 3)}{index:04}{'_suffix' * (index % 2)}" for index in range(1000)]
    names += [name[:-1] for name in names[:50]] + ["", "é", "\x00", '"', "\\", "a" * 300]
    paths: list[MemberPath] = [*((name,) for name in names), *itertools.pairwise(names[:100])]
    objects = []
    for _ in range(30):
        chosen = rng.sample(names, k=rng.choice((1, 30, 400)))
        objects.append({name: rng.choice((1, {rng.choice(names[:101]): name}, None)) for name in chosen})
    lines = [json.dumps(one, ensure_ascii=rng.random() < 0.5).encode() for one in objects]
    lines.append(b"{%b}" % b",".join(escape_all(name).encode() + b":1" for name in names[:200]))
    agree(b"\n".join(lines), Case(Wanted(paths), paths), kernels)


def test_names_that_differ_in_little(kernels: list[Kernel]) -> None:
    names = [
        *("a" * size for size in range(40)),
        *("a" * at + "b" + "a" * (39 - at) for at in range(40)),
        "a" * 39 + "\x00",
    ]
    names += ["\x00", "\x00\x00", "\x00" * 8, "\x00" * 9]
    paths = [(name,) for name in names]
    data = b"\n".join(json.dumps({name: index, "x": 0}).encode() for index, name in enumerate(names))
    agree(data, Case(Wanted(paths), paths), kernels)
    for path in paths:
        agree(data, Case(Wanted([path]), [path]), kernels)


def test_of_duplicates_the_last_counts_with_what_is_in_it(kernels: list[Kernel]) -> None:
    paths: list[MemberPath] = [A, ("a", "b"), ("a", "b", "c"), ("a", "d")]
    some = ("null", "1", "{}", '{"b":1}', '{"b":{"c":2}}', '{"d":3,"b":null}', '[{"b":4}]', '{"b":5,"b":{"c":6},"c":7}')
    lines = [f'{{"a":{first},"b":{{"c":1}},"\\u0061":{second}}}' for first in some for second in some]
    tally = agree("\n".join(lines).encode(), Case(Wanted(paths), paths), kernels)
    assert tally.statuses[Status.OK] > 10
    assert tally.statuses[Status.SLOW] > 20


def test_names_with_escapes_that_do_not_fit(kernels: list[Kernel]) -> None:
    """A name that is unescaped must not leave its scratch, however long it is, and whatever is in it."""
    names = [
        '"' + r"\u0061" * count + end for count in (0, 1, 2, 3, 100) for end in ('"', 'b"', r'\ud83d\ude00"', r'\u00"')
    ]
    lines = "\n".join(f"{{{name}:1}}" for name in [*names, r'"\ud83d"', r'"\\a"', r'"\""', r'"a\x"', '"a\\'])
    for paths in ([A], [("aa",)], [("",)], [("a😀",)], [A, ("a" * 100,)]):
        agree(lines.encode(), Case(Wanted(paths), paths), kernels)
