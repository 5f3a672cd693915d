"""A limit on the norm of a ΔW: a larger one is scaled down to it, its direction kept.

Who multiplies an adapter to outvote the others gains the limit and no more. Pure; a recipe carries
the limit, so that whoever makes the merge again clips in the same way, to the same bits.
"""

from __future__ import annotations

import dataclasses

from seshu_swarm.adapters.delta import adapter_norm
from seshu_swarm.adapters.reader import Adapter


def clip_factor(norm: float, max_norm: float) -> float:
    """Factor in (0, 1] that brings a ΔW of Frobenius norm `norm` within the limit."""
    return max_norm / norm if norm > max_norm else 1.0


def clipped(adapter: Adapter, *, max_norm: float) -> Adapter:
    """The adapter itself within the limit, else one whose ΔW is shorter by `clip_factor`."""
    factor = clip_factor(adapter_norm(adapter), max_norm)
    return dataclasses.replace(adapter, scale=adapter.scale * factor) if factor < 1 else adapter
