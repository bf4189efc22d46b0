"""Breaks the worker on purpose, one change at a time, to see that simulations or tests notice.

A change is made to the source of one module when it is imported, in a process of its own:

    python -m tests.simulation.mutations "delete before publish"
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from dataclasses import dataclass
from importlib.util import spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Mutation:
    """A change that breaks a promise.

    Attributes:
        name: What it breaks.
        file: The file that is changed, from the root of the repository.
        old: Text in it.
        new: What this becomes.
        seeds: Within how many simulations the change is noticed; 0 if a test beside them has to notice it.
        test: That test, as pytest names it.
        start: The first seed.
    """

    name: str
    file: str
    old: str
    new: str
    seeds: int = 0
    test: str = ""
    start: int = 0

    def apply(self, source: str) -> str:
        """Return the changed source.

        Raises:
            LookupError: The text is not there exactly once, so that the change is out of date.
        """
        if source.count(self.old) != 1:
            raise LookupError(f"{self.name}: the text is {source.count(self.old)} times in {self.file}: {self.old!r}")
        return source.replace(self.old, self.new)


class _Loader(importlib.machinery.SourceFileLoader):
    """Loads a module from a changed source, and never from what was compiled before."""

    def __init__(self, name: str, path: str, mutation: Mutation) -> None:
        super().__init__(name, path)
        self._mutation = mutation

    def path_stats(self, path: str) -> dict[str, float]:
        raise OSError(path)

    def get_data(self, path: str) -> bytes:
        return self._mutation.apply(Path(path).read_text()).encode()


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the module that is changed."""

    def __init__(self, mutation: Mutation) -> None:
        self._mutation = mutation
        self._module = mutation.file.removesuffix(".py").replace("/", ".")

    def find_spec(
        self, name: str, _path: Sequence[str] | None, _target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != self._module:
            return None
        path = str(ROOT / self._mutation.file)
        return spec_from_file_location(name, path, loader=_Loader(name, path, self._mutation))


def main(name: str) -> int:
    """Make a change, and look for what notices it; return 0 if something does."""
    from tests.simulation.mutation_list import MUTATIONS  # noqa: PLC0415

    (mutation,) = (one for one in MUTATIONS if one.name == name)
    sys.meta_path.insert(0, _Finder(mutation))
    if mutation.test:
        import pytest  # noqa: PLC0415

        status = pytest.main(["-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", *mutation.test.split()])
        if status not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
            return 2
        return int(status == pytest.ExitCode.OK)
    from tests.simulation.scenario import scenario_of  # noqa: PLC0415
    from tests.simulation.simulate import simulate  # noqa: PLC0415

    for seed in range(mutation.start, mutation.start + mutation.seeds):
        if problem := simulate(scenario_of(seed)).problem:
            print(f"seed {seed}: {problem}")
            return 0
    print(f"not noticed in {mutation.seeds} simulations")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
