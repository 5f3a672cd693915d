"""One block: RMS norm, mixer, residual. The smallest piece of a model that a peer hosts.

Shapes: B batch, L length, M d_model, D d_inner, N d_state, P d_conv - 1.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from seshu_swarm.mamba.mixer import MambaMixer
from seshu_swarm.mamba.shape import MambaShape


class RMSNorm(nn.Module):
    """`weight * x / rms(x)`, the root mean square in float32 whatever the input's type."""

    def __init__(self, d_model: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(d_model))
        self.epsilon = epsilon

    def forward(self, hidden_BLM: Tensor) -> Tensor:
        wide = hidden_BLM.float() if hidden_BLM.dtype != torch.float64 else hidden_BLM
        scale = torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.epsilon)
        return self.weight * (wide * scale).to(hidden_BLM.dtype)


class MambaBlock(nn.Module):
    """`forward(hidden, conv_state, ssm_state)` → next residual stream and both next states."""

    def __init__(self, shape: MambaShape) -> None:
        super().__init__()
        self.norm = RMSNorm(shape.d_model, shape.norm_epsilon)
        self.mixer = MambaMixer(shape)

    def forward(
        self,
        hidden_BLM: Tensor,
        conv_state_BDP: Tensor | None = None,
        ssm_state_BDN: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        mixed_BLM, conv_state, ssm_state = self.mixer(
            self.norm(hidden_BLM), conv_state_BDP, ssm_state_BDN
        )
        return hidden_BLM + mixed_BLM, conv_state, ssm_state
