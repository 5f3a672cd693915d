"""One block: RMS norm, mixer, residual. The smallest piece of a model that a peer hosts.

Shapes: B batch, L length, M d_model, D d_inner, N d_state, P d_conv - 1.
"""

from __future__ import annotations

from torch import Tensor, nn

from seshu_swarm.mamba.mixer import MambaMixer
from seshu_swarm.mamba.norm import RMSNorm
from seshu_swarm.mamba.shape import MambaShape


class MambaBlock(nn.Module):
    """`forward(hidden, conv_state, ssm_state, lengths)` → next residual stream and both next states.

    Of row b only the first lengths[b] tokens count; none means all.
    """

    def __init__(self, shape: MambaShape) -> None:
        super().__init__()
        self.norm = RMSNorm(shape.d_model, shape.norm_epsilon)
        self.mixer = MambaMixer(shape)

    def forward(
        self,
        hidden_BLM: Tensor,
        conv_state_BDP: Tensor | None = None,
        ssm_state_BDN: Tensor | None = None,
        lengths_B: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        mixed_BLM, conv_state, ssm_state = self.mixer(
            self.norm(hidden_BLM), conv_state_BDP, ssm_state_BDN, lengths_B
        )
        return hidden_BLM + mixed_BLM, conv_state, ssm_state
