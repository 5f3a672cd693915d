"""A mixture: which candidates, in which shares, how strongly (λ), merged by which method.

W₁ = W₀ + λ · method(ΔW's, shares). A mixture names candidates by id only; with their ΔW's it
becomes one ΔW, a matrix at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch

from seshu_swarm.adapters.delta import Delta
from seshu_swarm.adapters.merge.registry import method_of


@dataclass(frozen=True)
class Mixture:
    """`shares` are (id, share) sorted by id; `settings` go to the method (density, seed)."""

    shares: tuple[tuple[str, float], ...] = ()
    lam: float = 1.0
    method: str = "task_arithmetic"
    settings: tuple[tuple[str, float], ...] = ()

    @classmethod
    def of(cls, members: Mapping[str, float], method: str = "task_arithmetic") -> Mixture:
        """From the absolute weight of each member: λ is their sum, the shares sum to one."""
        total = sum(members.values())
        shares = tuple((name, members[name] / total) for name in sorted(members))
        return cls(shares, total, method) if shares else cls()

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.shares)

    def delta(self, candidates: Mapping[str, Delta]) -> Delta:
        """λ · method(ΔW's, shares), each matrix computed on access."""
        return MixedDelta(self, [candidates[name] for name in self.ids])


class MixedDelta(Delta):
    """The ΔW of a mixture; looks like a dict, holds no matrix."""

    def __init__(self, mixture: Mixture, deltas: list[Delta]) -> None:
        self._mixture, self._deltas = mixture, deltas
        self._names = tuple(sorted({name for delta in deltas for name in delta}))

    def __getitem__(self, name: str) -> torch.Tensor:
        if name not in self._names:
            raise KeyError(name)
        one = [{name: delta[name]} if name in delta else {} for delta in self._deltas]
        shares = [share for _, share in self._mixture.shares]
        settings = dict(self._mixture.settings)
        merged = method_of(self._mixture.method).function(one, shares, **settings)
        return self._mixture.lam * merged[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
