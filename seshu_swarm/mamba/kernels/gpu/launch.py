"""Where a launch goes: the module of the kernels, imported late, and the device of a tensor."""

from __future__ import annotations

import importlib
from contextlib import AbstractContextManager, nullcontext
from types import ModuleType

import torch
from torch import Tensor


def kernels_of(operator: str) -> ModuleType:
    """The Triton kernels of an operator. Importing them imports Triton, hence only at a launch."""
    return importlib.import_module(f"seshu_swarm.mamba.kernels.gpu.{operator}_triton")


def launching(tensor: Tensor) -> AbstractContextManager[object]:
    """Triton launches on the current device, which need not be the tensor's."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else nullcontext()
