"""The paired bootstrap against closed forms; the sign test and alpha spending by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from seshu_swarm.errors import UsageError
from seshu_swarm.evaluate.paired import (
    Comparison,
    alpha_of_test,
    compare,
    sign_test,
    smallest_detectable_gain,
    z_of,
)

LN2 = math.log(2)
Floats = NDArray[np.float64]


def compared(difference: Floats, documents: list[str], num_bytes: int = 100) -> Comparison:
    base = np.linspace(50, 60, len(difference))
    sizes = [num_bytes] * len(difference)
    return compare(base + difference, base, num_bytes=sizes, documents=documents)


def names(count: int) -> list[str]:
    return [f"d{i:04d}" for i in range(count)]


def test_difference_by_hand() -> None:
    result = compare(
        np.array([3.0, 5.0, 2.0]),
        np.array([4.0, 5.0, 4.0]),
        num_bytes=[10, 20, 30],
        documents=["a", "b", "a"],
    )
    assert result.delta_bits_per_byte == pytest.approx(-3 / (LN2 * 60))
    assert (result.num_windows, result.num_documents) == (3, 2)


def test_error_is_that_of_the_mean() -> None:
    difference = np.random.default_rng(1).normal(-1.0, 2.0, 400)
    result = compared(difference, names(400))
    expected = difference.std() / math.sqrt(400) / (LN2 * 100)
    # 2000 draws know a standard deviation to 1 / sqrt(4000).
    assert result.standard_error == pytest.approx(expected, rel=0.06)
    middle = result.delta_bits_per_byte
    assert result.low == pytest.approx(middle - 1.96 * expected, abs=0.3 * expected)
    assert result.high == pytest.approx(middle + 1.96 * expected, abs=0.3 * expected)


def test_windows_of_one_document_are_no_new_evidence() -> None:
    difference = np.random.default_rng(2).normal(0, 1, 50)
    once = compared(difference, names(50))
    fourfold = compared(np.repeat(difference, 4), [name for name in names(50) for _ in range(4)])
    assert fourfold.num_windows == 200 and fourfold.num_documents == 50
    assert fourfold.standard_error == pytest.approx(once.standard_error, rel=1e-9)
    apart = compared(np.repeat(difference, 4), names(200))
    assert apart.standard_error == pytest.approx(once.standard_error / 2, rel=0.1)


def test_all_candidates_meet_the_same_draws() -> None:
    difference = np.random.default_rng(3).normal(0, 1, 80)
    first, double = compared(difference, names(80)), compared(2 * difference, names(80))
    assert double.standard_error == pytest.approx(2 * first.standard_error, rel=1e-12)
    order = np.random.default_rng(4).permutation(80)
    base = np.zeros(80)
    shuffled = compare(
        difference[order],
        base,
        num_bytes=[100] * 80,
        documents=[names(80)[i] for i in order],
    )
    assert shuffled.standard_error == pytest.approx(first.standard_error, rel=1e-9)


def test_windows_must_match() -> None:
    with pytest.raises(UsageError):
        compare(np.zeros(3), np.zeros(2), num_bytes=[1] * 3, documents=["a"] * 3)
    with pytest.raises(UsageError):
        compare(np.zeros(0), np.zeros(0), num_bytes=[], documents=[])


def test_sign_test_by_hand() -> None:
    # Five of six improve, one tie left out: (6 + 1) / 64.
    assert sign_test(np.array([-1, -2, -3, -1, -9, 4, 0.0])) == pytest.approx(7 / 64)
    assert sign_test(np.zeros(5)) == 1.0
    assert sign_test(-np.ones(10)) == pytest.approx(1 / 1024)
    assert 0.4 < sign_test(np.tile([-1.0, 1.0], 2000)) < 0.6


def test_alpha_spending() -> None:
    assert alpha_of_test(1) == pytest.approx(0.030396, abs=1e-6)
    assert z_of(alpha_of_test(1)) == pytest.approx(1.87, abs=0.01)
    assert z_of(alpha_of_test(10)) == pytest.approx(3.43, abs=0.01)
    assert sum(alpha_of_test(k) for k in range(1, 20_000)) == pytest.approx(0.05, abs=1e-5)
    with pytest.raises(UsageError):
        alpha_of_test(0)


def test_smallest_detectable_gain_is_found_with_the_power_it_states() -> None:
    alpha, error = 0.05, 0.01
    gain = smallest_detectable_gain(error, alpha=alpha)
    draws = np.random.default_rng(5).normal(-gain, error, 100_000)
    found = (draws + z_of(alpha) * error < 0).mean()
    assert found == pytest.approx(0.8, abs=0.01)
