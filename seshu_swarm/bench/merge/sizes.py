"""What is merged: random adapters on the three projections of a model. Pure.

Factors have the sizes and about the norms of trained ones; what they hold changes no time.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from seshu_swarm.adapters.delta import LowRankDelta
from seshu_swarm.adapters.reader import Adapter, Pair
from seshu_swarm.adapters.rules import TARGETS, module_name
from seshu_swarm.mamba.shape import MambaShape


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """A model of d_model x num_blocks, and adapters of one rank."""

    d_model: int = 768
    num_blocks: int = 24
    num_adapters: int = 16
    rank: int = 16
    seed: int = 0

    @property
    def shape(self) -> MambaShape:
        return MambaShape(d_model=self.d_model, num_blocks=self.num_blocks)

    @property
    def weight_bytes(self) -> int:
        """Of all weights that adapters touch, once, in float32."""
        sizes = self.shape.block_tensors()
        shapes = (sizes[f"mixer.{target}.weight"] for target in TARGETS)
        return 4 * self.num_blocks * sum(rows * columns for rows, columns in shapes)

    def deltas(self) -> list[LowRankDelta]:
        """Each adapter's ΔW, kept as its factors."""
        return [LowRankDelta(self._adapter(number)) for number in range(self.num_adapters)]

    def _adapter(self, number: int) -> Adapter:
        generator = torch.Generator().manual_seed(self.seed + number)
        pairs: dict[str, Pair] = {}
        for block_index in range(self.num_blocks):
            for target in TARGETS:
                rows, columns = self.shape.block_tensors()[f"mixer.{target}.weight"]
                A = torch.randn(self.rank, columns, generator=generator) / columns**0.5
                B = 0.01 * torch.randn(rows, self.rank, generator=generator)
                pairs[module_name(block_index, target)] = A, B
        return Adapter(f"{number:064x}", self.rank, 1.0, pairs)
