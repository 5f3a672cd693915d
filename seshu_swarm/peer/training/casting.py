"""In which type a plan's products of matrices are computed. Weights, gradients and what travels between
blocks are float32 in either (mixed precision: Micikevicius et al. 2018, arXiv:1710.03740, §3)."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch


class Casting:
    """`compute_type`: float32 or bfloat16."""

    def __init__(self, compute_type: str = "float32") -> None:
        self._is_half = compute_type == "bfloat16"

    def on(self, device: torch.device) -> AbstractContextManager[Any]:
        """For forward passes; backward ones go the way that was come."""
        return torch.autocast(device.type, torch.bfloat16, enabled=self._is_half)
