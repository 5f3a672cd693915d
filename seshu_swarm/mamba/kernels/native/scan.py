"""The selective scan by the native kernel, differentiable in everything.

Shapes: B batch, L length, D d_inner, N d_state, G groups of channels, X chunks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from seshu_swarm.mamba.kernels.inputs import ScanInputs
from seshu_swarm.mamba.kernels.native.library import (
    CHUNK_TOKENS,
    GROUP_CHANNELS,
    Library,
    ScanCall,
    View,
    address,
    adjacent,
    threads_for,
)


class _Tensors(NamedTuple):
    """What has a gradient, in one type, channels adjacent."""

    u: Tensor
    delta: Tensor
    A: Tensor
    B: Tensor
    C: Tensor
    D: Tensor | None
    z: Tensor | None
    delta_bias: Tensor | None
    state: Tensor | None

    @classmethod
    def of(cls, inputs: ScanInputs, dtype: torch.dtype) -> _Tensors:
        given = (getattr(inputs, name) for name in cls._fields)
        return cls(*(None if x is None else adjacent(x, dtype) for x in given))  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class _Fixed:
    """What has no gradient."""

    library: Library
    softplus: bool
    lengths: Tensor | None

    def call(self, x: _Tensors, A2_ND: Tensor) -> ScanCall:
        """The part of a call that both directions share."""
        (batch, length, d_inner), d_state = x.u.shape, A2_ND.shape[0]
        return ScanCall(
            batch=batch,
            length=length,
            d_inner=d_inner,
            d_state=d_state,
            threads=threads_for(x.u.numel() * d_state),
            softplus=self.softplus,
            lengths=address(self.lengths),
            u=View.of(x.u),
            delta=View.of(x.delta),
            B=View.of(x.B),
            C=View.of(x.C),
            z=View.of(x.z),
            A=address(A2_ND),
            D=address(x.D),
            delta_bias=address(x.delta_bias),
        )


@dataclass(frozen=True, eq=False)
class NativeScan:
    """`scan(inputs)`: y (B, L, D) in the type of u, and the last state (B, D, N)."""

    library: Library

    def __call__(self, inputs: ScanInputs) -> tuple[Tensor, Tensor]:
        dtype = torch.float64 if inputs.u.dtype == torch.float64 else torch.float32
        fixed = _Fixed(
            self.library,
            inputs.delta_softplus,
            None if inputs.lengths is None else inputs.lengths.contiguous(),
        )
        tensors = _Tensors.of(inputs, dtype)
        if torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in tensors):
            y_BLD, last_BDN = _Scan.apply(fixed, *tensors)
        else:
            y_BLD, last_BDN, _ = _forward(fixed, tensors, keep=False)
        return y_BLD.to(inputs.u.dtype), last_BDN


class _Kept(NamedTuple):
    """For backward: A in base 2, y before its gate, the states before every chunk."""

    A2_ND: Tensor
    ungated: Tensor | None
    boundaries: Tensor | None


def _forward(fixed: _Fixed, x: _Tensors, *, keep: bool) -> tuple[Tensor, Tensor, _Kept]:
    """y and the last state; what backward needs is written only where it is kept."""
    (batch, length, d_inner), d_state = x.u.shape, x.A.shape[1]
    A2_ND = (x.A.detach().t() * math.log2(math.e)).contiguous()
    state = None if x.state is None else x.state.contiguous()
    y, last = x.u.new_empty(x.u.shape), x.u.new_empty(batch, d_inner, d_state)
    ungated = x.u.new_empty(x.u.shape) if keep and x.z is not None else None
    chunks = -(-length // CHUNK_TOKENS)
    boundaries = x.u.new_empty(batch, chunks, d_state, d_inner) if keep else None
    call = fixed.call(x, A2_ND)
    call.y, call.ungated = View.of(y), View.of(ungated)
    call.state, call.boundaries, call.last = address(state), address(boundaries), address(last)
    fixed.library.call("scan_forward", x.u.dtype, call)
    return y, last, _Kept(A2_ND, ungated, boundaries)


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, fixed: _Fixed, *tensors: Tensor | None) -> tuple[Tensor, Tensor]:
        x = _Tensors(*tensors)  # type: ignore[arg-type]
        y, last, kept = _forward(fixed, x, keep=True)
        ctx.fixed = fixed
        ctx.save_for_backward(*x, *kept)
        return y, last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor, dlast: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        x, kept = _Tensors(*saved[:-3]), _Kept(*saved[-3:])
        gradients = _backward(ctx.fixed, x, kept, adjacent(dy, x.u.dtype), dlast.contiguous())
        absent = (given is None for given in x)
        return None, *(None if no else g for no, g in zip(absent, gradients, strict=True))


def _backward(
    fixed: _Fixed, x: _Tensors, kept: _Kept, dy: Tensor, dlast: Tensor
) -> tuple[Tensor | None, ...]:
    """Gradients in the order of `_Tensors`; those of what was not given mean nothing."""
    (batch, length, d_inner), d_state = x.u.shape, x.A.shape[1]
    groups = -(-d_inner // GROUP_CHANNELS)
    du, ddelta, dstate = (
        x.u.new_empty(x.u.shape),
        x.u.new_empty(x.u.shape),
        dlast.new_empty(dlast.shape),
    )
    dz = None if x.z is None else x.u.new_empty(x.u.shape)
    dB_GBLN, dC_GBLN = x.u.new_empty(2, groups, batch, length, d_state)
    dA_BND = x.u.new_empty(batch, d_state, d_inner)
    dD_BD, dbias_BD = x.u.new_empty(2, batch, d_inner)
    call = fixed.call(x, kept.A2_ND)
    call.ungated, call.boundaries = View.of(kept.ungated), address(kept.boundaries)
    call.dy, call.du, call.ddelta, call.dz = map(View.of, (dy, du, ddelta, dz))
    call.dlast, call.dstate = address(dlast), address(dstate)
    call.dB, call.dC = address(dB_GBLN), address(dC_GBLN)
    call.dA, call.dD, call.dbias = address(dA_BND), address(dD_BD), address(dbias_BD)
    fixed.library.call("scan_backward", x.u.dtype, call)
    dA, dB, dC, dD, dbias = (g.sum(0) for g in (dA_BND, dB_GBLN, dC_GBLN, dD_BD, dbias_BD))
    return du, ddelta, dA.t(), dB, dC, dD, dz, dbias, dstate
