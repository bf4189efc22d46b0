"""The kernel is compiled when the package is built: into the tree, or into wheels for several kinds of machines."""

from __future__ import annotations

import re
import shutil
import tarfile
import tomllib
import zipfile
from typing import TYPE_CHECKING

import pytest

from tests.conftest import ROOT
from tests.support.packages import build_wheel, run_python
from tests.transform.native.binaries import ARM64, X86_64, read_binary
from transform.native.compiling import TARGETS, CompilationError, compile_library, find_target

if TYPE_CHECKING:
    from pathlib import Path

NATIVE = "transform/native"
FUNCTIONS = (
    *("count_lines", "scan", "strings", "texts", "emit", "find_faults", "write_rejects", "number_rejects"),
    *("hashes", "find_rows", "write_rows", "write_elements"),
)
OF_THE_LINKER = {"_mh_dylib_header", "__dso_handle"}  # what every library for macOS has, after the first underscore
FOR_COMPILING = {
    *("kernel.c", "faults.h", "lines.h", "members.h", "numbers.h", "output.h", "tokens.h", "vectors.h"),
    *("rejects.h", "rows.h", "each.h", "sha256.h", "cpu.c", "powers.py", "powers.h", "compiling.py", "hatch_hook.py"),
}
PLATFORMS = {
    "x86_64-linux": ("linux", X86_64, {"manylinux_2_17_x86_64", "musllinux_1_1_x86_64"}),
    "aarch64-linux": ("linux", ARM64, {"manylinux_2_17_aarch64", "musllinux_1_1_aarch64"}),
    "x86_64-macos": ("macos", X86_64, {"macosx_11_0_x86_64"}),
    "aarch64-macos": ("macos", ARM64, {"macosx_11_0_arm64"}),
}


