"""Adapters that look like honest ones and hold nothing: what a round must not accept.

Half are noise, half an honest donor's numbers with signs drawn at random; at the norm of an honest
one, and at parts of it, where a mean alone would take every second one for a gain. (Honest factors
in a shuffled order are no such thing: some of them do help a little, and are accepted for it.)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

import torch

from seshu_swarm.adapters.controls import noise_control
from seshu_swarm.adapters.reader import Adapter

PARTS = (1.0, 0.5, 0.25, 0.125)


def worthless_adapters(
    honest: Mapping[str, Adapter], count: int, *, seed: int
) -> dict[str, Adapter]:
    """Id → adapter; the id says how it was made."""
    return dict(_made(honest, count, seed))


def _made(honest: Mapping[str, Adapter], count: int, seed: int) -> Iterator[tuple[str, Adapter]]:
    languages = sorted(honest)
    for number in range(count):
        model = honest[languages[number // 2 % len(languages)]]
        part = PARTS[number // (2 * len(languages)) % len(PARTS)]
        kind, make = (("noise", noise_control), ("signs", with_random_signs))[number % 2]
        found = make(model, seed=seed * 1_000_003 + number)
        yield f"{kind}-{part:g}-{number:03d}", dataclasses.replace(found, scale=part * found.scale)


def with_random_signs(adapter: Adapter, *, seed: int) -> Adapter:
    """The same numbers in the same places, each with a sign of its own."""
    generator = torch.Generator().manual_seed(seed)

    def signed(factor: torch.Tensor) -> torch.Tensor:
        return factor * (2 * torch.randint(0, 2, factor.shape, generator=generator) - 1)

    pairs = {name: (signed(A), signed(B)) for name, (A, B) in sorted(adapter.pairs.items())}
    return dataclasses.replace(adapter, pairs=pairs)
