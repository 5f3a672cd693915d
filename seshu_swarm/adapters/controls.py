"""Control candidates: what a sound round must refuse whoever sends it.

Each looks like the adapter it was made from: same modules, same rank. The null changes nothing, the
noise has the same norm in every module and no content, the duplicate the same ΔW in other factors.
"""

from __future__ import annotations

import dataclasses

import torch

from seshu_swarm.adapters.reader import Adapter, Pair, squared_norm


def null_control(adapter: Adapter) -> Adapter:
    """ΔW = 0."""
    pairs = {name: (A.clone(), torch.zeros_like(B)) for name, (A, B) in adapter.pairs.items()}
    return dataclasses.replace(adapter, pairs=pairs)


def noise_control(adapter: Adapter, *, seed: int) -> Adapter:
    """Gaussian factors, scaled to the norm of every module's ΔW."""
    generator = torch.Generator().manual_seed(seed)
    pairs = {name: _noise_like(pair, generator) for name, pair in sorted(adapter.pairs.items())}
    return dataclasses.replace(adapter, pairs=pairs)


def duplicate_control(adapter: Adapter) -> Adapter:
    """The same ΔW from other factors: A doubled, B halved (exact in every float format)."""
    pairs = {name: (A * 2, B / 2) for name, (A, B) in adapter.pairs.items()}
    return dataclasses.replace(adapter, pairs=pairs)


def _noise_like(pair: Pair, generator: torch.Generator) -> Pair:
    A, B = (torch.randn(factor.shape, generator=generator, dtype=torch.float64) for factor in pair)
    wanted, found = squared_norm(*pair), squared_norm(A, B)
    return A, B * (wanted / found) ** 0.5
