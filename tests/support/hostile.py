r"""Lines that are hard to read, made from a seed, and a command that compares the kernel's judgement with another one.

    python -m tests.support.hostile --lines 1000000 --seed 7

The kernel is run for every level of this machine and must find the same for each. The command says every minute how far
it has come, and at a signal what it has found.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import random
import signal
import sys
import time
from typing import TYPE_CHECKING

from tests.support.kernel_judge import NAMES, Tally, cases, compare
from tests.support.kernels import Guarded, garbage, levels
from transform.native.binding import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType

    from transform.native.binding import Kernel

NUMBERS = (
    *(
        "0",
        "-0",
        "1",
        "-1",
        "7",
        "10",
        "1.5",
        "-0.0",
        "1e5",
        "1E-3",
        "0.10",
        "0e0",
        "-0E-0",
        "1e400",
        "-1e400",
        "1e-400",
    ),
    *("12345678901234567890", "1" + "0" * 30, "9007199254740993", "9223372036854775807", "-9223372036854775808"),
    *("9223372036854775808", "-9223372036854775809", "18446744073709551616", "9999999999999999999", "2.5e-324"),
    *("5e-324", "2.2250738585072011e-308", "1.7976931348623157e308", "1.7976931348623159e308", "0." + "0" * 70 + "1"),
    *(
        "0.1e1",
        "1" * 70,
        "1." + "5" * 66,
        "1e" + "0" * 66 + "1",
        "123456789.123456789",
        "1e+09",
        "1e-09",
        "32767",
        "40000",
    ),
)
NO_NUMBERS = (
    "01",
    "-",
    "+1",
    ".5",
    "1.",
    "1.e5",
    "1e",
    "1e+",
    "-01",
    "0x1",
    "NaN",
    "-Infinity",
    "1_0",
    "1e1.5",
    "--1",
    "1-",
)
PIECES = (
    *(
        "a",
        "b",
        "xyz",
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        " ",
        "é",
        "日",
        "😀",
        "\x7f",
        "\u2028",
        "\ufeff",
        "\U0010ffff",
        "߿",
        "ࠀ",
    ),
    *(r"\\", r"\"", r"\/", r"\n", r"\b", r"\u0041", r"\ud83d\ude00", r"\u00e9", r"\u0000", r"\u20aC", r"\uD800\uDFFF"),
    *("true", "0", "x" * 61, r"\\" * 33, "é" * 33, "日" * 22, "😀" * 16),
)
ODD_PIECES = (
    *(r"\ud83d", r"\ude00", r"\ud83d\\ude00", r"\ud83dA", r"\ude00\ud83d", r"\ud83d\ud83d\ude00", r"\ud83d\u0041"),
    *(r"\x", r"\u12", r"\u12g4", r"\U0041", "\\", "\t", "\x00", "\x1f", r"\u", r"\'"),
)
ALPHABET = b'{}[],:"\\ \t\r0123456789.eE+-truefalsn/u'
ALPHABET += b"\x00\x0b\x0c\x1f\x7f\xc0\xc1\xc3\xa9\xe0\xed\xa0\x80\xf0\x9f\x98\x80\xf4\x90\xff"
ODD_BYTES = (
    *(
        b"\xc0\x80",
        b"\xc1\xbf",
        b"\xe0\x80\x80",
        b"\xe0\x9f\xbf",
        b"\xed\xa0\x80",
        b"\xed\xbf\xbf",
        b"\xf0\x80\x80\x80",
    ),
    *(
        b"\xf4\x90\x80\x80",
        b"\xf5\x80\x80\x80",
        b"\x80",
        b"\xbf",
        b"\xc3",
        b"\xe6\x97",
        b"\xf0\x9f\x98",
        b"\xff",
        b"\xfe",
    ),
)
WHOLE = (
    *(
        b"",
        b" ",
        b"\t\r ",
        b" " * 64,
        b" " * 130,
        b"\x00",
        b"[]",
        b"1",
        b'"a"',
        b"null",
        b"{",
        b"}",
        b"{}",
        b"{ }",
        b"\xa0",
    ),
    *(
        b"\xef\xbb\xbf{}",
        b"{}{}",
        b"{},",
        b"{}\x00",
        b"\\",
        b'"',
        b'{"a":9"n"}',
        b'{"a"}',
        b'{"a":1,}',
        b'{,"a":1}',
        b"\x0b",
    ),
    *(
        b'{"a":1 "b":2}',
        b'{"a":[1 2]}',
        b'{"a":[1,]}',
        b'{"a":[}',
        b'{"a":{]}',
        b'{"a":1]',
        b"{a:1}",
        b"{'a':1}",
        b'{"a" 1}',
    ),
    *(
        b'{"a":tru}',
        b'{"a":truee}',
        b'{"a":nul',
        b'{"a":true"b":1}',
        b'{"a":"b""c"}',
        b'{"a":1:2}',
        b'{"a"::1}',
        b"{1:2}",
    ),
)
LARGEST_DEPTHS = (510, 511, 512, 513, 600)


def escape_all(text: str) -> str:
    units = text.encode("utf-16-be").hex()
    return '"' + "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4)) + '"'


class Lines:
    """Makes lines.

    Args:
        seed: What they are made from.
        sane: Only JSON objects without lone surrogates.
    """

    def __init__(self, seed: object, *, sane: bool = False) -> None:
        self.random = random.Random(str(seed))
        self._sane = sane

    def lines(self, count: int) -> list[bytes]:
        return [self.line() for _ in range(count)]

    def line(self) -> bytes:
        chance = self.random.random
        if not self._sane:
            if chance() < 0.03:
                return self.random.choice(WHOLE)
            if chance() < 0.004:
                return self._deep()
        line = (self._white() + self._object(0) + self._white()).encode("utf-8", "surrogatepass")
        if not self._sane and chance() < 0.45:
            for _ in range(self.random.choice((1, 1, 1, 2, 3))):
                line = self._mutated(line)
        return line.replace(b"\n", b"")

    def _mutated(self, line: bytes) -> bytes:
        place, kind = self.random.randint(0, len(line)), self.random.random()
        byte = bytes([self.random.choice(ALPHABET)])
        if kind < 0.35:
            return line[:place] + byte + line[place:]
        if kind < 0.6:
            return line[:place] + line[place + 1 :]
        if kind < 0.8:
            return line[:place] + byte + line[place + 1 :]
        if kind < 0.86:
            return line[:place] + self.random.choice(ODD_BYTES) + line[place:]
        if kind < 0.9:
            return line[:place]
        other = self.random.randint(0, len(line))
        if kind < 0.95:
            return line[: min(place, other)] + line[max(place, other) :]
        return line[:place] + line[other:]  # joined, or a part doubled

    def _deep(self) -> bytes:
        depth, parts, ends = self.random.choice(LARGEST_DEPTHS), ["{"], ["}"]
        for _ in range(depth - 1):
            in_object = ends[-1] == "}"
            brackets = self.random.choice(("{}", "[]"))
            parts.append(('"a":' if in_object else "") + brackets[0])
            ends.append(brackets[1])
        if self.random.random() < 0.2:
            ends[self.random.randrange(depth)] = self.random.choice("]}")
        return "".join(parts + ends[::-1]).encode()

    def _white(self) -> str:
        chance = self.random.random()
        if chance < 0.7:
            return ""
        return (
            self.random.choice((" ", "\t", "\r", "  ", " \t\r")) if chance < 0.97 else " " * self.random.randint(0, 130)
        )

    def _value(self, depth: int) -> str:
        chance = self.random.random()
        if chance < 0.3:
            return self._number()
        if chance < 0.6:
            return self._string()
        if chance < 0.72:
            return self.random.choice(("true", "false", "null"))
        if depth > 3 or chance < 0.76:
            return self.random.choice(("{}", "[]", "[ ]", "{\t}", "[[]]", "[{}]"))
        if chance < 0.86:
            items = [self._white() + self._value(depth + 1) + self._white() for _ in range(self.random.randint(1, 4))]
            return "[" + ",".join(items) + "]"
        return self._object(depth + 1)

    def _number(self) -> str:
        chance, rng = self.random.random(), self.random
        if chance < 0.3:
            return rng.choice(NUMBERS)
        if chance < 0.35 and not self._sane:
            return rng.choice(NO_NUMBERS)
        if chance < 0.6:
            return str(rng.getrandbits(rng.randint(1, 70)) * rng.choice((1, -1)))
        if chance < 0.8:
            return repr(rng.random() * 10 ** rng.randint(-30, 30))
        digits = "".join(rng.choices("0123456789", k=rng.choice((1, 2, 17, 18, 19, 20, 40))))
        text = rng.choice(("-", "")) + (digits.lstrip("0") or "0")
        if rng.random() < 0.6:
            text += "." + "".join(rng.choices("0123456789", k=rng.randint(1, 22)))
        if rng.random() < 0.6:
            text += rng.choice("eE") + rng.choice(("", "+", "-")) + str(rng.randint(0, 330))
        return text

    def _string(self) -> str:
        count = self.random.choice((0, 1, 1, 2, 2, 3, 5, 12))
        pieces = self.random.choices(PIECES, k=count)
        if not self._sane and self.random.random() < 0.04:
            pieces.insert(self.random.randint(0, count), self.random.choice(ODD_PIECES))
        if self.random.random() < 0.1:  # what follows is at any place of a block
            pieces.insert(0, "p" * self.random.randint(0, 130))
        return '"' + "".join(pieces) + '"'

    def _name(self) -> str:
        if self.random.random() < 0.05:
            return self._string()
        name = self.random.choice(NAMES)
        if self.random.random() < 0.07:
            return escape_all(name)
        return json.dumps(name, ensure_ascii=self.random.random() < 0.3)

    def _object(self, depth: int) -> str:
        members = [
            f"{self._white()}{self._name()}{self._white()}:{self._white()}{self._value(depth)}{self._white()}"
            for _ in range(self.random.choice((0, 1, 1, 2, 3, 6) if depth else (0, 1, 2, 3, 6, 8)))
        ]
        return "{" + (",".join(members) or self._white()) + "}"


CHUNK_LINES = 50
MAX_WRONG = 100
PROGRESS_S = 60


class StoppedError(Exception):
    """A signal has asked for the end."""


def run(
    count: int,
    seed: int,
    kernels: Sequence[Kernel],
    put: Callable[[bytes, bytes], memoryview] | None = None,
    tally: Tally | None = None,
) -> Tally:
    """Compare so many lines, and return what was found; prints what is wrong, and gives up if that is much.

    Args:
        count: The number of lines.
        seed: What they are made from.
        kernels: What is compared.
        put: Makes the buffers from data and what is behind it; by default at the end of all memory.
        tally: Where it is counted; a new one by default.
    """
    tally, asked, put = tally or Tally(), cases(), put or Guarded(1 << 20).put
    chunk, start = 0, time.monotonic()
    shown = start
    while tally.lines < count and len(tally.wrong) < MAX_WRONG:
        lines = Lines(f"{seed}/{chunk}")
        made = lines.lines(min(CHUNK_LINES, count - tally.lines))
        data = b"\n".join(made) + b"\n" * (lines.random.random() < 0.8 or not made[-1])
        wrong = len(tally.wrong)
        compare(put(data, garbage(lines.random)), asked[chunk % len(asked)], kernels, tally)
        for what in tally.wrong[wrong:]:
            print(f"seed {seed}, chunk {chunk}: {what}", flush=True)
        chunk += 1
        if (now := time.monotonic()) - shown >= PROGRESS_S:
            shown = now
            print(describe(tally, kernels, now - start), flush=True)
    return tally


def describe(tally: Tally, kernels: Sequence[Kernel], seconds: float) -> str:
    counts = ", ".join(f"{tally.statuses[status]:,} {status.name}" for status in Status)
    names = ", ".join(kernel.level for kernel in kernels)
    return f"{tally.lines:,} lines ({counts}) for {names} in {seconds:.1f} s: {len(tally.wrong):,} disagreements"


def stop(number: int, _frame: FrameType | None) -> None:
    raise StoppedError(f"stopped by {signal.Signals(number).name} after ")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.support.hostile", description="Compare the kernel's judgement."
    )
    parser.add_argument("--lines", type=int, default=100_000, help="how many lines to compare (default: 100,000)")
    parser.add_argument("--seed", type=int, default=0, help="what the lines are made from (default: 0)")
    arguments = parser.parse_args()
    faulthandler.enable()
    kernels, tally, start, stopped = levels(), Tally(), time.monotonic(), ""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    try:
        run(arguments.lines, arguments.seed, kernels, tally=tally)
    except StoppedError as error:
        stopped = str(error)
    print(stopped + describe(tally, kernels, time.monotonic() - start), flush=True)
    return 1 if tally.wrong or stopped else 0


if __name__ == "__main__":
    sys.exit(main())
