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
# PCLMUL is in no level, but in all processors with AVX2; `cpu_level` looks for it.
_X86_64 = {
    "_v1": ("-march=x86_64",),
    "_v3": ("-march=x86_64_v3", "-mpclmul"),
    "_v4": ("-march=x86_64_v4", "-mpclmul"),
}
_ARM64 = {"_neon": ("-march=generic",)}
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
        name: Its name here.
        triple: Its name for the compiler.
        levels: The options for the processors that functions are compiled for, by the end of their names.
        library: The file name of the library.
        platforms: The platform tags of a wheel for it, separated by dots.
        link_options: Options for the linker.
    """

    name: str
    triple: str
    levels: Mapping[str, Sequence[str]]
    library: str
    platforms: str
    link_options: Sequence[str] = ()


def _linux(processor: str, levels: Mapping[str, Sequence[str]]) -> Target:
    # The tags of glibc and of musl, as the library needs neither: one wheel serves both. These versions exclude no
    # system for which the dependencies have wheels.
    platforms = f"manylinux_2_17_{processor}.musllinux_1_1_{processor}"
    return Target(f"{processor}-linux", f"{processor}-linux-none", levels, "libkernel.so", platforms)


def _macos(processor: str, levels: Mapping[str, Sequence[str]], tag: str) -> Target:
    # macOS 11 is the first on ARM64. The library contains a name, by default the path where it is compiled.
    triple, library = f"{processor}-macos.11.0-none", "libkernel.dylib"
    named = (f"-Wl,-install_name,@rpath/{library}",)
    return Target(f"{processor}-macos", triple, levels, library, f"macosx_11_0_{tag}", named)


TARGETS = {
    target.name: target
    for target in (
        _linux("x86_64", _X86_64),
        _linux("aarch64", _ARM64),
        _macos("x86_64", _X86_64, "x86_64"),
        _macos("aarch64", _ARM64, "arm64"),
    )
}
"""What the kernel can be compiled for, by name."""


class CompilationError(Exception):
    """The kernel cannot be compiled."""


def find_target(name: str | None = None) -> Target:
    """Return the target of a name, by default the one that this machine is.

    Raises:
        CompilationError: No kernel can be compiled for it.
    """
    if name is None:
        processor, system = platform.machine().lower(), sys.platform
        name = f"{'aarch64' if processor == 'arm64' else processor}-{'macos' if system == 'darwin' else system}"
    if name not in TARGETS:
        raise CompilationError(f"the kernel can't be compiled for {name}, only for {', '.join(TARGETS)}")
    return TARGETS[name]


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
    chosen = find_target(target)
    sources: str = runpy.run_path(str(_HERE / "sources_hash.py"))["sources_hash"](_HERE)
    _replace(_HERE / "powers.h", runpy.run_path(str(_HERE / "powers.py"))["header"]().encode())
    common = ("-target", chosen.triple, *_FLAGS, *options)
    macros = [f"-D{define}" for define in defines]
    with tempfile.TemporaryDirectory() as directory:
        objects = []
        for level, processor in chosen.levels.items():
            made = f"{directory}/kernel{level}.o"
            for_level = (*processor, f"-DLEVEL={level}", *macros)
            _run_compiler(chosen.name, *common, *for_level, "-c", str(_HERE / "kernel.c"), "-o", made)
            objects.append(made)
        made = f"{directory}/{chosen.library}"
        linked = ("-shared", "-s", *chosen.link_options)
        noted = f'-DSOURCES="{sources}"'
        _run_compiler(chosen.name, *common, *linked, noted, str(_HERE / "cpu.c"), *objects, "-o", made)
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
    """Replace a file, so that others who read or have loaded it keep the old one."""
    part = path.with_name(f"{path.name}.{os.getpid()}")
    part.write_bytes(content)
    part.replace(path)
