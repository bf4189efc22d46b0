"""The compiled library, and the level of its functions that fits the processor. Loads without numpy."""

import ctypes
import os
import sys
from pathlib import Path

from transform.errors import TransformError
from transform.native.sources_hash import sources_hash

LIBRARY = Path(__file__).parent / ("libkernel.dylib" if sys.platform == "darwin" else "libkernel.so")


def load_library(path: Path = LIBRARY, level: str | None = None) -> tuple[ctypes.CDLL, str]:
    """Return a library and the level of its functions to use; their names end with it.

    Args:
        path: The library.
        level: The level that is forced, by default the one in `TRANSFORM_CPU`; if empty, the highest one is taken.

    Raises:
        TransformError: The library is not there, was not compiled from the sources beside it, or has no functions for
            the level that is forced.
    """
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise TransformError(f"the compiled kernel can't be loaded: {error}. Install the package again") from None
    expected = sources_hash(path.parent)
    if expected is not None and _compiled_from(library) != expected:
        raise TransformError(
            f"{path} was not compiled from the sources beside it, and could give wrong results: run make install, or "
            "without make: pip install --editable ."
        )
    library.cpu_level.restype = ctypes.c_int32
    highest = library.cpu_level()
    supported = [f"v{number}" for number in (4, 3, 1) if number <= highest] or ["neon"]
    level = (os.environ.get("TRANSFORM_CPU", "") if level is None else level) or supported[0]
    if level not in supported:
        raise TransformError(f"TRANSFORM_CPU={level} is no level of this processor; it has {', '.join(supported)}")
    return library, level


def _compiled_from(library: ctypes.CDLL) -> str | None:
    """Return the hash of the sources that a library was compiled from; None if it does not say."""
    try:
        return (ctypes.c_char * 65).in_dll(library, "kernel_sources").value.decode()
    except (ValueError, UnicodeDecodeError):
        return None
