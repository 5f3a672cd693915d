"""Soups and robust means: numbers on paper, a loop over plain vectors, the same bits by threads."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from seshu_swarm.adapters.merge.centred_clip import centred_clip, centred_clip_shares
from seshu_swarm.adapters.merge.gram import gram_of, norms_of
from seshu_swarm.adapters.merge.greedy_soup import greedy_soup, greedy_weights
from seshu_swarm.adapters.merge.linear import linear
from seshu_swarm.adapters.merge.mixture import Mixture, greedy_mixture
from seshu_swarm.adapters.merge.norm_clipped_mean import norm_clipped_mean
from seshu_swarm.adapters.merge.uniform_soup import uniform_soup
from seshu_swarm.errors import UsageError

Delta = dict[str, torch.Tensor]
Vector = NDArray[np.float64]


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def row(*values: float) -> Delta:
    return {"w": torch.tensor([list(values)], dtype=torch.float64)}


def same(merged: Delta, *expected: float) -> None:
    torch.testing.assert_close(merged, row(*expected), rtol=1e-14, atol=1e-15)


def random_deltas(count: int, seed: int = 0) -> list[Delta]:
    """Two weights each, the second missing in the second ΔW."""
    rng = np.random.default_rng(seed)
    deltas = [
        {
            "u": torch.from_numpy(rng.normal(size=(150, 6))),
            "v": torch.from_numpy(rng.normal(size=(3, 7))),
        }
        for _ in range(count)
    ]
    del deltas[1]["v"]
    return deltas


def vector(delta: Delta) -> Vector:
    parts = [
        delta["u"].numpy().ravel(),
        delta["v"].numpy().ravel() if "v" in delta else np.zeros(21),
    ]
    return np.concatenate(parts)


def test_uniform_soup_is_the_plain_mean_whatever_the_weights() -> None:
    same(uniform_soup([row(1, -2), row(3, 4)], [0.9, -0.9]), 2, 1)
    with pytest.raises(UsageError):
        uniform_soup([row(1)], [math.nan])
    with pytest.raises(UsageError):
        uniform_soup([], [])


def test_norm_clipped_mean_by_hand() -> None:
    # Norms 5, 10 and 50; the median, 10, is left of the last one.
    deltas = [row(3, 4), row(6, 8), row(30, -40)]
    same(norm_clipped_mean(deltas, [1, 1, 1]), 15 / 3, 4 / 3)
    # All shortened to 5: (3, 4), (3, 4) and (3, -4), the last one weighing a half.
    same(norm_clipped_mean(deltas, [1, 1, 2], max_norm=5), 3, 0)
    same(norm_clipped_mean([row(0, 0), row(3, 4)], [1, 1], max_norm=100), 1.5, 2)


def test_norms_are_of_the_whole_delta() -> None:
    """(3) and (4) in two weights make a norm of 5, which is shortened to 1 in both."""
    delta = {"u": torch.tensor([[3.0]]), "v": torch.tensor([[4.0]])}
    merged = norm_clipped_mean([delta], [1], max_norm=1)
    assert float(merged["u"]) == pytest.approx(0.6) and float(merged["v"]) == pytest.approx(0.8)
    mixture = Mixture((("a", 1.0),), 1.0, "norm_clipped_mean", (("max_norm", 1.0),))
    assert float(mixture.delta({"a": delta})["v"]) == pytest.approx(0.8)


def test_centred_clip_by_hand() -> None:
    deltas = [row(1), row(2), row(30)]
    # From 0, τ = 2: steps of 1, 2 and 2, a mean of 5/3; then of -2/3, 1/3 and 2, 5/9 more.
    same(centred_clip(deltas, [1, 1, 1], radius=2, num_iterations=1), 5 / 3)
    same(centred_clip(deltas, [1, 1, 1], radius=2, num_iterations=2), 20 / 9)
    # From 10, τ = 8.5: -8.5, -8 and 8.5, weighing 1/4, 1/2 and 1/4.
    same(centred_clip(deltas, [1, 2, 1], radius=8.5, num_iterations=1, centre=row(10)), 6)
    # The median distance from 0 is 2.
    same(centred_clip(deltas, [1, 1, 1], num_iterations=2), 20 / 9)
    # Nobody is clipped: the mean, at once and for good.
    same(centred_clip(deltas, [1, 1, 2], radius=100), 63 / 4)
    same(centred_clip([row(0), row(0)], [1, 1]), 0)


def clipped_by_loops(
    points: Sequence[Vector], weights: Sequence[float], tau: float, steps: int, centre: Vector
) -> Vector:
    for _ in range(steps):
        pull = np.zeros_like(centre)
        for point, weight in zip(points, weights, strict=True):
            away = point - centre
            pull += weight * away * min(1.0, tau / float(np.linalg.norm(away)))
        centre = centre + pull / sum(weights)
    return centre


@pytest.mark.parametrize("with_centre", [False, True])
def test_centred_clip_equals_loops_over_vectors(with_centre: bool) -> None:
    *deltas, start = random_deltas(6)
    deltas[3] = {name: 50 * matrix for name, matrix in deltas[3].items()}
    weights = [0.1, 0.3, 0.2, 0.3, 0.1]
    centre = start if with_centre else None
    merged = centred_clip(deltas, weights, radius=12.0, num_iterations=9, centre=centre)
    expected = clipped_by_loops(
        [vector(d) for d in deltas],
        weights,
        12.0,
        9,
        vector(start) if with_centre else np.zeros(921),
    )
    np.testing.assert_allclose(vector(merged), expected, rtol=1e-10, atol=1e-12)


def test_one_that_lies_far_pulls_no_more_than_the_radius() -> None:
    honest = random_deltas(7)
    for size in (1e3, 1e6):
        liar = {name: size * torch.ones_like(matrix) for name, matrix in honest[0].items()}
        pulled, calm = (
            vector(centred_clip(some, [1.0] * len(some), radius=5.0, num_iterations=1))
            for some in ([*honest, liar], [*honest, {"u": torch.zeros(150, 6)}])
        )
        assert float(np.linalg.norm(pulled - calm)) == pytest.approx(5.0 / 8)


def test_wrong_settings_of_the_robust_means_are_refused() -> None:
    for length in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(UsageError):
            norm_clipped_mean([row(1)], [1], max_norm=length)
        with pytest.raises(UsageError):
            centred_clip([row(1)], [1], radius=length)
    for steps in (0, 1.5):
        with pytest.raises(UsageError):
            centred_clip_shares([row(1)], [1], num_iterations=steps)  # type: ignore[arg-type]
    with pytest.raises(UsageError):
        centred_clip([row(1), row(2)], [2, -1])


def test_inner_products_equal_numpy_s() -> None:
    deltas = random_deltas(5)
    vectors = np.stack([vector(delta) for delta in deltas])
    np.testing.assert_allclose(gram_of(deltas), vectors @ vectors.T, rtol=1e-12, atol=1e-11)
    np.testing.assert_allclose(norms_of(deltas), np.linalg.norm(vectors, axis=1), rtol=1e-14)


def test_norms_of_single_floats_are_computed_in_double() -> None:
    delta = {"w": torch.full((100, 7), 1 / 3)}
    expected = math.sqrt(700) * float(np.float32(1 / 3))
    assert norms_of([delta])[0] == pytest.approx(expected, rel=1e-14)
    assert gram_of([delta])[0, 0] == pytest.approx(expected**2, rel=1e-14)


def test_inner_products_do_not_depend_on_threads(threads: None) -> None:
    rng = np.random.default_rng(1)
    deltas = [{"w": torch.from_numpy(rng.normal(size=(700, 300)))} for _ in range(3)]
    found = []
    for num_threads in (1, 2, 3):
        torch.set_num_threads(num_threads)
        found.append((gram_of(deltas).tobytes(), norms_of(deltas)))
    assert found[0] == found[1] == found[2]


def test_greedy_soup_by_hand() -> None:
    values, asked = [9.0, 4.0, 2.0, 3.5], []

    def score(weights: Sequence[float]) -> float:
        asked.append(tuple(weights))
        return abs(sum(w * v for w, v in zip(weights, values, strict=True)) - 3)

    # Alone 6, 1, 1 and 0.5 away from 3: 3.5 first; with 4, 0.75: no; with 2, 0.25: yes; with 9: no.
    merged = greedy_soup([row(v) for v in values], [1.0] * 4, score=score)
    same(merged, 2.75)
    assert len(asked) == 7 and asked[4:6] == [(0, 0.5, 0, 0.5), (0, 0, 0.5, 0.5)]


def test_each_member_must_do_as_well_as_all_before_it() -> None:
    """Distances from 0: 1 alone, 0.05 with -1.1, and 0.37 with 1.2 too: less than 1, yet worse."""
    values = [1.0, -1.1, 1.2]
    weights = greedy_weights(3, lambda w: abs(sum(map(float.__mul__, w, values))))
    assert weights == [0.5, 0.5, 0.0]


def test_a_member_that_changes_nothing_is_taken() -> None:
    """Wortsman's rule is `at least as good`."""
    assert greedy_weights(2, lambda weights: 1.0) == [0.5, 0.5]


