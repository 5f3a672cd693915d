"""The causal convolution and its SiLU on a GPU by our own Triton kernels.

Never run on a GPU so far (`conv_triton` says what was proven). Differentiable in everything, both
states included; sums in float32 whatever the inputs are; results have the type of x. float64,
which only tests use, goes to plain torch.

Shapes: B batch, L length, D d_inner, K d_conv, P = K - 1 past inputs.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from seshu_swarm.mamba.kernels.gpu.launch import kernels_of, launching
from seshu_swarm.mamba.kernels.inputs import ConvInputs
from seshu_swarm.mamba.kernels.plain import conv as plain

# More elements for each thread would spill registers on a T4.
BLOCK_TOKENS, BLOCK_CHANNELS, NUM_WARPS = 32, 64, 8


def conv(inputs: ConvInputs) -> tuple[Tensor, Tensor]:
    """y (B, L, D) and the last inputs (B, D, P), oldest first, in the type of x."""
    if inputs.x.dtype == torch.float64 or inputs.x.shape[1] == 0:
        return plain.conv(inputs)
    x, state, lengths = inputs.x, inputs.state, inputs.lengths
    y_BLD = _ConvSilu.apply(
        None if lengths is None else lengths.contiguous(),
        x if x.stride(-1) == 1 else x.contiguous(),
        inputs.weight.contiguous(),
        inputs.bias.contiguous(),
        None if state is None else state.contiguous(),
    )
    return y_BLD, last_inputs(inputs)


def last_inputs(inputs: ConvInputs) -> Tensor:
    """The last P inputs that count (B, D, P), some of them from the state; differentiable."""
    x_BDL, num_past = inputs.x.transpose(1, 2), inputs.weight.shape[1] - 1
    batch, d_inner, length = x_BDL.shape
    if inputs.lengths is None and length >= num_past:
        # A copy: a view would keep the whole sequence alive in a session's state.
        return x_BDL[..., length - num_past :].clone(memory_format=torch.contiguous_format)
    if inputs.state is None:
        past_BDP = x_BDL.new_zeros(batch, d_inner, num_past)
    else:
        past_BDP = inputs.state.to(x_BDL.dtype)
    if inputs.lengths is None:
        return torch.cat((past_BDP[..., length:], x_BDL), dim=-1)
    ends = inputs.lengths.clamp(0, length)[:, None]
    times_BP = ends + torch.arange(-num_past, 0, device=x_BDL.device)
    times = times_BP[:, None].expand(-1, d_inner, -1)
    from_x = x_BDL.gather(2, times.clamp(min=0))
    from_state = past_BDP.gather(2, (times + num_past).clamp(max=num_past - 1))
    return torch.where(times >= 0, from_x, from_state)


def _tiles(tokens: int, d_inner: int, batch: int) -> tuple[int, int, int]:
    return -(-tokens // BLOCK_TOKENS), -(-d_inner // BLOCK_CHANNELS), batch


class _ConvSilu(torch.autograd.Function):
    """(lengths, x, weight, bias, state) → y. Nothing but the inputs is kept for backward."""

    @staticmethod
    def forward(
        ctx: Any,
        lengths: Tensor | None,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        state: Tensor | None,
    ) -> Tensor:
        batch, length, d_inner = x.shape
        y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
        with launching(x):
            kernels_of("conv").forward[_tiles(length, d_inner, batch)](
                x, weight, bias, state, lengths, y, length, d_inner, x.stride(0), x.stride(1),
                **_blocks(weight),
            )  # fmt: skip
        ctx.save_for_backward(lengths, x, weight, bias, state)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        lengths, x, weight, bias, state = ctx.saved_tensors
        (batch, length, d_inner), d_conv = x.shape, weight.shape[1]
        grid = _tiles(length, d_inner, batch)
        dtotal = torch.empty(x.shape, dtype=torch.float32, device=x.device)
        parts = dtotal.new_empty(batch, grid[0], d_conv + 1, d_inner)
        dx = torch.empty(x.shape, dtype=x.dtype, device=x.device)
        dstate = None if state is None else torch.empty_like(state)
        with launching(x):
            kernels_of("conv").backward_before_silu[grid](
                x, weight, bias, state, lengths, dy.contiguous(), dtotal, parts,
                length, d_inner, x.stride(0), x.stride(1), **_blocks(weight),
            )  # fmt: skip
            kernels_of("conv").backward_input[_tiles(length + d_conv - 1, d_inner, batch)](
                weight, dtotal, dx, dstate, length, d_inner, **_blocks(weight)
            )
        whole = parts.sum((0, 1))
        dweight, dbias = whole[:-1].t().to(weight.dtype), whole[-1].to(bias.dtype)
        return None, dx, dweight, dbias, dstate


def _blocks(weight: Tensor) -> dict[str, int]:
    return {
        "K": weight.shape[1],
        "BLOCK_T": BLOCK_TOKENS,
        "BLOCK_D": BLOCK_CHANNELS,
        "num_warps": NUM_WARPS,
    }