@pytest.fixture
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the package is built from, without the library.

    It has the same path for each test, so that the compiler finds in its cache what it has compiled before.
    """
    copy = tmp_path_factory.getbasetemp() / "built"
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", ".gitignore"):
        shutil.copy(ROOT / name, copy)
    for name in ("transform", "runner"):
        ignored = shutil.ignore_patterns("__pycache__", "libkernel.*", "powers.h")
        shutil.copytree(ROOT / name, copy / name, ignore=ignored)
    return copy


QUICK = {"x86_64-linux", "aarch64-macos"}
"""Each system and each machine once: the others have nothing that none of these has."""


@pytest.mark.parametrize(
    "target", [pytest.param(target, marks=() if target in QUICK else pytest.mark.slow) for target in TARGETS]
)
def test_wheel_of_a_target_has_its_library_and_nothing_to_compile(tmp_path: Path, target: str) -> None:
    system, machine, platforms = PLATFORMS[target]
    library = {"linux": "libkernel.so", "macos": "libkernel.dylib"}[system]
    levels = {X86_64: ("v1", "v3", "v4"), ARM64: ("neon",)}[machine]
    wheel = build_wheel(tmp_path, KERNEL_TARGET=target)
    *_, python, abi, platform = wheel.stem.split("-")
    assert (python, abi, set(platform.split("."))) == ("py3", "none", platforms)
    with zipfile.ZipFile(wheel) as archive:
        names = {name.rpartition("/")[2] for name in archive.namelist() if name.startswith(f"{NATIVE}/")}
        assert {"binding.py", "library.py"} <= names
        assert not FOR_COMPILING & names
        assert {name for name in names if name.startswith("libkernel")} == {library}
        (metadata,) = (archive.read(name).decode() for name in archive.namelist() if name.endswith("/WHEEL"))
        binary = read_binary(archive.read(f"{NATIVE}/{library}"))
    assert "Root-Is-Purelib: false\n" in metadata
    assert set(re.findall(r"^Tag: (.*)$", metadata, re.MULTILINE)) == {f"py3-none-{one}" for one in platforms}
    assert (binary.system, binary.machine) == (system, machine)
    prefix = "_" if system == "macos" else ""
    offered = {name.removeprefix(prefix) for name in binary.offered} - OF_THE_LINKER
    assert offered == {"cpu_level", "kernel_sources", *(f"{name}_{level}" for name in FUNCTIONS for level in levels)}
    if system == "linux":
        assert (binary.undefined, binary.libraries) == (set(), [])
    else:
        # Linkers for macOS add both. The second has the first, and is in every process.
        assert (binary.undefined, binary.libraries) == ({"dyld_stub_binder"}, ["/usr/lib/libSystem.B.dylib"])
        assert (binary.name, binary.oldest_system) == ("@rpath/libkernel.dylib", (11, 0))
        assert binary.is_signed or machine != ARM64, "macOS on ARM64 loads nothing without a signature"


def test_editable_install_puts_the_library_into_the_tree(tree: Path) -> None:
    code = "from hatchling.build import build_editable; print(build_editable('dist'))"
    done = run_python("-c", code, cwd=tree)
    assert done.returncode == 0, done.stderr
    assert (tree / NATIVE / find_target().library).exists()
    (wheel,) = (tree / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert not [name for name in archive.namelist() if "libkernel" in name]


def test_source_distribution_has_the_source_and_no_library(tree: Path) -> None:
    (tree / NATIVE / "libkernel.so").write_bytes(b"compiled")
    (tree / NATIVE / "kernel.c").write_text("this would not compile")
    done = run_python("-m", "hatchling", "build", "-t", "sdist", "-d", "dist", cwd=tree)
    assert done.returncode == 0, done.stderr
    (archive,) = (tree / "dist").glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        names = {name.rpartition("/")[2] for name in opened.getnames() if f"/{NATIVE}/" in name}
    assert names >= FOR_COMPILING - {"powers.h"}
    assert not {"powers.h", "libkernel.so"} & names


def test_library_in_the_tree_gets_into_no_wheel_for_another_machine(tree: Path) -> None:
    (tree / ".gitignore").unlink()  # as in the image
    here = find_target()
    for name in ("libkernel.so", "libkernel.dylib"):
        (tree / NATIVE / name).write_bytes(b"old")
    with zipfile.ZipFile(build_wheel(tree / "dist", tree)) as archive:
        found = {name: archive.read(name) for name in archive.namelist() if "libkernel" in name}
    assert [*found] == [f"{NATIVE}/{here.library}"]
    assert found[f"{NATIVE}/{here.library}"] != b"old"


def test_build_fails_in_words_if_the_kernel_does_not_compile(tree: Path) -> None:
    with (tree / NATIVE / "kernel.c").open("a") as source:
        source.write("int broken(void) { return nothing; }\n")
    done = run_python("-m", "hatchling", "build", "-t", "wheel", "-d", "dist", cwd=tree)
    assert done.returncode == 1
    assert f"the kernel can't be compiled for {find_target().name}:" in done.stderr
    assert re.search(r"kernel\.c:\d+:\d+: error: use of undeclared identifier 'nothing'", done.stderr)
    assert "Traceback" not in done.stderr
    assert not [*tree.glob("dist/*.whl")]


def test_build_for_an_unknown_target_fails_in_words(tree: Path) -> None:
    done = run_python("-m", "hatchling", "build", "-t", "wheel", "-d", "dist", cwd=tree, KERNEL_TARGET="mips-linux")
    assert done.returncode == 1
    assert done.stderr.strip() == f"the kernel can't be compiled for mips-linux, only for {', '.join(TARGETS)}"


def test_without_a_compiler_the_message_says_what_is_missing(tree: Path) -> None:
    (tree / "ziglang.py").write_text("raise ModuleNotFoundError(\"No module named 'ziglang'\")")
    done = run_python("-m", "hatchling", "build", "-t", "wheel", "-d", "dist", cwd=tree, PYTHONPATH=str(tree))
    assert done.returncode == 1
    assert done.stderr.startswith("the kernel can't be compiled for ")
    assert "No module named 'ziglang'" in done.stderr


@pytest.mark.parametrize(("defines", "options"), [(["SLACK=65"], []), ([], ["-DSLACK=65"])])
def test_defines_and_options_reach_the_compiler_whose_warnings_are_errors(
    tmp_path: Path, defines: list[str], options: list[str]
) -> None:
    with pytest.raises(CompilationError, match=r"vectors\.h:\d+:\d+: error: 'SLACK' macro redefined"):
        compile_library(tmp_path / "library", defines=defines, options=options)
    assert not [*tmp_path.iterdir()]


def test_process_that_has_the_library_keeps_it_when_another_is_compiled(tmp_path: Path) -> None:
    output = tmp_path / "libkernel.so"
    output.write_bytes(b"in use")
    with output.open("rb") as in_use:
        compile_library(output)
        assert in_use.read() == b"in use"
    assert read_binary(output.read_bytes()).machine in find_target().name
    assert [*tmp_path.iterdir()] == [output]


def test_lists_of_the_build_agree() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (pin,) = (one for one in project["build-system"]["requires"] if one.startswith("ziglang"))
    assert pin in project["dependency-groups"]["build"]
    assert f"\n{pin} " in (ROOT / "requirements-build.lock").read_text()
    targets = re.search(r"^TARGETS := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert targets
    assert targets[1].split() == [*TARGETS]
