"""Sums of masked ΔW's, and the election of a sign (TIES, arXiv 2306.01708, section 3), of one weight.

Both read the matrices one after the other, twice where signs are elected: what is kept of all of
them together is their masks, an eighth of their size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from seshu_swarm.adapters.delta import Delta


@dataclass(frozen=True)
class Ballot:
    """One ΔW's part in a weight: entries where `mask` is true, over `divisor`, with `weight`."""

    delta: Delta
    weight: float
    mask: torch.Tensor  # bool, the shape of the weight
    divisor: float = 1.0

    def entries(self, name: str) -> torch.Tensor:
        """The kept entries, unweighted, float64; zero elsewhere."""
        kept = self.delta[name].double() * self.mask
        return kept.div_(self.divisor)


def weighted_sum(ballots: Sequence[Ballot], name: str) -> torch.Tensor:
    """Σ weight · entries, float64."""
    return _sum(ballot.weight * ballot.entries(name) for ballot in ballots)


def elected_sum(ballots: Sequence[Ballot], name: str) -> torch.Tensor:
    """The weighted sum of the entries that agree with its sign.

    A sum of exactly zero elects plus; an entry of zero agrees with no sign.
    """
    is_plus = weighted_sum(ballots, name) >= 0
    return _sum(
        weighted.mul_(_agrees(weighted, is_plus))
        for weighted in (ballot.weight * ballot.entries(name) for ballot in ballots)
    )


def elected_mean(ballots: Sequence[Ballot], name: str) -> torch.Tensor:
    """The weighted mean of the entries that agree with the sign of the weighted sum."""
    is_plus = weighted_sum(ballots, name) >= 0
    total = torch.zeros(is_plus.shape, dtype=torch.float64)
    members = torch.zeros_like(total)
    for ballot in ballots:
        weighted = ballot.weight * ballot.entries(name)
        agrees = _agrees(weighted, is_plus)
        total += weighted.mul_(agrees)
        members += ballot.weight * agrees.double()
    return total / torch.where(members == 0, 1.0, members)


def _agrees(weighted: torch.Tensor, is_plus: torch.Tensor) -> torch.Tensor:
    return torch.where(is_plus, weighted > 0, weighted < 0)


def _sum(terms: Iterator[torch.Tensor]) -> torch.Tensor:
    total = next(terms)
    for term in terms:
        total += term
    return total
