"""The next token: greedy, or from the softmax."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from seshu_swarm.client.remote.sampling import Sampler

LOGITS = torch.log(torch.tensor([0.1, 0.2, 0.7]))


def test_at_temperature_zero_the_likeliest_wins_always() -> None:
    sampler = Sampler(0.0, seed=0)
    assert {sampler(LOGITS) for _ in range(50)} == {2}


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_shares_are_those_of_the_tempered_softmax(temperature: float) -> None:
    sampler = Sampler(temperature, seed=1)
    counted = Counter(sampler(LOGITS) for _ in range(4_000))
    weights = [p ** (1 / temperature) for p in (0.1, 0.2, 0.7)]
    for token, weight in enumerate(weights):
        share = weight / sum(weights)
        # Six standard deviations of a binomial share.
        bound = 6 * (share * (1 - share) / 4_000) ** 0.5
        assert abs(counted[token] / 4_000 - share) < bound


def test_the_seed_decides_and_nothing_else() -> None:
    torch.manual_seed(0)
    first = [Sampler(1.0, seed=5)(LOGITS) for _ in range(3)]
    torch.manual_seed(99)
    sampler = Sampler(1.0, seed=5)
    assert first == [sampler(LOGITS)] * 3
    other = Sampler(1.0, seed=6)
    assert [sampler(LOGITS) for _ in range(60)] != [other(LOGITS) for _ in range(60)]
