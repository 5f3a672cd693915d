"""The selective scan in plain torch: runs on every device, differentiable in everything.

Time runs in a loop inside chunks that stay in the cache; the states at chunk boundaries are kept
and the rest is computed again in backward (the Mamba paper, section 3.3.2), so memory is
O(length / chunk) states and never a tensor (batch, length, d_inner, d_state). Recurrent form only:
cumulative sums of delta * A overflow float32 within a few tokens.

Shapes: B batch, L length, T tokens of one chunk, D d_inner, N d_state. Inside, states are
(batch, d_state, d_inner): the long contiguous dimension last is what makes torch's loops vectorise.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from seshu_swarm.mamba.kernels.inputs import ScanInputs, token_mask

# Tokens of a chunk: as many as give buffers of this many elements, within these limits. Measured on
# two CPU cores: 32 tokens of 32,768 states each are 10-20 % faster than 8; more gains nothing.
CHUNK_ELEMENTS = 1 << 20
MIN_CHUNK_TOKENS, MAX_CHUNK_TOKENS = 8, 32


def scan(inputs: ScanInputs) -> tuple[Tensor, Tensor]:
    """y (B, L, D) in the type of u, and the last state (B, D, N), at least float32."""
    dtype = torch.float64 if inputs.u.dtype == torch.float64 else torch.float32
    u_BLD, delta_BLD, A_DN, B_BLN, C_BLN = (
        x.to(dtype) for x in (inputs.u, inputs.delta, inputs.A, inputs.B, inputs.C)
    )
    z_BLD = None if inputs.z is None else inputs.z.to(dtype)
    mask = None if inputs.lengths is None else token_mask(inputs.lengths, u_BLD.shape[1])
    if mask is not None:
        # Before anything is made of them: a gradient of zero times NaN is NaN.
        u_BLD, delta_BLD, B_BLN, C_BLN = (
            x.where(mask, 0.0) for x in (u_BLD, delta_BLD, B_BLN, C_BLN)
        )
        z_BLD = None if z_BLD is None else z_BLD.where(mask, 0.0)
    if inputs.delta_bias is not None:
        delta_BLD = delta_BLD + inputs.delta_bias.to(dtype)
    if inputs.delta_softplus:
        delta_BLD = functional.softplus(delta_BLD)
    if mask is not None:
        # A step of zero keeps the state exactly: exp(0) = 1, and nothing is added.
        delta_BLD = delta_BLD.where(mask, 0.0)
    if inputs.state is None:
        state_BND = u_BLD.new_zeros(u_BLD.shape[0], A_DN.shape[1], A_DN.shape[0])
    else:
        state_BND = inputs.state.to(dtype).transpose(1, 2)
    if u_BLD.numel() == 0:
        return torch.empty_like(inputs.u), state_BND.transpose(1, 2)
    core = _one_token if u_BLD.shape[1] == 1 else _ChunkedScan.apply
    y_BLD, last_BND = core(u_BLD, delta_BLD, A_DN, B_BLN, C_BLN, state_BND)
    D = None if inputs.D is None else inputs.D.to(dtype)
    y_BLD = _skip_and_gate(y_BLD, u_BLD, D, z_BLD)
    return y_BLD.to(inputs.u.dtype), last_BND.transpose(1, 2)


def _skip_and_gate(y: Tensor, u: Tensor, D: Tensor | None, z: Tensor | None) -> Tensor:
    if D is not None:
        y = torch.addcmul(y, u, D)
    return y if z is None else y * functional.silu(z)


def _one_token(
    u_BLD: Tensor, delta_BLD: Tensor, A_DN: Tensor, B_BLN: Tensor, C_BLN: Tensor, state_BND: Tensor
) -> tuple[Tensor, Tensor]:
    """The recurrence as it is written: nothing to cut into chunks or to compute again."""
    drive_BND = (delta_BLD * u_BLD) * B_BLN.transpose(1, 2)
    next_BND = torch.addcmul(drive_BND, torch.exp(delta_BLD * A_DN.t()), state_BND)
    return torch.bmm(C_BLN, next_BND), next_BND


def _time_major(part: slice, *tensors: Tensor) -> tuple[Tensor, ...]:
    """Views (tokens, batch, …) of the part's tokens of tensors (batch, length, …)."""
    return tuple(x[:, part].transpose(0, 1) for x in tensors)


def _chunk_tokens(u_BLD: Tensor, d_state: int) -> int:
    batch, length, d_inner = u_BLD.shape
    fitting = CHUNK_ELEMENTS // (batch * d_inner * d_state)
    return min(length, max(MIN_CHUNK_TOKENS, min(MAX_CHUNK_TOKENS, fitting)))


def _parts(u_BLD: Tensor, d_state: int) -> list[slice]:
    """The chunks, as slices of the length."""
    tokens = _chunk_tokens(u_BLD, d_state)
    return [slice(start, start + tokens) for start in range(0, u_BLD.shape[1], tokens)]


def _contract(weights_TBN: Tensor, states_TBND: Tensor) -> Tensor:
    """Sum over states: (T, B, N) and (T, B, N, D) → (T, B, D)."""
    tokens, batch, d_state, d_inner = states_TBND.shape
    rows = weights_TBN.reshape(tokens * batch, 1, d_state)
    return torch.bmm(rows, states_TBND.view(-1, d_state, d_inner)).view(tokens, batch, d_inner)


