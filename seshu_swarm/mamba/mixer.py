"""The Mamba mixer (the Mamba paper, section 3.4), unfused.

`in_proj`, `x_proj` and `out_proj` are called as modules, so that LoRA can wrap them; parameter names
and shapes are those of transformers' MambaMixer. Knows nothing of its place in the model.

Shapes: B batch, L length, M d_model, D d_inner, N d_state, R dt_rank, P d_conv - 1.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from seshu_swarm.mamba.conv import CausalConv1d
from seshu_swarm.mamba.kernels.inputs import ScanInputs
from seshu_swarm.mamba.scan import scan_time_major
from seshu_swarm.mamba.shape import MambaShape

# Range of the time steps at initialisation (the Mamba paper, section 3.6).
DT_MIN, DT_MAX = 1e-3, 1e-1


class MambaMixer(nn.Module):
    """`forward(hidden, conv_state, ssm_state)`: both states or neither."""

    def __init__(self, shape: MambaShape) -> None:
        super().__init__()
        self.shape = shape
        self.in_proj = nn.Linear(shape.d_model, 2 * shape.d_inner, bias=False)
        self.conv1d = CausalConv1d(shape.d_inner, shape.d_conv)
        self.x_proj = nn.Linear(shape.d_inner, shape.dt_rank + 2 * shape.d_state, bias=False)
        self.dt_proj = nn.Linear(shape.dt_rank, shape.d_inner, bias=True)
        self.A_log = nn.Parameter(torch.empty(shape.d_inner, shape.d_state))
        self.D = nn.Parameter(torch.empty(shape.d_inner))
        self.out_proj = nn.Linear(shape.d_inner, shape.d_model, bias=False)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """S4D-real A, time steps log-uniform in [DT_MIN, DT_MAX], out_proj scaled by depth."""
        states = torch.arange(1, self.shape.d_state + 1, dtype=torch.float32)
        self.A_log.copy_(torch.log(states).expand_as(self.A_log))
        self.D.fill_(1.0)
        spread = self.shape.dt_rank**-0.5
        self.dt_proj.weight.uniform_(-spread, spread)
        log_dt = torch.empty_like(self.dt_proj.bias).uniform_(math.log(DT_MIN), math.log(DT_MAX))
        dt = torch.exp(log_dt)
        # The inverse of softplus, so that softplus(bias) = dt.
        self.dt_proj.bias.copy_(dt + torch.log(-torch.expm1(-dt)))
        for layer in (self.in_proj, self.x_proj, self.out_proj):
            nn.init.kaiming_uniform_(layer.weight, a=math.sqrt(5))
        self.out_proj.weight.div_(math.sqrt(self.shape.num_blocks))
        self.conv1d.reset_parameters()

    def forward(
        self,
        hidden_BLM: Tensor,
        conv_state_BDP: Tensor | None = None,
        ssm_state_BDN: Tensor | None = None,
        lengths_B: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Output (batch, length, d_model) and both next states; the given ones stay as they are."""
        x_BLD, z_BLD = self.in_proj(hidden_BLM).chunk(2, dim=-1)
        u_BLD, conv_state = self.conv1d(x_BLD, conv_state_BDP, lengths_B)
        y_BLD, ssm_state = self._scan(u_BLD, z_BLD, ssm_state_BDN, lengths_B)
        return self.out_proj(y_BLD), conv_state, ssm_state

    def _scan(
        self, u_BLD: Tensor, z_BLD: Tensor, state: Tensor | None, lengths_B: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        shape = self.shape
        dt_BLR, B_BLN, C_BLN = self.x_proj(u_BLD).split(
            (shape.dt_rank, shape.d_state, shape.d_state), dim=-1
        )
        inputs = ScanInputs(
            u=u_BLD,
            delta=self.dt_proj(dt_BLR),
            A=-torch.exp(self.A_log),
            B=B_BLN,
            C=C_BLN,
            D=self.D,
            z=z_BLD,
            delta_softplus=True,
            state=state,
            lengths=lengths_B,
        )
        return scan_time_major(inputs)
