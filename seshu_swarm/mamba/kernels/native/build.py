"""Compiling the native kernels, at installation or at first use.

Standard library only: `setup.py` runs this file before anything is installed. A library's name
carries the digest of its sources and flags, so one of other sources is never loaded.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

SOURCES = Path(__file__).parent / "sources"
FLAGS = ("-O3", "-std=gnu11", "-fPIC", "-shared", "-Wno-psabi")
# Best first. What a set needs is what torch asks of a processor that it calls by the same name.
INSTRUCTION_SETS: dict[str, tuple[str, ...]] = {
    "avx512": ("-mavx512f", "-mavx512vl", "-mavx512dq", "-mavx512bw", "-mavx2", "-mfma"),
    "avx2": ("-mavx2", "-mfma"),
    "baseline": (),
}
# Without OpenMP (a compiler that lacks it) the kernels run on one thread.
THREADING: tuple[tuple[str, ...], ...] = (("-fopenmp",), ())
COMPILERS = ("cc", "gcc", "clang")
COMPILE_SECONDS = 120.0


class BuildError(Exception):
    """No library; the text says why."""


def library_name(instruction_set: str) -> str:
    digest = hashlib.sha256(repr((FLAGS, INSTRUCTION_SETS[instruction_set])).encode())
    for path in sorted(SOURCES.iterdir()):
        digest.update(path.read_bytes())
    return f"kernels-{instruction_set}-{digest.hexdigest()[:12]}.so"


def compile_library(folder: Path, instruction_set: str) -> Path:
    """Compile into `folder`, all or nothing; several processes may do so at once. Raises BuildError."""
    compiler = os.environ.get("CC", "").strip() or next(filter(shutil.which, COMPILERS), None)
    if compiler is None:
        raise BuildError(f"no C compiler: none of {', '.join(COMPILERS)} on PATH")
    target = folder / library_name(instruction_set)
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            made = Path(temporary) / target.name
            _compile(compiler, INSTRUCTION_SETS[instruction_set], made)
            os.replace(made, target)
    except OSError as error:
        raise BuildError(f"{compiler}: {error}") from error
    return target


def compile_all(folder: Path) -> list[Path]:
    """One library for each instruction set that the compiler knows. Raises BuildError if for none."""
    made, reasons = [], []
    for instruction_set in INSTRUCTION_SETS:
        try:
            made.append(compile_library(folder, instruction_set))
        except BuildError as error:
            reasons.append(str(error))
    if not made:
        raise BuildError(reasons[0])
    return made


def _compile(compiler: str, target_flags: tuple[str, ...], made: Path) -> None:
    for threading in THREADING:
        flags = (*FLAGS, *target_flags, *threading)
        command = [*compiler.split(), *flags, str(SOURCES / "kernels.c"), "-o", str(made), "-lm"]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=COMPILE_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            raise BuildError(f"{compiler} took more than {COMPILE_SECONDS:.0f} s") from None
        if done.returncode == 0:
            return
    words = (done.stderr.strip().splitlines() or ["no message"])[0]
    raise BuildError(f"{compiler}: {words}"[:300])
