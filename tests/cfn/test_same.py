"""What both templates have is the same in both."""

from __future__ import annotations

import pytest

from tests.cfn.templates import KINDS, container_of, load

DIFFERENT = {
    "Parameters": {"pMemory", "pDiskGiB", "pCapacity"},
    "Rules": set(),
    "Mappings": set(),
    "Conditions": set(),
    "Outputs": set(),
    "Resources": {"rECSCluster", "rTaskDefinition", "rECSService", "rAutoScalingTarget"},
}
"""What goes by one name in both templates and is not the same."""


@pytest.mark.parametrize("section", DIFFERENT)
def test_what_both_have_is_the_same(section: str) -> None:
    one, other = (load(kind)[section] for kind in KINDS)
    shared = one.keys() & other.keys()
    assert {name for name in shared if one[name] != other[name]} == DIFFERENT[section]
    assert len(shared) >= {"Resources": 20, "Parameters": 20, "Outputs": 15}.get(section, 1)


def test_the_same_container() -> None:
    one, other = (load(kind) for kind in KINDS)
    assert container_of(one) == container_of(other)
    changed = {"RequiresCompatibilities", "NetworkMode", "EphemeralStorage", "ContainerDefinitions"}
    ones, others = (t["Resources"]["rTaskDefinition"]["Properties"] for t in (one, other))
    assert {name: value for name, value in ones.items() if name not in changed} == {
        name: value for name, value in others.items() if name not in changed
    }
