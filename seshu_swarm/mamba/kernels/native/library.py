"""The compiled kernels as Python sees them: structures of `sources/views.h`, and calls.

Knows no autograd. A call releases the interpreter's lock; `ctypes` keeps nothing of a tensor, so the
caller holds every tensor until the call returns.
"""

from __future__ import annotations

import ctypes
from ctypes import c_double, c_int, c_int64, c_void_p
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

# Fixed in kernels.c: tokens between kept states, channels of a task, rows of the norm's sums.
CHUNK_TOKENS, GROUP_CHANNELS, NORM_PARTS = 16, 128, 16
# Work below this many elements is done by one thread: waking another takes longer.
ELEMENTS_OF_A_THREAD = 1 << 15
_SUFFIX = {torch.float32: "float", torch.float64: "double"}


class View(ctypes.Structure):
    """A tensor (batch, length, channels) whose channels are adjacent; strides in elements."""

    _fields_ = (("data", c_void_p), ("batch_stride", c_int64), ("time_stride", c_int64))

    @classmethod
    def of(cls, tensor: Tensor | None) -> View:
        if tensor is None:
            return cls()
        return cls(tensor.data_ptr(), tensor.stride(0), tensor.stride(1))


def _fields(kind: Any, names: str) -> Any:
    return [(name, kind) for name in names.split()]


class ScanCall(ctypes.Structure):
    _fields_ = (
        *_fields(c_int64, "batch length d_inner d_state threads softplus"),
        ("lengths", c_void_p),
        *_fields(View, "u delta B C z"),
        *_fields(c_void_p, "A D delta_bias state"),
        *_fields(View, "y ungated"),
        *_fields(c_void_p, "boundaries last"),
        *_fields(View, "dy du ddelta dz"),
        *_fields(c_void_p, "dlast dstate dB dC dA dD dbias"),
    )


class ConvCall(ctypes.Structure):
    _fields_ = (
        *_fields(c_int64, "batch length d_inner d_conv threads"),
        ("lengths", c_void_p),
        *_fields(View, "x y dy dx"),
        *_fields(c_void_p, "weight bias state last dlast dstate dweight dbias"),
    )


class NormCall(ctypes.Structure):
    _fields_ = (
        *_fields(c_int64, "rows width threads"),
        ("epsilon", c_double),
        *_fields(c_void_p, "x weight y scale dy dx dweight"),
    )


class StepBlock(ctypes.Structure):
    """Where the weights of one block lie; the order of `BLOCK_WEIGHTS`."""

    _fields_ = _fields(
        c_void_p, "norm in_proj conv_weight conv_bias x_proj dt_proj dt_bias A_log D out_proj"
    )


class StepCall(ctypes.Structure):
    _fields_ = (
        *_fields(c_int64, "batch num_blocks d_model d_inner d_state d_conv dt_rank threads"),
        ("epsilon", c_double),
        ("blocks", ctypes.POINTER(StepBlock)),
        *_fields(c_void_p, "hidden conv next_conv ssm next_ssm"),
    )


class ProductCall(ctypes.Structure):
    _fields_ = (
        *_fields(c_int64, "batch rows width threads"),
        *_fields(c_void_p, "matrix x out"),
    )


class LimitsCall(ctypes.Structure):
    _fields_ = (*_fields(c_int64, "count threads numbers"), ("result", c_double))


class Library:
    """One shared object. Raises OSError where it cannot be loaded, AttributeError if it is another."""

    def __init__(self, path: Path, instruction_set: str) -> None:
        self.path, self.instruction_set = path, instruction_set
        library = ctypes.CDLL(str(path))
        self._functions = {
            (name, dtype): getattr(library, f"seshu_{name}_{suffix}")
            for name in (
                *("scan_forward", "scan_backward", "conv_forward", "conv_backward"),
                *("norm_forward", "norm_backward"),
            )
            for dtype, suffix in _SUFFIX.items()
        }
        for name in ("step", "product", "exponentials"):
            self._functions[name, torch.float32] = getattr(library, f"seshu_{name}")
        for (name, _), function in self._functions.items():
            function.argtypes = (c_void_p,)
            function.restype = c_int if name.startswith(("scan", "step")) else None

    def call(self, name: str, dtype: torch.dtype, arguments: ctypes.Structure) -> None:
        """Raises MemoryError where a kernel found none."""
        if self._functions[name, dtype](ctypes.byref(arguments)):
            raise MemoryError(f"{name}: no memory for the states of one task")


def threads_for(elements: int) -> int:
    """Threads worth waking for this much work; results do not depend on it."""
    return max(1, min(torch.get_num_threads(), elements // ELEMENTS_OF_A_THREAD))


def address(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def adjacent(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """The tensor in this type with adjacent channels; a copy only where it must be one."""
    tensor = tensor.to(dtype)
    return tensor if tensor.stride(-1) == 1 or tensor.shape[-1] == 1 else tensor.contiguous()
