"""W₁ = W₀ + λ·ΔW in float64, rounded once to the base's own type."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from seshu_swarm.adapters.delta import Delta
from seshu_swarm.errors import UsageError

ROWS_AT_ONCE = 256


def apply(base: Mapping[str, torch.Tensor], delta: Delta, lam: float) -> dict[str, torch.Tensor]:
    """The new value of every weight that `delta` touches; λ = 0 gives copies of the base's bits.

    Raises UsageError where the delta names a weight that the base lacks or has in another shape.
    """
    merged: dict[str, torch.Tensor] = {}
    for name in delta:
        matrix = delta[name]  # once: a lazy delta computes it on every access
        if name not in base or base[name].shape != matrix.shape:
            raise UsageError(f"ΔW of {name}", rule="it must fit a weight of the base")
        merged[name] = apply_one(base[name], matrix, lam)
    return merged


def apply_one(weight: torch.Tensor, delta: torch.Tensor, lam: float) -> torch.Tensor:
    """One matrix; a new tensor of the weight's type."""
    if lam == 0:
        return weight.clone()  # adding +0.0 would turn a weight of -0.0 into +0.0
    return (weight.double() + lam * delta.double()).to(weight.dtype)


def apply_in_place(weight: torch.Tensor, delta: torch.Tensor, lam: float) -> None:
    """The same bits in the weight's own memory, some rows at a time."""
    for rows, more in zip(weight.split(ROWS_AT_ONCE), delta.split(ROWS_AT_ONCE), strict=True):
        rows.copy_(apply_one(rows, more, lam))
