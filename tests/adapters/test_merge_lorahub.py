"""LoraHub against a loss whose best weights are known, with planted noise."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from seshu_swarm.adapters.merge.lorahub import lorahub, lorahub_weights
from seshu_swarm.adapters.merge.mixture import Mixture, lorahub_mixture
from seshu_swarm.adapters.merge.task_arithmetic import task_arithmetic
from seshu_swarm.errors import UsageError

NUM_USEFUL = 3


def loss(weights: Sequence[float]) -> float:
    """Least at 0.6 for each useful adapter and 0 for each of the noise ones, which only cost."""
    useful, noise = weights[:NUM_USEFUL], weights[NUM_USEFUL:]
    return 1 + sum((w - 0.6) ** 2 for w in useful) + sum(w * w for w in noise)


def penalised(weights: Sequence[float]) -> float:
    return loss(weights) + 0.05 * sum(map(abs, weights)) / len(weights)


def test_useful_adapters_are_told_from_noise() -> None:
    scored: list[list[float]] = []

    def score(weights: Sequence[float]) -> float:
        scored.append(list(weights))
        return loss(weights)

    found = lorahub_weights(2 * NUM_USEFUL, score)
    uniform = [1 / 6] * 6
    assert scored[0] == pytest.approx(uniform) and len(scored) == 40
    assert all(abs(weight) <= 1.5 for weights in scored for weight in weights)
    # Among what was scored, none was better.
    assert found == min(scored, key=penalised)
    assert loss(found) < 1.02 < loss(uniform)
    assert max(map(abs, found[NUM_USEFUL:])) < 0.1
    # The penalty moves the least loss from 0.6 by 0.05 / 6 / 2.
    np.testing.assert_allclose(found[:NUM_USEFUL], 0.6, atol=0.1)


def test_a_weight_may_take_away() -> None:
    # d/dw of (w + 0.5)² + 0.05·|w| is zero at -0.5 + 0.05 / 2.
    assert lorahub_weights(1, lambda w: (w[0] + 0.5) ** 2) == pytest.approx([-0.475], abs=1e-3)


@pytest.mark.parametrize("num_deltas", [1, 2, 5])
def test_a_budget_is_capped(num_deltas: int) -> None:
    calls = 0

    def score(weights: Sequence[float]) -> float:
        nonlocal calls
        calls += 1
        return sum((w - 0.5) ** 2 for w in weights)

    lorahub_weights(num_deltas, score, budget=10_000)
    assert calls == 40 * num_deltas


def test_seeded_and_independent_of_the_order_of_candidates() -> None:
    target = dict(zip("abcd", (0.9, 0.0, -0.4, 0.2), strict=True))

    def score(mixture: Mixture) -> float:
        weights = {**dict.fromkeys(target, 0.0), **dict(mixture.shares)}
        return sum((weights[name] - target[name]) ** 2 for name in target)

    found = {lorahub_mixture(order, score, budget=25, seed=5) for order in ("abcd", "dcba", "bdac")}
    assert len(found) == 1
    mixture = found.pop()
    assert mixture.method == "task_arithmetic" and mixture.lam == 1.0
    assert score(mixture) < score(Mixture(tuple((name, 0.25) for name in "abcd")))


def test_the_mixture_is_replayed_without_a_score() -> None:
    rng = np.random.default_rng(0)
    arrays = {name: rng.normal(size=(5, 4)) for name in "abc"}
    wanted = 0.7 * arrays["a"] - 0.5 * arrays["c"]
    deltas = {name: {"w": torch.from_numpy(array)} for name, array in arrays.items()}

    def distance(weights: Sequence[float]) -> float:
        merged = sum(w * array for w, array in zip(weights, arrays.values(), strict=True))
        return float(np.square(merged - wanted).mean())

    def score(mixture: Mixture) -> float:
        return distance([dict(mixture.shares).get(name, 0.0) for name in "abc"])

    merged = lorahub(list(deltas.values()), [1, 1, 1], score=distance)
    mixture = lorahub_mixture("cab", score)
    assert dict(mixture.shares)["c"] < 0
    assert torch.equal(mixture.delta(deltas)["w"], merged["w"])
    # Of ΔW's, not of factors: the sum that its weights name.
    by_hand = task_arithmetic(list(deltas.values()), [w for _, w in mixture.shares])
    assert torch.equal(by_hand["w"], merged["w"])
    assert float(np.square(merged["w"].numpy() - wanted).mean()) < 0.02


def test_scores_that_are_not_finite_are_passed_over() -> None:
    def score(weights: Sequence[float]) -> float:
        return math.nan if weights[0] > 0.4 else (weights[0] - 0.5) ** 2

    assert lorahub_weights(1, score)[0] == pytest.approx(0.4, abs=0.15)
    with pytest.raises(UsageError, match="finite"):
        lorahub_weights(2, lambda _: math.nan)


@pytest.mark.parametrize(("num_deltas", "budget"), [(0, 40), (3, 0)])
def test_nothing_to_search_is_refused(num_deltas: int, budget: int) -> None:
    with pytest.raises(UsageError):
        lorahub_weights(num_deltas, loss, budget=budget)


def test_without_nevergrad_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nevergrad", None)
    with pytest.raises(UsageError, match=r"seshu-swarm\[research\]"):
        lorahub_weights(2, loss)


FAILING = """
from seshu_swarm.adapters.merge.lorahub import lorahub_weights
calls = []
def score(weights):
    calls.append(weights)
    return 1 / (3 - len(calls))
lorahub_weights(2, score)
"""


def test_a_score_that_fails_leaves_no_thread_behind() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FAILING], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1 and "ZeroDivisionError" in done.stderr


def test_a_mixture_by_lorahub_needs_a_choice_first() -> None:
    with pytest.raises(UsageError, match="lorahub_mixture"):
        Mixture((("a", 1.0),), 1.0, "lorahub").delta({"a": {}})
