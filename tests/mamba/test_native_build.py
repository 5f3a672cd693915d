"""How the native kernels are compiled, cached, chosen and packaged, and what happens without them.

Real compilers and real processes; only the folder of installed libraries is put out of sight.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from seshu_swarm.mamba.kernels.choose import Kernels, native_kernels
from seshu_swarm.mamba.kernels.inputs import ScanInputs
from seshu_swarm.mamba.kernels.native import build, loading
from seshu_swarm.mamba.kernels.native.build import BuildError, compile_library, library_name
from seshu_swarm.mamba.kernels.native.library import Library
from tests.mamba import implementations

torch.set_num_threads(1)

ROOT = Path(__file__).parents[2]
COMPILER = next(filter(None, map(shutil.which, build.COMPILERS)), None)
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C compiler on PATH")
NOBODY = 65_534
# A user without an entry in /etc/passwd.
NO_ENTRY = 54_321
OPEN = all(folder.stat().st_mode & 0o005 == 0o005 for folder in (ROOT, *ROOT.parents))

# Prints the implementation that a process chooses, and what it tells the operator.
CHOOSE = """
import logging, pathlib, sys
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(levelname)s %(message)s")
import torch
from seshu_swarm.mamba.kernels.native import loading
if len(sys.argv) > 1:
    loading.INSTALLED = pathlib.Path(sys.argv[1])
from seshu_swarm.mamba.kernels.choose import kernels_for
from seshu_swarm.mamba.scan import selective_scan
rows = torch.ones(1, 4, 4)
print(selective_scan(rows, rows, -rows[0], rows, rows).shape == rows.shape)
print(kernels_for(rows).name)
"""


def start(code: str, *arguments: object, **environment: str) -> subprocess.Popen[str]:
    """A Python process with this environment beside the usual one; warnings end it."""
    command = [sys.executable, "-W", "error", "-c", code, *map(str, arguments)]
    merged = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=merged
    )


def printed(process: subprocess.Popen[str]) -> list[str]:
    """Its lines, once it has ended well."""
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output[-2000:]
    return output.splitlines()


@pytest.fixture
def nothing_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder that is not there, and nothing installed."""
    monkeypatch.setattr(loading, "INSTALLED", tmp_path / "installed")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    # The quickest to compile, and loadable everywhere.
    monkeypatch.setattr(build, "FLAGS", tuple(f.replace("-O3", "-O0") for f in build.FLAGS))
    monkeypatch.setattr(loading, "instruction_sets", lambda: ["baseline"])
    return tmp_path / "seshu-swarm"


@pytest.fixture
def with_group() -> Iterator[None]:
    """New files may be written by the user's group, as many systems have it."""
    before = os.umask(0o002)
    yield
    os.umask(before)


def run_scan(kernels: Kernels) -> list[torch.Tensor]:
    torch.manual_seed(0)
    u, B = torch.randn(2, 300, 150), torch.randn(2, 300, 16)
    A = -torch.rand(150, 16)
    return list(kernels.scan(ScanInputs(u=u, delta=u, A=A, B=B, C=B, delta_softplus=True)))


def test_without_a_compiler_torch_runs_and_the_reason_is_told(tmp_path: Path) -> None:
    child = start(CHOOSE, tmp_path, PATH="", CC="/nonexistent/cc", XDG_CACHE_HOME=str(tmp_path))
    reason, choice, is_right, name = printed(child)
    assert reason.startswith("INFO no native kernels: /nonexistent/cc: ")
    assert choice == "INFO kernels on cpu: torch (of torch)"
    assert (is_right, name) == ("True", "torch")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
@pytest.mark.skipif(not OPEN, reason="other users cannot read this checkout")
@pytest.mark.parametrize("home", [None, "of another user"])
def test_without_a_home_of_its_own_torch_runs(tmp_path: Path, home: str | None) -> None:
    """As in a container whose user has no entry and no home, or another's."""
    closed = tmp_path / "home"
    closed.mkdir(mode=0o700)
    become = ["import os", f"os.setgid({NOBODY}); os.setuid({NO_ENTRY})"]
    become += ["for name in ('HOME', 'XDG_CACHE_HOME'): os.environ.pop(name, None)"]
    become += [] if home is None else [f"os.environ['HOME'] = {str(closed)!r}"]
    before, rows, after = CHOOSE.partition("rows = ")
    code = before + "\n".join(become) + "\n" + rows + after
    reason, _, is_right, name = printed(start(code, "/nonexistent"))
    said = "no home folder: set XDG_CACHE_HOME" if home is None else "Permission denied"
    assert said in reason and (is_right, name) == ("True", "torch")


