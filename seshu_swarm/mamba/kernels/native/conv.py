"""The causal convolution and its SiLU by the native kernel, differentiable in everything.

Shapes: B batch, L length, D d_inner, K d_conv, P = K - 1 past inputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from seshu_swarm.mamba.kernels.inputs import ConvInputs
from seshu_swarm.mamba.kernels.native.library import (
    ConvCall,
    Library,
    View,
    address,
    adjacent,
    threads_for,
)

# An input costs about as much as this many elements of a scan.
COST_OF_AN_INPUT = 4


@dataclass(frozen=True, eq=False)
class NativeConv:
    """`conv(inputs)`: y (B, L, D) in the type of x, and the last inputs (B, D, P)."""

    library: Library

    def __call__(self, inputs: ConvInputs) -> tuple[Tensor, Tensor]:
        x = inputs
        dtype = torch.float64 if x.x.dtype == torch.float64 else torch.float32
        weight_KD = x.weight.to(dtype).t().contiguous()
        state = None if x.state is None else x.state.to(dtype).contiguous()
        tensors = (adjacent(x.x, dtype), weight_KD, x.bias.to(dtype).contiguous(), state)
        y_BLD, last_BDP = _Conv.apply(
            self.library, None if x.lengths is None else x.lengths.contiguous(), *tensors
        )
        return y_BLD.to(x.x.dtype), last_BDP


def _call(x: Tensor, weight_KD: Tensor, bias: Tensor, lengths: Tensor | None) -> ConvCall:
    batch, length, d_inner = x.shape
    return ConvCall(
        batch=batch,
        length=length,
        d_inner=d_inner,
        d_conv=weight_KD.shape[0],
        threads=threads_for(x.numel() * COST_OF_AN_INPUT),
        lengths=address(lengths),
        x=View.of(x),
        weight=address(weight_KD),
        bias=address(bias),
    )


class _Conv(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        library: Library,
        lengths: Tensor | None,
        x: Tensor,
        weight_KD: Tensor,
        bias: Tensor,
        state: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        batch, _, d_inner = x.shape
        y, last = x.new_empty(x.shape), x.new_empty(batch, d_inner, weight_KD.shape[0] - 1)
        call = _call(x, weight_KD, bias, lengths)
        call.y, call.state, call.last = View.of(y), address(state), address(last)
        library.call("conv_forward", x.dtype, call)
        ctx.library, ctx.lengths = library, lengths
        ctx.save_for_backward(x, weight_KD, bias, state)
        return y, last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor, dlast: Tensor) -> tuple[Tensor | None, ...]:
        x, weight_KD, bias, state = ctx.saved_tensors
        (batch, _, d_inner), d_conv = x.shape, weight_KD.shape[0]
        dy, dlast = adjacent(dy, x.dtype), dlast.contiguous()
        dx, dstate = x.new_empty(x.shape), torch.empty_like(dlast)
        dweight_BKD, dbias_BD = x.new_empty(batch, d_conv, d_inner), x.new_empty(batch, d_inner)
        call = _call(x, weight_KD, bias, ctx.lengths)
        call.dy, call.dx = View.of(dy), View.of(dx)
        call.state, call.dlast, call.dstate = address(state), address(dlast), address(dstate)
        call.dweight, call.dbias = address(dweight_BKD), address(dbias_BD)
        ctx.library.call("conv_backward", x.dtype, call)
        dbias, dweight = dbias_BD.sum(0), dweight_BKD.sum(0)
        return None, None, dx, dweight, dbias, None if state is None else dstate
