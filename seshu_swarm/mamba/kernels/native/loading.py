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
# torch's names of what a processor can do → ours.
_OF_CAPABILITY = {"AVX512": "avx512", "AVX2": "avx2"}


def cache_folder() -> Path:
    """Where a library compiled at first use is kept."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "seshu-swarm"


def instruction_sets() -> list[str]:
    """Those this processor has, best first. torch's ATEN_CPU_CAPABILITY can only take some away."""
    best = _OF_CAPABILITY.get(torch.backends.cpu.get_cpu_capability(), "baseline")
    names = list(INSTRUCTION_SETS)
    return names[names.index(best) :]


def load() -> Library:
    """The best library that there is or can be made. Raises BuildError with the first reason."""
    first = instruction_sets()[0]
    for path, instruction_set in _present(first):
        try:
            return Library(path, instruction_set)
        except (OSError, AttributeError):
            continue  # an installed library may need another libc than this machine's
    folder = cache_folder()
    if folder.exists() and not _is_ours(folder):
        raise BuildError(f"{folder} is another user's, or others may write there")
    try:
        return Library(compile_library(folder, first), first)
    except (OSError, AttributeError) as error:
        raise BuildError(f"the compiled library does not load: {error}") from error


def _present(first: str) -> Iterator[tuple[Path, str]]:
    """Libraries on disk, best first; from the cache only what this user wrote."""
    name = library_name(first)
    if (INSTALLED / name).is_file():
        yield INSTALLED / name, first
    cached = cache_folder() / name
    if cached.is_file() and _is_ours(cached.parent) and cached.stat().st_uid == os.getuid():
        yield cached, first


def _is_ours(folder: Path) -> bool:
    """Nobody else can put a file there between a check and its loading."""
    facts = folder.stat()
    return facts.st_uid == os.getuid() and not facts.st_mode & 0o022
