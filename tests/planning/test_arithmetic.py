"""Numbers of a plan against ones computed by hand, and against the tables of the papers."""

from __future__ import annotations

import math

import pytest

from seshu_swarm.errors import UsageError
from seshu_swarm.mamba.shape import MambaShape
from seshu_swarm.planning import arithmetic, sizes
from seshu_swarm.planning.planner import Means, make_plan

# 50 hours of 1e12 operations a second: 50 x 3600 x 1e12 = 1.8e17.
MEANS = Means(
    hours=50.0,
    num_gpus=1,
    price_per_hour=2.0,
    flops_per_second=1e12,
    memory_bytes=80_000_000_000,
)


def test_means_by_hand() -> None:
    assert MEANS.flops == 1.8e17
    assert MEANS.dollars == 100.0
    assert MEANS.dollars_of(3.6e15) == pytest.approx(2.0)  # one hour


def test_several_gpus_do_the_same_in_less_time() -> None:
    four = Means(hours=12.5, num_gpus=4, price_per_hour=2.0, flops_per_second=1e12, memory_bytes=1)
    assert (four.flops, four.dollars, four.gpu_hours) == (MEANS.flops, MEANS.dollars, 50.0)


def test_operations_by_hand() -> None:
    assert arithmetic.training_flops(1e9, 20e9) == 1.2e20
    assert arithmetic.affordable_tokens(1.2e20, 1e9) == 20e9
    assert arithmetic.needed_flops(1e9, 20.0) == 1.2e20
    assert arithmetic.best_parameters(1.2e20, 20.0) == pytest.approx(1e9)


def test_a_hundred_dollars_as_in_the_books() -> None:
    """50 H100-hours at 40 % of 989 TFLOP/s: 7e19 operations, 0.77 billion parameters, 15 billion tokens."""
    flops = 50 * 3600 * 0.4 * 989e12
    best = arithmetic.best_parameters(flops, 20.0)
    assert flops == pytest.approx(7.1e19, rel=0.01)
    assert best == pytest.approx(0.77e9, rel=0.01)
    assert 20 * best == pytest.approx(15e9, rel=0.03)


def test_learning_rate_and_batch_by_hand() -> None:
    # C = 1e16: C^-0.125 = 1e-2, and C^0.3271 = 10^5.2336 = 171,238.
    assert arithmetic.learning_rate(1e16) == pytest.approx(0.3118e-2)
    assert arithmetic.batch_tokens(1e16, length=1) == pytest.approx(0.2920 * 171_238, abs=1)
    assert arithmetic.batch_tokens(1e16, length=2_048) == 24 * 2_048  # 50,001 / 2,048 = 24.4
    assert arithmetic.batch_tokens(1.0, length=256) == 256
    assert arithmetic.learning_rate(1e9) == 4e-3  # the formula says 2.3e-2


@pytest.mark.parametrize(
    ("parameters", "tokens", "rate"), [(125e6, 2.5e9, 3e-3), (1.3e9, 26e9, 1e-3)]
)
def test_the_rate_is_within_twice_of_the_mamba_paper_s(
    parameters: float, tokens: float, rate: float
) -> None:
    ours = arithmetic.learning_rate(arithmetic.training_flops(parameters, tokens))
    assert rate / 2 < ours < rate * 2


@pytest.mark.parametrize("name", sizes.SIZES)
def test_a_name_is_the_count_of_parameters_to_two_digits(name: str) -> None:
    count = sizes.SIZES[name].num_parameters
    if name[0].isdecimal():
        unit = {"m": 1e6, "b": 1e9}[name[-1]]
        assert float(f"{count / unit:.2g}") == float(name[:-1])
    else:
        assert count < 12e6


def test_sizes_grow() -> None:
    counts = [shape.num_parameters for shape in sizes.SIZES.values()]
    assert counts == sorted(counts)
    assert len(set(counts)) == len(counts)


SMALL, LARGE = MambaShape(d_model=64, num_blocks=2), MambaShape(d_model=768, num_blocks=34)


def test_the_size_nearest_the_best_is_chosen() -> None:
    # Best: √(1.8e17 / 120) = 38.7 million; of 90 thousand and 129 million the second is nearer.
    plan = make_plan(MEANS, {"small": SMALL, "large": LARGE}, ratio=20.0, length=256)
    assert plan.best_parameters == pytest.approx(math.sqrt(1.5e15))
    assert plan.chosen.name == "large"
    assert plan.chosen.tokens == pytest.approx(1.8e17 / 6 / 128_531_712)
    assert plan.chosen.dollars_per_million_parameters == pytest.approx(100 / 128.531712)


def test_what_does_not_fit_is_not_chosen() -> None:
    # 129 million parameters take 2.06 GB of state.
    tight = Means(
        hours=50.0,
        num_gpus=1,
        price_per_hour=2.0,
        flops_per_second=1e12,
        memory_bytes=2_000_000_000,
    )
    plan = make_plan(tight, {"small": SMALL, "large": LARGE}, ratio=20.0, length=256)
    assert plan.chosen.name == "small"
    assert [offer.fits for offer in plan.offers] == [True, False]
    with pytest.raises(UsageError, match=r"2\.0 GB of memory for 2\.1 GB"):
        make_plan(tight, {"large": LARGE}, ratio=20.0, length=256)


def test_the_wanted_size_is_taken_though_another_is_nearer() -> None:
    sizes_here = {"small": SMALL, "large": LARGE}
    assert (
        make_plan(MEANS, sizes_here, ratio=20.0, length=256, wanted="small").chosen.shape == SMALL
    )


def test_steps_and_tokens_spend_the_budget() -> None:
    plan = make_plan(MEANS, sizes.SIZES, ratio=20.0, length=2_048)
    for offer in plan.offers:
        spent = arithmetic.training_flops(offer.num_parameters, offer.steps * offer.batch_tokens)
        one_step = arithmetic.training_flops(offer.num_parameters, offer.batch_tokens)
        assert MEANS.flops - one_step <= spent <= MEANS.flops or offer.steps == 1
