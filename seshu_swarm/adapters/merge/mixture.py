"""A mixture: which candidates, in which shares, how strongly (λ), merged by which method.

W₁ = W₀ + λ · method(ΔW's, shares). A mixture names candidates by id only; with their ΔW's it
becomes one ΔW, a matrix at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from seshu_swarm.adapters.delta import Delta
from seshu_swarm.adapters.merge.greedy_soup import greedy_weights
from seshu_swarm.adapters.merge.lorahub import BUDGET, lorahub_weights
from seshu_swarm.adapters.merge.one_weight import OneWeight
from seshu_swarm.adapters.merge.registry import MergeMethod, method_of
from seshu_swarm.adapters.merge.task_arithmetic import task_arithmetic
from seshu_swarm.errors import UsageError


@dataclass(frozen=True)
class Mixture:
    """`shares` are (id, share); `settings` go to the method (density, seed), sorted by name.

    Who makes a mixture sorts shares by id. From then on their order is that of the merge and decides
    on its last bits, also where ids are replaced by digests.
    """

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
        """λ · method(ΔW's, shares), each matrix computed on access.

        Raises UsageError for a method that is not listed, or that no mixture can carry out.
        """
        return MixedDelta(self, [candidates[name] for name in self.ids], _carried_out(self.method))


def greedy_mixture(ids: Iterable[str], score: Callable[[Mixture], float]) -> Mixture:
    """The greedy soup of the candidates; `score` of a mixture is lower where it is better.

    Does not depend on the order of `ids`. What was chosen is a sum with equal shares, so that it can
    be replayed without a score. Raises UsageError where no candidate has a finite score.
    """
    names = sorted(ids)
    weights = greedy_weights(len(names), lambda tried: score(_sum_of(names, tried)))
    return _sum_of(names, weights)


def lorahub_mixture(
    ids: Iterable[str],
    score: Callable[[Mixture], float],
    *,
    budget: int = BUDGET,
    seed: int = 0,
) -> Mixture:
    """LoraHub's weights of the candidates, negative ones too; `score` as for a greedy soup.

    Does not depend on the order of `ids`; a sum that is replayed without a score. Raises UsageError
    where nevergrad is missing, and where no mixture has a finite score.
    """
    names = sorted(ids)
    weights = lorahub_weights(
        len(names), lambda tried: score(_sum_of(names, tried)), budget=budget, seed=seed
    )
    return _sum_of(names, weights)


def _sum_of(names: Sequence[str], weights: Sequence[float]) -> Mixture:
    return Mixture(tuple((n, w) for n, w in zip(names, weights, strict=True) if w != 0))


class MixedDelta(Delta):
    """The ΔW of a mixture; looks like a dict, holds no matrix."""

    def __init__(self, mixture: Mixture, deltas: list[Delta], method: MergeMethod) -> None:
        self._mixture, self._deltas, self._method = mixture, deltas, method
        self._names = frozenset(name for delta in deltas for name in delta)

    def __getitem__(self, name: str) -> torch.Tensor:
        if name not in self:
            raise KeyError(name)
        one = [OneWeight(delta, name) for delta in self._deltas]
        if self._method.shares is not None:
            merged = task_arithmetic(one, self._shares)
        else:
            merged = self._method.function(one, self._shares, **dict(self._mixture.settings))
        # Methods return new tensors.
        return merged[name].mul_(self._mixture.lam)

    @cached_property
    def _shares(self) -> list[float]:
        """Of the method's sum where whole ΔW's decide on them, else the mixture's own."""
        shares = [share for _, share in self._mixture.shares]
        if self._method.shares is None:
            return shares
        return self._method.shares(self._deltas, shares, **dict(self._mixture.settings))

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._names))

    def __len__(self) -> int:
        return len(self._names)


def _carried_out(name: str) -> MergeMethod:
    method = method_of(name)
    if method.needs_score:
        raise UsageError(
            f"a mixture by {name}",
            rule="a mixture says who is in it; this method first asks a score",
            way_out="choose with greedy_mixture or lorahub_mixture, which give one",
        )
    return method
