"""Root mean square norm in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor


def norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """`weight * x / rms(x)` over the last dimension; the mean square is at least float32."""
    wide = x if x.dtype == torch.float64 else x.float()
    scale = torch.rsqrt(wide.square().mean(-1, keepdim=True) + epsilon)
    return (weight * (wide * scale)).to(x.dtype)
