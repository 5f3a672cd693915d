"""The selective scan on a GPU by our own Triton kernels, differentiable in everything.

Never run on a GPU so far (`scan_triton` says what was proven). Accumulates in float32 whatever the
inputs are; y has the type of u, the last state is float32. float64, which only tests use,
goes to plain torch. Memory: states of length / CHUNK_TOKENS boundaries are kept; backward takes a
scratch of CHUNK_TOKENS states, and for each block of channels one part (B, L, N) of dB and of dC.

Shapes: B batch, L length, D d_inner, N d_state.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from seshu_swarm.mamba.kernels.gpu.launch import kernels_of, launching
from seshu_swarm.mamba.kernels.inputs import ScanInputs
from seshu_swarm.mamba.kernels.plain import scan as plain

# At 16 states boundaries take as much memory as one float32 (B, L, D). Not tuned: no GPU so far.
CHUNK_TOKENS = 16
# One warp with a channel for each thread; fewer channels where more states would spill.
MAX_BLOCK_CHANNELS, MIN_BLOCK_CHANNELS, BLOCK_ELEMENTS = 32, 8, 512


def scan(inputs: ScanInputs) -> tuple[Tensor, Tensor]:
    """y (B, L, D) in the type of u, and the last state (B, D, N) in float32."""
    if inputs.u.dtype == torch.float64 or inputs.u.shape[1] == 0:
        return plain.scan(inputs)
    z, state = inputs.z, inputs.state
    tensors = (
        inputs.u.contiguous(),
        inputs.delta.contiguous(),
        inputs.A.t().contiguous(),
        inputs.B.contiguous(),
        inputs.C.contiguous(),
        None if inputs.D is None else inputs.D.contiguous(),
        z if z is None or z.stride(-1) == 1 else z.contiguous(),
        None if inputs.delta_bias is None else inputs.delta_bias.contiguous(),
        None if state is None else state.transpose(1, 2).contiguous(),
    )
    is_kept = torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in tensors)
    lengths = None if inputs.lengths is None else inputs.lengths.contiguous()
    y_BLD, last_BND = _Scan.apply(is_kept, inputs.delta_softplus, lengths, *tensors)
    return y_BLD, last_BND.transpose(1, 2).contiguous()


def _geometry(u: Tensor, A: Tensor, z: Tensor | None) -> tuple[tuple[int, int], dict[str, int]]:
    """The grid (rows, blocks of channels) and the sizes both kernels are given."""
    (batch, length, d_inner), d_state = u.shape, A.shape[0]
    block_n = 1 << (d_state - 1).bit_length()
    block_d = max(MIN_BLOCK_CHANNELS, min(MAX_BLOCK_CHANNELS, BLOCK_ELEMENTS // block_n))
    sizes = {
        "length": length,
        "d_inner": d_inner,
        "d_state": d_state,
        "chunks": -(-length // CHUNK_TOKENS),
        "z_row": 0 if z is None else z.stride(0),
        "z_token": 0 if z is None else z.stride(1),
        "CHUNK": CHUNK_TOKENS,
        "BLOCK_N": block_n,
        "BLOCK_D": block_d,
        "num_warps": 1,
    }
    return (batch, -(-d_inner // block_d)), sizes


def _filled(like: Tensor, lengths: Tensor | None) -> Tensor:
    """Contiguous memory for every token; zeros where kernels stop before the padding."""
    shape, make = like.shape, torch.empty if lengths is None else torch.zeros
    return make(shape, dtype=like.dtype, device=like.device)


class _Scan(torch.autograd.Function):
    """(is_kept, softplus, lengths, u, delta, A, B, C, D, z, bias, state) → y, last state.

    Here A is (N, D) and states are (B, N, D), as the kernels have them.
    """

    @staticmethod
    def forward(
        ctx: Any, is_kept: bool, softplus: bool, lengths: Tensor | None, *tensors: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        u, delta, A, B, C, D, z, bias, state = tensors
        assert u is not None and A is not None  # ScanInputs
        grid, sizes = _geometry(u, A, z)
        y = _filled(u, lengths)
        last = u.new_empty(u.shape[0], *A.shape, dtype=torch.float32)
        shape = (u.shape[0], sizes["chunks"], *A.shape)
        boundaries = u.new_empty(shape, dtype=torch.float32) if is_kept else None
        with launching(u):
            kernels_of("scan").forward[grid](
                u, delta, A, B, C, D, z, bias, state, lengths, y, last, boundaries,
                SOFTPLUS=softplus, **sizes,
            )  # fmt: skip
        ctx.softplus, ctx.has_state = softplus, state is not None
        ctx.state_dtype = None if state is None else state.dtype
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(lengths, boundaries, *tensors[:-1])
        return y, last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor | None, dlast: Tensor | None) -> tuple[Tensor | None, ...]:
        lengths, boundaries, u, delta, A, B, C, D, z, bias = ctx.saved_tensors
        grid, sizes = _geometry(u, A, z)
        wide = {"dtype": torch.float32, "device": u.device}
        dy = torch.zeros_like(u) if dy is None else dy.contiguous()
        dlast = None if dlast is None else dlast.contiguous()
        du, ddelta = _filled(u, lengths), _filled(delta, lengths)
        dz = None if z is None else _filled(z, lengths)
        dA, dstate = (torch.empty(u.shape[0], *A.shape, **wide) for _ in range(2))
        dD, dbias = (torch.empty(u.shape[0], A.shape[1], **wide) for _ in range(2))
        make = torch.empty if lengths is None else torch.zeros
        dB, dC = (make(grid[1], *B.shape, **wide) for _ in range(2))
        tile = sizes["BLOCK_N"] * sizes["BLOCK_D"]
        scratch = torch.empty(grid[0] * grid[1] * CHUNK_TOKENS * tile, **wide)
        with launching(u):
            kernels_of("scan").backward[grid](
                u, delta, A, B, C, D, z, bias, lengths, boundaries, scratch, dy, dlast,
                du, ddelta, dz, dA, dB, dC, dD, dbias, dstate, SOFTPLUS=ctx.softplus, **sizes,
            )  # fmt: skip
        return (
            None, None, None, du, ddelta,
            dA.sum(0).to(A.dtype), dB.sum(0).to(B.dtype), dC.sum(0).to(C.dtype),
            None if D is None else dD.sum(0).to(D.dtype), dz,
            None if bias is None else dbias.sum(0).to(bias.dtype),
            None if ctx.state_dtype is None else dstate.to(ctx.state_dtype),
        )  # fmt: skip
