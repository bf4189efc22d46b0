"""The modules that a calculation was loaded with, so that worker processes run the same code from memory.

A worker does not read these modules from the disk, where they may have changed since the calculation was loaded.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import CodeType, ModuleType


@dataclass(frozen=True, slots=True)
class ModuleSource:
    """The file of a module, as it was when the calculation was loaded.

    Attributes:
        content: The source; of a compiled module, a hash of the file; nothing for a directory without `__init__.py`.
        file: The path of the file, None for a directory without `__init__.py`.
        is_source: Whether the content is Python source.
        folders: The directories where submodules are, None if it is no package.
    """

    content: bytes
    file: str | None
    is_source: bool
    folders: tuple[str, ...] | None

    def spec(self, name: str) -> ModuleSpec | None:
        """Return how to import the module, from the content if it is source."""
        if self.file is None:
            found = ModuleSpec(name, None, is_package=True)
            found.submodule_search_locations = list(self.folders or ())
            return found
        folders = None if self.folders is None else list(self.folders)
        loader = KeptSourceLoader(name, self.file, self.content) if self.is_source else None
        return spec_from_file_location(name, self.file, loader=loader, submodule_search_locations=folders)


Modules = Mapping[str, ModuleSource]
"""The files of modules by the names of the modules."""


class KeptSourceLoader(SourceFileLoader):
    """Executes the source that it was given, and neither reads nor writes `__pycache__`.

    A cached file counts as current if the source has the same size and was changed in the same second.
    """

    def __init__(self, name: str, file: str, content: bytes) -> None:
        super().__init__(name, file)
        self._content = content

    def get_code(self, fullname: str) -> CodeType:  # noqa: ARG002 - it has one module only
        """Return the code of the source."""
        code: CodeType = compile(self._content, self.path, "exec", dont_inherit=True)
        return code


class KeptModulesFinder(MetaPathFinder):
    """Finds modules among those that a calculation was loaded with.

    Args:
        modules: The modules.
        is_first: Find only modules of packages that were themselves imported from memory, and from the same file.
    """

    def __init__(self, modules: Modules, *, is_first: bool = False) -> None:
        self.modules = modules
        self.is_first = is_first

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,  # noqa: ARG002 - the names are complete
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """Return how to import a module; None for one that it does not have, and for `importlib.reload`."""
        found = self.modules.get(fullname)
        if self.is_first:
            package = self.modules.get(fullname.rpartition(".")[0])
            loader = getattr(sys.modules.get(fullname.rpartition(".")[0]), "__loader__", None)
            if package is None or not isinstance(loader, KeptSourceLoader) or loader.path != package.file:
                return None
        return None if found is None or target is not None else found.spec(fullname)


def import_from(modules: Modules) -> None:
    """Import these modules from memory from now on, before any that have the same names elsewhere."""
    if modules:
        sys.meta_path.insert(0, KeptModulesFinder(modules))


def import_missing_from(modules: Modules) -> None:
    """Import these modules from memory from now on, after any that have the same names elsewhere.

    Modules of packages that were imported from memory come from there in any case.

    It takes the place of earlier calls for modules with the same names.
    """
    others = [finder for finder in sys.meta_path if not isinstance(finder, KeptModulesFinder)]
    earlier = [finder for finder in sys.meta_path if isinstance(finder, KeptModulesFinder)]
    kept = [finder for finder in earlier if not finder.modules.keys() <= modules.keys()]
    first = [KeptModulesFinder(modules, is_first=True), *(finder for finder in kept if finder.is_first)]
    last = [KeptModulesFinder(modules), *(finder for finder in kept if not finder.is_first)]
    sys.meta_path[:] = [*first, *others, *last] if modules else [*sys.meta_path]
