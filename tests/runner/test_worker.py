"""Objects that arrive become outputs, and messages are gone only after that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.transform.example import lines, transformed

if TYPE_CHECKING:
    from tests.runner.deployment import Deployment


def test_an_object_becomes_its_output(deployment: Deployment) -> None:
    deployment.put("in/a b+c.jsonl", lines(100))
    deployment.drain()
    assert deployment.output_of("in/a b+c.jsonl") == transformed(100)
    assert deployment.keys() == ["output/in/a b+c.jsonl"]
    assert deployment.waiting() == (0, 0, 0)
    assert deployment.dead() == []
