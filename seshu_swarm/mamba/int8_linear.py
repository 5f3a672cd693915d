"""Dynamic int8: weights rounded once by output channel, activations by token while they pass.

With s the largest magnitude of a row over 127: w ≈ s_w q_w for each output channel and x ≈ s_x q_x
for each token, so x·w ≈ s_x s_w Σ q_x q_w, and the sum is exact in int32 up to 133,000 inputs
(127² · 133,000 < 2³¹). Symmetric, so there are no zero points. For inference on CPUs.

Shapes: B batch, L length, I inputs, O outputs, T tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from seshu_swarm.errors import UsageError

LARGEST = 127


def rounded(values_RC: Tensor) -> tuple[Tensor, Tensor]:
    """Each row as int8 and its scale, (rows, columns) and (rows, 1); a row of zeros has scale 1."""
    peak_R1 = values_RC.abs().amax(dim=1, keepdim=True)
    scale_R1 = torch.where(peak_R1 > 0, peak_R1 / LARGEST, torch.ones_like(peak_R1))
    return torch.round(values_RC / scale_R1).to(torch.int8), scale_R1


class Int8Linear(nn.Module):
    """What takes the place of `nn.Linear` without a bias: `weight` (O, I) int8, `scale` (O,).

    Raises UsageError for a single input.
    """

    weight: Tensor
    scale: Tensor

    def __init__(self, weight_OI: Tensor, scale_O: Tensor) -> None:
        super().__init__()
        if weight_OI.shape[1] < 2:
            # With one input torch 2.13 takes the transposed weight for a plain one: wrong sums.
            raise UsageError("a projection of one input", rule="int8 needs two or more")
        self.register_buffer("weight", weight_OI)
        self.register_buffer("scale", scale_O)

    def forward(self, x_BLI: Tensor) -> Tensor:
        x_TI = x_BLI.reshape(-1, x_BLI.shape[-1])
        q_TI, scale_T1 = rounded(x_TI)
        # The product that torchao's CPU path calls too; torch has no public name for it.
        sums_TO = torch._int_mm(q_TI, self.weight.t())
        y_TO = sums_TO.to(x_BLI.dtype) * scale_T1 * self.scale
        return y_TO.reshape(*x_BLI.shape[:-1], -1)
