"""The RMS norm on a GPU by our own Triton kernels; never run on a GPU so far (`norm_triton`)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from seshu_swarm.mamba.kernels.gpu.launch import kernels_of, launching
from seshu_swarm.mamba.kernels.plain import norm as plain

# Programs of backward: each leaves one row of partial sums of the weight's gradient.
MAX_PROGRAMS = 256
MAX_WARPS, WARP_ELEMENTS = 8, 256


def norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """`weight * x / rms(x)` over the last dimension, the mean square in float32."""
    if x.dtype == torch.float64 or weight.dtype == torch.float64 or x.numel() == 0:
        return plain.norm(x, weight, epsilon)
    y: Tensor = _RMSNorm.apply(x.contiguous(), weight.contiguous(), epsilon)
    return y


def _blocks(d_model: int) -> dict[str, int]:
    block = 1 << (d_model - 1).bit_length()
    return {"BLOCK": block, "num_warps": max(1, min(MAX_WARPS, block // WARP_ELEMENTS))}


class _RMSNorm(torch.autograd.Function):
    """x (…, M), weight (M) → y, in the type torch gives a product of both."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        d_model = x.shape[-1]
        y = torch.empty_like(x, dtype=torch.promote_types(x.dtype, weight.dtype))
        with launching(x):
            kernels_of("norm").forward[(x.numel() // d_model,)](
                x, weight, y, d_model, epsilon, **_blocks(d_model)
            )
        ctx.save_for_backward(x, weight)
        ctx.epsilon = epsilon
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight = ctx.saved_tensors
        d_model, rows = x.shape[-1], x.numel() // x.shape[-1]
        programs = min(rows, MAX_PROGRAMS)
        dx = torch.empty_like(x)
        parts = torch.empty(programs, d_model, dtype=torch.float32, device=x.device)
        with launching(x):
            kernels_of("norm").backward[(programs,)](
                x, weight, dy.contiguous(), dx, parts, rows, d_model, ctx.epsilon,
                **_blocks(d_model),
            )  # fmt: skip
        return dx, parts.sum(0).to(weight.dtype), None
