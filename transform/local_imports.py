"""Records the modules beside a calculation while it is loaded: those that it imports, and those that it names.

The bytes that are recorded are the bytes that are executed. For this, modules that the process has imported before are
executed again, so that the calculation never runs with an older state of a file than its identity says.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import hashlib
import os
import sys
import threading
from importlib.abc import MetaPathFinder
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec
from pathlib import Path
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

from transform.engine.module_sources import KeptModulesFinder, KeptSourceLoader, ModuleSource, import_missing_from
from transform.engine.spec import VALUE_LIBRARIES
from transform.errors import CalculationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from transform.engine.module_sources import Modules

_BESIDE = object()  # the state of the specs of modules that were recorded
_EXTENSIONS = tuple(EXTENSION_SUFFIXES)
_INSTALLED = frozenset({"site-packages", "dist-packages"})
_OURS = tuple(str(Path(__file__).resolve().parents[1] / name) + os.sep for name in ("transform", "runner"))
_STANDARD = str(Path(os.__file__).resolve().parent) + os.sep
_LOADING = threading.RLock()  # what is done to `sys.modules` is for one calculation at a time
_compiled: dict[str, bytes] = {}  # hashes of compiled modules, which a process executes once only, by file


class LocalImports(MetaPathFinder):
    """Finds and records the modules of a calculation; use it as a context while the calculation is loaded.

    Modules of the standard library, of installed packages, and of this package are not recorded.

    Args:
        root: The directory that imports begin at.
        package: The top-level package that the calculation is in: it is recorded even if it is installed.

    Attributes:
        modules: The modules found until now, by name.
    """

    def __init__(self, root: Path, package: str = "") -> None:
        self.modules: dict[str, ModuleSource] = {}
        self._root = str(root.resolve())
        self._package = package
        self._files: dict[str, bytes] = {}

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        """Record what is imported within the context, in which modules beside the calculation are executed again."""
        with _LOADING:
            is_inner = any(isinstance(finder, LocalImports) for finder in sys.meta_path)
            imported = dict(sys.modules)  # other threads may import meanwhile
            before = {name: module for name, module in imported.items() if self._is_executed_again(name, module)}
            tops = {name.partition(".")[0] for name in before}
            before |= {  # what functions have imported since
                name: module
                for name, module in imported.items()
                if name.partition(".")[0] in tops and not _is_compiled_or_begun(module)
            }
            for name in before:
                del sys.modules[name]
            sys.path.insert(0, self._root)  # so that it can import modules beside it, as a script can
            sys.meta_path.insert(0, self)
            # A module that is executed from a path has no finder, and Python would execute its older bytecode if the
            # file was changed within a second and has the size that it had.
            writes_none, sys.dont_write_bytecode = sys.dont_write_bytecode, True
            is_loaded = False
            try:
                yield
                is_loaded = True
            finally:
                sys.dont_write_bytecode = writes_none
                sys.meta_path.remove(self)
                with contextlib.suppress(ValueError):
                    sys.path.remove(self._root)
                if not is_loaded or is_inner:  # a file that loads another one keeps its own modules
                    for name in self.modules.keys() - before.keys():
                        sys.modules.pop(name, None)
                    sys.modules.update(before)
            tops = {name.partition(".")[0] for name in self.modules}
            for name, module in before.items():
                if name.partition(".")[0] not in tops:  # it has nothing to do with the calculation
                    sys.modules.setdefault(name, module)
            import_missing_from(dict(self.modules))

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return what the other finders find, and record it if it is a module of the calculation."""
        spec = self._search(fullname, path, target)
        if spec is not None and self._is_local(fullname, _places(spec)):
            source = self._record(fullname, spec)
            spec.loader_state = _BESIDE
            if source.file is not None and source.file.endswith(_EXTENSIONS):
                _check_compiled(source.file, source.content)
            if source.is_source and source.file is not None and Path(source.file).is_file():
                spec.loader = KeptSourceLoader(fullname, source.file, source.content)
        return spec

    def add_named(self, source: bytes, package: str = "") -> None:
        """Record the modules that source code names in import statements, also in functions that were not called.

        Args:
            source: The code.
            package: The package that relative imports begin at.
        """
        pending = [(source, package), *_scanned(self.modules)]
        while pending:
            for name in _names_imported(*pending.pop()):
                if (found := self._add(name)) is not None:
                    pending += _scanned({name: found})

    def add_module(self, name: str) -> None:
        """Record a module, and those that it names; see `add_named`."""
        self.add_named(f"import {name}".encode())

    def add_referred(self, namespace: dict[str, Any]) -> None:
        """Record the files of the modules and functions in a namespace, however they were loaded.

        It finds modules that were executed from a path, which have no finder.
        """
        known = {found.file for found in self.modules.values()}
        pending, seen = list(namespace.values()), {id(namespace)}
        while pending:
            value = pending.pop()
            if not isinstance(value, ModuleType | FunctionType):
                continue
            inner = value.__dict__ if isinstance(value, ModuleType) else value.__globals__
            if id(inner) in seen:
                continue
            seen.add(id(inner))
            file = inner.get("__file__")
            if not isinstance(file, str) or not self._is_local(str(inner.get("__name__")), [file]):
                continue
            if file not in known and file != namespace.get("__file__"):
                with contextlib.suppress(OSError):
                    self._files[file] = Path(file).read_bytes()
                    if file.endswith(".py"):
                        self.add_named(self._files[file])
            pending += inner.values()

    def parts(self) -> Iterator[bytes]:
        """Yield what identifies the modules: their names and contents, without the place where they are."""
        for name, found in sorted(self.modules.items()):
            yield from (b"module", name.encode(), found.content)
        for name, content in sorted((Path(file).name, content) for file, content in self._files.items()):
            yield from (b"file", name.encode(), content)

    def parts_of_tables(self, tables: Mapping[str, bytes]) -> Iterator[bytes]:
        """Yield what identifies tables, by the places that they have below the directory of the calculation.

        Args:
            tables: The contents by path.
        """
        inside = f"{self._root}{os.sep}"
        places = {path: os.path.realpath(path) for path in tables}
        names = {
            path: at.removeprefix(inside) if at.startswith(inside) else Path(path).name for path, at in places.items()
        }
        for name, content in sorted((names[path], content) for path, content in tables.items()):
            yield from (b"table", name.encode(), content)

    def _add(self, name: str) -> ModuleSource | None:
        """Record a module that is named, without importing it; return it if it was not recorded before."""
        if name in self.modules:
            return None
        loaded = sys.modules.get(name)
        spec = getattr(loaded, "__spec__", None)
        if loaded is None:
            parent, _, _ = name.rpartition(".")
            if parent and (parent not in self.modules or self.modules[parent].folders is None):
                return None
            with contextlib.suppress(ImportError, ValueError, AttributeError):
                spec = self._search(name, self.modules[parent].folders if parent else None, None)
        if not isinstance(spec, ModuleSpec) or not self._is_local(name, _places(spec)):
            return None
        with contextlib.suppress(OSError):
            found = self._record(name, spec)
            if loaded is not None and found.file is not None and found.file.endswith(_EXTENSIONS):
                _check_compiled(found.file, found.content)
            return found
        return None

    def _search(self, name: str, path: Sequence[str] | None, target: ModuleType | None) -> ModuleSpec | None:
        for finder in sys.meta_path:
            if not isinstance(finder, LocalImports | KeptModulesFinder) and hasattr(finder, "find_spec"):
                spec = finder.find_spec(name, path, target)
                if spec is not None:
                    return spec
        return None

    def _record(self, name: str, spec: ModuleSpec) -> ModuleSource:
        """Record a module as its file is now."""
        folders = None if spec.submodule_search_locations is None else tuple(spec.submodule_search_locations)
        if not spec.has_location or spec.origin is None:
            found = ModuleSource(b"", None, is_source=False, folders=folders)
        else:
            content = _content(spec.origin, spec.loader)
            is_source = spec.origin.endswith(".py")
            if not is_source:
                content = hashlib.sha256(content).digest()
            found = ModuleSource(content, spec.origin, is_source, folders)
        self.modules[name] = found
        return found

    def _is_executed_again(self, name: str, module: ModuleType) -> bool:
        spec = getattr(module, "__spec__", None)
        if not isinstance(spec, ModuleSpec) or name == "__main__" or getattr(spec, "_initializing", False):
            return False
        places = _places(spec)
        is_beside = spec.loader_state is _BESIDE
        if places and places[0].endswith(_EXTENSIONS):  # it is not made for that, but its name may be needed
            return is_beside and not places[0].startswith(f"{self._root}{os.sep}")
        return is_beside or self._is_local(name, places)

    def _is_local(self, name: str, places: Sequence[str]) -> bool:
        """Return whether a module belongs to the calculation, by the place of its file or of its directories."""
        top = name.partition(".")[0]
        if not places or top in VALUE_LIBRARIES or name == "__main__":
            return False
        place = f"{_real(os.path.dirname(places[0]))}{os.sep}{os.path.basename(places[0])}"  # noqa: PTH119, PTH120 - fast
        if place.startswith(_OURS):
            return False
        if top == self._package:
            return True
        inside = f"{self._root}{os.sep}"
        if place.startswith(_STANDARD) and (inside == _STANDARD or not inside.startswith(_STANDARD)):
            return False
        below = place if Path(self._root).name in _INSTALLED else place.removeprefix(inside)
        return _INSTALLED.isdisjoint(Path(below).parts)


