"""Causal depthwise convolution followed by SiLU, continued from a state of d_conv - 1 inputs.

The public functions and the parameters; what computes them is chosen by device (`kernels`).
Differentiable in everything, both states included.

Shapes: B batch, L length, D d_inner, K d_conv, P = K - 1 past inputs.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from seshu_swarm.mamba.kernels.choose import kernels_for
from seshu_swarm.mamba.kernels.inputs import ConvInputs


def causal_conv1d(
    x_BLD: Tensor,
    weight_DK: Tensor,
    bias_D: Tensor,
    *,
    initial_state: Tensor | None = None,
    return_last_state: bool = False,
    lengths: Tensor | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """`silu(bias + sum_k weight[k] x[t - (K - 1) + k])`, (batch, length, d_inner); also the last state where asked for.

    The state (batch, d_inner, d_conv - 1) holds the last inputs, oldest first; none means zeros.
    Tokens from lengths[b] (int64) on are padding. Two calls, the second from the first's last
    state, equal one over the whole. Raises UsageError for what does not fit.
    """
    inputs = ConvInputs(
        x=x_BLD, weight=weight_DK, bias=bias_D, state=initial_state, lengths=lengths
    )
    y_BLD, last_BDP = kernels_for(x_BLD).conv(inputs)
    return (y_BLD, last_BDP) if return_last_state else y_BLD


def causal_conv1d_step(
    x_BD: Tensor, weight_DK: Tensor, bias_D: Tensor, state_BDP: Tensor
) -> tuple[Tensor, Tensor]:
    """One token: y (batch, d_inner) and the next state. The state given is not modified."""
    inputs = ConvInputs(x=x_BD[:, None], weight=weight_DK, bias=bias_D, state=state_BDP)
    y_BLD, next_BDP = kernels_for(x_BD).conv(inputs)
    return y_BLD[:, 0], next_BDP


class CausalConv1d(nn.Module):
    """The parameters, with the names and shapes of a grouped `nn.Conv1d`."""

    def __init__(self, d_inner: int, d_conv: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(d_inner, 1, d_conv))
        self.bias = nn.Parameter(torch.empty(d_inner))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        self.bias.zero_()

    def forward(
        self, x_BLD: Tensor, state_BDP: Tensor | None, lengths: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Output and the next state."""
        y_BLD, next_state = causal_conv1d(
            x_BLD,
            self.weight.squeeze(1),
            self.bias,
            initial_state=state_BDP,
            return_last_state=True,
            lengths=lengths,
        )
        return y_BLD, next_state