class _Recurrence:
    """States of one chunk after another, in two buffers that every chunk reuses.

    Fresh memory costs more than the arithmetic: a first touch of each page is a fault.
    """

    def __init__(self, delta_BLD: Tensor, A_DN: Tensor) -> None:
        batch, _, d_inner = delta_BLD.shape
        tokens = _chunk_tokens(delta_BLD, A_DN.shape[1])
        # torch's exp2 is three times as fast as its exp on a CPU, hence decays in base 2.
        self.exponent_ND = (A_DN.t() * math.log2(math.e)).contiguous()
        self.decay_TBND = delta_BLD.new_empty(tokens, batch, A_DN.shape[1], d_inner)
        self.states_TBND = torch.empty_like(self.decay_TBND)

    def chunk(
        self, delta_TBD: Tensor, drive_TBD: Tensor, B_TBN: Tensor, state_BND: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Decays and states (T, B, N, D) of the tokens that follow `state_BND`."""
        tokens = delta_TBD.shape[0]
        decay, states = self.decay_TBND[:tokens], self.states_TBND[:tokens]
        torch.mul(delta_TBD[:, :, None], self.exponent_ND, out=decay).exp2_()
        torch.mul(drive_TBD[:, :, None], B_TBN[..., None], out=states)
        state = state_BND
        for decay_BND, next_state in zip(decay.unbind(0), states.unbind(0), strict=True):
            state = next_state.addcmul_(decay_BND, state)
        return decay, states


class _Backward:
    """Gradients of the scan, one chunk at a time from the last to the first."""

    def __init__(self, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> None:
        self.inputs = (delta, delta * u, B, C)
        self.recurrence = _Recurrence(delta, A)
        self.A_ND = A.t().contiguous()
        self.dstates_TBND = torch.empty_like(self.recurrence.states_TBND)
        self.scratch_TBND = torch.empty_like(self.recurrence.states_TBND)
        self.ddelta, self.ddrive = torch.empty_like(delta), torch.empty_like(delta)
        self.dB, self.dC = torch.empty_like(B), torch.empty_like(C)
        self.dA_ND = torch.zeros_like(self.A_ND)

    def chunk(self, part: slice, dy: Tensor, state_BND: Tensor, dnext_BND: Tensor) -> Tensor:
        """Fill the part's gradients from those of its outputs and of the state after it.

        Returns the gradient of the state before it.
        """
        delta, drive, B, C = _time_major(part, *self.inputs)
        (dy,) = _time_major(part, dy)
        ddelta, ddrive, dB, dC = _time_major(part, self.ddelta, self.ddrive, self.dB, self.dC)
        decay, states = self.recurrence.chunk(delta, drive, B, state_BND)
        dstates, scratch = self.dstates_TBND[: len(decay)], self.scratch_TBND[: len(decay)]
        dbefore_BND = _run_back(decay, dstates, C, dy, dnext_BND)
        # mul and sum, because bmm with one column is up to a hundred times slower.
        dC.copy_(torch.mul(states, dy[:, :, None], out=scratch).sum(-1))
        dB.copy_(torch.mul(dstates, drive[:, :, None], out=scratch).sum(-1))
        ddrive.copy_(_contract(B, dstates))
        # Gradient of the exponent delta * A: decay * dstate * the state before.
        dexponent = dstates.mul_(decay)
        dexponent[1:].mul_(states[:-1])
        dexponent[0].mul_(state_BND)
        self.dA_ND += torch.mul(dexponent, delta[:, :, None], out=scratch).sum((0, 1))
        ddelta.copy_(dexponent.mul_(self.A_ND).sum(2))
        return dbefore_BND


def _run_back(
    decay: Tensor, dstates: Tensor, C_TBN: Tensor, dy_TBD: Tensor, dnext_BND: Tensor
) -> Tensor:
    """Fill `dstates` with the gradient of every state; return that of the state before."""
    torch.mul(C_TBN[..., None], dy_TBD[:, :, None], out=dstates)
    dstates[-1].add_(dnext_BND)
    decays, gradients = decay.unbind(0), dstates.unbind(0)
    for t in range(len(decays) - 1, 0, -1):
        gradients[t - 1].addcmul_(decays[t], gradients[t])
    return decays[0] * gradients[0]


class _ChunkedScan(torch.autograd.Function):
    """u, delta (B, L, D), A (D, N), B, C (B, L, N), state (B, N, D) → y (B, L, D), last state."""

    @staticmethod
    def forward(
        ctx: Any, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor
    ) -> tuple[Tensor, Tensor]:
        u, delta = u.contiguous(), delta.contiguous()
        recurrence = _Recurrence(delta, A)
        drive, y = delta * u, torch.empty_like(u)
        boundaries = [state.contiguous()]
        for part in _parts(u, A.shape[1]):
            delta_TBD, drive_TBD, B_TBN, C_TBN, y_TBD = _time_major(part, delta, drive, B, C, y)
            _, states = recurrence.chunk(delta_TBD, drive_TBD, B_TBN, boundaries[-1])
            y_TBD.copy_(_contract(C_TBN, states))
            boundaries.append(states[-1].clone())
        ctx.save_for_backward(u, delta, A, B, C, *boundaries[:-1])
        return y, boundaries[-1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor, dlast: Tensor) -> tuple[Tensor, ...]:
        u, delta, A, B, C, *boundaries = ctx.saved_tensors
        gradients = _Backward(u, delta, A, B, C)
        dstate = dlast
        for part, state in reversed(list(zip(_parts(u, A.shape[1]), boundaries, strict=True))):
            dstate = gradients.chunk(part, dy, state, dstate)
        ddelta = gradients.ddelta.addcmul_(gradients.ddrive, u)
        du = gradients.ddrive.mul_(delta)
        return du, ddelta, gradients.dA_ND.t(), gradients.dB, gradients.dC, dstate
