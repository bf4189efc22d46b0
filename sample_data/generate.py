#!/usr/bin/env python3
"""Makes synthetic, Yelp-shaped JSON lines of any size: invented businesses, about 300 bytes a line.

`sample_data/yelp_businesses.json` is this script's output with its defaults, byte for byte:

    python sample_data/generate.py sample_data/yelp_businesses.json

The same seed gives the same endless stream of lines on every platform; `--lines` and `--bytes` say where it is cut.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import string
import sys
from contextlib import suppress
from decimal import Decimal
from itertools import count, product
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

T = TypeVar("T")

DEFAULT_LINES = 200
DEFAULT_SEED = 21

BLOCK_LINES = 4000  # about 1.2 MB: formatted at once, and written at once
WHEEL_STRIDE = 1619  # prime, so that a wheel passes all its values before it repeats
ID_ALPHABET = string.ascii_letters + string.digits + "_-"
ID_FIXED_CHARS = 18  # of 22; the other four change from block to block

UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


class City(NamedTuple):
    """A place where businesses are; `postal` has a `#` for each digit."""

    name: str
    state: str
    postal: str
    latitude: float
    longitude: float


CITIES = (
    City("Philadelphia", "PA", "191##", 39.9526, -75.1652),
    City("Tucson", "AZ", "857##", 32.2226, -110.9747),
    City("Tampa", "FL", "336##", 27.9506, -82.4572),
    City("Indianapolis", "IN", "462##", 39.7684, -86.1581),
    City("Nashville", "TN", "372##", 36.1627, -86.7816),
    City("New Orleans", "LA", "701##", 29.9511, -90.0715),
    City("Reno", "NV", "895##", 39.5296, -119.8138),
    City("Edmonton", "AB", "T5J #R#", 53.5461, -113.4938),
    City("Saint Louis", "MO", "631##", 38.627, -90.1994),
    City("Santa Barbara", "CA", "931##", 34.4208, -119.6982),
    City("Boise", "ID", "837##", 43.615, -116.2023),
    City("Las Vegas", "NV", "891##", 36.1699, -115.1398),
    City("Cañon City", "CO", "81212", 38.441, -105.2424),
    City("Montréal", "QC", "H2X #Y#", 45.5019, -73.5674),
    City("München", "BY", "803##", 48.1351, 11.582),
    City("Zürich", "ZH", "80##", 47.3769, 8.5417),
    City("São Paulo", "SP", "013##-0##", -23.5505, -46.6333),
    City("京都市", "26", "600-8###", 35.0116, 135.7681),
)
STREETS = ("Alder", "Juniper", "Market", "Old Mill", "Foundry", "N Kestrel", "S 14th", "Harbor", "Rue Lavigne")
STREET_KINDS = ("St", "Ave", "Blvd", "Rd", "Ln", "Pkwy", "Hwy 9", "Sq")
UNIT_LABELS = ("", "", "", ", Ste 4", ", Unit B", ", Ste 210", ", #12")
PEOPLE = ("Abernathy", "Okafor", "Tran", "Lindqvist", "Marisol", "Petrov", "O'Dell", "Haddad", "Yamada", "Bianchi")
ADJECTIVES = ("Blue", "Crooked", "Gilded", "Quiet", "Salty", "Second", "Velvet", "Wandering", "Copper", "Lucky", "Slow")
NOUNS = ("Heron", "Lantern", "Skillet", "Thistle", "Anchor", "Bicycle", "Maple", "Teapot", "Comet", "Orchard", "Badger")
KINDS = ("Grill", "Bakery", "Auto Repair", "Dental", "Nail Spa", "Bar", "Taquería", "Coffee Roasters", "Pizza", "Yoga")
NAME_PATTERNS = (
    "{person}'s {kind}",
    "The {adjective} {noun}",
    "{noun} & {noun2} {kind}",
    "{adjective} {noun} {kind}",
    "{person} {kind}",
    "{noun} {kind} No. {digit}",
    "{kind} on {street}",
    "{person} & {person2} {kind}, LLC",
)
RARE_NAME_PATTERNS = (
    "Café {noun}",
    "Crêperie {person}",
    "Müller & {person} {kind}",
    "日本の味 {noun}",
    "{adjective} ラーメン {person}",
    "{noun} 🍜 {kind}",
    "🌮 {person}'s",
    'The "{adjective}" {noun}',
    "{noun}/{noun2} \\ {kind}",
    "100% {adjective} {kind}",
)
CATEGORIES = (
    *("Restaurants", "Food", "Shopping", "Nightlife", "Bars", "Coffee & Tea", "Beauty & Spas", "Home Services", "Gyms"),
    *("Automotive", "Health & Medical", "Local Services", "Pizza", "Sandwiches", "Event Planning & Services", "Thai"),
    *("American (Traditional)", "American (New)", "Active Life", "Fashion", "Bakeries", "Hair Salons", "Burgers"),
    *("Fast Food", "Sushi Bars", "Japanese", "Bookstores", "Vegetarian", "Chicken Wings", "Crêperies", "Tapas/Small"),
)


class Dice:
    """Choices built on `Random.random()` alone: the one method whose sequence Python promises not to change."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed).random  # noqa: S311 - made-up data, no secrets

    def below(self, limit: int) -> int:
        """Return an integer of 0 … limit - 1."""
        return int(self.random() * limit)

    def pick(self, values: Sequence[T]) -> T:
        """Return one of the values."""
        return values[self.below(len(values))]

    def shuffled(self, values: Sequence[T]) -> list[T]:
        """Return the values in another order."""
        order = list(values)
        for last in range(len(order) - 1, 0, -1):
            other = self.below(last + 1)
            order[last], order[other] = order[other], order[last]
        return order

    def digits(self, pattern: str) -> str:
        """Return the pattern with a digit for each `#`."""
        return "".join(str(self.below(10)) if char == "#" else char for char in pattern)


