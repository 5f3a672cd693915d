"""FedIT on real adapters, and Nesterov over rounds beside torch's own."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from seshu_swarm.adapters.controls import duplicate_control
from seshu_swarm.adapters.delta import Delta, LowRankDelta, delta_of
from seshu_swarm.adapters.merge.fedit import fedit
from seshu_swarm.adapters.merge.linear import linear
from seshu_swarm.adapters.merge.mixture import Mixture
from seshu_swarm.adapters.merge.outer_nesterov import outer_nesterov
from seshu_swarm.adapters.merge.registry import (
    MERGE_METHODS,
    OUTER_METHODS,
    method_of,
    outer_method_of,
)
from seshu_swarm.adapters.reader import Adapter
from seshu_swarm.errors import UsageError
from tests.adapters.samples import made

NAME = "m.weight"


def adapter(A: list[list[float]], B: list[list[float]], *, scale: float = 1.0) -> LowRankDelta:
    pairs = {"m": (torch.tensor(A), torch.tensor(B))}
    return LowRankDelta(Adapter("", len(A), scale, pairs))


def same(merged: dict[str, torch.Tensor], *rows: list[float]) -> None:
    expected = {NAME: torch.tensor(rows, dtype=torch.float64)}
    torch.testing.assert_close(merged, expected, rtol=1e-14, atol=1e-15)


def test_fedit_by_hand() -> None:
    first, second = adapter([[1, 2]], [[1], [0]]), adapter([[3, 0]], [[1], [4]])
    # Ā = (2, 1) and B̄ = (1, 2); the mean of the two ΔW's is ((2, 1), (6, 0)).
    same(fedit([first, second], [1, 1]), [2, 1], [4, 2])
    same(linear([first, second], [1, 1]), [2, 1], [6, 0])
    # Weights 1/4 and 3/4: Ā = (2.5, 0.5), B̄ = (1, 3).
    same(fedit([first, second], [1, 3]), [2.5, 0.5], [7.5, 1.5])
    # One that lacks the weight is zero there, in both factors.
    same(fedit([first, {}], [1, 1]), [0.25, 0.5], [0, 0])


def test_fedit_scales_b() -> None:
    first, second = adapter([[1]], [[2]], scale=2), adapter([[3]], [[2]], scale=0.5)
    same(fedit([first, second], [1, 1]), [2 * (4 + 1) / 2])


def test_fedit_of_one_adapter_is_its_delta(tmp_path: Path) -> None:
    sample = made(tmp_path / "a", seed=1)
    merged = fedit([LowRankDelta(sample)], [0.3])
    assert list(merged) == sorted(delta_of(sample))
    torch.testing.assert_close(merged, dict(sorted(delta_of(sample).items())), rtol=1e-14, atol=0)


def test_fedit_depends_on_the_factors_chosen(tmp_path: Path) -> None:
    """The named baseline's fault: the same ΔW's, other factors, another result."""
    samples = [made(tmp_path / str(seed), seed=seed) for seed in (1, 2)]
    twins = [samples[0], duplicate_control(samples[1])]
    by_factors, by_delta = (
        [method(list(map(LowRankDelta, some)), [1, 1]) for some in (samples, twins)]
        for method in (fedit, linear)
    )
    for name in by_delta[0]:
        torch.testing.assert_close(by_delta[0][name], by_delta[1][name], rtol=1e-14, atol=1e-14)
        distance = (by_factors[0][name] - by_factors[1][name]).norm() / by_factors[0][name].norm()
        assert float(distance) > 0.1


def test_fedit_refuses_what_it_cannot_average(tmp_path: Path) -> None:
    sample = made(tmp_path / "a")
    with pytest.raises(UsageError, match="LowRankDelta"):
        fedit([delta_of(sample)], [1])
    with pytest.raises(UsageError, match=r"ranks \[1, 2\]"):
        fedit([adapter([[1]], [[1]]), adapter([[1], [1]], [[1, 1]])], [1, 1])


def test_mixture_by_fedit_gives_the_same_bits_a_matrix_at_a_time(tmp_path: Path) -> None:
    candidates = {n: LowRankDelta(made(tmp_path / n, seed=ord(n))) for n in "abc"}
    shares = (("a", 0.5), ("b", 0.3), ("c", 0.2))
    mixed = Mixture(shares, 0.7, "fedit").delta(candidates)
    whole = fedit(list(candidates.values()), [0.5, 0.3, 0.2])
    assert list(mixed) == list(whole)
    assert all(torch.equal(mixed[name], 0.7 * whole[name]) for name in mixed)
    # Where its factors are not known, it says so.
    plain: dict[str, Delta] = {n: dict(delta) for n, delta in candidates.items()}
    with pytest.raises(UsageError):
        Mixture(shares, 0.7, "fedit").delta(plain)[next(iter(mixed))]


def test_the_product_of_the_factors_is_the_delta(tmp_path: Path) -> None:
    sample = dataclasses.replace(made(tmp_path / "a"), scale=0.5)
    for name, matrix in delta_of(sample).items():
        A, B = LowRankDelta(sample).factors(name)
        assert torch.equal(LowRankDelta(sample)[name], matrix)
        torch.testing.assert_close(B @ A, matrix, rtol=1e-14, atol=1e-14)


def one(value: float) -> dict[str, torch.Tensor]:
    return {"w": torch.tensor([[value]], dtype=torch.float64)}


def test_outer_nesterov_by_hand() -> None:
    step = outer_nesterov(one(2), {}, momentum=0.5, learning_rate=0.1)
    # v = 2, and the base moves by 0.1·(2 + 0.5·2).
    torch.testing.assert_close(step.velocity, one(2))
    torch.testing.assert_close(step.delta, one(0.3))
    step = outer_nesterov(one(-1), step.velocity, momentum=0.5, learning_rate=0.1)
    # v = 0.5·2 - 1 = 0, and the base moves by -0.1.
    torch.testing.assert_close(step.velocity, one(0))
    torch.testing.assert_close(step.delta, one(-0.1))


def test_outer_nesterov_equals_torch_s_over_rounds() -> None:
    rng = np.random.default_rng(0)
    parameter = torch.nn.Parameter(torch.zeros(3, 4, dtype=torch.float64))
    optimiser = torch.optim.SGD([parameter], lr=0.7, momentum=0.9, nesterov=True)
    base, velocity = torch.zeros(3, 4, dtype=torch.float64), dict[str, torch.Tensor]()
    for _ in range(6):
        merged = torch.from_numpy(rng.normal(size=(3, 4)))
        parameter.grad = -merged
        optimiser.step()
        step = outer_nesterov({"w": merged}, velocity)
        base, velocity = base + step.delta["w"], step.velocity
        torch.testing.assert_close(base, parameter.detach(), rtol=1e-13, atol=1e-15)


def test_outer_nesterov_without_momentum_is_the_merge() -> None:
    step = outer_nesterov(one(3), one(100), momentum=0.0, learning_rate=1.0)
    torch.testing.assert_close(step.delta, one(3))


def test_a_weight_left_alone_this_round_coasts_on() -> None:
    merged, velocity = {"u": torch.ones(1, 1)}, one(4)
    step = outer_nesterov(merged, velocity, momentum=0.5, learning_rate=1.0)
    assert list(step.delta) == list(step.velocity) == ["u", "w"]
    torch.testing.assert_close(step.velocity["w"], one(2)["w"])
    torch.testing.assert_close(step.delta["w"], one(1)["w"])
    assert float(step.delta["u"]) == 1.5 and step.delta["u"].dtype == torch.float64
    # Pure: what was handed in is as it was.
    assert float(velocity["w"]) == 4 and float(merged["u"]) == 1


def test_outer_nesterov_refuses_settings_that_diverge() -> None:
    for momentum in (-0.1, 1.0, math.nan):
        with pytest.raises(UsageError):
            outer_nesterov(one(1), {}, momentum=momentum)
    for rate in (0.0, math.inf, math.nan):
        with pytest.raises(UsageError):
            outer_nesterov(one(1), {}, learning_rate=rate)


def test_names_are_stable_and_found() -> None:
    names = [method.name for method in MERGE_METHODS]
    assert names == [
        *("linear", "uniform_soup", "greedy_soup", "lorahub", "task_arithmetic"),
        *("norm_clipped_mean", "centred_clip", "ties", "dare_linear", "dare_ties", "fedit"),
    ]
    assert all(method_of(name).name == name for name in names)
    assert [m.name for m in OUTER_METHODS] == ["outer_nesterov"]
    assert outer_method_of("outer_nesterov") is OUTER_METHODS[0]
    with pytest.raises(UsageError, match="outer_nesterov"):
        outer_method_of("adam")
