"""The causal convolution and its SiLU in plain torch: shifted multiply-adds.

A sum of shifted multiply-adds over contiguous channels is three times faster on a CPU than a
grouped convolution with four taps. Differentiable in everything, both states included.

Shapes: B batch, L length, D d_inner, K d_conv, P = K - 1 past inputs.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from seshu_swarm.mamba.kernels.inputs import ConvInputs, token_mask


def conv(inputs: ConvInputs) -> tuple[Tensor, Tensor]:
    """y (B, L, D) in the type of x, and the last inputs (B, D, P), oldest first, at least float32."""
    dtype = torch.float64 if inputs.x.dtype == torch.float64 else torch.float32
    x_BLD, (batch, length, d_inner) = inputs.x.to(dtype), inputs.x.shape
    num_past = inputs.weight.shape[1] - 1
    mask = None if inputs.lengths is None else token_mask(inputs.lengths, length)
    if mask is not None:
        x_BLD = x_BLD.where(mask, 0.0)
    if inputs.state is None:
        past_BPD = x_BLD.new_zeros(batch, num_past, d_inner)
    else:
        past_BPD = inputs.state.to(x_BLD.dtype).transpose(1, 2)
    padded_BTD = torch.cat((past_BPD, x_BLD), dim=1)
    weight, bias = inputs.weight.to(x_BLD.dtype), inputs.bias.to(x_BLD.dtype)
    y_BLD: Tensor = _ShiftedConvSilu.apply(padded_BTD, weight, bias)
    if inputs.lengths is None or mask is None:
        last_BPD = padded_BTD[:, length:]
    else:
        y_BLD = y_BLD.where(mask, 0.0)
        rows = inputs.lengths[:, None] + torch.arange(num_past, device=x_BLD.device)
        last_BPD = padded_BTD.gather(1, rows[..., None].expand(-1, -1, d_inner))
    # A copy: a view would keep the whole padded sequence alive in a session's state.
    return y_BLD.to(inputs.x.dtype), last_BPD.transpose(1, 2).contiguous()


class _ShiftedConvSilu(torch.autograd.Function):
    """padded (B, P + L, D), weight (D, K), bias (D) → silu of the convolution (B, L, D)."""

    @staticmethod
    def forward(ctx: Any, padded: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        taps = weight.t().contiguous().unbind(0)
        length = padded.shape[1] - len(taps) + 1
        total = torch.addcmul(bias, padded[:, :length], taps[0])
        for k, tap in enumerate(taps[1:], start=1):
            total.addcmul_(padded[:, k : k + length], tap)
        ctx.save_for_backward(padded, weight, total)
        return functional.silu(total)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        padded, weight, total = ctx.saved_tensors
        taps = weight.t().contiguous().unbind(0)
        length = total.shape[1]
        dtotal = torch.ops.aten.silu_backward(dy, total)
        dpadded = torch.zeros_like(padded)
        dtaps = []
        for k, tap in enumerate(taps):
            dpadded[:, k : k + length].addcmul_(dtotal, tap)
            dtaps.append((dtotal * padded[:, k : k + length]).sum((0, 1)))
        return dpadded, torch.stack(dtaps, dim=1), dtotal.sum((0, 1))