@functools.cache
def _real(directory: str) -> str:
    return os.path.realpath(directory)


def _scanned(modules: Modules) -> list[tuple[bytes, str]]:
    """Return the sources of modules, each with the package that relative imports begin at."""
    return [
        (found.content, name if found.folders is not None else name.rpartition(".")[0])
        for name, found in modules.items()
        if found.is_source
    ]


def _content(file: str, loader: Any) -> bytes:
    """Return the bytes of a file, which may be in an archive that the loader reads.

    Raises:
        OSError: The file cannot be read.
    """
    try:
        return Path(file).read_bytes()
    except NotADirectoryError:
        content: bytes = loader.get_data(file)
        return content


def _is_compiled_or_begun(module: ModuleType) -> bool:
    begun = bool(getattr(getattr(module, "__spec__", None), "_initializing", False))
    return begun or str(getattr(module, "__file__", "")).endswith(_EXTENSIONS)


def _check_compiled(file: str, content: bytes) -> None:
    """Raise if a compiled module has changed since this process executed it.

    Raises:
        CalculationError: It has.
    """
    if _compiled.setdefault(file, content) != content:
        raise CalculationError(f"{file} has changed since it was imported: start a new process")


def _places(spec: ModuleSpec) -> list[str]:
    """Return where the file of a module is, or the directories of a package without `__init__.py`."""
    if spec.has_location and spec.origin is not None:
        return [spec.origin]
    return list(spec.submodule_search_locations or ())


def _names_imported(source: bytes, package: str) -> Iterator[str]:
    """Yield the names of the modules that code may import, packages before what is in them."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # it was not imported, or that would have failed
        return
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node.module or "", node.level, package)
            names = [base, *(f"{base}.{alias.name}" for alias in node.names if alias.name != "*")] if base else []
            if not base:
                continue
        elif isinstance(node, ast.Call) and node.args and _is_import_call(node.func):
            first = node.args[0]
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                level = len(first.value) - len(first.value.lstrip("."))
                names = [_absolute(first.value.lstrip("."), level, package)]
        for name in names:
            parts = name.split(".")
            yield from (".".join(parts[:size]) for size in range(1, len(parts) + 1) if name)


def _is_import_call(function: ast.expr) -> bool:
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return name in {"import_module", "__import__"}


def _absolute(module: str, level: int, package: str) -> str:
    """Return the name of a module that a relative import means, an empty text without one."""
    if not level:
        return module
    parents = package.split(".") if package else []
    kept = parents[: len(parents) - level + 1] if level <= len(parents) else []
    return ".".join([*kept, *filter(None, [module])]) if kept else ""
