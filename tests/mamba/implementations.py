"""Every implementation of the operators that this machine can run on a CPU, by name."""

from __future__ import annotations

import functools
from pathlib import Path

from seshu_swarm.mamba.kernels.choose import PLAIN, Kernels, native_kernels
from seshu_swarm.mamba.kernels.native import loading
from seshu_swarm.mamba.kernels.native.build import BuildError, compile_library, library_name
from seshu_swarm.mamba.kernels.native.library import Library


def names() -> list[str]:
    """Native for every instruction set that a compiler here makes or has made; torch always."""
    return [*native_names(), PLAIN.name]


def native_names() -> list[str]:
    return [name for name in loading.instruction_sets() if _is_there(name)]


@functools.cache
def named(name: str) -> Kernels:
    """Raises BuildError where there is no such library and none can be made."""
    if name == PLAIN.name:
        return PLAIN
    folders = (loading.INSTALLED, loading.cache_folder())
    present = filter(Path.is_file, (folder / library_name(name) for folder in folders))
    path = next(present, None) or compile_library(loading.cache_folder(), name)
    return native_kernels(Library(path, name))


def _is_there(name: str) -> bool:
    try:
        return bool(named(name))
    except BuildError:
        return False
