"""The selective scan and the causal convolution as plain float64 loops: slow and obvious.

Every other implementation is tested against these. They follow the Mamba paper, algorithm 2
(Gu and Dao 2023), with zero-order hold for A and Euler's rule for B as the official code has it.

Shapes: B batch, L length, D d_inner, N d_state, K d_conv.
"""

from __future__ import annotations

import torch
from torch import Tensor


def selective_scan_loop(
    u_BLD: Tensor,
    delta_BLD: Tensor,
    A_DN: Tensor,
    B_BLN: Tensor,
    C_BLN: Tensor,
    state_BDN: Tensor,
) -> tuple[Tensor, Tensor]:
    """`state = exp(delta A) state + delta B u; y = C state` for each token in turn.

    Returns y (batch, length, d_inner) and the last state, in float64. `delta` is final: bias and
    softplus are the caller's. Differentiable by autograd.
    """
    u, delta, A, B, C = (x.double() for x in (u_BLD, delta_BLD, A_DN, B_BLN, C_BLN))
    state = state_BDN.double()
    outputs = []
    for u_BD, delta_BD, B_BN, C_BN in zip(*(x.unbind(1) for x in (u, delta, B, C)), strict=True):
        decay_BDN = torch.exp(delta_BD[:, :, None] * A)
        state = decay_BDN * state + (delta_BD * u_BD)[:, :, None] * B_BN[:, None, :]
        outputs.append((state * C_BN[:, None, :]).sum(-1))
    return torch.stack(outputs, dim=1), state


def causal_conv1d_loop(
    x_BLD: Tensor, weight_DK: Tensor, bias_D: Tensor, state_BDP: Tensor
) -> tuple[Tensor, Tensor]:
    """`y[t] = silu(bias + sum_k weight[k] x[t - (K - 1) + k])`, with x before 0 taken from state.

    The state (batch, d_inner, d_conv - 1) holds the last inputs, oldest first. Returns y (batch,
    length, d_inner) and the new state, in float64.
    """
    width = weight_DK.shape[1]
    x, weight, bias = x_BLD.double(), weight_DK.double(), bias_D.double()
    window = list(state_BDP.double().unbind(-1))
    outputs = []
    for x_BD in x.unbind(1):
        window = [*window[-(width - 1) :], x_BD]
        total = bias + sum(weight[:, k] * window[k] for k in range(width))
        outputs.append(total * torch.sigmoid(total))
    return torch.stack(outputs, dim=1), torch.stack(window[-(width - 1) :], dim=-1)
