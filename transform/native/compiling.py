"""Compiles the kernel with the C compiler that the package `ziglang` contains, for this machine or another.

Needs no other package, so that tests and the build of the package can use it.
"""

import os
import platform
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

_HERE = Path(__file__).parent
_X86_64 = {"_v1": "x86_64", "_v3": "x86_64_v3", "_v4": "x86_64_v4"}
_ARM64 = {"_neon": "generic"}
_FLAGS = (
    "-O3",
    "-std=c11",
    *("-Wall", "-Wextra", "-Werror"),
    # The library calls nothing, not even of libc, so that it loads beside every libc. Compilers like to add calls.
    *("-nostdlib", "-ffreestanding", "-fno-builtin", "-fno-stack-check", "-fno-stack-protector"),
    *("-fPIC", "-fvisibility=hidden"),
)


class Target(NamedTuple):
    """A kind of machine that the kernel can be compiled for.

    Attributes:
        triple: Its name for the compiler.
        levels: The processors that functions are compiled for, by the end of their names.
        library: The file name of the library.
        platforms: The platform tags of a wheel for it, separated by dots.
        link_options: Options for the linker.
    """

    triple: str
    levels: Mapping[str, str]
    library: str
    platforms: str
    link_options: Sequence[str] = ()


# A wheel for Linux has the tags of glibc and of musl, as the library needs neither: one file serves both. manylinux_2_17
# and musllinux_1_1 exclude no system for which the dependencies have wheels. Nor does macOS 11, the first on ARM64.
# On macOS a library contains its own name, which would be the path where it is compiled.
_INSTALL_NAME = ("-Wl,-install_name,@rpath/libkernel.dylib",)
TARGETS = {
    "x86_64-linux": Target("x86_64-linux-none", _X86_64, "libkernel.so", "manylinux_2_17_x86_64.musllinux_1_1_x86_64"),
    "aarch64-linux": Target(
        "aarch64-linux-none", _ARM64, "libkernel.so", "manylinux_2_17_aarch64.musllinux_1_1_aarch64"
    ),
    "x86_64-macos": Target("x86_64-macos.11.0-none", _X86_64, "libkernel.dylib", "macosx_11_0_x86_64", _INSTALL_NAME),
    "aarch64-macos": Target("aarch64-macos.11.0-none", _ARM64, "libkernel.dylib", "macosx_11_0_arm64", _INSTALL_NAME),
}
"""What the kernel can be compiled for, by name."""


class CompilationError(Exception):
    """The kernel cannot be compiled."""


def this_machine() -> str:
    """Return the name of the target that this machine is.

    Raises:
        CompilationError: It is none.
    """
    system = {"darwin": "macos"}.get(sys.platform, sys.platform)
    processor = {"arm64": "aarch64", "amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
    return find_target(f"{processor}-{system}")


def find_target(name: str) -> str:
    """Return the name of a target.

    Raises:
        CompilationError: There is none of this name.
    """
    if name not in TARGETS:
        raise CompilationError(f"the kernel can't be compiled for {name}, but for {', '.join(TARGETS)}")
    return name


def compile_library(
    output: Path, target: str | None = None, defines: Sequence[str] = (), options: Sequence[str] = ()
) -> None:
    """Compile the kernel.

    Args:
        output: Where the library is written. A process that has loaded the file that was there keeps that.
        target: The name of the target; by default this machine.
        defines: Macros of C, as `NAME=VALUE`.
        options: More options of clang, as for its sanitizers.

    Raises:
        CompilationError: The target is unknown, there is no compiler, or it finds an error or gives a warning.
    """
    name = find_target(target) if target else this_machine()
    chosen = TARGETS[name]
    _replace(_HERE / "powers.h", runpy.run_path(str(_HERE / "powers.py"))["header"]().encode())
    common = ("-target", chosen.triple, *_FLAGS, *options)
    macros = [f"-D{define}" for define in defines]
    with tempfile.TemporaryDirectory() as directory:
        objects = []
        for level, processor in chosen.levels.items():
            made = f"{directory}/kernel{level}.o"
            for_level = (f"-march={processor}", f"-DLEVEL={level}", *macros)
            _run_compiler(name, *common, *for_level, "-c", str(_HERE / "kernel.c"), "-o", made)
            objects.append(made)
        made = f"{directory}/{chosen.library}"
        linked = ("-shared", "-s", *chosen.link_options)
        _run_compiler(name, *common, *linked, str(_HERE / "cpu.c"), *objects, "-o", made)
        _replace(output, Path(made).read_bytes())


def _run_compiler(target: str, *arguments: str) -> None:
    """Run the C compiler.

    Raises:
        CompilationError: It is not there, or has failed.
    """
    command = [sys.executable, "-m", "ziglang", "cc", *arguments]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise CompilationError(f"the kernel can't be compiled for {target}:\n{done.stderr.strip() or done.stdout}")


def _replace(path: Path, content: bytes) -> None:
    """Write a file anew, so that others who read or have loaded it keep the old one."""
    part = path.with_name(f"{path.name}.{os.getpid()}")
    part.write_bytes(content)
    part.replace(path)