def test_a_relative_cache_folder_does_not_count(
    nothing_yet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert loading.cache_folder() == tmp_path / ".cache" / "seshu-swarm"


@needs_compiler
def test_a_lesser_library_runs_where_the_best_can_not_be_made(
    nothing_yet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A package from a compiler that knew fewer instructions than this processor has."""
    installed = compile_library(loading.INSTALLED, "baseline")
    monkeypatch.setattr(loading, "instruction_sets", lambda: ["avx512", "avx2", "baseline"])
    monkeypatch.setenv("CC", "/nonexistent/cc")
    found = loading.load()
    assert (found.path, found.instruction_set) == (installed, "baseline")


def test_no_compiler_on_the_path_is_a_reason(
    nothing_yet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(BuildError, match="no C compiler: none of cc, gcc, clang on PATH"):
        loading.load()


def test_a_cache_that_cannot_be_written_is_a_reason(nothing_yet: Path) -> None:
    nothing_yet.write_text("a file where the folder should be")
    with pytest.raises(BuildError, match="seshu-swarm"):
        loading.load()


def test_what_the_compiler_says_is_the_reason(
    nothing_yet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = script(tmp_path / "cc", "echo 'kernels.c:1: no such processor' >&2; exit 1")
    monkeypatch.setenv("CC", str(compiler))
    with pytest.raises(BuildError, match=r"kernels\.c:1: no such processor"):
        loading.load()
    assert list(nothing_yet.iterdir()) == []


def script(path: Path, line: str) -> Path:
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)
    return path


@needs_compiler
def test_compiling_at_first_use_leaves_one_file_that_is_used_again(
    nothing_yet: Path, with_group: None
) -> None:
    made = loading.load()
    assert [path.name for path in nothing_yet.iterdir()] == [library_name("baseline")]
    assert stat.S_IMODE(nothing_yet.stat().st_mode) == 0o700
    before = made.path.stat()
    again = loading.load()
    after = again.path.stat()
    assert (after.st_mtime_ns, after.st_ino) == (before.st_mtime_ns, before.st_ino)
    for found, expected in zip(*map(run_scan, map(native_kernels, (again, made))), strict=True):
        assert torch.equal(found, expected)


@needs_compiler
@pytest.mark.swarm
def test_two_processes_that_compile_at_once_both_run_and_a_third_compiles_nothing(
    tmp_path: Path,
) -> None:
    environment = {"XDG_CACHE_HOME": str(tmp_path), "ATEN_CPU_CAPABILITY": "default"}
    together = [start(CHOOSE, tmp_path, **environment) for _ in range(2)]
    for child in together:
        assert printed(child)[-2:] == ["True", "native baseline"]
    (made,) = (tmp_path / "seshu-swarm").iterdir()
    before = made.stat()
    third = printed(start(CHOOSE, tmp_path, CC="/nonexistent/cc", **environment))
    assert third[-2:] == ["True", "native baseline"]
    assert made.stat().st_mtime_ns == before.st_mtime_ns


@needs_compiler
@pytest.mark.parametrize(
    "content",
    [b"", b"garbage" * 1000, b"\x7fELF" + bytes(60)],
    ids=["empty", "text", "header"],
)
def test_garbage_in_the_cache_is_replaced(nothing_yet: Path, content: bytes) -> None:
    nothing_yet.mkdir(mode=0o700)
    (nothing_yet / library_name("baseline")).write_bytes(content)
    found = loading.load()
    assert found.path.read_bytes() != content
    assert all(bool(x.isfinite().all()) for x in run_scan(native_kernels(found)))


@needs_compiler
def test_another_library_under_that_name_is_replaced(nothing_yet: Path, tmp_path: Path) -> None:
    """Loadable, but without our functions. A process that has loaded it can load no other by that
    name, and does without; the next one has ours."""
    source, cached = tmp_path / "other.c", nothing_yet / library_name("baseline")
    source.write_text("int other(void) { return 1; }\n")
    nothing_yet.mkdir(mode=0o700)
    subprocess.run([str(COMPILER), "-shared", "-fPIC", source, "-o", cached], check=True)
    with pytest.raises(BuildError, match=r"no library from .* undefined symbol"):
        loading.load()
    under_a_new_name = shutil.copy(cached, tmp_path / "copy.so")
    assert Library(Path(under_a_new_name), "baseline")


@needs_compiler
@pytest.mark.skipif(os.getuid() != 0, reason="only root can make a file that is another user's")
def test_a_library_of_another_user_is_never_loaded(
    nothing_yet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = compile_library(nothing_yet, "baseline")
    os.chown(theirs, NOBODY, NOBODY)
    before = theirs.stat().st_ino
    with monkeypatch.context() as without_compiler:
        without_compiler.setenv("PATH", "")
        with pytest.raises(BuildError):
            loading.load()
    found = loading.load().path.stat()
    assert found.st_uid == os.getuid()
    assert found.st_ino != before


@needs_compiler
@pytest.mark.skipif(os.getuid() != 0, reason="only root can make a folder that is another user's")
def test_a_cache_folder_of_another_user_is_not_used(nothing_yet: Path) -> None:
    """Its owner could put another file there between our check and our loading."""
    nothing_yet.mkdir(mode=0o777)
    os.chown(nothing_yet, NOBODY, NOBODY)
    with pytest.raises(BuildError):
        loading.load()


@needs_compiler
def test_an_installed_library_is_taken_before_the_cache(nothing_yet: Path) -> None:
    compile_library(nothing_yet, "baseline")
    installed = compile_library(loading.INSTALLED, "baseline")
    assert loading.load().path == installed


def test_a_change_of_any_source_or_flag_is_another_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {library_name(instruction_set) for instruction_set in build.INSTRUCTION_SETS}
    assert len(names) == len(build.INSTRUCTION_SETS)
    sources = shutil.copytree(build.SOURCES, tmp_path / "sources")
    monkeypatch.setattr(build, "SOURCES", sources)
    assert library_name("baseline") in names
    for path in sorted(sources.iterdir()):
        path.write_bytes(path.read_bytes() + b"\n")
        names.add(library_name("baseline"))
    monkeypatch.setattr(build, "FLAGS", (*build.FLAGS, "-g"))
    names.add(library_name("baseline"))
    assert len(names) == len(build.INSTRUCTION_SETS) + len(list(sources.iterdir())) + 1


@needs_compiler
def test_a_compiler_without_openmp_makes_the_same_kernels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse = 'for word in "$@"; do [ "$word" = -fopenmp ] && exit 1; done'
    wrapper = script(tmp_path / "cc", f'{refuse}\nexec {COMPILER} "$@"')
    # With an option of its own, as a CC often has.
    monkeypatch.setenv("CC", f"{wrapper} -pipe")
    alone = native_kernels(Library(compile_library(tmp_path / "alone", "baseline"), "baseline"))
    threaded = implementations.named("baseline")
    torch.set_num_threads(2)
    try:
        for found, expected in zip(run_scan(alone), run_scan(threaded), strict=True):
            assert torch.equal(found, expected)
    finally:
        torch.set_num_threads(1)


@pytest.mark.parametrize("capability", ["avx2", "default"])
def test_the_capability_told_to_torch_chooses_the_kernels(capability: str) -> None:
    instruction_set = "baseline" if capability == "default" else capability
    if instruction_set not in implementations.native_names():
        pytest.skip(f"no kernels for {instruction_set} here")
    *_, is_right, name = printed(start(CHOOSE, ATEN_CPU_CAPABILITY=capability))
    assert (is_right, name) == ("True", f"native {instruction_set}")


def test_no_flag_gives_up_exact_arithmetic() -> None:
    """They would let sums change their order, and older gcc change how the whole process rounds."""
    flags = {*build.FLAGS, *(flag for flags in build.INSTRUCTION_SETS.values() for flag in flags)}
    inexact = ("-ffast-math", "-Ofast", "-funsafe", "-ffinite", "-fassociative", "-march=native")
    assert not [flag for flag in flags if flag.startswith(inexact)]


@pytest.mark.skipif(not implementations.native_names(), reason="no native kernels here")
def test_loading_a_library_leaves_small_numbers_as_they_are() -> None:
    code = """
import sys, ctypes
ctypes.CDLL(sys.argv[1])
print(sys.float_info.min / 2 > 0, sys.float_info.min * sys.float_info.epsilon > 0)
"""
    for name in implementations.native_names():
        path = implementations.named(name).scan.library.path  # type: ignore[attr-defined]
        assert printed(start(code, path)) == ["True True"]


SIZES = """
import sys, torch
from torch.nn import functional
from seshu_swarm.errors import UsageError
from seshu_swarm.mamba.conv import causal_conv1d
from seshu_swarm.mamba.kernels.choose import using
from seshu_swarm.mamba.kernels.inputs import ScanInputs
from seshu_swarm.mamba.reference import causal_conv1d_loop, selective_scan_loop
from seshu_swarm.mamba.scan import scan_time_major
from tests.mamba import implementations

def check(what, size, run, exact, *inputs):
    print(what, size, flush=True)
    try:
        found = run(*(x.detach().requires_grad_() for x in inputs))
    except UsageError:
        return
    expected = exact(*inputs)
    for ours, right in zip(found, expected, strict=True):
        assert torch.allclose(ours.double(), right, rtol=1e-4, atol=1e-4)
    sum(x.sum() for x in found).backward()

def scan(u, delta, A, B, C, state):
    return scan_time_major(ScanInputs(u=u, delta=delta, A=A, B=B, C=C, state=state))

def conv(x, weight, bias, state):
    return causal_conv1d(x, weight, bias, initial_state=state, return_last_state=True)

with using(implementations.named(sys.argv[1])):
    for N in (1, 255, 256, 257, 2000):
        u, B, state = torch.randn(2, 5, 3), torch.randn(2, 5, N), torch.randn(2, 3, N)
        check("d_state", N, scan, selective_scan_loop, u, u.abs(), -torch.rand(3, N), B, B, state)
    for K in (2, 3, 16, 17, 500):
        x, weight, state = torch.randn(2, 5, 3), torch.randn(3, K), torch.randn(2, 3, K - 1)
        check("d_conv", K, conv, causal_conv1d_loop, x, weight, torch.randn(3), state)
"""


@pytest.mark.parametrize("name", implementations.names())
def test_sizes_beyond_the_usual_are_right_or_refused(name: str) -> None:
    """In a process of its own: what is written past a fixed array would end this one."""
    printed(start(SIZES, name))


PACKED = ("pyproject.toml", "setup.py", "README.md", "LICENSE", "seshu_swarm")
BUILD_WHEEL = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"


def build_wheel(folder: Path, **environment: str) -> zipfile.ZipFile:
    """As `pip wheel` calls it, from a copy of the sources."""
    project = folder / "project"
    project.mkdir()
    for name in PACKED:
        source = ROOT / name
        if source.is_dir():
            unwanted = shutil.ignore_patterns("__pycache__", "*.so")
            shutil.copytree(source, project / name, ignore=unwanted)
        else:
            shutil.copy(source, project / name)
    command = [sys.executable, "-c", BUILD_WHEEL, str(folder)]
    done = subprocess.run(
        command,
        cwd=project,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (wheel,) = folder.glob("*.whl")
    return zipfile.ZipFile(wheel)


def native_files(wheel: zipfile.ZipFile) -> set[str]:
    """Names below the folder of the native kernels."""
    inside = "seshu_swarm/mamba/kernels/native/"
    return {name.removeprefix(inside) for name in wheel.namelist() if name.startswith(inside)}


@needs_compiler
def test_the_wheel_is_of_this_platform_with_every_library_and_source(tmp_path: Path) -> None:
    with build_wheel(tmp_path) as wheel:
        assert "-py3-none-linux" in str(wheel.filename)
        files = native_files(wheel)
        sources = {f"sources/{path.name}" for path in build.SOURCES.iterdir()}
        assert sources <= files
        libraries = {name for name in files if name.endswith(".so")}
        assert libraries == {library_name(name) for name in implementations.native_names()}
        wheel.extractall(tmp_path / "installed")
    installed = tmp_path / "installed" / "seshu_swarm" / "mamba" / "kernels" / "native"
    baseline = Library(installed / library_name("baseline"), "baseline")
    found = run_scan(native_kernels(baseline))
    for ours, expected in zip(found, run_scan(implementations.named("baseline")), strict=True):
        assert torch.equal(ours, expected)


def test_the_wheel_is_made_without_a_compiler_too(tmp_path: Path) -> None:
    with build_wheel(tmp_path, CC="/nonexistent/cc") as wheel:
        files = native_files(wheel)
    assert not [name for name in files if name.endswith(".so")]
    assert "sources/kernels.c" in files
