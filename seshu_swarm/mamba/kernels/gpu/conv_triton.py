"""The causal convolution and its SiLU as Triton kernels, which `conv` launches.

Never run on a GPU so far: proven in Triton's interpreter, and compiled for compute capabilities
7.5 and 8.0. A program owns a tile of tokens and channels of one row. Backward first finds the
gradient before the SiLU, and each tile's part of those of weight and bias; then that of the input.

The rows of x may be strided, all else is contiguous: weight (D, K), state (B, D, P). A pointer may
be None.

Shapes: B batch, L length, T tokens of a tile, D its channels, K d_conv, P = K - 1 past inputs.
"""
# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import triton
import triton.language as tl

from seshu_swarm.mamba.kernels.gpu.scan_triton import load, row_end, sigmoid


@triton.jit
def inputs_at(
    x: tl.tensor,
    state: tl.tensor,
    s_T: tl.tensor,
    d_D: tl.tensor,
    end: tl.tensor,
    d_inner: tl.tensor,
    x_token: tl.tensor,
    PAST: tl.constexpr,
) -> tl.tensor:
    """The row's inputs at times s, of which those before zero lie in the state."""
    in_D = (d_D < d_inner)[None, :]
    at_T = tl.cast(s_T, tl.int64)[:, None]
    x_TD = load(
        x + at_T * x_token + d_D[None, :], (s_T >= 0)[:, None] & (s_T < end)[:, None] & in_D
    )
    if state is not None:
        is_past = (s_T < 0)[:, None] & (s_T >= -PAST)[:, None]
        x_TD += load(state + d_D[None, :] * PAST + s_T[:, None] + PAST, is_past & in_D)
    return x_TD


@triton.jit
def before_silu(
    x: tl.tensor,
    weight: tl.tensor,
    bias: tl.tensor,
    state: tl.tensor,
    t_T: tl.tensor,
    d_D: tl.tensor,
    end: tl.tensor,
    d_inner: tl.tensor,
    x_token: tl.tensor,
    K: tl.constexpr,
) -> tl.tensor:
    in_D = d_D < d_inner
    total_TD = load(bias + d_D, in_D)[None, :]
    for k in tl.static_range(K):
        x_TD = inputs_at(x, state, t_T - (K - 1) + k, d_D, end, d_inner, x_token, K - 1)
        total_TD += load(weight + d_D * K + k, in_D)[None, :] * x_TD
    return total_TD


@triton.jit(do_not_specialize=["length"])
def forward(
    x: tl.tensor,
    weight: tl.tensor,
    bias: tl.tensor,
    state: tl.tensor,
    lengths: tl.tensor,
    y: tl.tensor,
    length: tl.tensor,
    d_inner: tl.tensor,
    x_row: tl.tensor,
    x_token: tl.tensor,
    K: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_D: tl.constexpr,
) -> None:
    """Fill y, with zeros for padding."""
    row = tl.program_id(2).to(tl.int64)
    t_T = tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T)
    d_D = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    end = row_end(lengths, row, length)
    if state is not None:
        state += row * d_inner * (K - 1)
    total_TD = before_silu(x + row * x_row, weight, bias, state, t_T, d_D, end, d_inner, x_token, K)
    y_TD = tl.where((t_T < end)[:, None], total_TD * sigmoid(total_TD), 0.0)
    at_TD = (row * length + t_T)[:, None] * d_inner + d_D[None, :]
    tl.store(y + at_TD, y_TD, (t_T < length)[:, None] & (d_D < d_inner)[None, :])


@triton.jit(do_not_specialize=["length"])
def backward_before_silu(
    x: tl.tensor,
    weight: tl.tensor,
    bias: tl.tensor,
    state: tl.tensor,
    lengths: tl.tensor,
    dy: tl.tensor,
    dtotal: tl.tensor,
    parts: tl.tensor,
    length: tl.tensor,
    d_inner: tl.tensor,
    x_row: tl.tensor,
    x_token: tl.tensor,
    K: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_D: tl.constexpr,
) -> None:
    """Fill dtotal (B, L, D), zeros for padding, and parts (B, tiles, K + 1, D): taps, then bias."""
    row, tile = tl.program_id(2).to(tl.int64), tl.program_id(0)
    t_T = tile * BLOCK_T + tl.arange(0, BLOCK_T)
    d_D = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    in_D = d_D < d_inner
    end = row_end(lengths, row, length)
    x += row * x_row
    if state is not None:
        state += row * d_inner * (K - 1)
    total_TD = before_silu(x, weight, bias, state, t_T, d_D, end, d_inner, x_token, K)
    at_TD = (row * length + t_T)[:, None] * d_inner + d_D[None, :]
    is_counted = (t_T < end)[:, None] & in_D[None, :]
    open_TD = sigmoid(total_TD)
    slope_TD = open_TD * (1.0 + total_TD * (1.0 - open_TD))
    dtotal_TD = tl.where(is_counted, load(dy + at_TD, is_counted) * slope_TD, 0.0)
    tl.store(dtotal + at_TD, dtotal_TD, (t_T < length)[:, None] & in_D[None, :])
    parts += (row * tl.num_programs(0) + tile) * (K + 1) * d_inner + d_D
    for k in tl.static_range(K):
        x_TD = inputs_at(x, state, t_T - (K - 1) + k, d_D, end, d_inner, x_token, K - 1)
        tl.store(parts + k * d_inner, tl.sum(dtotal_TD * x_TD, 0), in_D)
    tl.store(parts + K * d_inner, tl.sum(dtotal_TD, 0), in_D)


@triton.jit(do_not_specialize=["length"])
def backward_input(
    weight: tl.tensor,
    dtotal: tl.tensor,
    dx: tl.tensor,
    dstate: tl.tensor,
    length: tl.tensor,
    d_inner: tl.tensor,
    K: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_D: tl.constexpr,
) -> None:
    """Fill dx and, for the inputs before the first token, dstate. Tiles begin at time -P."""
    row = tl.program_id(2).to(tl.int64)
    s_T = tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T) - (K - 1)
    d_D = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    in_D = d_D < d_inner
    dx_TD = tl.zeros((BLOCK_T, BLOCK_D), tl.float32)
    for k in tl.static_range(K):
        t_T = s_T + (K - 1) - k
        at_TD = (row * length + t_T)[:, None] * d_inner + d_D[None, :]
        is_there = (t_T >= 0)[:, None] & (t_T < length)[:, None] & in_D[None, :]
        dx_TD += load(weight + d_D * K + k, in_D)[None, :] * load(dtotal + at_TD, is_there)
    at_TD = (row * length + s_T)[:, None] * d_inner + d_D[None, :]
    is_there = (s_T >= 0)[:, None] & (s_T < length)[:, None] & in_D[None, :]
    tl.store(dx + at_TD, dx_TD, is_there)
    if dstate is not None:
        at_TD = (row * d_inner + d_D)[None, :] * (K - 1) + s_T[:, None] + (K - 1)
        tl.store(dstate + at_TD, dx_TD, (s_T < 0)[:, None] & in_D[None, :])
