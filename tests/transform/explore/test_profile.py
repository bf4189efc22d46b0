"""A profile counts what it went through, and its estimate follows from what it measured."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import polars as pl
import pytest

from tests.support.trial import lines
from transform import Calculation, Profile, TransformError

SAMPLE = Path(__file__).parents[3] / "sample_data" / "yelp_businesses.json"
DOUBLE = Calculation(double=pl.col("stars") * 2)


def test_counts_are_those_of_a_run(tmp_path: Path) -> None:
    calculation = DOUBLE.filter(pl.col("is_open") == 1).drop("city")
    summary = calculation.run(SAMPLE, tmp_path / "out.jsonl")
    found = calculation.profile(SAMPLE)
    assert (found.lines, found.bytes_in, found.bytes_out) == (summary.lines_in, summary.bytes_in, summary.bytes_out)
    assert found.whole
    assert list(found.stages) == ["lines", "decode", "evaluate", "splice", "write"]
    assert all(seconds > 0 for seconds in found.stages.values())
    assert found.seconds == pytest.approx(sum(found.stages.values()))
    assert found.mb_per_s == pytest.approx(found.bytes_in / 1e6 / found.seconds)


def test_it_stops_after_enough() -> None:
    source = lines(*['{"stars":4}'] * 500_000)  # several chunks
    found = DOUBLE.profile(io.BytesIO(source), most_bytes=1)
    assert not found.whole
    assert 0 < found.bytes_in < len(source)
    whole = DOUBLE.profile(io.BytesIO(source), most_bytes=None)
    assert (whole.whole, whole.bytes_in, whole.lines) == (True, len(source), 500_000)


def test_what_is_compressed_is_read_in_order(tmp_path: Path) -> None:
    (tmp_path / "in.gz").write_bytes(gzip.compress(SAMPLE.read_bytes()))
    assert DOUBLE.profile(tmp_path / "in.gz").in_order
    assert DOUBLE.profile(io.BytesIO(SAMPLE.read_bytes())).in_order
    assert not DOUBLE.profile(SAMPLE).in_order


def profile(*, in_order: bool = False, write: float = 1.0) -> Profile:
    stages = {"lines": 1.0, "decode": 4.0, "evaluate": 2.0, "splice": 2.0, "write": write}
    return Profile("in.jsonl", 10**9, 10**9, 1, True, 0.5, stages, in_order)


def test_estimate_shares_the_work_out_among_cores() -> None:
    one, ten, hundred = (profile().estimate("1 TB", cores) for cores in (1, 10, 100))
    assert one == pytest.approx(10_000, rel=0.001)
    assert ten == pytest.approx(1_000, rel=0.01)
    assert hundred == pytest.approx(1_000, rel=0.01), "writing, which one process does, takes that alone"
    assert profile(in_order=True).estimate("1 TB", 100) == pytest.approx(2_000, rel=0.01)
    assert profile().estimate(10**12, 10) == ten
    assert profile().estimate("1 TB") > 0


@pytest.mark.parametrize(("size", "cores"), [("much", 1), (0, 1), (-5, 1), ("1 GB", 0)])
def test_estimate_of_nonsense_is_refused(size: int | str, cores: int) -> None:
    with pytest.raises(TransformError, match=r"^(size is a size|cores is a whole number) .*, not "):
        profile().estimate(size, cores)


def test_nothing_gives_no_estimate() -> None:
    found = Calculation.from_sql("1 AS a").profile(io.BytesIO())
    assert (found.lines, found.bytes_in, found.mb_per_s) == (0, 0, 0)
    assert "too little to estimate more" in repr(found)
    with pytest.raises(TransformError, match="there is nothing to estimate from"):
        found.estimate("1 GB")


def test_it_shows_the_stages_and_an_estimate() -> None:
    text = repr(profile())
    assert text.startswith("Profile of all 1 GB (1 lines) of in.jsonl, in one process\n")
    assert "  decode       4.000 s   40%      250 MB/s\n" in text
    assert "  all         10.000 s  100%      100 MB/s\n" in text
    assert "100 GB" in text
    assert "1 TB" in text