class Wheel:
    """A ring of at least BLOCK_LINES values, read from another place for each block: variety at the cost of a slice."""

    def __init__(self, values: Sequence[bytes]) -> None:
        self.size = len(values)
        self.values = [*values, *values[:BLOCK_LINES]]

    def turned(self, block: int) -> list[bytes]:
        """Return the values for the lines of one block."""
        start = block * WHEEL_STRIDE % self.size
        return self.values[start : start + BLOCK_LINES]


def business_name(dice: Dice) -> str:
    """Return an invented name; about one in seven is not plain ASCII, or has characters that JSON escapes."""
    pattern = dice.pick(RARE_NAME_PATTERNS if dice.random() < 0.15 else NAME_PATTERNS)
    person, person2, *_ = dice.shuffled(PEOPLE)
    noun, noun2, *_ = dice.shuffled(NOUNS)
    return pattern.format(
        person=person,
        person2=person2,
        adjective=dice.pick(ADJECTIVES),
        noun=noun,
        noun2=noun2,
        kind=dice.pick(KINDS),
        street=dice.pick(STREETS),
        digit=1 + dice.below(9),
    )


def address(dice: Dice) -> str:
    """Return an invented address; as in the original, some have none."""
    if dice.random() < 0.04:
        return ""
    number = 1 + dice.below(9900)
    return f"{number} {dice.pick(STREETS)} {dice.pick(STREET_KINDS)}{dice.pick(UNIT_LABELS)}"


def members(values: dict[str, object], *, ascii_only: bool) -> str:
    """Return the members as JSON without the braces, safe inside a `%` template."""
    return json.dumps(values, ensure_ascii=ascii_only, separators=(",", ":"))[1:-1].replace("%", "%%")


def line_template(dice: Dice) -> str:
    """Return one line with four gaps: the two ends of its id, its stars, and its review count."""
    ascii_only = dice.random() < 0.1  # both spellings of é occur in the wild, and neither may be changed by a reader
    city = dice.pick(CITIES)
    place: dict[str, object] = {
        "name": business_name(dice),
        "address": address(dice),
        "city": city.name,
        "state": city.state,
        "postal_code": dice.digits(city.postal),
        "latitude": round(city.latitude + (dice.random() - 0.5) * 0.3, 7),
        "longitude": round(city.longitude + (dice.random() - 0.5) * 0.3, 7),
    }
    categories = dice.shuffled(CATEGORIES)[: 1 + dice.below(6)]
    trade: dict[str, object] = {
        "is_open": int(dice.random() < 0.8),
        "categories": None if dice.random() < 0.02 else ", ".join(categories),
    }
    fixed_id = "".join(dice.pick(ID_ALPHABET) for _ in range(ID_FIXED_CHARS))
    head, tail = members(place, ascii_only=ascii_only), members(trade, ascii_only=ascii_only)
    return f'{{"business_id":"%b{fixed_id}%b",{head},"stars":%b,"review_count":%b,{tail}}}\n'


def review_count(dice: Dice) -> bytes:
    """Return a count with a long tail, as in the original: half are 5 to 9, one in a thousand is over 4,999."""
    return b"%d" % min(int(5 / (1 - dice.random())), 9999)


