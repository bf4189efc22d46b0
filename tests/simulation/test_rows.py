"""Objects whose rows are not lines: a job goes on within an array after its worker was killed there."""

from __future__ import annotations

import json

import pytest

from tests.simulation.calculation import FORMATS, content_of, transformed
from tests.simulation.invariants import check
from tests.simulation.operating import Operation
from tests.simulation.scenario import KEYS, OUTPUT, scenario_of
from transform.native.rows import After

KEY = KEYS[0]
LINES = b"".join(b'{"%s":%d}\n' % (b"x" if at % 7 else b"!", at) for at in range(100, 140))


def run(content: bytes, rows: str, lives: int) -> tuple[Operation, list[tuple[int, int]]]:
    """Transform a content; a worker is killed once it has come further than the one before, some times.

    Returns:
        What was done, and where each worker that was killed had come: the offset, and how to go on there.
    """
    operation = Operation(seed=1, workers=1, jobs_at_once=1, latency_s=0.05, traced=True, rows=rows)
    world = operation.world
    noted: list[tuple[int, int]] = []

    def offset_and_after() -> tuple[int, int]:
        objects = world.output.objects(OUTPUT)
        found = [json.loads(objects[key].body) for key in world.checkpoints()]
        return (found[0]["offset"], found[0]["state"]["after"]) if found else (0, 0)

    def has_come_further() -> bool:
        return offset_and_after()[0] > (noted[-1][0] if noted else 0)

    operation.upload(KEY, content, 0.0, lambda: None)
    while len(noted) < lives:
        operation.wait_until(has_come_further)
        noted.append(offset_and_after())
        operation.kill(0, child=False)
    operation.rest()
    return operation, noted


def first_reads(operation: Operation) -> list[int]:
    """Return the smallest offset at which each job process has read the input."""
    found: dict[str, int] = {}
    for line in operation.world.trace.lines():
        _, who, what, *rest = line.split()
        if what == "get_object" and rest[0] == KEY:
            (given,) = (one for one in rest if one.startswith("Range="))
            offset = int(given.partition("bytes=")[2].partition("-")[0])
            found[who] = min(offset, found.get(who, offset))
    return list(found.values())


@pytest.mark.parametrize("lives", [1, 3])
@pytest.mark.parametrize("rows", FORMATS)
def test_a_job_goes_on_where_its_worker_was_killed(rows: str, lives: int) -> None:
    content = content_of(LINES, rows)
    undisturbed, _ = run(content, rows, lives=0)
    operation, noted = run(content, rows, lives)
    offsets = [offset for offset, _ in noted]
    assert first_reads(operation) == [0, *offsets], "nothing before a checkpoint is read again"
    assert 0 < offsets[0] < len(content)
    output, expected = operation.output(KEY), undisturbed.output(KEY)
    assert output is not None
    assert expected is not None
    assert output.body == expected.body == transformed(content, "old")[0]
    check(operation.world)


def test_checkpoints_lie_within_an_array() -> None:
    _, noted = run(content_of(LINES, "json"), "json", lives=3)
    assert [after for _, after in noted] == [After.IN_ARRAY] * 3


@pytest.mark.parametrize("rows", ["each", "each of lines"])
def test_checkpoints_lie_between_the_texts_with_arrays(rows: str) -> None:
    content = content_of(LINES, rows)
    _, noted = run(content, rows, lives=3)
    for offset, after in noted:
        covered = content[:offset]
        assert after == 0
        assert covered.count(b"[") == covered.count(b"]") > 0


def test_rows_of_all_formats_are_drawn() -> None:
    assert {scenario_of(seed).rows for seed in range(300)} == {*FORMATS}
