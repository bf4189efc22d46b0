"""The step of the build of the package that compiles the kernel; hatchling runs it for wheels and editable installs."""

import os
import runpy
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from hatchling.builders.config import BuilderConfig
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_HERE = Path(__file__).parent
# By its path: to import it, the package and its dependencies would have to be installed before the package is built.
_compiling: Any = SimpleNamespace(**runpy.run_path(str(_HERE / "compiling.py")))


class KernelHook(BuildHookInterface[BuilderConfig]):
    """Compiles the kernel: into the tree for an editable install, else into the wheel only.

    A wheel is for this machine, or for the target that the environment variable `KERNEL_TARGET` names.
    """

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile the library, and say where it belongs and which machines the wheel is for."""
        try:
            if version == "editable":
                _compiling.compile_library(_HERE / _compiling.find_target().library)
                return
            target = _compiling.find_target(os.environ.get("KERNEL_TARGET") or None)
            self._directory = tempfile.TemporaryDirectory()  # one that stays until the wheel is written
            library = Path(self._directory.name, target.library)
            _compiling.compile_library(library, target.name)
        except _compiling.CompilationError as error:
            self.app.abort(str(error))
        build_data["force_include"][str(library)] = f"transform/native/{target.library}"
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{target.platforms}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002
        """Remove what was compiled for a wheel."""
        if version != "editable":
            self._directory.cleanup()
