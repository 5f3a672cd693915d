"""Every merge method equals matrices worked out by hand, and an entry-by-entry loop."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch

from seshu_swarm.adapters.merge.apply import apply
from seshu_swarm.adapters.merge.clip import median_norm_clip
from seshu_swarm.adapters.merge.dare import dare_linear, dare_ties
from seshu_swarm.adapters.merge.linear import linear
from seshu_swarm.adapters.merge.mixture import Mixture
from seshu_swarm.adapters.merge.registry import MERGE_METHODS, MergeMethod, method_of
from seshu_swarm.adapters.merge.task_arithmetic import task_arithmetic
from seshu_swarm.adapters.merge.ties import ties
from seshu_swarm.errors import UsageError

Delta = dict[str, torch.Tensor]


def matrix(*rows: list[float]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64)


D1 = {"w": matrix([1, -2], [3, 0])}
D2 = {"w": matrix([-3, 2], [1, 4])}


def same(merged: Delta, expected: torch.Tensor) -> None:
    assert list(merged) == ["w"] and merged["w"].dtype == torch.float64
    torch.testing.assert_close(merged["w"], expected, rtol=1e-15, atol=1e-15)


def test_linear_by_hand() -> None:
    same(linear([D1, D2], [1, 3]), matrix([-2, 1], [1.5, 3]))
    same(linear([D1], [0.3]), D1["w"])


def test_task_arithmetic_by_hand() -> None:
    same(task_arithmetic([D1, D2], [0.5, 2]), matrix([-5.5, 3], [3.5, 8]))
    same(task_arithmetic([D1], [-1]), matrix([-1, 2], [-3, 0]))


def test_task_arithmetic_of_many_rows_has_the_bits_of_the_plain_sum() -> None:
    rng = np.random.default_rng(4)
    first, second, third = (rng.normal(size=(700, 3)) for _ in range(3))
    deltas = [{"w": torch.from_numpy(array)} for array in (first, second, third)]
    merged = task_arithmetic(deltas, [0.3, -0.7, 0.1])["w"].numpy()
    np.testing.assert_array_equal(merged, 0.3 * first + -0.7 * second + 0.1 * third)


def test_ties_by_hand() -> None:
    # Trimmed to two entries each: [[0, -2], [3, 0]] and [[-3, 0], [0, 4]].
    same(ties([D1, D2], [1, 1], density=0.5), matrix([-3, -2], [3, 4]))
    # Sums -2, 0, 4, 4 elect -, +, +, +; an entry of zero is no member of its mean.
    same(ties([D1, D2], [1, 1], density=1), matrix([-3, 2], [2, 4]))
    # Weighted entries 1, -2, 3, 0 and -.75, .5, .25, 1; (3 + .25) / 1.25 = 2.6.
    same(ties([D1, D2], [1, 0.25], density=1), matrix([1, -2], [2.6, 4]))


def test_ties_keeps_the_first_of_equal_entries() -> None:
    equal = {"w": matrix([1, -2, 1], [-1, 1, 0])}
    same(ties([equal], [1], density=0.5), matrix([1, -2, 1], [0, 0, 0]))
    same(ties([equal], [1], density=0.9), matrix([1, -2, 1], [-1, 1, 0]))


def test_ties_keeps_one_entry_of_a_tiny_matrix() -> None:
    same(ties([D1], [1], density=0.01), matrix([0, 0], [3, 0]))


def ties_by_loops(
    deltas: Sequence[np.ndarray], weights: Sequence[float], density: float
) -> np.ndarray:
    kept = []
    for delta in deltas:
        order = sorted(range(delta.size), key=lambda i: -abs(delta.flat[i]))
        trimmed = np.zeros(delta.size)
        for i in order[: int(density * delta.size)]:
            trimmed[i] = delta.flat[i]
        kept.append(trimmed)
    merged = np.zeros(deltas[0].size)
    for i in range(merged.size):
        total = math.fsum(w * k[i] for w, k in zip(weights, kept, strict=True))
        agree = [(w, k[i]) for w, k in zip(weights, kept, strict=True) if k[i] * total > 0]
        if agree:
            merged[i] = sum(w * v for w, v in agree) / sum(w for w, _ in agree)
    return merged.reshape(deltas[0].shape)


def test_ties_equals_loops() -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=(7, 5)) for _ in range(4)]
    weights = [0.4, 0.3, 0.2, 0.1]
    merged = ties([{"w": torch.from_numpy(a)} for a in arrays], weights, density=0.4)
    expected = ties_by_loops(arrays, weights, 0.4)
    np.testing.assert_allclose(merged["w"].numpy(), expected, rtol=1e-13, atol=0)


def test_dare_keeps_and_rescales() -> None:
    ones = {"w": torch.ones(200, 100, dtype=torch.float64)}
    merged = dare_linear([ones], [1], density=0.25, seed=1)["w"]
    assert set(merged.unique().tolist()) == {0.0, 4.0}
    # 20,000 draws: the standard error of the kept share is 0.003.
    assert float((merged > 0).double().mean()) == pytest.approx(0.25, abs=0.015)


@pytest.mark.parametrize("method", [dare_linear, dare_ties])
def test_dare_depends_on_its_seed_alone(method: Callable[..., Delta]) -> None:
    first = method([D1, D2], [1, 1], density=0.5, seed=7)["w"]
    assert torch.equal(first, method([D1, D2], [1, 1], density=0.5, seed=7)["w"])
    draws = [method([D1, D2], [1, 1], density=0.5, seed=seed)["w"] for seed in range(20)]
    assert any(not torch.equal(draw, first) for draw in draws)


def test_dare_by_hand_without_drops() -> None:
    same(dare_linear([D1, D2], [1, 1], density=1), matrix([-2, 0], [4, 4]))
    same(dare_ties([D1, D2], [1, 1], density=1), matrix([-3, 2], [4, 4]))


def test_mean_of_dare_over_seeds_is_the_undropped_sum() -> None:
    rng = np.random.default_rng(3)
    deltas = [{"w": torch.from_numpy(rng.normal(size=(20, 20)))} for _ in range(2)]
    wanted = task_arithmetic(deltas, [0.5, 0.5])["w"]
    draws = [dare_linear(deltas, [0.5, 0.5], density=0.5, seed=s)["w"] for s in range(200)]
    mean = torch.stack(draws).mean(dim=0)
    # One draw is off by about its own norm; 200 of them by one in fourteen.
    assert float((mean - wanted).norm() / wanted.norm()) < 2 / math.sqrt(200)
    along = (mean * wanted).sum() / (wanted * wanted).sum()
    assert float(along) == pytest.approx(1, abs=0.05)


PLAIN_METHODS = [m for m in MERGE_METHODS if not (m.needs_factors or m.needs_score)]


@pytest.mark.parametrize("method", PLAIN_METHODS, ids=lambda m: m.name)
def test_a_delta_without_a_weight_counts_as_zero_there(method: MergeMethod) -> None:
    partial = method.function([D1, {}], [0.5, 0.5])
    filled = method.function([D1, {"w": torch.zeros(2, 2, dtype=torch.float64)}], [0.5, 0.5])
    assert torch.equal(partial["w"], filled["w"])


def test_wrong_weights_and_settings_are_refused() -> None:
    for weights in ([1.0], [1.0, math.nan], [1.0, math.inf]):
        with pytest.raises(UsageError):
            task_arithmetic([D1, D2], weights)
    with pytest.raises(UsageError):
        linear([D1, D2], [1, -1])
    for density in (0.0, 1.1, math.nan):
        with pytest.raises(UsageError):
            ties([D1], [1], density=density)
    with pytest.raises(UsageError, match="task_arithmetic"):
        method_of("della")


def test_clip_by_hand() -> None:
    factors = median_norm_clip({"a": 1.0, "b": 2.0, "c": 50.0, "zero": 0.0, "d": 3.0})
    assert factors == {"a": 1.0, "b": 1.0, "c": 0.04, "zero": 1.0, "d": pytest.approx(2 / 3)}
    assert median_norm_clip({}) == {}


def test_apply_rounds_once() -> None:
    rng = np.random.default_rng(1)
    base, delta = rng.normal(size=(9, 9)).astype(np.float32), rng.normal(size=(9, 9)) * 1e-4
    merged = apply({"w": torch.from_numpy(base)}, {"w": torch.from_numpy(delta)}, 0.3)["w"]
    expected = (base.astype(np.float64) + 0.3 * delta).astype(np.float32)
    assert merged.dtype == torch.float32
    np.testing.assert_array_equal(merged.numpy(), expected)


def test_lambda_zero_is_the_base_bit_for_bit() -> None:
    base = {"w": torch.tensor([[-0.0, 1.0], [1e-45, 3.0]])}
    merged = apply(base, D1, 0.0)["w"]
    assert torch.equal(merged.view(torch.int32), base["w"].view(torch.int32))
    assert merged.data_ptr() != base["w"].data_ptr()


def test_apply_refuses_what_does_not_fit() -> None:
    for delta in ({"v": D1["w"]}, {"w": torch.zeros(3, 2)}):
        with pytest.raises(UsageError):
            apply({"w": torch.zeros(2, 2)}, delta, 1.0)


def test_mixture_gives_the_same_matrices_one_at_a_time() -> None:
    rng = np.random.default_rng(2)
    candidates = {
        name: {w: torch.from_numpy(rng.normal(size=(4, 6))) for w in ("u", "v")} for name in "cab"
    }
    del candidates["a"]["v"]
    shares = (("a", 0.5), ("b", 0.3), ("c", 0.2))
    for method, seed in itertools.product(PLAIN_METHODS, (0, 1)):
        settings = (("seed", seed),) if "seed" in method.settings else ()
        mixture = Mixture(shares, 0.7, method.name, settings)
        mixed = mixture.delta(candidates)
        whole = method.function(
            [candidates[name] for name in "abc"], [0.5, 0.3, 0.2], **dict(settings)
        )
        assert list(mixed) == ["u", "v"] and len(mixed) == 2 and "w" not in mixed
        # The same bits whether the round asks for a matrix or a replay for all of them.
        assert all(torch.equal(mixed[name], 0.7 * whole[name]) for name in mixed)


def test_mixture_of_absolute_weights() -> None:
    mixture = Mixture.of({"b": 0.3, "a": 0.1})
    assert mixture.ids == ("a", "b")
    assert mixture.lam == pytest.approx(0.4)
    assert dict(mixture.shares) == {"a": pytest.approx(0.25), "b": pytest.approx(0.75)}
    assert Mixture.of({}) == Mixture()
    with pytest.raises(KeyError):
        mixture.delta({"a": D1, "b": D2})["v"]
