"""ΔW = s·B·A in float64, whole or one matrix at a time.

Adapters are kept as their factors: a `LowRankDelta` looks like the dict that `delta_of` returns,
but makes each matrix when it is asked for, so that a round never holds every candidate's ΔW. Who
needs A and B themselves asks it for `factors`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import torch

from seshu_swarm.adapters.reader import Adapter, Pair, squared_norm

Delta = Mapping[str, torch.Tensor]
"""Weight name (as in the checkpoint) → ΔW of that weight, shape (out, in), float64."""


class LowRankDelta(Delta):
    """The ΔW of an adapter, each matrix computed on access."""

    def __init__(self, adapter: Adapter) -> None:
        self._adapter = adapter

    def __getitem__(self, name: str) -> torch.Tensor:
        if name not in self:
            raise KeyError(name)
        A, B = self._adapter.pairs[name.removesuffix(".weight")]
        return (B.double() @ A.double()).mul_(self._adapter.scale)

    def factors(self, name: str) -> Pair:
        """(A of shape (rank, in), s·B of shape (out, rank)) of a weight, float64."""
        if name not in self:
            raise KeyError(name)
        A, B = self._adapter.pairs[name.removesuffix(".weight")]
        return A.double(), self._adapter.scale * B.double()

    def __contains__(self, name: object) -> bool:
        is_weight = isinstance(name, str) and name.endswith(".weight")
        return is_weight and str(name).removesuffix(".weight") in self._adapter.pairs

    def __iter__(self) -> Iterator[str]:
        return (f"{module}.weight" for module in self._adapter.pairs)

    def __len__(self) -> int:
        return len(self._adapter.pairs)


def delta_of(adapter: Adapter) -> dict[str, torch.Tensor]:
    """Weight name → ΔW = s·B·A, float64."""
    return dict(LowRankDelta(adapter))


def module_norms(adapter: Adapter) -> dict[str, float]:
    """Module name → Frobenius norm of its ΔW, without forming it."""
    return {
        module: adapter.scale * math.sqrt(squared_norm(A, B))
        for module, (A, B) in adapter.pairs.items()
    }


def adapter_norm(adapter: Adapter) -> float:
    """Frobenius norm of the whole ΔW; like `squared_norm`, the same bits on every machine."""
    squares = math.fsum(squared_norm(A, B) for A, B in adapter.pairs.values())
    return adapter.scale * math.sqrt(squares)
