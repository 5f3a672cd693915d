"""The RMS norm as Triton kernels, which `norm` launches.

Never run on a GPU so far: proven in Triton's interpreter, and compiled for compute capabilities
7.5 and 8.0. A row at a time, in float32; all tensors contiguous.

Shapes: R rows, M d_model.
"""
# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import triton
import triton.language as tl

from seshu_swarm.mamba.kernels.gpu.scan_triton import load


@triton.jit
def forward(
    x: tl.tensor,
    weight: tl.tensor,
    y: tl.tensor,
    d_model: tl.tensor,
    epsilon: tl.tensor,
    BLOCK: tl.constexpr,
) -> None:
    m = tl.arange(0, BLOCK)
    in_M = m < d_model
    at_M = tl.program_id(0).to(tl.int64) * d_model + m
    x_M = load(x + at_M, in_M)
    scaled_M = x_M * tl.rsqrt(tl.sum(x_M * x_M, 0) / d_model + epsilon)
    # The product with the weight is taken after rounding to the type of x, as plain torch does.
    rounded_M = scaled_M.to(x.dtype.element_ty).to(tl.float32)
    tl.store(y + at_M, load(weight + m, in_M) * rounded_M, in_M)


@triton.jit(do_not_specialize=["rows"])
def backward(
    x: tl.tensor,
    weight: tl.tensor,
    dy: tl.tensor,
    dx: tl.tensor,
    parts: tl.tensor,
    rows: tl.tensor,
    d_model: tl.tensor,
    epsilon: tl.tensor,
    BLOCK: tl.constexpr,
) -> None:
    """Fill dx, and this program's part of the weight's gradient: parts (programs, M)."""
    program, programs = tl.program_id(0), tl.num_programs(0)
    m = tl.arange(0, BLOCK)
    in_M = m < d_model
    weight_M = load(weight + m, in_M)
    dweight_M = tl.zeros((BLOCK,), tl.float32)
    for row in range(program, rows, programs):
        at_M = tl.cast(row, tl.int64) * d_model + m
        x_M, dy_M = load(x + at_M, in_M), load(dy + at_M, in_M)
        scale = tl.rsqrt(tl.sum(x_M * x_M, 0) / d_model + epsilon)
        scaled_M, dscaled_M = x_M * scale, dy_M * weight_M
        along = tl.sum(dscaled_M * scaled_M, 0) / d_model
        tl.store(dx + at_M, scale * (dscaled_M - scaled_M * along), in_M)
        dweight_M += dy_M * scaled_M
    tl.store(parts + program * d_model + m, dweight_M, in_M)
