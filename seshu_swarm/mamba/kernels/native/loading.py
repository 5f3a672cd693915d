"""The library of native kernels for this machine: installed, cached, compiled now, or none."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import torch

from seshu_swarm.mamba.kernels.native.build import (
    INSTRUCTION_SETS,
    BuildError,
    compile_library,
    library_name,
)
from seshu_swarm.mamba.kernels.native.library import Library

INSTALLED = Path(__file__).parent
FOLDER = "seshu-swarm"
# torch's names of what a processor can do → ours.
_OF_CAPABILITY = {"AVX512": "avx512", "AVX2": "avx2"}


def cache_folder() -> Path:
    """Where a library compiled at first use is kept. Raises BuildError where there is no home."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    # A relative one does not count (XDG Base Directory Specification).
    if os.path.isabs(given):
        return Path(given) / FOLDER
    try:
        return Path.home() / ".cache" / FOLDER
    except RuntimeError as error:
        raise BuildError("this user has no home folder: set XDG_CACHE_HOME") from error


def instruction_sets() -> list[str]:
    """Those this processor has, best first. torch's ATEN_CPU_CAPABILITY can only take some away."""
    best = _OF_CAPABILITY.get(torch.backends.cpu.get_cpu_capability(), "baseline")
    names = list(INSTRUCTION_SETS)
    return names[names.index(best) :]


def load() -> Library:
    """The best library that there is or can be made. Raises BuildError with the first reason."""
    best, *lesser = instruction_sets()
    try:
        return _present(best) or _compiled(best)
    except BuildError:
        # A package may come with fewer sets than this processor has: its compiler knew no more.
        for library in map(_present, lesser):
            if library is not None:
                return library
        raise


def _present(instruction_set: str) -> Library | None:
    for path in _paths(library_name(instruction_set)):
        try:
            return Library(path, instruction_set)
        except (OSError, AttributeError):
            continue  # an installed library may need another libc than this machine's
    return None


def _paths(name: str) -> Iterator[Path]:
    """Where the library lies: installed, then cached, of which only what this user wrote."""
    if (INSTALLED / name).is_file():
        yield INSTALLED / name
    try:
        cached = cache_folder() / name
        is_there = cached.is_file() and _is_ours(cached.parent)
        if is_there and cached.stat().st_uid == os.getuid():
            yield cached
    except (BuildError, OSError):
        return  # the home may be another user's; compiling says what is wrong with the folder


def _compiled(instruction_set: str) -> Library:
    folder = cache_folder()
    try:
        if folder.exists() and not _is_ours(folder):
            raise BuildError(f"{folder} is another user's, or others may write there")
        return Library(compile_library(folder, instruction_set), instruction_set)
    except (OSError, AttributeError) as error:
        raise BuildError(f"no library from {folder} loads: {error}") from error


def _is_ours(folder: Path) -> bool:
    """Nobody else can put a file there between a check and its loading."""
    facts = folder.stat()
    return facts.st_uid == os.getuid() and not facts.st_mode & 0o022
