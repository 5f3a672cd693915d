"""The RMS norm of blocks and ends; what computes it is chosen by device (`kernels`)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from seshu_swarm.mamba.kernels.choose import kernels_for


class RMSNorm(nn.Module):
    """`weight * x / rms(x)`, the root mean square in float32 whatever the input's type."""

    def __init__(self, d_model: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(d_model))
        self.epsilon = epsilon

    def forward(self, hidden_BLM: Tensor) -> Tensor:
        return kernels_for(hidden_BLM).norm(hidden_BLM, self.weight, self.epsilon)
