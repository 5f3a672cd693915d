"""From means to offers: what each size would get of the budget, and which size to take. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from seshu_swarm.errors import UsageError
from seshu_swarm.mamba.shape import MambaShape
from seshu_swarm.planning import arithmetic
from seshu_swarm.planning.arithmetic import SECONDS_PER_HOUR


@dataclass(frozen=True, kw_only=True)
class Means:
    """`flops_per_second`: what one GPU achieves in training; `memory_bytes` of one; `hours` of all."""

    hours: float
    num_gpus: int
    price_per_hour: float
    flops_per_second: float
    memory_bytes: int

    @property
    def gpu_hours(self) -> float:
        return self.hours * self.num_gpus

    @property
    def dollars(self) -> float:
        return self.gpu_hours * self.price_per_hour

    @property
    def flops(self) -> float:
        return self.gpu_hours * SECONDS_PER_HOUR * self.flops_per_second

    def dollars_of(self, flops: float) -> float:
        return flops / self.flops_per_second / SECONDS_PER_HOUR * self.price_per_hour


@dataclass(frozen=True, kw_only=True)
class Offer:
    """One size with the whole budget. `dollars_at_ratio`: what its best share of tokens costs."""

    name: str
    shape: MambaShape
    tokens: float
    learning_rate: float
    batch_tokens: int
    dollars: float
    dollars_at_ratio: float
    fits: bool

    @property
    def num_parameters(self) -> int:
        return self.shape.num_parameters

    @property
    def tokens_per_parameter(self) -> float:
        return self.tokens / self.num_parameters

    @property
    def dollars_per_million_parameters(self) -> float:
        return self.dollars / self.num_parameters * 1e6

    @property
    def steps(self) -> int:
        return max(1, int(self.tokens // self.batch_tokens))


@dataclass(frozen=True)
class Plan:
    """`best_parameters`: the size at which the budget buys just the ratio's tokens."""

    means: Means
    ratio: float
    best_parameters: float
    offers: tuple[Offer, ...]
    chosen: Offer


def make_plan(
    means: Means,
    sizes: Mapping[str, MambaShape],
    *,
    ratio: float,
    length: int,
    wanted: str | None = None,
) -> Plan:
    """Offers for all sizes; chosen: the wanted one, or of those that fit the nearest to the best.

    Raises UsageError where none fits, or the wanted one does not.
    """
    offers = tuple(
        make_offer(name, shape, means, ratio=ratio, length=length) for name, shape in sizes.items()
    )
    best = arithmetic.best_parameters(means.flops, ratio)
    candidates = [offer for offer in offers if wanted in (None, offer.name)]
    return Plan(means, ratio, best, offers, _nearest(candidates, best, means))


def make_offer(name: str, shape: MambaShape, means: Means, *, ratio: float, length: int) -> Offer:
    needed = arithmetic.needed_flops(shape.num_parameters, ratio)
    return Offer(
        name=name,
        shape=shape,
        tokens=arithmetic.affordable_tokens(means.flops, shape.num_parameters),
        learning_rate=arithmetic.learning_rate(means.flops),
        batch_tokens=arithmetic.batch_tokens(means.flops, length=length),
        dollars=means.dollars,
        dollars_at_ratio=means.dollars_of(needed),
        fits=arithmetic.training_bytes(shape.num_parameters) <= means.memory_bytes,
    )


def _nearest(offers: Sequence[Offer], best: float, means: Means) -> Offer:
    fitting = [offer for offer in offers if offer.fits]
    if not fitting:
        least = min(arithmetic.training_bytes(offer.num_parameters) for offer in offers)
        raise UsageError(
            f"{means.memory_bytes / 1e9:.1f} GB of memory for {least / 1e9:.1f} GB of training state",
            rule="weights, gradients and moments take 16 bytes for each parameter",
            way_out="take a smaller --size or a larger --gpu, or train through peers in stages",
        )
    return min(fitting, key=lambda offer: abs(math.log(offer.num_parameters / best)))
