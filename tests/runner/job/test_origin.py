"""Whatever order outputs come in, the one that stays is that of the newest input and the latest calculation."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.aws.s3_events import ObjectCreated
from runner.job.identity import Origin, PublishDecision

METADATA_BYTES = 2048
ONE = Origin("s1", "d1", sequencer="0055AED6DCD90281E5", modified=1000, sent=10, first_sent=8)

SEQUENCERS = st.text("0123456789ABCDEFabcdef", max_size=24)
MOMENTS = st.integers(0, 5).map(lambda second: 1000 * second)
ORIGINS = st.builds(
    Origin, st.sampled_from(["s1", "s2", "s3"]), st.sampled_from(["d1", "d2"]), SEQUENCERS, MOMENTS, MOMENTS
)
KEYS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=300)


@pytest.mark.parametrize(
    ("newer", "older"),
    [
        ("0055AED6DCD90281E6", "0055AED6DCD90281E5"),
        ("0055AED6DCD90281E51", "0055AED6DCD90281E5"),
        ("0056", "0055AED6DCD90281E5"),
        ("00AF", "009"),
        ("00b", "00A0"),
        ("00a1", "00A"),
    ],
)
def test_sequencers_are_padded_on_the_right(newer: str, older: str) -> None:
    first, second = replace(ONE, source="s2", sequencer=newer, modified=1), replace(ONE, sequencer=older)
    assert first.is_newer_than(second)
    assert not second.is_newer_than(first)


def test_zeros_at_the_end_make_no_difference() -> None:
    short, long = replace(ONE, source="s2", sequencer="00A"), replace(ONE, sequencer="00A000")
    assert not short.is_newer_than(long)
    assert not long.is_newer_than(short)


@pytest.mark.parametrize(("sequencer", "other"), [("", ""), ("", "FF"), ("FF", "")])
def test_without_two_sequencers_the_last_modified_is_newer(sequencer: str, other: str) -> None:
    newer, older = replace(ONE, sequencer=sequencer, modified=2000), replace(ONE, sequencer=other, modified=1999)
    assert newer.is_newer_than(older)
    assert not older.is_newer_than(newer)
    unknown = replace(older, modified=0)
    assert not newer.is_newer_than(unknown)
    assert not unknown.is_newer_than(newer)
    same_second = replace(newer, modified=2999)
    assert not newer.is_newer_than(same_second)
    assert not same_second.is_newer_than(newer)


@pytest.mark.parametrize(
    ("there", "verdict"),
    [
        (None, PublishDecision.PUBLISH),
        (ONE, PublishDecision.DUPLICATE),
        (replace(ONE, sent=9), PublishDecision.DUPLICATE),
        (replace(ONE, sent=11), PublishDecision.DUPLICATE),
        (replace(ONE, digest="d2", sent=9), PublishDecision.PUBLISH),
        (replace(ONE, digest="d2", sent=10), PublishDecision.PUBLISH),
        (replace(ONE, digest="d2", sent=11), PublishDecision.STALE),
        (replace(ONE, source="s2", sequencer="0055"), PublishDecision.PUBLISH),
        (replace(ONE, source="s2", sequencer="0056"), PublishDecision.STALE),
        (replace(ONE, source="s2", sequencer="", modified=999), PublishDecision.PUBLISH),
        (replace(ONE, source="s2", sequencer="", modified=1999), PublishDecision.PUBLISH),
        (replace(ONE, source="s2", sequencer="", modified=2000), PublishDecision.STALE),
        (replace(ONE, source="s2", sequencer="", modified=0), PublishDecision.PUBLISH),
        (replace(ONE, sequencer="0055"), PublishDecision.PUBLISH),
        (replace(ONE, sequencer="0056"), PublishDecision.DUPLICATE),
        (replace(ONE, digest="d2", sequencer="0056", sent=9), PublishDecision.PUBLISH),
        (replace(ONE, digest="d2", sequencer="0055", sent=11), PublishDecision.STALE),
        (replace(ONE, digest="d2", sent=0), PublishDecision.PUBLISH),
        (replace(ONE, digest="d2", first_sent=8, sent=11), PublishDecision.STALE),
        (replace(ONE, digest="d2", first_sent=7, sent=11), PublishDecision.PUBLISH),
        (replace(ONE, digest="d2", first_sent=9, sent=9), PublishDecision.STALE),
    ],
)
def test_verdict(there: Origin | None, verdict: PublishDecision) -> None:
    assert ONE.decide(there) is verdict


@given(ORIGINS, ORIGINS, ORIGINS)
def test_newer_is_an_order(one: Origin, two: Origin, three: Origin) -> None:
    assert not one.is_newer_than(one)
    assert not (one.is_newer_than(two) and two.is_newer_than(one))
    if all(origin.sequencer for origin in (one, two, three)) and one.is_newer_than(two) and two.is_newer_than(three):
        assert one.is_newer_than(three)


@given(SEQUENCERS.filter(bool), SEQUENCERS.filter(bool))
def test_sequencers_compare_as_the_digits_behind_a_point(mine: str, other: str) -> None:
    one, two = (Fraction(int(text, 16), 16 ** len(text)) for text in (mine, other))
    assert replace(ONE, sequencer=mine).is_newer_than(replace(ONE, sequencer=other)) == (one > two)


@given(ORIGINS, ORIGINS)
def test_two_never_both_give_way_and_never_both_win_when_one_is_newer(one: Origin, two: Origin) -> None:
    verdicts = [one.decide(two), two.decide(one)]
    assert verdicts.count(PublishDecision.STALE) < 2
    if one.is_newer_than(two) and (one.source != two.source or one.digest == two.digest):
        assert verdicts[0] is PublishDecision.PUBLISH
        assert verdicts[1] is not PublishDecision.PUBLISH
    same = (one.source, one.digest) == (two.source, two.digest)
    assert same or PublishDecision.DUPLICATE not in verdicts
    assert one.decide(one) is PublishDecision.DUPLICATE


@given(st.data(), st.booleans())
def test_the_same_output_stays_whatever_the_order(data: st.DataObject, by_sequencer: bool) -> None:
    writes = data.draw(st.lists(st.sampled_from(["s1", "s2", "s3"]), min_size=1, max_size=5))  # each newer
    origins = [
        Origin(
            source,
            digest,
            sequencer=f"{number:06X}" if by_sequencer else "",
            modified=1000 * number,
            sent=10 * number + later,
        )
        for number, source in enumerate(writes, 1)
        for later, digest in enumerate(["d1", "d2"])
    ]
    twice = data.draw(st.permutations(origins * 2))
    stays: Origin | None = None
    for origin in twice:
        stays = origin if origin.decide(stays) is PublishDecision.PUBLISH else stays
    assert stays == origins[-1]


@given(KEYS, KEYS, KEYS, SEQUENCERS, st.integers(0, 1 << 62))
def test_metadata_give_it_back_whatever_the_key(
    bucket: str, key: str, version: str, sequencer: str, moment: int
) -> None:
    event = ObjectCreated(bucket, key, version, None, None, sequencer, None)
    origin = replace(Origin.from_event(event, "d" * 64, moment), modified=moment)
    metadata = origin.to_metadata()
    assert Origin.from_metadata(metadata) == origin
    assert all(text.isascii() and text.isprintable() for pair in metadata.items() for text in pair)
    assert sum(len(text) for pair in metadata.items() for text in pair) < METADATA_BYTES


@given(st.dictionaries(st.sampled_from([*ONE.to_metadata()]), st.text()))
def test_what_others_have_noted_is_no_origin(metadata: dict[str, str]) -> None:
    found = Origin.from_metadata(metadata)
    assert found is None or found.source == metadata["transform-source"]


def test_metadata_that_are_missing_or_no_numbers_are_none_of_ours() -> None:
    metadata = ONE.to_metadata()
    assert Origin.from_metadata({}) is None
    assert Origin.from_metadata(metadata | {"transform-sent": "soon"}) is None
    assert Origin.from_metadata(metadata | {"transform-first-sent": "soon"}) is None
    assert Origin.from_metadata({"transform-source": "s1"}) is None


def test_metadata_of_an_earlier_version_say_only_when_the_message_was_sent() -> None:
    metadata = ONE.to_metadata()
    del metadata["transform-first-sent"]
    assert Origin.from_metadata(metadata) == replace(ONE, first_sent=ONE.sent)


@pytest.mark.parametrize("text", ["0x55", "zz", " 00", "00\n", "F" * 65, "００", "-1"])
def test_a_sequencer_that_is_not_hexadecimal_counts_as_none(text: str) -> None:
    event = ObjectCreated("in", "k", None, "e", None, text, None)
    assert Origin.from_event(event, "d", 0).sequencer == ""
    found = Origin.from_metadata(ONE.to_metadata() | {"transform-sequencer": text})
    assert found == replace(ONE, sequencer="")


NOW_MS = 1_700_000_000_000
DAY_MS = 24 * 3600 * 1000


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        (str(NOW_MS), NOW_MS),
        (str(NOW_MS + DAY_MS), NOW_MS + DAY_MS),
        (str(NOW_MS + DAY_MS + 1), 0),
        ("9" * 19, 0),
        ("-5", 0),
        ("9" * 20, None),
        ("1_000", None),
        ("１", None),
        ("", None),
    ],
)
@pytest.mark.parametrize("name", ["modified", "sent", "first-sent"])
def test_a_time_that_cannot_be_right_counts_as_unknown(name: str, text: str, moment: int | None) -> None:
    found = Origin.from_metadata(ONE.to_metadata() | {f"transform-{name}": text}, NOW_MS / 1000)
    changes: dict[str, Any] = {name.replace("-", "_"): moment}
    assert found == (None if moment is None else replace(ONE, **changes))


@given(st.lists(st.tuples(KEYS, KEYS, KEYS), min_size=2, max_size=2, unique=True))
def test_another_object_is_another_source(names: list[tuple[str, str, str]]) -> None:
    one, two = (
        Origin.from_event(ObjectCreated(bucket, key, None, etag, None, None, None), "d", 0)
        for bucket, key, etag in names
    )
    assert one.source != two.source
    assert one.job != two.job
    assert replace(one, digest="e").job != one.job
    assert replace(one, sequencer="1", modified=1, sent=1).job == one.job