def blocks(seed: int) -> Iterator[bytes]:
    """Yield the endless stream of lines, BLOCK_LINES at a time.

    The lines of a block are made with care and once; from block to block the ends of the ids, the stars and the review
    counts change, which one `%` does for a whole block. The two wheels of id ends have sizes without a common divisor,
    so an id comes again after 4,095 x 4,096 blocks only, that is 20 PB.
    """
    dice = Dice(seed)
    template = "".join(line_template(dice) for _ in range(BLOCK_LINES)).encode()
    pairs = [f"{first}{second}".encode() for first, second in product(ID_ALPHABET, repeat=2)]
    wheels = (
        Wheel(dice.shuffled(pairs)),
        Wheel(dice.shuffled(pairs)[:-1]),
        Wheel([b"%.1f" % (1 + max(dice.below(9), dice.below(9)) / 2) for _ in range(4091)]),
        Wheel([review_count(dice) for _ in range(4093)]),
    )
    gaps = [b""] * (BLOCK_LINES * len(wheels))
    for block in count():
        for gap, wheel in enumerate(wheels):
            gaps[gap :: len(wheels)] = wheel.turned(block)
        yield template % tuple(gaps)


def cut_to_lines(stream: Iterator[bytes], lines: int) -> Iterator[bytes]:
    """Yield the first lines of the stream."""
    while lines > 0:
        block = next(stream)
        if lines < BLOCK_LINES:
            block = b"".join(block.splitlines(keepends=True)[:lines])
        yield block
        lines -= BLOCK_LINES


def cut_to_bytes(stream: Iterator[bytes], size: int) -> Iterator[bytes]:
    """Yield as many whole lines of the stream as fit."""
    while True:
        block = next(stream)
        if len(block) > size:
            yield block[: block.rfind(b"\n", 0, size) + 1]
            return
        yield block
        size -= len(block)


def parse_size(text: str) -> int:
    """Return the number of bytes that a size such as `2GB` (2,000,000,000) or `512MiB` (536,870,912) means."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]?I?B?)", text.strip().upper())
    if not match or match[2] not in UNITS:
        raise ValueError(f"{text!r} is not a size: write a number of bytes, or one with KB, MB, GB, KiB, MiB or GiB")
    return int(Decimal(match[1]) * UNITS[match[2]])


def size_option(text: str) -> int:
    """Return `parse_size` with its message where argparse shows it."""
    try:
        return parse_size(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def lines_option(text: str) -> int:
    """Return a number of lines."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of lines")
    return int(text)


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options; a wrong one ends the process with status 2."""
    parser = argparse.ArgumentParser(
        description="Make synthetic Yelp-shaped JSON lines: invented businesses, about 300 bytes a line.",
        epilog="The same seed gives the same lines; a longer output starts with the shorter one. "
        "Without options it makes the 200 lines of sample_data/yelp_businesses.json.",
    )
    parser.add_argument("output", metavar="OUTPUT", nargs="?", default="-", help="file to write; - (default) is stdout")
    length = parser.add_mutually_exclusive_group()
    length.add_argument(
        "--lines", metavar="N", type=lines_option, default=DEFAULT_LINES, help="number of lines (default: %(default)s)"
    )
    length.add_argument(
        "--bytes",
        metavar="SIZE",
        type=size_option,
        help="as many whole lines as fit: 2GB is 2,000,000,000 bytes, 2GiB is 2,147,483,648",
    )
    parser.add_argument("--seed", metavar="N", type=int, default=DEFAULT_SEED, help="an integer (default: %(default)s)")
    return parser.parse_args(arguments)


def write_all(pieces: Iterator[bytes], output: BinaryIO) -> None:
    """Write the pieces, and see them arrive."""
    for piece in pieces:
        output.write(piece)
    output.flush()


def write_file(pieces: Iterator[bytes], path: Path) -> None:
    """Write the pieces to a file; a failed run leaves no half of one."""
    with path.open("wb") as output:
        try:
            write_all(pieces, output)
        except BaseException:
            if path.is_file():  # not a device or a pipe
                path.unlink()
            raise


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the lines that the options ask for."""
    options = parse_arguments(arguments)
    stream = blocks(options.seed)
    pieces = cut_to_lines(stream, options.lines) if options.bytes is None else cut_to_bytes(stream, options.bytes)
    try:
        if options.output == "-":
            write_all(pieces, sys.stdout.buffer)
        else:
            write_file(pieces, Path(options.output))
    except BrokenPipeError:  # the reader has enough, as in `| head`; what is still buffered has nowhere to go
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        target = "standard output" if options.output == "-" else options.output
        sys.stderr.write(f"generate.py: cannot write {target}: {error.strerror}\n")
        return 1
    return 0


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        sys.exit(main())
    sys.exit(130)
