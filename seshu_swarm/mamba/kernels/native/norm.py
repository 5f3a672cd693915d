"""The RMS norm by the native kernel.

Shapes: R rows (all dimensions but the last), W width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from seshu_swarm.mamba.kernels.native.library import (
    NORM_PARTS,
    Library,
    NormCall,
    address,
    threads_for,
)


@dataclass(frozen=True, eq=False)
class NativeNorm:
    """`norm(x, weight, epsilon)`: `weight * x / rms(x)` over the last dimension, like x."""

    library: Library

    def __call__(self, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
        ready = x.to(dtype).contiguous(), weight.to(dtype).contiguous()
        if not torch.is_grad_enabled():
            return _forward(self.library, *ready, epsilon)[0].to(x.dtype)
        y: Tensor = _Norm.apply(self.library, *ready, epsilon)
        return y.to(x.dtype)


def _forward(
    library: Library, x: Tensor, weight_W: Tensor, epsilon: float
) -> tuple[Tensor, Tensor]:
    """The normed rows, and 1 / rms of each."""
    y, scale_R = torch.empty_like(x), x.new_empty(x.shape[:-1])
    call = _call(x, weight_W, scale_R, epsilon)
    call.y = address(y)
    library.call("norm_forward", x.dtype, call)
    return y, scale_R


def _call(x: Tensor, weight_W: Tensor, scale_R: Tensor, epsilon: float) -> NormCall:
    return NormCall(
        rows=scale_R.numel(),
        width=x.shape[-1],
        threads=threads_for(x.numel()),
        epsilon=epsilon,
        x=address(x),
        weight=address(weight_W),
        scale=address(scale_R),
    )


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, library: Library, x: Tensor, weight_W: Tensor, epsilon: float) -> Tensor:
        y, scale_R = _forward(library, x, weight_W, epsilon)
        ctx.library, ctx.epsilon = library, epsilon
        ctx.save_for_backward(x, weight_W, scale_R)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight_W, scale_R = ctx.saved_tensors
        dy, dx = dy.contiguous(), torch.empty_like(x)
        dweight_PW = x.new_empty(NORM_PARTS, x.shape[-1])
        call = _call(x, weight_W, scale_R, ctx.epsilon)
        call.dy, call.dx, call.dweight = address(dy), address(dx), address(dweight_PW)
        ctx.library.call("norm_backward", x.dtype, call)
        return None, dx, dweight_PW.sum(0), None
