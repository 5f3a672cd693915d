"""Sums of masked ΔW's, and the election of a sign (TIES, arXiv 2306.01708, section 3), of one weight.

Both read the matrices one after the other, twice where signs are elected: what is kept of all of
them together is their masks, an eighth of their size.
"""

from __future__ import annotations

from collections.abc import Sequence
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

    def weighted(self, name: str) -> torch.Tensor:
        """The kept entries times `weight`, float64, zero elsewhere; a new tensor."""
        kept = self.delta[name].double() * self.mask
        if self.divisor != 1.0:
            kept.div_(self.divisor)
        return kept.mul_(self.weight)


def empty_masks(num_masks: int, shape: torch.Size) -> list[torch.Tensor]:
    """Masks to be filled, each of `shape`, bool.

    One block of memory, asked for at once: masks made one by one, each between larger matrices that
    come and go, leave holes that cost several times as much.
    """
    return list(torch.empty(num_masks, *shape, dtype=torch.bool).unbind())


def weighted_sum(ballots: Sequence[Ballot], name: str) -> torch.Tensor:
    """Σ weight · entries, float64."""
    total = ballots[0].weighted(name)
    for ballot in ballots[1:]:
        total += ballot.weighted(name)
    return total


def elected_sum(ballots: Sequence[Ballot], name: str) -> torch.Tensor:
    """The weighted sum of the entries that agree with its sign.

    A sum of exactly zero elects plus; an entry of zero agrees with no sign.
    """
    sign = _elected(ballots, name)
    total = torch.zeros_like(sign)
    for ballot in ballots:
        # Seen from the elected side, those that disagree are negative.
        total += ballot.weighted(name).mul_(sign).clamp_(min=0.0)
    return total.mul_(sign)


def elected_mean(ballots: Sequence[Ballot], name: str) -> torch.Tensor:
    """The weighted mean of the entries that agree with the sign of the weighted sum."""
    sign = _elected(ballots, name)
    total, members = torch.zeros_like(sign), torch.zeros_like(sign)
    for ballot in ballots:
        forward = ballot.weighted(name).mul_(sign)
        members.add_(forward > 0, alpha=ballot.weight)
        total += forward.clamp_(min=0.0)
    members[members == 0] = 1.0
    return total.mul_(sign).div_(members)


def _elected(ballots: Sequence[Ballot], name: str) -> torch.Tensor:
    """+1 or -1 for each entry, float64."""
    return (weighted_sum(ballots, name) >= 0).double().mul_(2).sub_(1)
