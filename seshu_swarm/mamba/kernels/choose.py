"""Which implementation of the operators runs, by device; chosen and logged once.

Every implementation answers to the same three functions and passes the same tests against the
float64 loops, so nothing outside this room knows which one it got.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from torch import Tensor

from seshu_swarm.mamba.kernels.gpu import available as gpu
from seshu_swarm.mamba.kernels.inputs import ConvInputs, ScanInputs
from seshu_swarm.mamba.kernels.native import loading
from seshu_swarm.mamba.kernels.native.build import BuildError
from seshu_swarm.mamba.kernels.native.conv import NativeConv
from seshu_swarm.mamba.kernels.native.library import Library
from seshu_swarm.mamba.kernels.native.norm import NativeNorm
from seshu_swarm.mamba.kernels.native.scan import NativeScan
from seshu_swarm.mamba.kernels.native.step import NativeProduct, NativeStep
from seshu_swarm.mamba.kernels.plain import conv, norm, scan

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Kernels:
    """`scan` and `conv` return the output and the last state; `norm` takes x, weight, epsilon.

    `step` (one token through all blocks of a span) and `product` (a few rows times a matrix) exist
    where they beat the blocks' own operators; without gradients.
    """

    name: str
    scan: Callable[[ScanInputs], tuple[Tensor, Tensor]]
    conv: Callable[[ConvInputs], tuple[Tensor, Tensor]]
    norm: Callable[[Tensor, Tensor, float], Tensor]
    step: NativeStep | None = None
    product: NativeProduct | None = None


PLAIN = Kernels("torch", scan.scan, conv.conv, norm.norm)

_told: ContextVar[Kernels | None] = ContextVar("kernels", default=None)


def kernels_for(tensor: Tensor) -> Kernels:
    """The implementation for a tensor's device, or the one told by `using`."""
    return _told.get() or _chosen(tensor.device.type)


def available(device_type: str) -> dict[str, Kernels]:
    """Every implementation that runs here on that device, by name; the first is the choice."""
    found: list[Kernels | None] = []
    if device_type == "cpu":
        found = [_native()]
    elif device_type == "cuda":
        found = [Kernels(name, *triple) for name, triple in gpu.kernels().items()]
    return {kernels.name: kernels for kernels in (*found, PLAIN) if kernels is not None}


@contextmanager
def using(kernels: Kernels) -> Iterator[None]:
    """Run this implementation whatever the device: for tests and benches."""
    token = _told.set(kernels)
    try:
        yield
    finally:
        _told.reset(token)


@functools.cache
def _native() -> Kernels | None:
    try:
        library = loading.load()
    except BuildError as error:
        logger.info("no native kernels: %s", error)
        return None
    logger.debug("native kernels from %s", library.path)
    return native_kernels(library)


def native_kernels(library: Library) -> Kernels:
    """The operators of one library."""
    return Kernels(
        f"native {library.instruction_set}",
        NativeScan(library),
        NativeConv(library),
        NativeNorm(library),
        NativeStep(library),
        NativeProduct(library),
    )


@functools.cache
def _chosen(device_type: str) -> Kernels:
    names = available(device_type)
    kernels = next(iter(names.values()))
    logger.info("kernels on %s: %s (of %s)", device_type, kernels.name, ", ".join(names))
    return kernels