def test_a_score_that_is_no_number_is_the_worst() -> None:
    bad: dict[tuple[float, ...], float] = {(1.0, 0.0, 0.0): math.nan, (0.0, 0.5, 0.5): -math.inf}
    assert greedy_weights(3, lambda w: bad.get(tuple(w), 1.0 - w[0])) == [0.5, 0.5, 0.0]
    for count in (0, 2):
        with pytest.raises(UsageError):
            greedy_weights(count, lambda weights: math.nan)
    with pytest.raises(UsageError):
        greedy_soup([row(1)], [math.inf], score=lambda weights: 0.0)


def test_greedy_mixture_is_never_worse_than_its_best_and_knows_no_order() -> None:
    rng = np.random.default_rng(4)
    for _ in range(20):
        values = dict(zip("dacbe", rng.normal(size=5).tolist(), strict=True))

        def score(mixture: Mixture, values: dict[str, float] = values) -> float:
            assert mixture.lam == 1.0
            return abs(sum(share * values[name] for name, share in mixture.shares) - 0.2)

        found = greedy_mixture("dacbe", score)
        assert found == greedy_mixture("ebcad", score)
        assert score(found) <= min(score(Mixture.of({name: 1.0})) for name in values)
        # It is replayed as a sum, without a score.
        merged = found.delta({name: row(value) for name, value in values.items()})
        wanted = linear([row(values[name]) for name in found.ids], [1.0] * len(found.ids))
        torch.testing.assert_close(merged["w"], wanted["w"], rtol=1e-14, atol=1e-15)


def test_a_mixture_cannot_ask_a_score() -> None:
    with pytest.raises(UsageError, match="greedy_mixture"):
        Mixture((("a", 1.0),), 1.0, "greedy_soup").delta({"a": row(1)})
