"""Centred clip (Karimireddy, He, Jaggi 2021, arXiv 2012.10333, section 4).

v ← v + Σ wᵢ·(ΔWᵢ − v)·min(1, τ/‖ΔWᵢ − v‖) / Σ wᵢ, some times over: whoever is farther than τ from
the running centre pulls it by τ only. Norms are of whole ΔW's. The centre never leaves the span of
the ΔW's and its start, so the walk happens on their inner products, and the matrices are summed
once. A distance below about 1e-8 of the norms is lost in rounding; clipping by such a τ is not for
this method.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from seshu_swarm.adapters.delta import Delta
from seshu_swarm.adapters.merge.checks import check_length, shares_of
from seshu_swarm.adapters.merge.gram import gram_of
from seshu_swarm.adapters.merge.task_arithmetic import task_arithmetic
from seshu_swarm.errors import UsageError

NUM_ITERATIONS = 20


def centred_clip(
    deltas: Sequence[Delta],
    weights: Sequence[float],
    *,
    radius: float | None = None,
    num_iterations: int = NUM_ITERATIONS,
    centre: Delta | None = None,
) -> dict[str, torch.Tensor]:
    """The centre after `num_iterations`, from `centre` on (zero where none is given).

    `radius` is τ; without one, the median distance from the start. Raises UsageError for a negative
    weight, a τ that is not positive, and less than one iteration.
    """
    points = [*deltas, *_given(centre)]
    shares = centred_clip_shares(
        deltas, weights, radius=radius, num_iterations=num_iterations, centre=centre
    )
    return task_arithmetic(points, shares)


def centred_clip_shares(
    deltas: Sequence[Delta],
    weights: Sequence[float],
    *,
    radius: float | None = None,
    num_iterations: int = NUM_ITERATIONS,
    centre: Delta | None = None,
) -> list[float]:
    """The weight of each ΔW, then of `centre` if there is one, in the sum that the result is."""
    check_length("radius", radius)
    shares = shares_of(deltas, weights)
    if min(weights) < 0:
        raise UsageError(f"weights {list(weights)}", rule="a centre needs weights from 0 on")
    if num_iterations < 1 or num_iterations != int(num_iterations):
        raise UsageError(f"num_iterations {num_iterations}", rule="a whole number, at least 1")
    points = [*deltas, *_given(centre)]
    gram = np.zeros((len(deltas) + 1, len(deltas) + 1))  # the last point is the start
    gram[: len(points), : len(points)] = gram_of(points)
    walked = _walk(gram, np.array(shares), radius, int(num_iterations))
    return [float(share) for share in walked[: len(points)]]


def _given(centre: Delta | None) -> list[Delta]:
    return [] if centre is None else [centre]


def _walk(
    gram: NDArray[np.float64], shares: NDArray[np.float64], radius: float | None, num_steps: int
) -> NDArray[np.float64]:
    """Coefficients of the centre in terms of all points; it begins as the last of them."""
    points = np.eye(len(gram))
    centre: NDArray[np.float64] = points[-1]
    for _ in range(num_steps):
        away = points[:-1] - centre
        # Without BLAS, whose order of summation depends on the machine's threads.
        squared = np.einsum("ij,jk,ik->i", away, gram, away)
        distances = np.sqrt(np.maximum(squared, 0.0))
        if radius is None:
            radius = statistics.median(distances.tolist())
        far = distances > radius
        factors = np.where(far, radius / np.where(far, distances, 1.0), 1.0)
        centre = centre + np.einsum("i,ij->j", shares * factors, away)
    return centre
